"""Containers without root: bubblewrap where it works, else the command as a plain process of the host.

The host's own programs and files stand in for every image. A shim beside each command (see `shim`) keeps
its log and exit code and runs the CDI hooks that want its pid, so a claim's CPU pinning works here too.
What the pod asked for and does not get is never passed over: `not_isolated` of the container lists it, one
sentence each, for the agent to put into the pod's events.

| asked for                        | bubblewrap                  | plain process             |
|----------------------------------|-----------------------------|---------------------------|
| env, cwd, args, CDI env          | yes                         | yes                       |
| CDI hooks before start (host)    | yes                         | yes                       |
| mounts, CDI mounts               | yes                         | told where the files are  |
| CDI device nodes                 | yes, with host permissions  | the host's node, if equal |
| own processes, ipc, hostname     | yes                         | no                        |
| own network, limits, image, user | no                          | no                        |
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from msgspec import structs

from drakit.model.cdi import ContainerEdits, Hook
from drakit.node import shim
from drakit.node.attach import AttachSession, attach
from drakit.node.bubblewrap import bwrap_argv, owning_user_namespace
from drakit.node.cdi_folder import CDIFolders
from drakit.node.child import (
    Child,
    ProgramFailed,
    send_signal,
    spawn,
    started_at_ticks,
    usage,
    wait_gone,
)
from drakit.node.image import Image, normalized
from drakit.node.record import Records, write_file
from drakit.node.runtime import (
    DEFAULT_PATH,
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
    merged_env,
)
from drakit.node.session import Session, open_session

LOG_SIZE_LIMIT = 16 << 20
EXIT_CODE_LOST = 255

_SETTLE_SECONDS = 5.0
_HOST_HOOKS = ("prestart", "createRuntime", "poststart", "poststop")
_INSIDE_HOOKS = ("createContainer", "startContainer")


class ProcessRuntime:
    """Containers of one node as processes, with their records below `root`. `bwrap` is bubblewrap's path,
    None for plain processes."""

    def __init__(
        self, root: Path, cdi_folders: Sequence[str | os.PathLike[str]], *, bwrap: str | None
    ) -> None:
        self._root = root
        self._bwrap = bwrap
        self._cdi = CDIFolders(cdi_folders)
        self._records = Records(root)
        self._shims: dict[str, Child] = {}

    @property
    def info(self) -> Info:
        if self._bwrap:
            return Info(
                "bubblewrap",
                self._bwrap,
                "0.3.0-1.1.0",
                frozenset({"hooks", "devices", "mounts"}),
                ("network", "image", "limits on CPU and memory"),
            )
        kinds = ("files", "processes", "network", "image", "limits on CPU and memory")
        return Info("process", sys.platform, "0.3.0-1.1.0", frozenset({"hooks"}), kinds)

    async def ensure_image(
        self, reference: str, policy: str = "IfNotPresent", logins: Logins | None = None
    ) -> Image:
        is_shell = re.split("[:@]", normalized(reference).rpartition("/")[2])[0] == "busybox"
        name = os.uname().nodename
        return Image(
            reference=reference,
            id=f"host://{name}",
            cmd=["/bin/sh"] if is_shell else [],  # what another image would run, nobody here can know
            origin=f"the programs of host {name} stand in for it",
        )

    # --- sandboxes ------------------------------------------------------------------------------------

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox:
        sandbox = Sandbox(uid=spec.uid, namespace=spec.namespace, name=spec.name, hostname=spec.hostname)
        self._records.put_sandbox(sandbox)
        return sandbox

    async def remove_sandbox(self, uid: str) -> None:
        self._records.drop_sandbox(uid)

    async def sandboxes(self) -> list[Sandbox]:
        return self._records.sandboxes()

    # --- containers -----------------------------------------------------------------------------------

    async def create(self, sandbox: Sandbox, spec: ContainerSpec) -> Container:
        edits = self._cdi.resolve(spec.cdi_devices)
        if edits.net_devices or edits.intel_rdt:
            raise UnresolvableCDI(
                f"CDI netDevices and intelRdt need the oci runtime, this is {self.info.name}"
            )
        cid = container_id(sandbox.uid, spec.name, spec.attempt)
        await self.remove(cid)  # what a crash left of an earlier try
        env = merged_env([DEFAULT_PATH], _host_env(), [f"HOSTNAME={sandbox.hostname}"], spec.env, edits.env)
        program = _program(spec, env)
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
            not_isolated=self._not_isolated(spec, edits),
        )
        self._records.put_container(container)
        argv = [program, *spec.argv[1:]]
        if self._bwrap:
            # Job control needs a session that began inside of the pid namespace.
            argv = ["setsid", "--ctty", *argv] if spec.has_terminal else argv
            argv = bwrap_argv(self._bwrap, spec, edits, sandbox.hostname) + argv
        config = {
            "argv": argv,
            "env": dict(entry.split("=", 1) for entry in env),
            "cwd": spec.cwd or "/",
            "log": spec.log_path,
            "log_limit": LOG_SIZE_LIMIT,
            "exit_file": str(self._records.folder(cid) / "exit"),
            "uses_bwrap": self._bwrap is not None,
            "hooks": _hooks(edits.hooks),
            "stdin": spec.has_stdin,
            "stdin_once": spec.is_stdin_once,
            "terminal": spec.has_terminal,
            "state": {"ociVersion": "1.0.2", "id": cid, "bundle": str(self._records.folder(cid))},
        }
        write_file(self._records.folder(cid) / "config.json", json.dumps(config).encode())
        return container

    async def start(self, container_id: str) -> Container:
        container = self._known(container_id)
        if container.state != "created":
            return container
        Path(container.log_path).parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        try:
            path = str(self._records.folder(container_id) / "config.json")
            argv = [sys.executable, "-I", "-S", str(shim.__file__), path]
            child = spawn(argv, descriptors={shim.SYNC: theirs.fileno()}, new_session=True)
        except ProgramFailed as error:
            ours.close()
            raise RuntimeFailed(str(error)) from None
        finally:
            theirs.close()
        now = time.time()  # once its shim has answered a short program may have ended already
        self._shims[container_id] = child
        with ours, ours.makefile("rb") as sync:
            answer = await asyncio.to_thread(_answer, sync)
            if "pid" in answer:
                # Noted before the command runs: an agent that dies leaves none that nobody knows.
                pid = int(answer["pid"])
                container = structs.replace(container, pid=pid, pid_started=started_at_ticks(pid))
                self._records.put_container(container)
                with contextlib.suppress(OSError):
                    ours.sendall(b"x")
                answer = await asyncio.to_thread(_answer, sync)
        if "pid" not in answer:
            await child.wait()
            self._records.put_container(structs.replace(container, pid=0, pid_started=0))
            raise RuntimeFailed(f"cannot start container {container.name}: {answer['error']}")
        running = structs.replace(container, state="running", started_at=now)
        return self._observed(self._records.put_container(running))

    async def stop(self, container_id: str, grace_seconds: float) -> Container:
        container = self._started(self._known(container_id))
        if container.state == "created":
            return self._end(container, 128 + signal.SIGKILL, "it was never started")
        if container.state == "running" and grace_seconds > 0:
            send_signal(container.pid, container.pid_started, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    return await self.wait(container_id)
        send_signal(container.pid, container.pid_started, signal.SIGKILL)
        return await self.wait(container_id)

    async def remove(self, container_id: str) -> None:
        container = self._records.container(container_id)
        if container is not None and self._started(container).state == "running":
            await self.stop(container_id, 0)
        if child := self._shims.pop(container_id, None):
            await child.wait()
        await asyncio.to_thread(shutil.rmtree, self._records.folder(container_id), True)

    async def status(self, container_id: str) -> Container | None:
        container = self._records.container(container_id)
        return None if container is None else self._observed(container)

    async def containers(self) -> list[Container]:
        return [self._observed(container) for container in self._records.containers()]

    async def wait(self, container_id: str) -> Container:
        container = self._known(container_id)
        if container.pid:
            await wait_gone(container.pid, container.pid_started)
        deadline = time.monotonic() + _SETTLE_SECONDS
        while container.state == "running":
            if time.monotonic() > deadline:
                return self._end(container, EXIT_CODE_LOST, "it ended while nobody watched: exit code lost")
            await asyncio.sleep(0.01)
            container = self._known(container_id)
        return container

    # --- inside ---------------------------------------------------------------------------------------

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Session:
        container = self._known(container_id)
        if container.state != "running":
            raise NotRunning(f"container {container.name} is not running")
        config = json.loads((self._records.folder(container_id) / "config.json").read_bytes())
        argv = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', config["cwd"], *command]
        with _on_cpus_of(container.pid):
            return self._session(container, config, argv, stdin=stdin, tty=tty)

    def _session(
        self, container: Container, config: dict[str, Any], argv: list[str], *, stdin: bool, tty: bool
    ) -> Session:
        if not self._bwrap:
            return open_session(argv, stdin=stdin, tty=tty, env=config["env"])
        # Job control needs a session that began inside of the pid namespace.
        argv = [*(["setsid", "--ctty", "--wait"] if tty else []), *argv]
        enter = ["nsenter", "--target", str(container.pid), "--mount", "--pid", "--ipc", "--uts"]
        if os.geteuid() == 0:
            return open_session(
                [*enter, "--", *argv], stdin=stdin, tty=tty, env=config["env"], takes_terminal=True
            )
        owner = owning_user_namespace(container.pid)
        try:
            enter += ["--user=/proc/self/fd/9", "--preserve-credentials", "--", *argv]
            return open_session(
                enter, stdin=stdin, tty=tty, env=config["env"], takes_terminal=True, descriptors={9: owner}
            )
        finally:
            os.close(owner)

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> AttachSession:
        return attach(self._records.folder(container_id), stdin=stdin)

    async def stats(self, container_id: str) -> Stats:
        container = self._known(container_id)
        seconds, memory = usage(container.pid) if container.state == "running" else (0.0, 0)
        return Stats(cpu_seconds=seconds, memory_bytes=memory)

    # --- what the disk says ---------------------------------------------------------------------------

    def _known(self, container_id: str) -> Container:
        container = self._records.container(container_id)
        if container is None:
            raise NotRunning(f"no container {container_id}")
        return self._observed(container)

    def _started(self, container: Container) -> Container:
        """One whose agent died while it was started may run, and must be ended as if it did."""
        if container.state != "created" or not container.pid:
            return container
        return self._records.put_container(structs.replace(container, state="running"))

    def _observed(self, container: Container) -> Container:
        """`container` as it is now. Once it has exited, that is written down."""
        if container.state != "running":
            return container
        exit_file = self._records.folder(container.id) / "exit"
        try:
            code, finished = int(exit_file.read_text()), exit_file.stat().st_mtime
        except (OSError, ValueError):
            return container
        if child := self._shims.get(container.id):
            child.poll()
        return self._records.put_container(
            structs.replace(container, state="exited", exit_code=code, finished_at=finished)
        )

    def _end(self, container: Container, code: int, error: str) -> Container:
        ended = structs.replace(
            container, state="exited", exit_code=code, finished_at=time.time(), error=error
        )
        return self._records.put_container(ended)

    def _not_isolated(self, spec: ContainerSpec, edits: ContainerEdits) -> list[str]:
        """What of `spec` and `edits` this container runs without."""
        lacks = [f"image {spec.image.reference} is not used: {spec.image.origin}"]
        lacks.append("it shares the host's network")
        limits = spec.limits
        if limits.cpu_limit:
            lacks.append(f"its CPU limit of {limits.cpu_limit}m is not enforced")
        if limits.memory_limit:
            lacks.append(f"its memory limit of {limits.memory_limit} bytes is not enforced")
        if limits.huge_pages:
            lacks.append("its limit of huge pages is not enforced")
        if spec.security.seccomp != "Unconfined":
            lacks.append(f"its seccomp profile {spec.security.seccomp} is not applied")
        if spec.security.added_capabilities or spec.security.is_privileged:
            lacks.append("it gets no further capabilities")
        user = spec.security.user
        if user is not None and user != os.geteuid():
            lacks.append(f"it runs as user {os.geteuid()}, not as user {user}")
        for name in _INSIDE_HOOKS:
            lacks += [f"{name} hook {h.path} is not run" for h in edits.hooks if h.hook_name == name]
        if edits.additional_gids:
            lacks.append(f"it does not get the groups {', '.join(map(str, edits.additional_gids))}")
        if self._bwrap:
            return lacks
        lacks.append("it sees the host's files and processes")
        lacks += [f"{m.target} is not mounted: its files are in {m.source}" for m in spec.mounts]
        lacks += [f"{m.container_path} is not mounted from {m.host_path}" for m in edits.mounts]
        for node in edits.device_nodes:
            if node.host_path not in ("", node.path):
                lacks.append(f"device {node.path} is not made: it is {node.host_path} here")
        return lacks


def _answer(sync: BinaryIO) -> dict[str, Any]:
    """The next that a shim says."""
    line = sync.readline()
    answer: dict[str, Any] = json.loads(line) if line else {"error": "its shim died"}
    return answer


def _host_env() -> list[str]:
    """The host's PATH, since its programs are what runs."""
    return [f"PATH={os.environ['PATH']}"] if "PATH" in os.environ else []


def _program(spec: ContainerSpec, env: Sequence[str]) -> str:
    """The host's program that the container's command names. Raises RuntimeFailed when there is none."""
    path = next(entry[5:] for entry in env if entry.startswith("PATH="))
    program = shutil.which(spec.argv[0], path=path)
    if program is None:
        raise RuntimeFailed(f"cannot create container {spec.name}: this host has no program {spec.argv[0]!r}")
    return program


def _hooks(hooks: Sequence[Hook]) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for hook in hooks:
        if hook.hook_name in _HOST_HOOKS:
            found.setdefault(hook.hook_name, []).append(
                {"path": hook.path, "args": hook.args, "env": hook.env, "timeout": hook.timeout}
            )
    return found


@contextlib.contextmanager
def _on_cpus_of(pid: int) -> Iterator[None]:
    """What this thread starts meanwhile runs on the CPUs that process `pid` is pinned to."""
    mine = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, os.sched_getaffinity(pid))
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)
