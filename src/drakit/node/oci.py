"""Real containers: runc makes them, conmon watches them, as root and without any daemon.

Of each pod, a process that sleeps holds the network, ipc and uts namespaces (`pause`). Of each container, a
conmon writes the log in the kubelet's format and, at the end, a file with the exit code; both belong to no
agent and live on when it dies. What this class knows is on disk:

    sandboxes/<uid>.json          the pause process
    containers/<id>/record.json   the container; config.json, pid and the overlay beside it
    exits/<id>                    the exit code, written by conmon
    state/                        runc's own

A container has run to its end when its exit file is there; it runs when its process is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from drakit.model.cdi import ContainerEdits
from drakit.node.attach import AttachSession, attach
from drakit.node.cdi_folder import CDIFolders
from drakit.node.cgroup import CgroupUsage, is_oom_killed, limits_huge_pages, remove_cgroups
from drakit.node.child import (
    Child,
    ProgramFailed,
    is_alive,
    run,
    send_signal,
    started_at_ticks,
    wait_gone,
)
from drakit.node.conmon import Conmon, last_words
from drakit.node.holder import hold
from drakit.node.image import Image, ImageStore
from drakit.node.oci_config import build
from drakit.node.oci_exec import ExecSession, open_exec
from drakit.node.oci_user import find_user
from drakit.node.overlay import drop_rootfs, mount_rootfs
from drakit.node.pod_network import NodeNetwork
from drakit.node.record import Records, write_file
from drakit.node.runtime import (
    Container,
    ContainerSpec,
    Info,
    Logins,
    NotRunning,
    RuntimeFailed,
    Sandbox,
    SandboxSpec,
    Stats,
    UnresolvableCDI,
    container_id,
)

EXIT_CODE_LOST = 255
"""Of a container whose conmon died with it, for example with the machine."""

_SYS_ADMIN = 21
_SETTLE_SECONDS = 5.0
"""How long conmon may take from a container's end to its exit file."""


