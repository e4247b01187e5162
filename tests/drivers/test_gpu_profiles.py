"""Partitions and shares of simulated GPUs, and trouble on command."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from drakit.allocator import Allocator, State
from drakit.cli.driver import command
from drakit.driver.slices import slice_specs
from drakit.drivers import build
from drakit.drivers.gpu.pokes import Taint
from drakit.errors import DRAError, UsageError
from drakit.model.meta import Node, ObjectMeta
from drakit.model.resource import DeviceClass, ResourceClaim, ResourceSlice
from drakit.pluginapi import wire
from drakit.pluginapi.health import HEALTH_V1, HealthStub
from drakit.profile import DEFAULT_VERSION, profile_for
from tests.driver.make import NODE, Kubelet, cluster, until

pytestmark = pytest.mark.anyio

NAME = "gpu.example.com"


class Node1:
    """What is allocated on a node that has these GPUs."""

    def __init__(self, **options: str) -> None:
        self.state = State(profile_for(DEFAULT_VERSION))
        driver = build("gpu", options, NODE)
        for index, spec in enumerate(slice_specs(NAME, NODE, driver.pools()[0])):
            self.state.apply_slice(ResourceSlice(metadata=ObjectMeta(name=f"s{index}"), spec=spec))
        self.state.apply_class(msgspec.convert({"metadata": {"name": "gpu"}, "spec": {}}, DeviceClass))
        self.count = 0
        self._shares = itertools.count()

    def take(self, expression: str = "true", **request: Any) -> list[str] | None:
        """The devices of a new claim, None if it does not fit."""
        self.count += 1
        wanted = {
            "deviceClassName": "gpu",
            "selectors": [{"cel": {"expression": expression}}],
            "allocationMode": "ExactCount",
            "count": 1,
            **request,
        }
        document = {
            "metadata": {"name": f"c{self.count}", "namespace": "d", "uid": f"u{self.count}"},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": wanted}]}},
        }
        claim = msgspec.convert(document, ResourceClaim)
        allocator = Allocator([claim], self.state, share_id=lambda: f"share-{next(self._shares)}")
        results = allocator.allocate(Node(metadata=ObjectMeta(name=NODE)))
        if results is None:
            return None
        self.state.take(claim.metadata.uid, results[0])
        return [result.device for result in results[0].devices.results]


def profile(name: str) -> str:
    return f'device.attributes["{NAME}"].?profile.orValue("") == "{name}"'


WHOLE = f'device.attributes["{NAME}"].type == "gpu"'


def test_a_whole_gpu_against_partitions() -> None:
    node = Node1(profile="mig", count="1")
    assert node.take(profile("1g.10gb")) == ["gpu-0-mig-1g10gb-19-0"]
    assert node.take(WHOLE) is None
    assert node.take(profile("7g.80gb")) is None
    assert node.take(profile("4g.40gb")) is None  # it can be nowhere but where the first one is
    assert node.take(profile("3g.40gb")) == ["gpu-0-mig-3g40gb-9-4"]
    assert [node.take(profile("1g.10gb")) for _ in range(4)] == [
        ["gpu-0-mig-1g10gb-19-1"],
        ["gpu-0-mig-1g10gb-19-2"],
        ["gpu-0-mig-1g10gb-19-3"],
        None,
    ]


def test_partitions_against_a_whole_gpu() -> None:
    node = Node1(profile="mig", count="2")
    assert node.take(WHOLE) == ["gpu-0"]
    assert node.take(profile("2g.20gb"), count=3) == [f"gpu-1-mig-2g20gb-14-{start}" for start in (0, 2, 4)]
    assert node.take(profile("2g.20gb")) is None


def test_what_partitions_are_published_as() -> None:
    (pool,) = build("gpu", {"profile": "mig", "count": "1", "memory": "40Gi"}, NODE).pools()
    devices = {device.name: device for device in pool.devices}
    part = devices["gpu-0-mig-1g5gb-19-6"]
    assert part.attributes["parentUUID"].string == devices["gpu-0"].attributes["uuid"].string
    assert part.attributes["uuid"] != devices["gpu-0"].attributes["uuid"]
    assert (part.attributes["type"].string, part.attributes["profile"].string) == ("mig", "1g.5gb")
    assert part.capacity["memory"].value == "5Gi"
    (counters,) = pool.shared_counters
    assert counters.name == "gpu-0-counter-set"
    assert sum(name.startswith("memory-slice-") for name in counters.counters) == 8
    (used,) = part.consumes_counters
    assert set(used.counters) == {"memory", "multiprocessors", "memory-slice-6"}
    assert len(devices) == 1 + 18


def test_shares() -> None:
    node = Node1(profile="shared", count="1", memory="80Gi", shares="4")
    assert node.take(capacity={"requests": {"memory": "50Gi"}}) == ["gpu-0"]
    assert node.take() == ["gpu-0"]  # a share, with its 20Gi
    assert node.take() is None
    assert node.take(capacity={"requests": {"memory": "1Gi"}}) == ["gpu-0"]
    assert node.take(capacity={"requests": {"memory": "1Gi", "shares": "2"}}) is None


@pytest.mark.parametrize("name", ["mig", "shared"])
async def test_every_profile_is_valid_and_works(name: str, tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, lab.running(build("gpu", {"profile": name}, NODE)):
        slices = await lab.slices(NAME)
        devices = [device["name"] for item in slices for device in item["spec"].get("devices", [])]
        assert len(devices) == {"mig": 76, "shared": 4}[name]
        more = {"consumedCapacity": {"memory": "1Gi"}, "shareID": "6c2f2a2e-5c7f-4c5b-9a52-06d1b3f6a001"}
        async with Kubelet.meet(lab, NAME) as kubelet:
            result = more if name == "shared" else {}
            claim = await lab.claim("c", devices[-1], driver=NAME, **result)
            assert (await kubelet.prepare(claim))["c"].error == ""
        (path,) = lab.cdi.iterdir()
        text = path.read_text()
        assert ("GPU_DEVICE_3_MIG_7G80GB_0_0=gpu-3" in text) == (name == "mig")
        assert ("GPU_DEVICE_3_MEMORY=1Gi" in text) == (name == "shared")


# --- trouble on command ---------------------------------------------------------------------------


async def poke(root: Path, *arguments: str) -> str:
    done = await asyncio.to_thread(
        CliRunner().invoke, command, ["poke", *arguments, f"--plugins-dir={root / 'plugins'}"]
    )
    if done.exception is not None:
        raise done.exception
    return str(done.output)


async def test_taints_come_stay_and_go(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab:

        async def taints() -> dict[str, list[str]]:
            items = [device for item in await lab.slices(NAME) for device in item["spec"].get("devices", [])]
            return {
                item["name"]: [f"{t['key']}={t.get('value', '')}:{t['effect']}" for t in item["taints"]]
                for item in items
                if item.get("taints")
            }

        async def wait(wanted: dict[str, list[str]]) -> None:
            for _ in range(500):
                if await taints() == wanted:
                    return
                await asyncio.sleep(0.01)
            raise AssertionError(await taints())

        async with lab.running(build("gpu", {"count": "2"}, NODE)) as plugin:
            await until((lab.plugins / NAME / "poke.sock").exists)
            assert await poke(tmp_path, "gpu-0", "--taint", "a.b/hot=90:NoSchedule") == "gpu-0 poked\n"
            await poke(tmp_path, "gpu-0", "--taint", "old:None")
            await wait({"gpu-0": ["a.b/hot=90:NoSchedule", "old=:None"]})
            await poke(tmp_path, "gpu-0", "--taint", "a.b/hot=95:NoSchedule", "--untaint", "old")
            await wait({"gpu-0": ["a.b/hot=95:NoSchedule"]})
            with pytest.raises(DRAError, match="there is no device 'gpu-2'"):
                await poke(tmp_path, "gpu-2", "--unhealthy")
            assert plugin.metrics.value("dra_driver_errors_total", "publish") == 0
        with pytest.raises(UsageError, match="there is no driver to poke"):
            await poke(tmp_path, "gpu-0", "--untaint")
        async with lab.running(build("gpu", {"count": "2"}, NODE)):
            await wait({"gpu-0": ["a.b/hot=95:NoSchedule"]})
            await until((lab.plugins / NAME / "poke.sock").exists)
            await asyncio.sleep(0)
            await poke(tmp_path, "gpu-0", "--untaint")
            await wait({})


async def test_health_goes_to_the_parts(tmp_path: Path) -> None:
    driver = build("gpu", {"count": "2", "profile": "mig"}, NODE)
    async with cluster(tmp_path) as lab, lab.running(driver):
        await until((lab.plugins / NAME / "poke.sock").exists)
        async with Kubelet.meet(lab, NAME) as kubelet:
            channel = wire.connect(kubelet.info.endpoint)
            reports = HealthStub(channel, HEALTH_V1).watch()

            async def unhealthy() -> Sequence[str]:
                return [item.device for item in await anext(reports) if item.health != "Healthy"]

            assert await unhealthy() == []
            await poke(tmp_path, "gpu-1", "--unhealthy")
            assert len(await unhealthy()) == 19
            await poke(tmp_path, "gpu-1", "--healthy")
            assert await unhealthy() == []
            await reports.aclose()  # type: ignore[attr-defined]
            await channel.close()


WRONG = ["NoSchedule", "a=b:Sometimes", "=b:NoSchedule", "a=b", "a b:NoSchedule", "a=b=c:NoSchedule", ":None"]


@pytest.mark.parametrize("text", WRONG)
def test_taints_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="taint"):
        Taint.parse(text)


async def test_pokes_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to do"):
        await poke(tmp_path, "gpu-0")
    with pytest.raises(UsageError, match="there is no driver to poke in"):
        await poke(tmp_path, "gpu-0", "--healthy")
