"""Real containers by runc and conmon, as root."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drakit.client.clock import Clock
from drakit.drivers.cpu import pin
from drakit.node.action import Actions
from drakit.node.cgroup import limits_huge_pages
from drakit.node.child import is_alive
from drakit.node.image import ImageNotFound, ImageStore
from drakit.node.oci import OCIRuntime, find_programs
from drakit.node.probe import Prober
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
from tests.e2e.cluster import need

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.needs_root]


class Host:
    """A runtime with everything below `root` and one sandbox in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cdi = root / "cdi"
        self.cdi.mkdir()
        self.runtime = self.again()
        self.sandbox: Sandbox | None = None

    def again(self) -> OCIRuntime:
        """A runtime as a restarted agent makes it."""
        programs = find_programs()
        assert programs is not None
        images = ImageStore(self.root / "images")
        self.runtime = OCIRuntime(
            self.root / "runtime", images, [self.cdi], runc=programs[0], conmon=programs[1]
        )
        return self.runtime

    async def spec(self, script: str, name: str = "c", attempt: int = 0, **more: Any) -> ContainerSpec:
        image = await self.runtime.ensure_image("busybox")
        log = str(self.root / "logs" / f"{name}.{attempt}.log")
        more = {"args": ["sh", "-c", script]} | more
        return ContainerSpec(name=name, attempt=attempt, image=image, log_path=log, **more)

    async def create(self, script: str, name: str = "c", **more: Any) -> Container:
        assert self.sandbox is not None
        return await self.runtime.create(self.sandbox, await self.spec(script, name, **more))

    async def run(self, script: str, name: str = "c", **more: Any) -> Container:
        """The container once it has exited."""
        container = await self.create(script, name, **more)
        await self.runtime.start(container.id)
        return await self.runtime.wait(container.id)

    async def output(self, script: str, name: str = "c", **more: Any) -> str:
        container = await self.run(script, name, **more)
        return self.log(container)

    def log(self, container: Container) -> str:
        lines = Path(container.log_path).read_text().splitlines()
        return "\n".join(line.split(" ", 3)[3] for line in lines)

    def write_cdi(self, name: str, **edits: Any) -> str:
        """A CDI file with one device; returns its qualified name."""
        device = {"name": name, "containerEdits": edits}
        spec = {"cdiVersion": "0.7.0", "kind": "vendor.example.com/thing", "devices": [device]}
        (self.cdi / f"{name}.json").write_text(json.dumps(spec))
        return f"vendor.example.com/thing={name}"


@asynccontextmanager
async def host(root: Path) -> AsyncIterator[Host]:
    for tool in ("runc", "conmon", "busybox"):
        need(tool)
    here = Host(root)
    spec = SandboxSpec(uid=f"pod-{os.getpid()}", namespace="default", name="p", hostname="the-pod")
    here.sandbox = await here.runtime.run_sandbox(spec)
    try:
        yield here
    finally:
        for container in await here.runtime.containers():
            await here.runtime.remove(container.id)
        await here.runtime.remove_sandbox(spec.uid)
        mounts = Path("/proc/mounts").read_text()
        assert str(root) not in mounts, "a mount is left"
        found = subprocess.run(["find", "/sys/fs/cgroup", "-name", f"pod{spec.uid}"], capture_output=True)
        assert found.stdout == b"", "a cgroup is left"
        assert not is_alive(here.sandbox.pid, here.sandbox.pid_started)


