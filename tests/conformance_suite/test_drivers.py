"""Drivers that come with drakit, and that of `dra driver new`, pass the suite, as programs of their own.

What the SDK owes is checked with a few of them, wholly; what a driver owes itself with each of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from drakit.cli.driver import command
from drakit.conformance.check import Result
from drakit.drivers import NAMES
from tests.conformance_suite.make import AT_A_TIME, broken, failed, options, run, run_all
from tests.driver.make import until
from tests.drivers import nvml

pytestmark = pytest.mark.anyio

DRIVERS = ("cpu", "gpu", "net")
FOLDERS = ("--plugins-dir", "{plugins_dir}", "--registry-dir", "{registry_dir}", "--cdi-dir", "{cdi_dir}")
PLUGIN = Path(nvml.__file__).with_name("plugin_program.py")
METADATA, HEALTH = {"metadata", "metadata-generation"}, {"health", "health-repeated"}
CHANGED = {"slices-changed"}
NOT_OFFERED = {
    "cpu": METADATA | HEALTH,
    "gpu": set(),
    "net": set(),
    "new": set(),
    "small": set(),
}


IDENTITY = ("--node-name", "{node_name}", "--pod-uid", "{pod_uid}")
OPTIONS = {"gpu": ("--option", "metadata=yes")}


def ours(name: str, *more: str, program: tuple[str, ...] = ("-m", "drakit")) -> tuple[str, ...]:
    found = (*more, *OPTIONS.get(name, ()))
    return (sys.executable, *program, "driver", "run", name, *FOLDERS, *IDENTITY, *found)


def new(folder: Path) -> tuple[str, ...]:
    """The driver that `dra driver new` writes."""
    done = CliRunner().invoke(command, ["new", "desk-lamp.example.com", f"--folder={folder}"])
    assert done.exit_code == 0, done.output
    return (sys.executable, str(folder / "driver.py"), *FOLDERS, *IDENTITY)


async def test_our_drivers_and_others_pass(tmp_path: Path) -> None:
    commands = {name: ours(name) for name in DRIVERS}
    commands |= {"small": broken(), "new": new(tmp_path / "new")}
    todo = {name: options(command, timeout=20, is_rolling=True) for name, command in commands.items()}
    # Our own repeat themselves every ten seconds, which a test has not.
    results = await run_all(todo, lambda name: () if name == "small" else ("health-repeated",))
    assert {name: failed(found) for name, found in results.items()} == {name: {} for name in commands}
    for name, found in results.items():
        assert {result.id for result in found if result.status == "skip"} <= NOT_OFFERED[name] | CHANGED


OWN = ("slices-restored", "prepare-several", "unprepare-unknown", "cdi-cleaned", "kubelet-restart", "rbac")
"""With what these need: what is published and how it is given are the driver's own."""
GIVING = {
    "prepare",
    "prepare-again",
    "prepare-several",
    "unprepare",
    "unprepare-unknown",
    "cdi-cleaned",
    "kubelet-restart",
}


@contextlib.contextmanager
def loop_devices(folder: Path, count: int) -> Iterator[list[str]]:
    """The names of `count` loop devices, none where they cannot be had."""
    found: list[str] = []
    try:
        for number in range(count):
            file = folder / f"{number}.img"
            file.write_bytes(bytes(2**20))
            program = ["losetup", "--find", "--show", str(file)]
            with contextlib.suppress(FileNotFoundError):
                done = subprocess.run(program, capture_output=True, text=True, check=False)
                found += done.stdout.split()
        yield [path.removeprefix("/dev/") for path in found] if len(found) == count else []
    finally:
        for path in found:
            subprocess.run(["losetup", "--detach", path], check=True)


@contextlib.asynccontextmanager
async def device_plugin(folder: Path) -> AsyncIterator[None]:
    """A device plugin with two devices, once there is something to register with."""

    async def run_it() -> None:
        socket = folder / "kubelet.sock"
        await until(socket.exists)
        program = (str(PLUGIN), str(folder), "example.com/widget", "w.sock")
        process = await asyncio.create_subprocess_exec(sys.executable, *program, stdin=PIPE, stdout=DEVNULL)
        try:
            assert process.stdin is not None
            process.stdin.write(b'[{"id": "a"}, {"id": "b"}]\n')
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    running = asyncio.create_task(run_it())
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_each_of_our_drivers_gives_its_devices(tmp_path: Path) -> None:
    host = nvml.host(tmp_path / "host")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    with loop_devices(tmp_path, 3) as loops:
        commands = {
            "gpu: mig": ours("gpu", "--option=profile=mig", "--option=count=1"),
            "gpu: shared": ours("gpu", "--option=profile=shared"),
            "pizza": ours("pizza"),
            "memory": ours("memory"),
            "blockdev": ours("blockdev", f"--option=devices={','.join(loops) or 'none'}"),
            "blockdev: none": ours("blockdev", "--option=devices=none"),
            "device-plugin": ours("device-plugin", f"--option=sockets={plugins}"),
            "nvidia": ours("nvidia", f"--option=root={host}", program=(nvml.__file__,)),
        }
        assert {name.partition(":")[0] for name in commands} | set(DRIVERS) == set(NAMES)
        turns = asyncio.Semaphore(AT_A_TIME)

        async def one(name: str) -> list[Result]:
            async with turns, contextlib.AsyncExitStack() as stack:
                if name == "device-plugin":
                    await stack.enter_async_context(device_plugin(plugins))
                return await run(options(commands[name], timeout=20, is_rolling=True), only=OWN)

        found = dict(zip(commands, await asyncio.gather(*map(one, commands)), strict=True))
    assert {name: failed(results) for name, results in found.items()} == {name: {} for name in commands}
    skipped = {
        name: {result.id: result.evidence for result in results if result.status == "skip"}
        for name, results in found.items()
    }
    nothing = skipped.pop("blockdev: none")
    assert nothing.pop("slices-restored") == "the driver has no devices here"
    assert set(nothing) == GIVING
    assert skipped.pop("blockdev").keys() == (set() if loops else {*GIVING, "slices-restored"})
    assert not any(skipped.values()), skipped
