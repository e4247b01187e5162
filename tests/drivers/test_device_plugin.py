"""Device plugins behind the bridge: a plugin program of its own, over its real socket."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drakit.client.clock import Clock
from drakit.drivers import build
from drakit.drivers.device_plugin import DevicePluginDriver, naming
from drakit.drivers.device_plugin.edits import edits
from drakit.drivers.device_plugin.endpoint import FORGET_SECONDS
from drakit.errors import DRAError, RecoverableError, UsageError
from drakit.model import cdi
from drakit.pluginapi import wire
from drakit.pluginapi.deviceplugin import ContainerAllocation, PluginDeviceNode
from drakit.pluginapi.health import HEALTH_V1, HealthStub
from tests.driver.make import NODE, Cluster, Kubelet, cluster, until

pytestmark = pytest.mark.anyio

NAME = "dra.device-plugin"
WIDGETS = "example.com/widget"
POOL = f"{NODE}/{WIDGETS}"


class Program:
    """The plugin program, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @staticmethod
    @asynccontextmanager
    async def run(folder: Path, resource: str = WIDGETS, socket: str = "w.sock") -> AsyncIterator[Program]:
        script = Path(__file__).with_name("plugin_program.py")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            str(folder),
            resource,
            socket,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield Program(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def hear(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            said: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return said

    def report(self, *devices: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(devices).encode() + b"\n")

    async def leave(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"leave\n")
        await self._process.wait()


class QuickClock(Clock):
    """Waits a fiftieth of the time; `later` moves it."""

    def __init__(self) -> None:
        self.later = 0.0

    def now(self) -> float:
        return super().now() + self.later

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 50)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def bridge(lab: Cluster, **options: str) -> DevicePluginDriver:
    built = build("device-plugin", {"sockets": str(lab.plugins.parent / "s"), **options}, NODE)
    assert isinstance(built, DevicePluginDriver)
    built._clock = QuickClock()
    return built


def sockets(lab: Cluster) -> Path:
    return lab.plugins.parent / "s"


async def published(lab: Cluster, name: str = NAME) -> dict[str, list[dict[str, Any]]]:
    """The devices by pool."""
    return {item["spec"]["pool"]["name"]: item["spec"]["devices"] for item in await lab.slices(name)}


async def shows(lab: Cluster, wanted: Any, name: str = NAME) -> None:
    """Wait until every pool's devices have these taints, by device: "" for none."""
    found: Any = None
    for _ in range(1000):
        found = {
            pool: {
                device["name"]: ",".join(taint["key"].partition("/")[2] for taint in device.get("taints", []))
                for device in devices
            }
            for pool, devices in (await published(lab, name)).items()
        }
        if found == wanted:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{found} instead of {wanted}")


# --- devices --------------------------------------------------------------------------------------


async def test_devices_become_slices_and_follow(lab: Cluster) -> None:
    async with lab.running(bridge(lab)), Program.run(sockets(lab)) as program:
        assert await program.hear() == {"registered": WIDGETS}
        program.report({"id": "w-1", "numa": [1]}, {"id": "W/2", "numa": [0, 1]}, {"id": "w-3"})
        odd = naming.device_name("W/2")
        await shows(lab, {POOL: {"w-3": "", "w-1": "", odd: ""}})
        devices = {item["name"]: item["attributes"] for item in (await published(lab))[POOL]}
        assert list(devices) == ["w-3", "w-1", odd]  # as the plugin prefers them: the last first
        assert devices["w-1"] == {
            "resourceName": {"string": WIDGETS},
            "id": {"string": "w-1"},
            "resource.kubernetes.io/numaNode": {"int": 1},
        }
        assert devices[odd]["id"] == {"string": "W/2"}
        assert devices[odd]["numaNodes"] == {"string": "0,1"}

        program.report({"id": "w-1", "health": "Unhealthy"}, {"id": "w-3"})
        await shows(lab, {POOL: {"w-3": "", "w-1": "unhealthy"}})
        async with Kubelet.meet(lab, NAME) as kubelet:
            channel = wire.connect(kubelet.info.endpoint)
            reports = HealthStub(channel, HEALTH_V1).watch()
            report = await anext(reports)
            assert [(item.pool, item.device, item.health) for item in report] == [
                (POOL, "w-3", "Healthy"),
                (POOL, "w-1", "Unhealthy"),
            ]
            assert all(item.last_updated > 0 for item in report)
            await reports.aclose()  # type: ignore[attr-defined]
            await channel.close()


async def test_several_plugins(lab: Cluster) -> None:
    async with (
        lab.running(bridge(lab)),
        Program.run(sockets(lab)) as widgets,
        Program.run(sockets(lab), "acme.org/Gadget_A", "g.sock") as gadgets,
    ):
        widgets.report({"id": "same"})
        gadgets.report({"id": "same"})
        other = naming.pool_name(NODE, "acme.org/Gadget_A")
        await shows(lab, {POOL: {"same": ""}, other: {"same": ""}})


async def test_a_plugin_goes_and_comes_back(lab: Cluster) -> None:
    driver = bridge(lab)
    clock = driver._clock
    assert isinstance(clock, QuickClock)
    async with lab.running(driver):
        async with Program.run(sockets(lab)) as program:
            program.report({"id": "w-1"})
            await shows(lab, {POOL: {"w-1": ""}})
            async with Kubelet.meet(lab, NAME) as kubelet:
                await program.leave()
                await shows(lab, {POOL: {"w-1": "disconnected"}})
                claim = await lab.claim("c", "w-1", driver=NAME, pool=POOL)
                error = (await kubelet.prepare(claim))["c"].error
                assert error == f"the device plugin of {WIDGETS} is not there at the moment"
        (sockets(lab) / "w.sock").unlink(missing_ok=True)
        async with Program.run(sockets(lab)) as program:
            program.report({"id": "w-1"}, {"id": "w-2"})
            await shows(lab, {POOL: {"w-2": "", "w-1": ""}})
        await shows(lab, {POOL: {"w-2": "disconnected", "w-1": "disconnected"}})
        clock.later += FORGET_SECONDS
        await shows(lab, {})


async def test_the_bridge_goes_and_comes_back(lab: Cluster) -> None:
    """The plugin's devices stay published; it is found again though it registers but once."""
    async with Program.run(sockets(lab)) as program:
        async with lab.running(bridge(lab)):
            program.report({"id": "w-1"})
            await shows(lab, {POOL: {"w-1": ""}})
        assert not (sockets(lab) / "kubelet.sock").exists()
        (before,) = await lab.slices(NAME)
        async with lab.running(bridge(lab)):
            await shows(lab, {POOL: {"w-1": ""}})
            (after,) = await lab.slices(NAME)
            assert after["metadata"]["uid"] == before["metadata"]["uid"]
            os.unlink(sockets(lab) / "kubelet.sock")
            await until((sockets(lab) / "kubelet.sock").exists)


async def test_waits_while_a_kubelet_serves_the_folder(
    lab: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    sockets(lab).mkdir()
    kubelet = await asyncio.start_unix_server(lambda r, w: w.close(), sockets(lab) / "kubelet.sock")
    async with lab.running(bridge(lab)):
        await until(lambda: "waiting for it to go" in caplog.text)
        kubelet.close()
        await kubelet.wait_closed()
        async with Program.run(sockets(lab)) as program:
            assert await program.hear() == {"registered": WIDGETS}


REFUSED = [
    ("kubernetes.io/x", "w.sock", {}, "names of kubernetes.io are not for plugins"),
    ("widget", "w.sock", {}, "is not called like vendor.com/gpu"),
    ("acme.org/x", "w.sock", {"resource": WIDGETS}, f"this bridge is for {WIDGETS}, not acme.org/x"),
    (WIDGETS, "../s/w.sock", {}, "is not the name of a socket in"),
]


@pytest.mark.parametrize(("resource", "socket", "options", "text"), REFUSED)
async def test_refused(lab: Cluster, resource: str, socket: str, options: dict[str, str], text: str) -> None:
    async with lab.running(bridge(lab, **options)), Program.run(sockets(lab), resource, socket) as program:
        assert text in (await program.hear())["refused"]


# --- claims ---------------------------------------------------------------------------------------


async def prepared(lab: Cluster, names: Sequence[str]) -> tuple[cdi.ContainerEdits, cdi.Spec]:
    (path,) = lab.cdi.iterdir()
    spec = cdi.decode(path.read_bytes(), str(path))
    return cdi.Registry([cdi.SpecFile(str(path), 0, spec)]).resolve(names), spec


async def test_claims(lab: Cluster) -> None:
    name = "widget.example.com"
    async with (
        lab.running(bridge(lab, resource=WIDGETS)),
        Program.run(sockets(lab)) as program,
    ):
        await program.hear()
        program.report({"id": "w-1"}, {"id": "w-2"}, {"id": "refuse"})
        await shows(lab, {POOL: {"w-1": "", "w-2": "", "refuse": ""}}, name)
        async with Kubelet.meet(lab, name) as kubelet:
            claim = await lab.claim("c", "w-1", "w-2", driver=name, pool=POOL)
            result = (await kubelet.prepare(claim))["c"]
            assert result.error == ""
            assert await program.hear() == {"call": "Allocate", "ids": ["w-1", "w-2"]}
            assert await program.hear() == {"call": "PreStartContainer", "ids": ["w-1", "w-2"]}
            first, second = result.devices
            extra = [f"widget.example.com/extra=w-{number}" for number in (1, 2)]
            assert list(first.cdi_device_ids[:2]) == extra
            assert (second.device, list(second.cdi_device_ids)) == ("w-2", [])
            found, spec = await prepared(lab, first.cdi_device_ids[2:])
            assert found.env == ["WIDGETS=w-1,w-2"]
            assert found.mounts == [
                cdi.Mount(host_path="/usr", container_path="/opt/widget", options=["rbind", "ro"])
            ]
            assert found.device_nodes == [
                cdi.DeviceNode(path="/dev/widget", host_path="/dev/null", permissions="rw")
            ]
            assert (spec.cdi_version, spec.devices[0].annotations) == ("0.5.0", {})
            assert await kubelet.unprepare(claim) == {"c": ""}

            refused = await lab.claim("d", "refuse", driver=name, pool=POOL)
            error = (await kubelet.prepare(refused))["d"].error
            assert error == "Allocate: FAILED_PRECONDITION: firmware is too old"


def allocation(container: str, host: str) -> ContainerAllocation:
    return ContainerAllocation({}, [], [PluginDeviceNode(container, host, "r")], {}, [])


def test_a_folder_of_devices_is_all_that_are_in_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "text").write_text("no device")
    assert edits(allocation("/dev/x", str(tmp_path))).device_nodes == []
    if os.geteuid() == 0:
        os.mknod(tmp_path / "sub" / "null", 0o20666, os.makedev(1, 3))
        (node,) = edits(allocation("/dev/x", str(tmp_path))).device_nodes
        assert (node.path, node.host_path) == ("/dev/x/sub/null", str(tmp_path / "sub" / "null"))


def test_device_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(RecoverableError, match="No such file"):
        edits(allocation("/dev/x", str(tmp_path / "gone")))
    (tmp_path / "text").write_text("")
    with pytest.raises(RecoverableError, match="is no device file"):
        edits(allocation("/dev/x", str(tmp_path / "text")))


# --- names ----------------------------------------------------------------------------------------


def test_names() -> None:
    assert naming.driver_name("nvidia.com/gpu") == "gpu.nvidia.com"
    assert naming.driver_name("vendor.com/Big_One").startswith("big-one-")
    assert naming.pool_name("n", "nvidia.com/gpu") == "n/nvidia.com/gpu"
    assert naming.device_name("nvidia0") == "nvidia0"
    names = [naming.device_name(text) for text in ("GPU-1", "gpu_1", "0000:3b:00.0", "é" * 80, "a" * 64)]
    assert len(set(names)) == 5
    assert all(len(name) <= 63 and naming._LABEL.fullmatch(name) for name in names)
    for bad in (
        "gpu",
        "/gpu",
        "a.com/",
        "x.kubernetes.io/gpu",
        "A.com/gpu",
        "a.com/b/c",
        "a.com/" + "b" * 64,
    ):
        with pytest.raises(DRAError):
            naming.check_resource(bad)


WRONG = [
    ({"resource": "gpu"}, "option resource: resource 'gpu' is not called like vendor.com/gpu"),
    ({"name": "No_Name"}, "option name: 'No_Name' is not a DNS subdomain"),
    ({"resource": f"{'a' * 60}.com/gpu"}, "option name"),
    ({"socket": "x"}, "has no option 'socket'"),
]


@pytest.mark.parametrize(("options", "text"), WRONG)
def test_bad_options(options: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        build("device-plugin", options, NODE)