async def test_a_container_runs_to_its_end(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        container = await here.run("hostname; echo oops >&2; exit 7")
        assert (container.state, container.exit_code) == ("exited", 7)
        assert container.created_at <= container.started_at <= container.finished_at
        lines = Path(container.log_path).read_text().splitlines()
        assert sorted(line.split(" ", 1)[1] for line in lines) == ["stderr F oops", "stdout F the-pod"]


async def test_a_container_gets_its_devices_and_nothing_else(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        seen = here.root / "state.json"
        (here.root / "data").write_text("from the host")
        name = here.write_cdi(
            "gpu0",
            env=["GPU=gpu0"],
            deviceNodes=[{"path": "/dev/gpu0", "hostPath": "/dev/null"}],
            mounts=[
                {"hostPath": str(here.root / "data"), "containerPath": "/opt/d", "options": ["ro", "bind"]}
            ],
            hooks=[{"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", f"cat > {seen}"]}],
            additionalGids=[4711],
        )
        script = "echo $GPU; ls -l /dev/gpu0; cat /opt/d; id -G; mknod /dev/loopx b 7 0; head -c1 /dev/loopx"
        container = await here.run(script, cdi_devices=[name])
        text = here.log(container)
        assert text.startswith("gpu0\n")
        assert "1,   3" in text
        assert "from the host" in text
        assert "4711" in text
        assert "Operation not permitted" in text, "a device nobody gave cannot be opened"
        state = json.loads(seen.read_text())
        assert (state["id"], state["status"]) == (container.id, "creating")
        assert state["pid"] == container.pid


async def test_the_devices_cgroup_keeps_the_permissions(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        if not Path("/dev/loop0").exists():
            pytest.skip("this machine has no device that is not everybody's: /dev/loop0")
        node = {"path": "/dev/disk", "hostPath": "/dev/loop0", "permissions": "r"}
        name = here.write_cdi("loop", deviceNodes=[node])
        text = await here.output("test -b /dev/disk && echo there; true > /dev/disk", cdi_devices=[name])
        assert "there" in text
        assert "Operation not permitted" in text


@pytest.mark.parametrize("name", ["vendor.example.com/thing=nope", "nonsense"])
async def test_an_unresolvable_device_stops_the_container_before_it_is_made(
    tmp_path: Path, name: str
) -> None:
    async with host(tmp_path) as here:
        with pytest.raises((UnresolvableCDI, RuntimeFailed), match=name):
            await here.create("true", cdi_devices=[name])
        assert await here.runtime.containers() == []


async def test_a_malformed_file_hides_only_its_own_devices(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        good = here.write_cdi("good", env=["A=1"])
        (here.cdi / "bad.json").write_text('{"cdiVersion": "0.5.0", "kind": "x/y", "devices": [], "z": 1}')
        assert await here.output("echo $A", cdi_devices=[good]) == "1"
        with pytest.raises(UnresolvableCDI, match=r"bad\.json"):
            await here.create("true", "d", cdi_devices=["x/y=z"])


async def test_net_devices_are_refused_where_runc_would_ignore_them(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        spec = {
            "cdiVersion": "1.1.0",
            "kind": "vendor.example.com/net",
            "devices": [
                {
                    "name": "n",
                    "containerEdits": {"netDevices": [{"hostInterfaceName": "nope0", "name": "e"}]},
                }
            ],
        }
        (here.cdi / "net.json").write_text(json.dumps(spec))
        with pytest.raises(RuntimeFailed):
            await here.create("true", cdi_devices=["vendor.example.com/net=n"])


async def test_a_failing_hook_stops_the_container(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        hook = {
            "hookName": "createRuntime",
            "path": "/bin/sh",
            "args": ["sh", "-c", "echo no luck >&2; exit 3"],
        }
        name = here.write_cdi("hooked", hooks=[hook])
        with pytest.raises(RuntimeFailed, match="hook"):
            await here.create("true", cdi_devices=[name])
        assert await here.runtime.containers() == []


async def test_limits_are_enforced(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        hungry = "head -c 100000000 /dev/zero | tail"
        container = await here.run(
            hungry, limits=Limits(memory_limit=16 << 20, cpu_limit=500, cpu_request=100)
        )
        assert container.is_oom_killed
        assert container.exit_code != 0


async def test_huge_pages_are_limited_or_it_is_told(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        container = await here.run("true", limits=Limits(huge_pages={"2MB": 2 << 20}))
        assert container.exit_code == 0
        is_told = any("huge pages" in text for text in container.not_isolated)
        assert is_told is not limits_huge_pages()


async def test_a_hook_pins_the_container_to_a_cpu(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU, and it takes two")
    async with host(tmp_path) as here:
        names = []
        for cpu in ("0", "1"):
            hook = pin.hook(tmp_path / "pinned", cpu)
            entry = {"hookName": hook.hook_name, "path": hook.path, "args": hook.args}
            names.append(here.write_cdi(f"cpu{cpu}", hooks=[entry]))
        script = "nproc; grep Cpus_allowed_list /proc/self/status; taskset -p 3 1 >/dev/null 2>&1; nproc"
        of_two = await here.output(script, "two", cdi_devices=names)
        of_one = await here.output(script, "one", cdi_devices=names[1:])
        assert of_two.split() == ["2", "Cpus_allowed_list:", "0-1", "2"]
        assert of_one.split() == ["1", "Cpus_allowed_list:", "1", "1"], "and it cannot lift that"


async def test_containers_of_a_pod_share_their_network(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        server = await here.create("echo hello | nc -l -p 8080", "server")
        await here.runtime.start(server.id)
        script = "while ! nc -w 1 127.0.0.1 8080 </dev/null; do usleep 20000; done"
        client = await here.create(script, "client")
        await here.runtime.start(client.id)
        async with asyncio.timeout(10):
            await here.runtime.wait(client.id)
        assert here.log(client) == "hello"


async def test_a_probe_reaches_into_the_network_of_the_pod(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        server = await here.create("while :; do echo hello | nc -l -p 8080; done", "server")
        await here.runtime.start(server.id)
        assert here.sandbox is not None
        probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
        well = asyncio.Event()
        spec = {"readinessProbe": probe}
        prober = Prober(
            Actions(here.runtime, server.id, spec, here.sandbox, Clock()),
            spec,
            Clock(),
            lambda kind, is_well, message: well.set() if is_well else None,
            lambda kind, message: None,
        )
        task = asyncio.create_task(prober.run())
        async with asyncio.timeout(10):
            await well.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_mounts_users_and_read_only_roots(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        (here.root / "shared").mkdir(mode=0o777)
        (here.root / "shared").chmod(0o777)
        mount = Mount(source=str(here.root / "shared"), target="/deep/down/shared")
        security = Security(user=1000, group=1001, groups=[7], is_root_read_only=True)
        text = await here.output(
            "id -u; id -g; touch /x 2>&1; echo hi > /deep/down/shared/f", mounts=[mount], security=security
        )
        assert text.splitlines()[:2] == ["1000", "1001"]
        assert "Read-only file system" in text
        assert (here.root / "shared" / "f").read_text() == "hi\n"
        assert (here.root / "shared" / "f").stat().st_uid == 1000


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        with pytest.raises(RuntimeFailed, match=r'"nosuch": executable file not found'):
            await here.create("", args=["nosuch"])


async def test_exec_with_and_without_a_terminal(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        container = await here.create("sleep 1000")
        await here.runtime.start(container.id)
        session = await here.runtime.exec(container.id, ["sh", "-c", "cat; exit 3"], stdin=True, tty=False)
        await session.write(b"hello")
        await session.close_stdin()
        assert await session.read() == (1, b"hello")
        assert await session.read() is None
        assert await session.wait() == 3
        terminal = await here.runtime.exec(container.id, ["sh"], stdin=True, tty=True)
        await terminal.resize(100, 40)
        await terminal.write(b"stty size; exit 4\n")
        output = b""
        while chunk := await terminal.read():
            output += chunk[1]
        assert b"40 100" in output
        assert await terminal.wait() == 4
        stats = await here.runtime.stats(container.id)
        assert stats.cpu_seconds > 0
        assert stats.memory_bytes > 0


async def test_stop_kills_after_the_grace(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        deaf = await here.create("sleep 1000", "deaf")  # pid 1 ignores what it does not handle
        polite = await here.create("trap 'exit 5' TERM; while :; do usleep 10000; done", "polite")
        for container in (deaf, polite):
            await here.runtime.start(container.id)
        await asyncio.sleep(0.1)  # for the trap to be set
        assert (await here.runtime.stop(polite.id, 5)).exit_code == 5
        assert (await here.runtime.stop(deaf.id, 0.2)).exit_code == 137


async def test_a_restarted_agent_finds_everything(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        running = await here.create("sleep 1000", "running")
        await here.runtime.start(running.id)
        ended = await here.create("exit 9", "ended")
        await here.runtime.start(ended.id)
        again = here.again()
        assert (await again.wait(ended.id)).exit_code == 9
        found = {container.name: container.state for container in await again.containers()}
        assert found == {"running": "running", "ended": "exited"}
        assert here.sandbox is not None
        spec = SandboxSpec(uid=here.sandbox.uid, namespace="default", name="p", hostname="the-pod")
        assert (await again.run_sandbox(spec)).pid == here.sandbox.pid
        assert (await again.stop(running.id, 0)).exit_code == 137


async def test_a_container_whose_conmon_died_is_not_running_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drakit.node.oci._SETTLE_SECONDS", 0.2)
    async with host(tmp_path) as here:
        container = await here.create("sleep 1000")
        await here.runtime.start(container.id)
        conmon = next(
            int(path.name) for path in Path("/proc").glob("[0-9]*") if _is_conmon_of(path, container.id)
        )
        os.kill(conmon, signal.SIGKILL)
        os.kill(container.pid, signal.SIGKILL)
        ended = await here.runtime.wait(container.id)
        assert (ended.state, ended.exit_code) == ("exited", 255)
        assert "exit code is lost" in ended.error


def _is_conmon_of(process: Path, container_id: str) -> bool:
    try:
        command = (process / "cmdline").read_bytes()
    except OSError:  # it has just ended
        return False
    return command.split(b"\0")[0].endswith(b"conmon") and container_id.encode() in command


async def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        with pytest.raises(ImageNotFound, match="nothing is ever downloaded"):
            await here.runtime.ensure_image("docker.io/library/nginx:1.27")


async def test_attach(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
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


async def test_attach_to_a_terminal(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
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


async def test_exec_of_what_cannot_run_ends_as_in_a_shell(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        container = await here.create("sleep 1000")
        await here.runtime.start(container.id)
        for command, code in (("nosuch", 127), ("/etc", 126), ("false", 1)):
            session = await here.runtime.exec(container.id, [command], stdin=False, tty=False)
            said = b""
            while chunk := await session.read():
                said += chunk[1]
            assert (await session.wait(), command.encode() in said) == (code, code != 1)


async def test_containers_that_share_their_processes(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        spec = SandboxSpec(
            uid=f"shared-{os.getpid()}",
            namespace="default",
            name="s",
            hostname="s",
            shares_processes=True,
            sysctls={"kernel.shm_rmid_forced": "1"},
        )
        first, here.sandbox = here.sandbox, await here.runtime.run_sandbox(spec)
        sleeper = await here.create("exec sleep 4711", "a")
        await here.runtime.start(sleeper.id)
        text = await here.output("ps; cat /proc/sys/kernel/shm_rmid_forced", "b")
        assert "sleep 4711" in text
        assert text.splitlines()[-1] == "1"
        for container in await here.runtime.containers():
            await here.runtime.remove(container.id)
        await here.runtime.remove_sandbox(spec.uid)
        assert not is_alive(here.sandbox.pid, here.sandbox.pid_started)
        here.sandbox = first
