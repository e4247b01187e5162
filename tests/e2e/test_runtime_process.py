"""Containers without root: in bubblewrap, and as plain processes; what they lack is said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from drakit.node import shim
from drakit.node.bubblewrap import find_bwrap
from drakit.node.child import spawn
from drakit.node.process import ProcessRuntime
from drakit.node.runtime import (
    Container,
    ContainerSpec,
    Limits,
    Mount,
    RuntimeFailed,
    Sandbox,
    SandboxSpec,
    Security,
    UnresolvableCDI,
)

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

KINDS = ["bubblewrap", "plain"]


class Host:
    """A runtime with everything below `root`."""

    def __init__(self, root: Path, bwrap: str | None) -> None:
        self.root = root
        self.bwrap = bwrap
        self.cdi = root / "cdi"
        self.cdi.mkdir()
        (root / "logs").mkdir()
        self.runtime = self.again()
        self.sandbox = Sandbox(uid="pod", namespace="default", name="p", hostname="the-pod")

    def again(self) -> ProcessRuntime:
        self.runtime = ProcessRuntime(self.root / "runtime", [self.cdi], bwrap=self.bwrap)
        return self.runtime

    async def create(self, script: str, name: str = "c", **more: Any) -> Container:
        image = await self.runtime.ensure_image("busybox")
        log = str(self.root / "logs" / f"{name}.log")
        more = {"args": ["sh", "-c", script]} | more
        spec = ContainerSpec(name=name, attempt=0, image=image, log_path=log, **more)
        return await self.runtime.create(self.sandbox, spec)

    async def run(self, script: str, name: str = "c", **more: Any) -> Container:
        container = await self.create(script, name, **more)
        await self.runtime.start(container.id)
        return await self.runtime.wait(container.id)

    def log(self, container: Container) -> str:
        lines = Path(container.log_path).read_text().splitlines()
        return "\n".join(line.split(" ", 3)[3] for line in lines)

    def write_cdi(self, name: str, **edits: Any) -> str:
        device = {"name": name, "containerEdits": edits}
        spec = {"cdiVersion": "1.1.0", "kind": "vendor.example.com/thing", "devices": [device]}
        (self.cdi / f"{name}.json").write_text(json.dumps(spec))
        return f"vendor.example.com/thing={name}"


@asynccontextmanager
async def host(root: Path, kind: str) -> AsyncIterator[Host]:
    bwrap = find_bwrap() if kind == "bubblewrap" else None
    if kind == "bubblewrap" and bwrap is None:
        pytest.skip("there is no bubblewrap that works here")
    here = Host(root, bwrap)
    spec = SandboxSpec(uid="pod", namespace="default", name="p", hostname="the-pod")
    here.sandbox = await here.runtime.run_sandbox(spec)
    try:
        yield here
    finally:
        for container in await here.runtime.containers():
            await here.runtime.remove(container.id)
        await here.runtime.remove_sandbox("pod")
        assert list((root / "runtime" / "containers").iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_container_runs_to_its_end(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        container = await here.run("echo $HOSTNAME; printf part; echo oops >&2; exit 7")
        assert (container.state, container.exit_code) == ("exited", 7)
        entries = [line.split(" ", 1)[1] for line in Path(container.log_path).read_text().splitlines()]
        assert sorted(entries) == ["stderr F oops", "stdout F the-pod", "stdout P part"]


@pytest.mark.parametrize("kind", KINDS)
async def test_env_and_hooks_of_a_device(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        seen = here.root / "state.json"
        hook = {"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", f"cat > {seen}"]}
        name = here.write_cdi("gpu0", env=["GPU=gpu0"], hooks=[hook])
        container = await here.run("echo $GPU", cdi_devices=[name])
        assert here.log(container) == "gpu0"
        state = json.loads(seen.read_text())
        assert (state["id"], state["pid"], state["status"]) == (container.id, container.pid, "creating")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_hook_pins_the_container_to_a_cpu(tmp_path: Path, kind: str) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU, and it takes two")
    async with host(tmp_path, kind) as here:
        script = 'read s; p=${s##*\\"pid\\":}; p=${p%%,*}; taskset -p -c 1 ${p%%\\}*}'
        hook = {
            "hookName": "createRuntime",
            "path": "/bin/sh",
            "args": ["sh", "-c", script],
            "env": ["PATH=/usr/bin:/bin"],
        }
        name = here.write_cdi("cpu1", hooks=[hook])
        container = await here.run("grep Cpus_allowed_list /proc/self/status", cdi_devices=[name])
        assert here.log(container).split() == ["Cpus_allowed_list:", "1"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failing_hook_stops_the_container(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        mark = here.root / "ran"
        hook = {"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", "echo no luck; exit 3"]}
        name = here.write_cdi("bad", hooks=[hook])
        container = await here.create(f"touch {mark}", cdi_devices=[name])
        with pytest.raises(RuntimeFailed, match="exit code 3: no luck"):
            await here.runtime.start(container.id)
        assert not mark.exists()


async def test_a_command_that_cannot_be_executed_is_noted_nowhere(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/nowhere/interpreter\n")
    program.chmod(0o755)
    async with host(tmp_path, "plain") as here:
        container = await here.create("", args=[str(program)])
        with pytest.raises(RuntimeFailed, match="cannot start container"):
            await here.runtime.start(container.id)
        found = await here.runtime.status(container.id)
        assert found is not None
        assert (found.state, found.pid) == ("created", 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_cannot_be_had_is_refused(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        net = here.write_cdi("net", netDevices=[{"hostInterfaceName": "e0", "name": "e"}])
        for name in (net, "vendor.example.com/thing=nope"):
            with pytest.raises(UnresolvableCDI):
                await here.create("true", cdi_devices=[name])
        with pytest.raises(RuntimeFailed, match="no program 'nosuch'"):
            await here.create("", args=["nosuch"])
        assert await here.runtime.containers() == []


async def test_an_image_that_is_not_here_has_no_command_of_its_own(tmp_path: Path) -> None:
    async with host(tmp_path, "plain") as here:
        for reference, command in {
            "busybox": ["/bin/sh"],
            "localhost/busybox:latest": ["/bin/sh"],
            "nginx:1.25": [],
        }.items():
            assert (await here.runtime.ensure_image(reference)).cmd == command


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_not_isolated_is_said(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        (here.root / "data").write_text("x")
        hook = {"hookName": "createContainer", "path": "/bin/true"}
        name = here.write_cdi(
            "gpu0",
            deviceNodes=[{"path": "/dev/gpu0", "hostPath": "/dev/null"}],
            mounts=[{"hostPath": str(here.root / "data"), "containerPath": "/opt/gpu/data"}],
            hooks=[hook],
        )
        container = await here.create(
            "true",
            cdi_devices=[name],
            limits=Limits(cpu_limit=500, memory_limit=1 << 20),
            mounts=[Mount(source=str(here.root / "data"), target="/data")],
            security=Security(user=4242),
        )
        text = "; ".join(container.not_isolated)
        for words in (
            "image busybox is not used",
            "shares the host's network",
            "CPU limit of 500m is not enforced",
            "memory limit of 1048576 bytes is not enforced",
            "not as user 4242",
            "createContainer hook /bin/true is not run",
        ):
            assert words in text
        for words in ("/data is not mounted", "/opt/gpu/data is not mounted", "/dev/gpu0 is not made"):
            assert (words in text) == (kind == "plain")


async def test_bubblewrap_gives_mounts_devices_and_its_own_view(tmp_path: Path) -> None:
    async with host(tmp_path, "bubblewrap") as here:
        (here.root / "data").write_text("from the host\n")
        (here.root / "writable").mkdir()
        name = here.write_cdi(
            "gpu0",
            deviceNodes=[{"path": "/dev/gpu0", "hostPath": "/dev/null"}],
            mounts=[
                {"hostPath": str(here.root / "data"), "containerPath": "/opt/gpu/data", "options": ["ro"]}
            ],
        )
        mounts = [
            Mount(source=str(here.root / "data"), target="/var/run/secrets/x/data", is_read_only=True),
            Mount(source=str(here.root / "writable"), target="/new/place"),
        ]
        script = (
            "hostname; cat /opt/gpu/data /var/run/secrets/x/data; test -c /dev/gpu0 && echo device; "
            "echo hi > /new/place/f; echo x > /opt/gpu/data || echo refused; ls /proc | grep -c '^[0-9]*$'"
        )
        container = await here.run(script, cdi_devices=[name], mounts=mounts)
        text = here.log(container).splitlines()
        assert text[:4] == ["the-pod", "from the host", "from the host", "device"]
        assert "refused" in text
        assert int(text[-1]) < 10, "it sees its own processes only"
        assert (here.root / "writable" / "f").read_text() == "hi\n"


@pytest.mark.parametrize("kind", KINDS)
async def test_exec_with_and_without_a_terminal(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        container = await here.create("sleep 1000", env=["WHO=me"])
        await here.runtime.start(container.id)
        session = await here.runtime.exec(
            container.id, ["sh", "-c", "echo $WHO; cat; exit 3"], stdin=True, tty=False
        )
        await session.write(b"hello")
        await session.close_stdin()
        output = b""
        while chunk := await session.read():
            output += chunk[1]
        assert (output, await session.wait()) == (b"me\nhello", 3)
        terminal = await here.runtime.exec(container.id, ["sh"], stdin=True, tty=True)
        await terminal.resize(100, 40)
        await terminal.write(b"stty size; exit 4\n")
        output = b""
        while chunk := await terminal.read():
            output += chunk[1]
        assert b"40 100" in output
        assert await terminal.wait() == 4
        assert (await here.runtime.stats(container.id)).memory_bytes > 0


@pytest.mark.parametrize("kind", KINDS)
async def test_stop_leaves_no_process_behind(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        mark = f"4711{os.getpid()}"
        container = await here.create(f"setsid sleep {mark} & sleep {mark}")
        await here.runtime.start(container.id)
        assert (await here.runtime.stop(container.id, 0.1)).state == "exited"
        assert [pid for pid in _running(f"sleep\0{mark}")] == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_restarted_agent_finds_everything(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        running = await here.create("sleep 1000", "running")
        await here.runtime.start(running.id)
        ended = await here.create("exit 9", "ended")
        await here.runtime.start(ended.id)
        again = here.again()
        assert (await again.wait(ended.id)).exit_code == 9
        found = {container.name: container.state for container in await again.containers()}
        assert found == {"running": "running", "ended": "exited"}
        assert (await again.stop(running.id, 0)).exit_code == 137


@pytest.mark.parametrize("kind", KINDS)
async def test_an_agent_that_dies_while_it_starts_one_leaves_nothing(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        mark = tmp_path / "mark"
        container = await here.create(f"echo > {mark}; sleep 1043")
        config = str(here.runtime._records.folder(container.id) / "config.json")
        ours, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-I", "-S", shim.__file__, config]
            child = spawn(argv, descriptors={shim.SYNC: theirs.fileno()}, new_session=True)
        with ours, ours.makefile("rb") as sync:
            assert "pid" in json.loads(await asyncio.to_thread(sync.readline))
        await child.wait()
        assert not _running("sleep 1043")
        assert not mark.exists()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_command_nobody_noted_to_run_ends_with_its_container(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        running = await here.runtime.start((await here.create("sleep 1042")).id)
        here.runtime._records.put_container(structs.replace(running, state="created"))
        await here.again().remove(running.id)
        async with asyncio.timeout(5):
            while _running("sleep 1042"):  # its shim too
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_container_whose_shim_died(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drakit.node.process._SETTLE_SECONDS", 0.2)
    async with host(tmp_path, kind) as here:
        container = await here.create("sleep 1000")
        running = await here.runtime.start(container.id)
        os.kill(here.runtime._shims[container.id].pid, signal.SIGKILL)
        if kind == "plain":  # bubblewrap dies with its shim
            os.kill(running.pid, signal.SIGKILL)
        ended = await here.runtime.wait(container.id)
        assert (ended.state, ended.exit_code) == ("exited", 255)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_long_log_begins_anew(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drakit.node.process.LOG_SIZE_LIMIT", 2000)
    async with host(tmp_path, kind) as here:
        container = await here.run("for i in $(seq 200); do echo line $i; done")
        assert Path(container.log_path).stat().st_size <= 2000
        assert here.log(container).endswith("line 200")


def _running(command: str) -> list[str]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                if command.encode() in (path / "cmdline").read_bytes():
                    found.append(path.name)
            except OSError:
                continue
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_attach(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        container = await here.create("cat; echo over; sleep 1000", has_stdin=True, is_stdin_once=True)
        await here.runtime.start(container.id)
        session = await here.runtime.attach(container.id, stdin=True, tty=False)
        await session.write(b"typed\n")
        assert await session.read() == (1, b"typed\n")
        watcher = await here.runtime.attach(container.id, stdin=False, tty=False)
        await session.close_stdin()
        assert await session.read() == (1, b"over\n")
        assert await watcher.read() == (1, b"over\n")
        await session.kill()
        await here.runtime.stop(container.id, 0)
        async with asyncio.timeout(5):
            assert await watcher.read() is None
        assert await watcher.wait() == 0
        await watcher.kill()
        assert here.log(container).splitlines() == ["typed", "over"]


@pytest.mark.parametrize("kind", KINDS)
async def test_attach_to_a_terminal(tmp_path: Path, kind: str) -> None:
    async with host(tmp_path, kind) as here:
        container = await here.create("", args=["sh"], has_stdin=True, has_terminal=True)
        await here.runtime.start(container.id)
        session = await here.runtime.attach(container.id, stdin=True, tty=True)
        await session.resize(101, 41)
        await session.write(b"stty size; tty; exit 7\n")
        output = b""
        async with asyncio.timeout(10):
            while chunk := await session.read():
                output += chunk[1]
        assert b"41 101" in output
        assert b"/dev/" in output
        await session.kill()
        assert (await here.runtime.wait(container.id)).exit_code == 7