class OCIRuntime:
    """Containers of one node, with everything below `root`. `runc` and `conmon` are paths of programs;
    without a `network`, pods that do not share the host's have loopback alone."""

    def __init__(
        self,
        root: Path,
        images: ImageStore,
        cdi_folders: Sequence[str | os.PathLike[str]],
        *,
        runc: str,
        conmon: str,
        network: NodeNetwork | None = None,
    ) -> None:
        self._root = root
        self._network = network
        self._images = images
        self._cdi = CDIFolders(cdi_folders)
        self._runc_path = runc
        self._conmon = Conmon(conmon, runc, root)
        for name in ("state", "exits", "sockets"):
            (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._records = Records(root)
        self._pauses: dict[str, Child] = {}
        self._bounding = _capabilities("CapBnd")
        self._moves_net_devices: bool | None = None

    @property
    def info(self) -> Info:
        features = frozenset({"hooks", "netns", "cgroups", "images", "devices", "mounts"})
        return Info("oci", os.path.basename(self._runc_path), "0.3.0-1.1.0", features)

    async def ensure_image(
        self, reference: str, policy: str = "IfNotPresent", logins: Logins | None = None
    ) -> Image:
        return await asyncio.to_thread(self._images.find, reference)

    # --- sandboxes ------------------------------------------------------------------------------------

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox:
        known = self._records.sandbox(spec.uid)
        if known is not None and is_alive(known.pid, known.pid_started):
            return known
        namespaces = [] if spec.is_host_network else ["net", "uts"]
        namespaces += [] if spec.is_host_ipc else ["ipc"]
        namespaces += ["pid"] if spec.shares_processes and not spec.is_host_pid else []
        hostname = os.uname().nodename if spec.is_host_network else spec.hostname
        child = await hold(hostname, namespaces)
        try:
            ip = await self._join_network(child.pid) if "net" in namespaces else ""
        except BaseException:
            child.kill()
            await child.wait()
            raise
        self._pauses[spec.uid] = child
        sandbox = Sandbox(
            uid=spec.uid,
            namespace=spec.namespace,
            name=spec.name,
            hostname=hostname,
            pid=child.pid,
            pid_started=child.ticks,
            ip=ip,
            is_host_network=spec.is_host_network,
            is_host_pid=spec.is_host_pid,
            is_host_ipc=spec.is_host_ipc,
            shares_processes="pid" in namespaces,
            sysctls=spec.sysctls,
        )
        self._records.put_sandbox(sandbox)
        return sandbox

    async def _join_network(self, pid: int) -> str:
        """Connect the namespace that `pid` holds; the pod's address, "" without a network."""
        if self._network is None:
            return ""
        return await self._network.join(pid, {sandbox.ip for sandbox in self._records.sandboxes()})

    async def remove_sandbox(self, uid: str) -> None:
        sandbox = self._records.sandbox(uid)
        if sandbox is not None:
            send_signal(sandbox.pid, sandbox.pid_started, signal.SIGKILL)
            await wait_gone(sandbox.pid, sandbox.pid_started)
        if child := self._pauses.pop(uid, None):
            await child.wait()
        await asyncio.to_thread(remove_cgroups, self._cgroup(uid))
        self._records.drop_sandbox(uid)

    async def sandboxes(self) -> list[Sandbox]:
        return self._records.sandboxes()

    # --- containers -----------------------------------------------------------------------------------

    async def create(self, sandbox: Sandbox, spec: ContainerSpec) -> Container:
        edits = self._cdi.resolve(spec.cdi_devices)
        await self._check_net_devices(edits)
        cid = container_id(sandbox.uid, spec.name, spec.attempt)
        lacks = []
        if spec.limits.huge_pages and not limits_huge_pages():
            lacks.append("its limit of huge pages is not enforced: this machine has no cgroup for it")
            spec = structs.replace(spec, limits=structs.replace(spec.limits, huge_pages={}))
        container = Container(
            id=cid,
            pod_uid=sandbox.uid,
            pod_namespace=sandbox.namespace,
            pod_name=sandbox.name,
            name=spec.name,
            attempt=spec.attempt,
            image=spec.image.reference,
            image_id=spec.image.id,
            log_path=spec.log_path,
            cdi_devices=list(spec.cdi_devices),
            created_at=time.time(),
            not_isolated=lacks,
        )
        await self.remove(cid)  # what a crash left of an earlier try
        self._records.put_container(container)
        try:
            await asyncio.to_thread(self._write_bundle, sandbox, spec, edits, self._records.folder(cid))
            folder = self._records.folder(cid)
            pid = await self._conmon.create(cid, folder, spec)
        except BaseException:
            await asyncio.shield(self.remove(cid))
            raise
        return self._records.put_container(
            structs.replace(container, pid=pid, pid_started=started_at_ticks(pid))
        )

    def _write_bundle(
        self, sandbox: Sandbox, spec: ContainerSpec, edits: ContainerEdits, folder: Path
    ) -> None:
        rootfs = mount_rootfs(spec.image.layers, folder)
        config = build(
            spec,
            sandbox,
            edits,
            rootfs=str(rootfs),
            user=find_user(spec, rootfs),
            cgroup=f"{self._cgroup(sandbox.uid)}/{folder.name}",
            bounding=self._bounding,
            target_pid=self._known(spec.sees_processes_of).pid if spec.sees_processes_of else 0,
        )
        write_file(folder / "config.json", msgspec.json.encode(config))

    async def _check_net_devices(self, edits: ContainerEdits) -> None:
        """An older runc would start the container without the device, and say nothing."""
        if not edits.net_devices:
            return
        if self._moves_net_devices is None:
            try:
                features = json.loads(await run([self._runc_path, "features"], timeout=10))
                netdev = (features.get("linux") or {}).get("netDevices") or {}
                self._moves_net_devices = bool(netdev.get("enabled"))
            except (ProgramFailed, ValueError, AttributeError):
                self._moves_net_devices = False
        if not self._moves_net_devices:
            raise UnresolvableCDI(f"CDI netDevices need a newer OCI runtime than {self._runc_path}")

    async def start(self, container_id: str) -> Container:
        container = self._known(container_id)
        if container.state != "created":
            return container
        now = time.time()  # after the call a short program may have ended already
        try:
            await self._runc("start", container_id)
        except ProgramFailed as error:
            raise RuntimeFailed(
                f"cannot start container {container.name}: {last_words(str(error))}"
            ) from None
        return self._records.put_container(structs.replace(container, state="running", started_at=now))

    async def stop(self, container_id: str, grace_seconds: float) -> Container:
        container = self._known(container_id)
        if container.state == "created":
            await self._kill(container_id, "KILL")
        elif container.state == "running":
            await self._kill(container_id, "TERM" if grace_seconds > 0 else "KILL")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(grace_seconds, 0.001)):
                    return await self.wait(container_id)
            await self._kill(container_id, "KILL")
        return await self.wait(container_id)

    async def _release(self, container_id: str) -> None:
        """Give back what an exited container does not need: runc's state, cgroup, root file system."""
        folder = self._records.folder(container_id)
        if (folder / "upper").exists() or (self._root / "state" / container_id).exists():
            with contextlib.suppress(ProgramFailed):
                await self._runc("delete", "--force", container_id)
            await asyncio.to_thread(drop_rootfs, folder)

    async def remove(self, container_id: str) -> None:
        folder = self._records.folder(container_id)
        container = self._records.container(container_id)
        if container is None and not folder.exists():
            return
        await self._release(container_id)
        if container is not None:
            await wait_gone(container.pid, container.pid_started)
        await asyncio.to_thread(shutil.rmtree, folder, True)
        for name in ("exits", "sockets"):
            (self._root / name / container_id).unlink(missing_ok=True)

    async def status(self, container_id: str) -> Container | None:
        container = self._records.container(container_id)
        return None if container is None else self._observed(container)

    async def containers(self) -> list[Container]:
        return [self._observed(container) for container in self._records.containers()]

    async def wait(self, container_id: str) -> Container:
        container = self._known(container_id)
        await wait_gone(container.pid, container.pid_started)
        return await self._settled(container_id)

    async def _settled(self, container_id: str) -> Container:
        """The exited container, once conmon has written how it went."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            container = self._known(container_id)
            if container.state != "exited" and container.pid and time.monotonic() > deadline:
                container = self._lost(container)
            if container.state == "exited" or container.pid == 0:
                await self._release(container.id)
                return container
            await asyncio.sleep(0.01)

    # --- inside ---------------------------------------------------------------------------------------

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> ExecSession:
        self._running(container_id)
        state = str(self._root / "state")
        return open_exec(self._runc_path, state, container_id, command, stdin=stdin, tty=tty)

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> AttachSession:
        self._running(container_id)
        return attach(self._records.folder(container_id), stdin=stdin)

    async def stats(self, container_id: str) -> Stats:
        container = self._known(container_id)
        usage = CgroupUsage(f"{self._cgroup(container.pod_uid)}/{container.id}")
        return Stats(cpu_seconds=usage.cpu_seconds(), memory_bytes=usage.memory_bytes())

    # --- what the disk says ---------------------------------------------------------------------------

    def _running(self, container_id: str) -> Container:
        container = self._known(container_id)
        if container.state != "running":
            raise NotRunning(f"container {container.name} is not running")
        return container

    def _known(self, container_id: str) -> Container:
        container = self._records.container(container_id)
        if container is None:
            raise NotRunning(f"no container {container_id}")
        return self._observed(container)

    def _observed(self, container: Container) -> Container:
        """`container` as it is now. Once it has exited, that is written down."""
        if container.state == "exited":
            return container
        exit_file = self._root / "exits" / container.id
        try:
            code = int(exit_file.read_text() or EXIT_CODE_LOST)
            finished = exit_file.stat().st_mtime
        except (OSError, ValueError):
            return container
        folder = self._records.folder(container.id)
        was_oom = (folder / "oom").exists() or is_oom_killed(
            f"{self._cgroup(container.pod_uid)}/{container.id}"
        )
        return self._records.put_container(
            structs.replace(
                container,
                state="exited",
                exit_code=code,
                is_oom_killed=was_oom and code != 0,
                started_at=container.started_at or finished,
                finished_at=finished,
            )
        )

    def _lost(self, container: Container) -> Container:
        return self._records.put_container(
            structs.replace(
                container,
                state="exited",
                exit_code=EXIT_CODE_LOST,
                finished_at=time.time(),
                error="the container ended while nobody watched it: its exit code is lost",
            )
        )

    def _cgroup(self, pod_uid: str) -> str:
        return f"/drakit/pod{pod_uid}"

    async def _runc(self, *arguments: str) -> str:
        return await run([self._runc_path, "--root", str(self._root / "state"), *arguments])

    async def _kill(self, container_id: str, name: str) -> None:
        with contextlib.suppress(ProgramFailed):  # it has ended, and `wait` will say so
            await self._runc("kill", container_id, name)


def find_programs() -> tuple[str, str] | None:
    """The paths of the OCI runtime and of conmon, None when one of them is missing."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    runc = shutil.which("runc", path=path) or shutil.which("crun", path=path)
    conmon = shutil.which("conmon", path=path)
    return (runc, conmon) if runc and conmon else None


def may_make_namespaces() -> bool:
    """Whether this process is root with the power that containers need; root in a container often is not."""
    return os.geteuid() == 0 and _SYS_ADMIN in _capabilities("CapEff")


def _capabilities(which: str) -> frozenset[int]:
    """The numbers of the capabilities in the set `which` of this process."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        bits = next(int(line.split()[1], 16) for line in status if line.startswith(which))
    return frozenset(number for number in range(64) if bits >> number & 1)
