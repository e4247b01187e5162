"""Containers of a runtime that is a program of its own: containerd or CRI-O, over CRI v1.

The runtime keeps the records, makes the pod's network, knows the images, and resolves CDI names by itself;
this class only translates. Everything of this node carries a label of it, so that what an earlier agent left
is found again and what belongs to a kubelet at the same runtime is never touched.

A runtime that knows no CDI ignores the names without a word, and the container would start without its
devices: so it is asked first, and claims are refused where it does not say yes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from drakit.errors import UsageError
from drakit.node.cdi_folder import HOST_FOLDERS
from drakit.node.cgroup import remove_cgroups
from drakit.node.child import started_at_ticks, wait_gone
from drakit.node.cri_config import (
    CDI_DEVICES,
    IMAGE,
    NODE_LABEL,
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    cgroup_parent,
    container_config,
    sandbox_config,
)
from drakit.node.cri_status import configuration, uses_systemd, why_no_cdi, why_not_ready
from drakit.node.cri_stream import StreamSession, open_stream
from drakit.node.image import Image, ImageNotFound, normalized
from drakit.node.runtime import (
    Container,
    ContainerSpec,
    Info,
    Login,
    Logins,
    NotRunning,
    RuntimeFailed,
    Sandbox,
    SandboxSpec,
    State,
    Stats,
    UnresolvableCDI,
)
from drakit.pluginapi.cri import CRI
from drakit.pluginapi.wire import CallFailed

SOCKETS = ("/run/containerd/containerd.sock", "/run/crio/crio.sock", "/var/run/cri-dockerd.sock")
"""Where runtimes listen that were installed in the usual way."""

LOG_SIZE_LIMIT, LOG_SECONDS = 16 << 20, 30.0
"""Bytes after which a log begins anew, and how often that is looked at."""

_STATES: tuple[State, ...] = ("created", "running", "exited", "unknown")
_READY = 0
_POLL_SECONDS = 1.0
_PULL_SECONDS = 600.0
_STOP_SECONDS = 30.0
_PREFLIGHT_SECONDS = 10.0
_CGROUP_TRIES, _CGROUP_SECONDS = 20, 0.02


class CRIRuntime:
    """Containers of the node with the files at `root`; made by `connect`.

    `cdi_folders` are where the runtime looks for devices. `problem` says why it cannot run pods of every kind
    now, "" where it can; `no_cdi` why it gives no devices.
    """

    def __init__(self, cri: CRI, root: Path, info: Info, status: Any, wanted: Any) -> None:
        config = configuration(status)
        self.cdi_folders: list[str] = list(config.get("cdiSpecDirs") or []) or list(HOST_FOLDERS)
        self.no_cdi = why_no_cdi(info, config)
        self.problem = self.no_cdi or why_not_ready(info, status)
        self._cri = cri
        self._node = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
        self._info = info
        self._is_systemd = uses_systemd(config, wanted)
        self._configs: dict[str, tuple[str, dict[str, Any]]] = {}

    @classmethod
    async def connect(cls, socket: str, root: Path) -> CRIRuntime:
        """The runtime at `socket`. Raises UsageError when nobody there speaks CRI v1."""
        cri = CRI(socket)
        try:
            version = await cri.call("Version", _PREFLIGHT_SECONDS, version="v1")
            status = await cri.call("Status", _PREFLIGHT_SECONDS, verbose=True)
            try:
                wanted = await cri.call("RuntimeConfig", _PREFLIGHT_SECONDS)
            except CallFailed as error:
                if error.code != "UNIMPLEMENTED":  # containerd 1.7 and older
                    raise
                wanted = None
        except CallFailed as error:
            await cri.close()
            raise UsageError(f"no container runtime speaks CRI v1 at {socket}: {error}") from None
        features = frozenset({"hooks", "netns", "cgroups", "images", "devices", "mounts"})
        info = Info(version.runtime_name, version.runtime_version, "its own", features, address=socket)
        return cls(cri, root, info, status, wanted)

    @property
    def info(self) -> Info:
        return self._info

    async def close(self) -> None:
        await self._cri.close()

    async def ensure_image(
        self, reference: str, policy: str = "IfNotPresent", logins: Logins | None = None
    ) -> Image:
        name = normalized(reference)
        found = await self._image(name)
        if policy == "Never" and found is None:
            raise ImageNotFound(f'Container image "{reference}" is not present with pull policy of Never')
        if policy == "Always" or found is None:
            await self._pull(name, await logins(name) if logins else ())
            found = await self._image(name)
        if found is None:
            raise ImageNotFound(f'"{reference}" is not there after it was pulled')
        user = found.username or (str(found.uid.value) if found.HasField("uid") else "")
        return Image(reference=reference, id=found.id, user=user, is_opaque=True)

    async def _pull(self, name: str, logins: Sequence[Login]) -> None:
        """With the first of `logins` that will do, without one if there is none."""
        auths: list[dict[str, Any]] = [{"auth": to_builtins(login)} for login in logins]
        failures: list[str] = []
        for auth in auths or [{}]:
            try:
                await self._call("PullImage", _PULL_SECONDS, image={"image": name}, **auth)
                return
            except RuntimeFailed as error:
                failures.append(str(error))
        raise ImageNotFound(
            f"{'; '.join(dict.fromkeys(failures))}. Without a registry: import it into {self._info.name} "
            "(ctr -n k8s.io images import FILE) and use imagePullPolicy: IfNotPresent"
        )

    async def _image(self, name: str) -> Any:
        answer = await self._call("ImageStatus", image={"image": name})
        return answer.image if answer.HasField("image") else None

    # --- sandboxes ------------------------------------------------------------------------------------

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox:
        config = sandbox_config(
            spec, self._node, cgroup_parent=cgroup_parent(spec.uid, is_systemd=self._is_systemd)
        )
        number = ""
        for item in await self._sandboxes(spec.uid):
            if item.state == _READY and not number:
                number = item.id
            else:  # its namespaces are gone, and so is what ran in them
                await self._drop(item.id)
        if not number:
            number = (await self._call("RunPodSandbox", config=config)).pod_sandbox_id
        self._configs[spec.uid] = (number, config)
        answer = await self._call("PodSandboxStatus", pod_sandbox_id=number, verbose=True)
        pid = _pid(answer)
        return Sandbox(
            uid=spec.uid,
            namespace=spec.namespace,
            name=spec.name,
            hostname=spec.hostname,
            pid=pid,
            pid_started=started_at_ticks(pid),
            ip="" if spec.is_host_network else answer.status.network.ip,
            is_host_network=spec.is_host_network,
            is_host_pid=spec.is_host_pid,
            is_host_ipc=spec.is_host_ipc,
            shares_processes=spec.shares_processes,
        )

    async def remove_sandbox(self, uid: str) -> None:
        for item in await self._sandboxes(uid):
            await self._drop(item.id)
        self._configs.pop(uid, None)
        for _ in range(_CGROUP_TRIES):  # the runtime may still be busy in it
            if await asyncio.to_thread(remove_cgroups, cgroup_parent(uid, is_systemd=False)):
                break
            await asyncio.sleep(_CGROUP_SECONDS)

    async def sandboxes(self) -> list[Sandbox]:
        return [
            Sandbox(uid=item.metadata.uid, namespace=item.metadata.namespace, name=item.metadata.name)
            for item in await self._sandboxes()
        ]

    async def _sandboxes(self, uid: str = "") -> list[Any]:
        labels = {NODE_LABEL: self._node} | ({POD_UID: uid} if uid else {})
        return list((await self._call("ListPodSandbox", filter={"label_selector": labels})).items)

    async def _drop(self, number: str) -> None:
        with contextlib.suppress(NotRunning):
            await self._call("StopPodSandbox", pod_sandbox_id=number)
            await self._call("RemovePodSandbox", pod_sandbox_id=number)

    # --- containers -----------------------------------------------------------------------------------

    async def create(self, sandbox: Sandbox, spec: ContainerSpec) -> Container:
        if spec.cdi_devices and self.no_cdi:
            raise UnresolvableCDI(f"CDI devices {', '.join(spec.cdi_devices)}: {self.no_cdi}")
        number, config = self._configs[sandbox.uid]
        for item in await self._list({POD_UID: sandbox.uid}):  # what a crash left of an earlier try
            if (item.metadata.name, item.metadata.attempt) == (spec.name, spec.attempt):
                await self.remove(item.id)
        Path(spec.log_path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        wanted = container_config(sandbox, spec, self._node, config["log_directory"])
        try:
            answer = await self._call(
                "CreateContainer", pod_sandbox_id=number, config=wanted, sandbox_config=config
            )
        except RuntimeFailed as error:
            raise (UnresolvableCDI if "CDI" in str(error) else RuntimeFailed)(str(error)) from None
        return await self._known(answer.container_id)

    async def start(self, container_id: str) -> Container:
        container = await self._known(container_id)
        if container.state != "created":
            return container
        try:
            await self._call("StartContainer", container_id=container_id)
        except RuntimeFailed as error:
            raise RuntimeFailed(f"cannot start container {container.name}: {error}") from None
        return await self._known(container_id)

    async def stop(self, container_id: str, grace_seconds: float) -> Container:
        grace = math.ceil(grace_seconds)
        with contextlib.suppress(NotRunning):
            seconds = grace + _STOP_SECONDS
            await self._call("StopContainer", seconds, container_id=container_id, timeout=grace)
        return await self.wait(container_id)

    async def remove(self, container_id: str) -> None:
        with contextlib.suppress(NotRunning):
            await self._call("RemoveContainer", container_id=container_id)

    async def status(self, container_id: str) -> Container | None:
        try:
            return await self._known(container_id)
        except NotRunning:
            return None

    async def containers(self) -> list[Container]:
        found = [await self.status(item.id) for item in await self._list({})]
        return [container for container in found if container is not None]

    async def wait(self, container_id: str) -> Container:
        """By the process where this machine shows it, else by asking again and again. Meanwhile a log that
        has grown too long begins anew: that is left to the kubelet, the runtime does not care."""
        delay = 0.01
        while True:
            answer = await self._call("ContainerStatus", container_id=container_id, verbose=True)
            container = _container(answer.status)
            if container.state == "exited":
                return container
            pid = _pid(answer)
            if ticks := started_at_ticks(pid):
                try:
                    async with asyncio.timeout(LOG_SECONDS):
                        await wait_gone(pid, ticks)
                except TimeoutError:
                    await self._rotate_log(container)
                    continue
            await asyncio.sleep(delay if pid else _POLL_SECONDS)
            delay = min(2 * delay, _POLL_SECONDS)

    async def _rotate_log(self, container: Container) -> None:
        with contextlib.suppress(OSError, RuntimeFailed):
            if os.stat(container.log_path).st_size > LOG_SIZE_LIMIT:
                os.replace(container.log_path, container.log_path + ".1")
                await self._call("ReopenContainerLog", container_id=container.id)

    async def _known(self, container_id: str) -> Container:
        answer = await self._call("ContainerStatus", container_id=container_id)
        return _container(answer.status)

    async def _list(self, labels: dict[str, str]) -> list[Any]:
        selector = {"label_selector": labels | {NODE_LABEL: self._node}}
        return list((await self._call("ListContainers", filter=selector)).containers)

    # --- inside ---------------------------------------------------------------------------------------

    async def exec(
        self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> StreamSession:
        streams = {"stdin": stdin, "stdout": True, "stderr": not tty, "tty": tty}
        answer = await self._call("Exec", container_id=container_id, cmd=list(command), **streams)
        return await open_stream(answer.url, stdin=stdin, tty=tty)

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> StreamSession:
        streams = {"stdin": stdin, "stdout": True, "stderr": not tty, "tty": tty}
        answer = await self._call("Attach", container_id=container_id, **streams)
        return await open_stream(answer.url, stdin=stdin, tty=tty)

    async def stats(self, container_id: str) -> Stats:
        stats = (await self._call("ContainerStats", container_id=container_id)).stats
        return Stats(
            cpu_seconds=stats.cpu.usage_core_nano_seconds.value / 1e9,
            memory_bytes=stats.memory.working_set_bytes.value,
        )

    async def _call(self, method: str, seconds: float = 120.0, /, **fields: Any) -> Any:
        try:
            return await self._cri.call(method, seconds, **fields)
        except CallFailed as error:
            if error.code == "NOT_FOUND":
                raise NotRunning(f"{method}: {error.detail}") from None
            is_late = error.code == "DEADLINE_EXCEEDED"
            raise RuntimeFailed(f"{self._info.name}: {error}" if is_late else error.detail) from None


def _container(status: Any) -> Container:
    labels, annotations = status.labels, status.annotations
    return Container(
        id=status.id,
        pod_uid=labels[POD_UID],
        pod_namespace=labels[POD_NAMESPACE],
        pod_name=labels[POD_NAME],
        name=status.metadata.name,
        attempt=status.metadata.attempt,
        image=annotations[IMAGE] or status.image.image,
        image_id=status.image_ref,
        log_path=status.log_path,
        cdi_devices=json.loads(annotations[CDI_DEVICES] or "[]"),
        state=_STATES[status.state],
        exit_code=status.exit_code,
        is_oom_killed=status.reason == "OOMKilled",
        created_at=status.created_at / 1e9,
        started_at=status.started_at / 1e9,
        finished_at=status.finished_at / 1e9,
        error=status.message if status.reason in ("StartError", "ContainerCannotRun") else "",
    )


def _pid(answer: Any) -> int:
    """The pid in the verbose part of a status, 0 without one: containerd and CRI-O tell it alike."""
    try:
        return int(json.loads(answer.info["info"]).get("pid") or 0)
    except (ValueError, AttributeError, TypeError):
        return 0
