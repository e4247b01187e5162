"""Registration as the kubelet does it, with real sockets and a clock that the test turns."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drakit.apiserver.app import API
from drakit.client.api import NODES, RESOURCE_SLICES, Client
from drakit.node.health import HealthCache
from drakit.node.paths import NodePaths
from drakit.node.plugins import WIPE_SECONDS, Plugins
from drakit.pluginapi import wire
from drakit.pluginapi.dra import DRA_V1, DRA_V1BETA1, dra_handlers
from drakit.pluginapi.health import HEALTH_V1, DeviceHealth
from drakit.pluginapi.registration import registration_handlers
from drakit.profile import profile_for
from drakit.store import Store
from tests.client.fake_clock import FakeClock
from tests.node.make import ADMIN, NODE, FakeDriver, until

pytestmark = pytest.mark.anyio


class Registry:
    """Plugins at work in `paths`, with what they said in `changes`."""

    def __init__(self, client: Client, paths: NodePaths) -> None:
        self.client = client
        self.paths = paths
        self.clock = FakeClock()
        self.changes: list[str] = []
        self.plugins = Plugins(client, NODE, paths, on_change=self.changes.append, clock=self.clock)

    async def add_slice(self, driver: str = "lamp.example.com") -> None:
        pool = {"name": NODE, "generation": 1, "resourceSliceCount": 1}
        spec = {"driver": driver, "nodeName": NODE, "pool": pool, "devices": [{"name": "lamp-0"}]}
        await self.client.create(
            RESOURCE_SLICES,
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceSlice",
                "metadata": {"name": f"{NODE}-{driver}"},
                "spec": spec,
            },
        )

    async def slices(self) -> int:
        return len((await self.client.list(RESOURCE_SLICES)).items)


@asynccontextmanager
async def registry(root: Path) -> AsyncIterator[Registry]:
    api = API.open(Store(), profile_for())
    await api.start()
    client = Client(api.transport(ADMIN), field_manager="kubelet")
    await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    paths = NodePaths(root)
    paths.create()
    made = Registry(client, paths)
    task = asyncio.create_task(made.plugins.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await api.close()
        paths.remove_sockets()


async def test_a_driver_registers_and_goes(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with registry(tmp_path) as here:
        await driver.start(here.paths)
        await until(lambda: here.plugins.drivers() == [driver.name])
        await until(lambda: driver.outcomes == ["registered"])
        assert here.plugins.find(driver.name) is not None
        await until(lambda: driver.name in here.changes)
        await driver.stop()
        await until(lambda: here.plugins.drivers() == [])
        assert here.plugins.find(driver.name) is None


async def test_a_driver_that_was_there_first(tmp_path: Path) -> None:
    driver = FakeDriver()
    paths = NodePaths(tmp_path)
    paths.create()
    await driver.start(paths)
    async with registry(tmp_path) as here:
        await until(lambda: here.plugins.drivers() == [driver.name])
    await driver.stop()


async def test_the_first_version_of_the_driver_that_the_agent_knows(tmp_path: Path) -> None:
    for versions, chosen in (([DRA_V1BETA1], DRA_V1BETA1), ([DRA_V1BETA1, DRA_V1], DRA_V1BETA1)):
        driver = FakeDriver()
        driver.versions = versions
        async with registry(tmp_path) as here:
            await driver.start(here.paths)
            await until(here.plugins.drivers)
            assert here.plugins._plugins[driver.name][0].service == chosen
        await driver.stop()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (
            "versions",
            ["v1alpha4.Node"],
            'none of services supported by the plugin (["v1alpha4.Node"]) are supported by the kubelet',
        ),
        ("type", "CSIPlugin", "no handler registered for plugin type: CSIPlugin at socket"),
        ("name", "not a name", "is not a driver name"),
    ],
)
async def test_what_is_not_registered_is_told_why(
    tmp_path: Path, field: str, value: object, words: str
) -> None:
    driver = FakeDriver()
    setattr(driver, field, value)
    async with registry(tmp_path) as here:
        await driver.start(here.paths)
        await until(lambda: driver.outcomes)
        assert words in driver.outcomes[0]
        assert here.plugins.drivers() == []
    await driver.stop()


async def test_a_driver_without_an_endpoint_answers_where_it_registers(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with registry(tmp_path) as here:
        path = here.paths.plugins_registry / f"{driver.name}-reg.sock"
        server = await wire.serve(path, [*registration_handlers(driver), *dra_handlers(driver)])
        await until(lambda: driver.outcomes == ["registered"])
        stub = here.plugins.find(driver.name)
        assert stub is not None
        await stub.prepare([])
        assert driver.calls == ["prepare "]
        await server.stop(0)


async def test_a_driver_registers_again_at_a_new_socket(tmp_path: Path) -> None:
    first, second = FakeDriver(), FakeDriver()
    async with registry(tmp_path) as here:
        await first.start(here.paths)
        await until(lambda: first.outcomes)
        await second.start(here.paths)  # takes the place of both sockets in one step
        await until(lambda: second.outcomes == ["registered"])
    await first.stop()
    await second.stop()


async def test_two_instances_cannot_have_one_endpoint(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with registry(tmp_path) as here:
        await driver.start(here.paths)
        await until(lambda: driver.outcomes)
        path = here.paths.plugins_registry / "second-reg.sock"
        server = await wire.serve(path, registration_handlers(driver))
        await until(lambda: len(driver.outcomes) == 2)
        endpoint = here.paths.plugins / f"{driver.name}.sock"
        assert driver.outcomes[1] == (
            f"RegisterPlugin error -- plugin registration failed with err: endpoint {endpoint} already "
            f"registered for DRA driver plugin {driver.name}"
        )
        await server.stop(0)
    await driver.stop()


async def test_two_instances_of_a_driver_overlap(tmp_path: Path) -> None:
    old, new = FakeDriver(), FakeDriver()
    async with registry(tmp_path) as here:
        await old.start(here.paths, "-old")
        await until(lambda: old.outcomes)
        await new.start(here.paths, "-new")
        await until(lambda: new.outcomes)
        await until(lambda: here.plugins._plugins[old.name][-1].is_connected)
        stub = here.plugins.find(old.name)
        assert stub is not None
        await stub.prepare([])
        assert (old.calls, new.calls) == ([], ["prepare "])
        await new.stop()
        await until(lambda: len(here.plugins._plugins[old.name]) == 1)
        stub = here.plugins.find(old.name)
        assert stub is not None
        await stub.prepare([])
        assert old.calls == ["prepare "]
    await old.stop()


async def test_health_is_what_the_newest_instance_says(tmp_path: Path) -> None:
    old, new, mute = FakeDriver(), FakeDriver(), FakeDriver()
    for driver in (old, new):
        driver.versions = [*driver.versions, HEALTH_V1]
    old.report(DeviceHealth("p", "lamp", "Healthy"))
    new.report(DeviceHealth("p", "lamp", "Unhealthy"))
    async with registry(tmp_path) as here:

        def health() -> str:
            return here.plugins.health.get(old.name, "p", "lamp")[0]

        await old.start(here.paths, "-old")
        await until(lambda: health() == "Healthy")
        await new.start(here.paths, "-new")
        await until(lambda: health() == "Unhealthy")
        old.report(DeviceHealth("p", "lamp", "Healthy"), DeviceHealth("p", "late", "Healthy"))
        new.report(DeviceHealth("p", "lamp", "Unhealthy"), DeviceHealth("p", "last", "Healthy"))
        await until(lambda: here.plugins.health.get(old.name, "p", "last")[0] == "Healthy")
        assert (health(), here.plugins.health.get(old.name, "p", "late")[0]) == ("Unhealthy", "Unknown")
        await mute.start(here.paths, "-mute")
        await until(lambda: health() == "Unknown")
        for driver in (mute, new, old):
            await driver.stop()


async def test_slices_of_a_driver_that_is_gone_are_deleted(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with registry(tmp_path) as here:
        await here.add_slice()
        await driver.start(here.paths)
        await until(lambda: here.plugins.drivers() and here.plugins._plugins[driver.name][0].is_connected)
        await here.clock.advance(WIPE_SECONDS + 1)
        assert await here.slices() == 1
        await driver.stop()
        await until(lambda: here.plugins.drivers() == [])
        await here.clock.advance(WIPE_SECONDS - 1)
        assert await here.slices() == 1
        await here.clock.advance(2)

        async def none() -> bool:
            return await here.slices() == 0

        await until(none)


async def test_a_driver_that_is_back_in_time_keeps_its_slices(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with registry(tmp_path) as here:
        await here.add_slice()
        await driver.start(here.paths)
        await until(lambda: here.plugins.drivers() and here.plugins._plugins[driver.name][0].is_connected)
        await driver.stop()
        await until(lambda: here.plugins.drivers() == [])
        await here.clock.advance(WIPE_SECONDS - 1)
        await driver.start(here.paths)
        await until(lambda: here.plugins.drivers() and here.plugins._plugins[driver.name][0].is_connected)
        await here.clock.advance(WIPE_SECONDS + 5)
        assert await here.slices() == 1
    await driver.stop()


async def test_slices_of_a_driver_that_never_came_back(tmp_path: Path) -> None:
    async with registry(tmp_path) as here:
        await here.add_slice()
        await here.clock.advance(WIPE_SECONDS + 1)

        async def none() -> bool:
            return await here.slices() == 0

        await until(none)


async def test_health_runs_out() -> None:
    clock, changes = FakeClock(), []
    cache = HealthCache(clock, changes.append)
    assert cache.get("d", "p", "x") == ("Unknown", "")
    cache.put("d", [DeviceHealth("p", "x", "Healthy"), DeviceHealth("p", "y", "Unhealthy", 0, 100, "hot")])
    cache.put("d", [DeviceHealth("p", "x", "Healthy")])
    assert changes == ["d"], "the same again is no change"
    await clock.advance(31)
    assert cache.get("d", "p", "x") == ("Unknown", "")
    assert cache.get("d", "p", "y") == ("Unhealthy", "hot")
    assert changes == ["d", "d"]
    cache.drop("other")
    assert changes == ["d", "d"]
    cache.drop("d")
    assert (cache.get("d", "p", "y"), changes) == (("Unknown", ""), ["d"] * 3)
    cache.put("d", [DeviceHealth("p", "x", "Healthy")])
    cache.close()
    assert clock.pending == []
