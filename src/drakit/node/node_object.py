"""The Node object of this machine and its heartbeats: a lease every ten seconds, a status every few minutes.

An idle node costs one small write per lease renewal; the status is written only when something changed, and
otherwise every five minutes, as the kubelet does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from drakit import __version__
from drakit.client.api import LEASES, NODES, Client
from drakit.client.clock import Clock, micro_timestamp, timestamp
from drakit.errors import AlreadyExists, Conflict, DRAError, NotFound
from drakit.model.quantity import Quantity
from drakit.node.image import machine_architecture
from drakit.profile import Gate, Profile
from drakit.transport import STRATEGIC_PATCH, Document

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
STATUS_SECONDS = 300.0
MAX_PODS = "110"

_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)

_log = logging.getLogger(__name__)


def machine_capacity() -> dict[str, str]:
    """CPUs, memory, disk and pods of this machine as a node's capacity."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    disk = os.statvfs("/")
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory}Ki",
        "ephemeral-storage": f"{disk.f_blocks * disk.f_frsize // 1024}Ki",
        "pods": MAX_PODS,
        **_huge_pages(),
    }


def _huge_pages() -> dict[str, str]:
    """`hugepages-2Mi` and the like: the bytes in huge pages of each size that the machine can have."""
    found = {}
    for folder in Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB"):
        with contextlib.suppress(OSError, ValueError):
            kilobytes = int(folder.name.removeprefix("hugepages-").removesuffix("kB"))
            total = Quantity.of(f"{int((folder / 'nr_hugepages').read_text()) * kilobytes}Ki")
            found[f"hugepages-{Quantity.of(f'{kilobytes}Ki')}"] = str(total)
    return found


def machine_ip() -> str:
    """The address other machines would see; the loopback one where there is no way out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # chooses a source address, sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def node_labels(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    """`labels` and those that every node has."""
    architecture = machine_architecture()
    return {
        "beta.kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        **labels,
    }


def node_status(
    profile: Profile, name: str, capacity: Mapping[str, str], runtime: str, ip: str, now: float
) -> Document:
    """The whole status of a node that is well."""
    stamp = timestamp(now)
    conditions: list[Document] = [
        {
            "type": kind,
            "status": value,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": stamp,
            "lastTransitionTime": stamp,
        }
        for kind, value, reason, message in _CONDITIONS
    ]
    status: Document = {
        "capacity": dict(capacity),
        "allocatable": dict(capacity),
        "conditions": conditions,
        "addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": _node_info(profile, runtime),
    }
    if profile.is_on(Gate.OPTIONAL_NODE_OPERATIONS):
        status["declaredFeatures"] = [Gate.OPTIONAL_NODE_OPERATIONS.value]
    return status


def _node_info(profile: Profile, runtime: str) -> Document:
    def read(path: str) -> str:
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        except OSError:
            return ""

    system = os.uname()
    names = dict(line.partition("=")[::2] for line in read("/etc/os-release").splitlines())
    machine = read("/etc/machine-id")
    return {
        "machineID": machine,
        "systemUUID": machine,
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": system.release,
        "osImage": names.get("PRETTY_NAME", system.sysname).strip('"'),
        "containerRuntimeVersion": runtime if "://" in runtime else f"{runtime}://{__version__}",
        "kubeletVersion": f"v{profile.version}.0-drakit.{__version__}",
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": machine_architecture(),
    }


class NodeObject:
    """Keeps the Node `name` and its lease alive."""

    def __init__(
        self,
        client: Client,
        profile: Profile,
        name: str,
        labels: Mapping[str, str],
        capacity: Mapping[str, str],
        *,
        runtime: str,
        ip: str,
        clock: Clock,
    ) -> None:
        self._client = client
        self._profile = profile
        self.name = name
        self._labels = node_labels(name, labels)
        self._capacity = dict(capacity)
        self._runtime = runtime
        self._ip = ip
        self._clock = clock
        self._uid = ""
        self._status_due = 0.0

    async def register(self) -> Document:
        """Create the Node, or bring the one of an earlier run up to date; returns it."""
        node: Document = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "labels": self._labels,
                "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
            },
            "spec": {},
        }
        try:
            found = await self._client.create(NODES, node)
        except AlreadyExists:
            patch = {"metadata": {"labels": self._labels}}
            found = await self._client.patch(NODES, self.name, patch)
        self._uid = str(found["metadata"].get("uid", ""))
        await self.write_status()
        await self.renew()
        return found

    async def write_status(self) -> None:
        """Write the status; conditions keep the time of their last change."""
        now = self._clock.now()
        status = node_status(self._profile, self.name, self._capacity, self._runtime, self._ip, now)
        found = await self._client.get(NODES, self.name)
        known = {c.get("type"): c for c in (found.get("status") or {}).get("conditions") or []}
        for condition in status["conditions"]:
            before = known.get(condition["type"])
            if before and before.get("status") == condition["status"]:
                condition["lastTransitionTime"] = before.get("lastTransitionTime")
        await self._client.patch(
            NODES, self.name, {"status": status}, content_type=STRATEGIC_PATCH, subresource="status"
        )
        self._status_due = now + STATUS_SECONDS

    async def renew(self) -> None:
        """Renew the lease by which the cluster knows that this node lives."""
        now = micro_timestamp(self._clock.now())
        try:
            await self._client.patch(LEASES, self.name, {"spec": {"renewTime": now}}, LEASE_NAMESPACE)
        except NotFound:
            owner = {"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": self._uid}
            lease: Document = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": self.name,
                    "namespace": LEASE_NAMESPACE,
                    "ownerReferences": [owner] if self._uid else [],
                },
                "spec": {
                    "holderIdentity": self.name,
                    "leaseDurationSeconds": LEASE_SECONDS,
                    "renewTime": now,
                },
            }
            await self._client.create(LEASES, lease)

    async def run(self) -> None:
        """Heartbeats until cancelled, through any failure; a node that was deleted registers again."""
        while True:
            await self._clock.sleep(RENEW_SECONDS)
            try:
                await self.renew()
                if self._clock.now() >= self._status_due:
                    await self.write_status()
            except NotFound:
                await self._register_again()
            except (DRAError, OSError) as error:
                _log.info("heartbeat of node %s: %s", self.name, error)

    async def _register_again(self) -> None:
        try:
            await self.register()
        except (Conflict, DRAError, OSError) as error:
            _log.info("registration of node %s: %s", self.name, error)
