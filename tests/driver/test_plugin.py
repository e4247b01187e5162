"""Drivers at work: a real API server, real sockets, and the kubelet's end of the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from drakit.client.api import NODES, RESOURCE_CLAIMS, RESOURCE_SLICES
from drakit.driver import (
    Claim,
    DeviceHealth,
    DeviceTaint,
    PreparedClaim,
    PreparedDevice,
    RecoverableError,
    device,
)
from drakit.drivers import build
from drakit.errors import DRAError, UsageError
from drakit.model import cdi
from drakit.pluginapi import wire
from drakit.pluginapi.dra import DRA_SERVICES
from drakit.pluginapi.health import HEALTH_SERVICES, HealthStub
from drakit.profile import VERSIONS
from tests.driver.make import NODE, Cluster, Kubelet, LampDriver, cluster, until

pytestmark = pytest.mark.anyio

NAME = LampDriver.name


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def checkpoint(lab: Cluster) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads((lab.plugins / NAME / "checkpoint.json").read_bytes())["claims"]
    return claims


def resolved(lab: Cluster, names: Sequence[str]) -> list[str]:
    files = [
        cdi.SpecFile(str(path), 0, cdi.decode(path.read_bytes(), str(path))) for path in lab.cdi.iterdir()
    ]
    return cdi.Registry(files).resolve(names).env


# --- publishing -----------------------------------------------------------------------------------


async def test_publishes_and_follows_changes(lab: Cluster) -> None:
    driver = LampDriver(3)
    async with lab.running(driver) as plugin:
        (item,) = await lab.slices(NAME)
        assert item["metadata"]["name"].startswith(f"00000-{NAME}-{NODE}-")
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("Node", NODE, True)
        assert item["spec"]["pool"] == {"name": NODE, "generation": 1, "resourceSliceCount": 1}
        assert [found["name"] for found in item["spec"]["devices"]] == ["lamp-0", "lamp-1", "lamp-2"]

        driver.lamps[1] = device("lamp-1", taints=[DeviceTaint(key="broken", effect="NoSchedule")])
        driver.changed()
        await until(lambda: plugin.metrics.value("dra_driver_slice_writes_total", "update") == 1)
        await plugin.publisher.published.wait()
        (item,) = await lab.slices(NAME)
        assert item["spec"]["pool"]["generation"] == 1
        assert item["spec"]["devices"][1]["taints"][0]["key"] == "broken"

        driver.lamps = LampDriver(300).lamps
        driver.changed()
        await until(lambda: plugin.metrics.value("dra_driver_slice_writes_total", "create") == 3)
        await plugin.publisher.published.wait()
        items = await lab.slices(NAME)
        assert [len(item["spec"]["devices"]) for item in items] == [128, 128, 44]
        assert {item["spec"]["pool"]["generation"] for item in items} == {2}
        assert plugin.metrics.value("dra_driver_published_devices") == 300
    assert len(await lab.slices(NAME)) == 3


async def test_one_write_and_no_more(lab: Cluster) -> None:
    """A driver that starts again on slices that are right writes nothing."""
    lamps = [device(f"lamp-{index}", {"a": 1}, {"light": "1024Mi"}) for index in range(128)]
    for created in (1, 0):
        driver = LampDriver()
        driver.lamps = lamps
        async with lab.running(driver) as plugin:
            assert plugin.metrics.value("dra_driver_slice_writes_total", "create") == created
            assert plugin.metrics.value("dra_driver_slice_writes_total", "update") == 0


async def test_repairs_what_others_do(lab: Cluster) -> None:
    async with lab.running(LampDriver()) as plugin:
        (item,) = await lab.slices(NAME)
        name = item["metadata"]["name"]
        await lab.client.patch(RESOURCE_SLICES, name, {"spec": {"devices": [{"name": "intruder"}]}})
        await until(lambda: plugin.metrics.value("dra_driver_slice_writes_total", "update") == 1)
        (item,) = await lab.slices(NAME)
        assert [found["name"] for found in item["spec"]["devices"]] == ["lamp-0", "lamp-1"]
        await lab.client.delete(RESOURCE_SLICES, name)
        await until(lambda: plugin.metrics.value("dra_driver_slice_writes_total", "create") == 2)
        assert len(await lab.slices(NAME)) == 1


async def test_removes_what_an_earlier_driver_left_but_nothing_of_others(lab: Cluster) -> None:
    def left(name: str, driver: str, node: str) -> dict[str, Any]:
        pool = {"name": f"old-{node}", "generation": 4, "resourceSliceCount": 1}
        spec = {"driver": driver, "nodeName": node, "pool": pool, "devices": [{"name": "x"}]}
        return {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": name},
            "spec": spec,
        }

    for document in (left("ours", NAME, NODE), left("a", NAME, "node-2"), left("b", "other.com", NODE)):
        await lab.client.create(RESOURCE_SLICES, document)
    async with lab.running(LampDriver()) as plugin:
        await until(lambda: plugin.metrics.value("dra_driver_slice_writes_total", "delete") == 1)
        found = (await lab.client.list(RESOURCE_SLICES)).items
        names = {item["metadata"]["name"] for item in found}
        assert names >= {"a", "b"}
        assert "ours" not in names


async def test_a_node_that_comes_after_its_driver(lab: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    await lab.client.delete(NODES, NODE)
    plugin = lab.plugin(LampDriver())
    task = asyncio.create_task(plugin.run())
    await until(lambda: plugin.metrics.value("dra_driver_errors_total", "publish") > 0)
    assert f'driver {NAME} cannot publish pool {NODE}: nodes "{NODE}" not found' in caplog.text
    await lab.add_node()
    await asyncio.wait_for(plugin.publisher.published.wait(), 20)
    assert len(await lab.slices(NAME)) == 1
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_devices_that_the_server_refuses(lab: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    driver = LampDriver()
    async with lab.running(driver) as plugin:
        driver.lamps = [device("NOT A NAME")]
        driver.changed()
        await until(lambda: plugin.metrics.value("dra_driver_errors_total", "publish") > 0)
        assert f"driver {NAME} cannot publish pool {NODE}: ResourceSlice" in caplog.text
        driver.lamps = LampDriver(1).lamps
        driver.changed()
        await until(lambda: plugin.metrics.value("dra_driver_slice_writes_total", "update") == 1)
        assert len((await lab.slices(NAME))[0]["spec"]["devices"]) == 1


async def test_fields_that_an_older_server_drops(tmp_path: Path) -> None:
    """What the server does not keep is written once, not for ever."""
    async with cluster(tmp_path, "1.34") as lab:
        driver = LampDriver()
        driver.lamps = [device("lamp-0", capacity={"light": "1"}, allow_multiple_allocations=True)]
        async with lab.running(driver) as plugin:
            (item,) = await lab.slices(NAME)
            assert "allowMultipleAllocations" not in item["spec"]["devices"][0]
            await lab.client.patch(
                RESOURCE_SLICES, item["metadata"]["name"], {"metadata": {"labels": {"a": "b"}}}
            )
            await until(lambda: plugin.metrics.value("dra_driver_slice_writes_total", "update") == 1)
            await plugin.publisher.published.wait()
            assert plugin.metrics.value("dra_driver_slice_writes_total", "create") == 1


DRIVERS = [("cpu", {}), ("cpu", {"group-by": "numa"}), ("cpu", {"group-by": "socket"}), ("gpu", {})]


@pytest.mark.parametrize(("name", "options"), [*DRIVERS, ("pizza", {})])
async def test_every_driver_publishes(lab: Cluster, name: str, options: dict[str, str]) -> None:
    driver = build(name, options, NODE)
    async with lab.running(driver) as plugin:
        (item,) = await lab.slices(driver.name)
        assert len(item["spec"]["devices"]) == len(driver.devices())
        assert plugin.metrics.value("dra_driver_slice_writes_total", "update") == 0


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_kubernetes(tmp_path: Path, version: str) -> None:
    """Published, prepared and given back on each version, whichever API it serves."""
    async with (
        cluster(tmp_path, version) as lab,
        lab.running(LampDriver()) as plugin,
        Kubelet.meet(lab, NAME) as kubelet,
    ):
        claim = await lab.claim("c", "lamp-0")
        assert (await kubelet.prepare(claim))["c"].error == ""
        assert await kubelet.unprepare(claim) == {"c": ""}
        assert len(await lab.slices(NAME)) == 1
        assert plugin.metrics.value("dra_driver_slice_writes_total", "update") == 0


async def test_pools_that_cannot_be(lab: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    driver = LampDriver()
    async with lab.running(driver) as plugin:
        driver.lamps = driver.lamps * 2
        driver.changed()
        await until(lambda: plugin.metrics.value("dra_driver_errors_total", "publish") == 1)
        assert "two devices are called lamp-0" in caplog.text
        assert len((await lab.slices(NAME))[0]["spec"]["devices"]) == 2


# --- registration ---------------------------------------------------------------------------------


async def test_registration(lab: Cluster) -> None:
    async with lab.running(LampDriver()) as plugin, Kubelet.meet(lab, NAME) as kubelet:
        assert (kubelet.info.type, kubelet.info.name) == ("DRAPlugin", NAME)
        assert kubelet.info.endpoint == str(lab.plugins / NAME / "dra.sock")
        assert tuple(kubelet.info.supported_versions) == DRA_SERVICES
        assert plugin.registrar.registered.is_set()
    assert list(lab.registry.iterdir()) == []


async def test_folders_that_are_cleared_get_their_sockets_again(
    lab: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drakit.driver.registration.CHECK_SECONDS", 0.01)
    async with lab.running(LampDriver()):
        shutil.rmtree(lab.registry)
        shutil.rmtree(lab.plugins)
        lab.registry.mkdir()
        await until(lambda: (lab.registry / f"{NAME}-reg.sock").exists())
        async with Kubelet.meet(lab, NAME) as kubelet:
            claim = await lab.claim("c", "lamp-0")
            assert (await kubelet.prepare(claim))["c"].error == ""


async def test_a_driver_waits_for_the_kubelets_folder(
    lab: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("drakit.driver.registration.CHECK_SECONDS", 0.001)
    lab.registry.rmdir()
    async with lab.running(LampDriver()):
        await until(lambda: "waiting for the kubelet's folder" in caplog.text)
        lab.registry.mkdir()
        await until(lambda: (lab.registry / f"{NAME}-reg.sock").exists())
    assert caplog.text.count("waiting for the kubelet's folder") == 1


async def test_two_instances_overlap(lab: Cluster) -> None:
    """A rolling update: the second one comes, the first one goes, and what was prepared stays so."""
    old, new = LampDriver(), LampDriver()
    claim = await lab.claim("c", "lamp-0")
    async with lab.running(new, pod_uid="b"):
        async with lab.running(old, pod_uid="a"):
            assert len(list(lab.registry.iterdir())) == 2
            async with Kubelet.meet(lab, f"{NAME}-a") as kubelet:
                first = await kubelet.prepare(claim)
        async with Kubelet.meet(lab, f"{NAME}-b") as kubelet:
            assert await kubelet.prepare(claim) == first
            assert await kubelet.unprepare(claim) == {"c": ""}
    assert (old.calls, new.calls) == (["prepare c"], ["unprepare c"])


async def test_folders_that_cannot_be_used(lab: Cluster) -> None:
    lab.plugins.write_text("a file")
    with pytest.raises(UsageError, match=f"driver {NAME}: cannot lock"):
        await lab.plugin(LampDriver()).run()


async def test_a_socket_that_cannot_be(lab: Cluster) -> None:
    (lab.plugins / NAME / "dra.sock").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"dra\.sock is in the way of a socket"):
        await lab.plugin(LampDriver()).run()


async def test_paths_that_are_too_long_for_sockets(lab: Cluster) -> None:
    lab.plugins = lab.plugins / ("x" * 100)
    with pytest.raises(UsageError, match="longer than 100 bytes"):
        lab.plugin(LampDriver())


# --- preparing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", DRA_SERVICES)
async def test_prepare_and_unprepare(lab: Cluster, service: str) -> None:
    driver = LampDriver()
    async with lab.running(driver) as plugin, Kubelet.meet(lab, NAME, service) as kubelet:
        claim = await lab.claim("c", "left:lamp-0", "right:lamp-1")
        first = await kubelet.prepare(claim)
        assert first["c"].error == ""
        found = [(item.requests, item.pool, item.device) for item in first["c"].devices]
        assert found == [(("left",), NODE, "lamp-0"), (("right",), NODE, "lamp-1")]
        names = [name for item in first["c"].devices for name in item.cdi_device_ids]
        assert resolved(lab, names) == ["LAMP=lamp-1"]
        assert await kubelet.prepare(claim) == first
        assert checkpoint(lab)[claim.uid]["is_complete"]
        assert plugin.metrics.value("dra_driver_prepared_claims") == 1
        assert await kubelet.unprepare(claim) == {"c": ""}
        assert await kubelet.unprepare(claim) == {"c": ""}
        assert checkpoint(lab) == {}
        assert list(lab.cdi.iterdir()) == []
    assert driver.calls == ["prepare c", "unprepare c"]


async def test_one_claim_fails_alone(lab: Cluster) -> None:
    async with lab.running(LampDriver()), Kubelet.meet(lab, NAME) as kubelet:
        good = await lab.claim("good", "lamp-0")
        unallocated = await lab.claim("unallocated")
        foreign = await lab.claim("foreign", "x", driver="other.example.com")
        lost = await lab.claim("lost", "lamp-9")
        gone = await lab.claim("gone", "lamp-1")
        await lab.client.delete(RESOURCE_CLAIMS, "gone", "default")
        stale = await lab.claim("gone", "lamp-1")
        answers = [await kubelet.prepare(item) for item in (good, unallocated, foreign, lost, gone, stale)]
        errors = [next(iter(answer.values())).error for answer in answers]
        assert errors == [
            "",
            "the claim is not allocated",
            f"the claim has no device of driver {NAME}",
            f"device {NODE}/lamp-9 is not there (any more)",
            f"the claim was replaced by another of the same name (its UID is {stale.uid})",
            "",
        ]
        together = await kubelet.prepare(good, unallocated)
        assert [bool(together[name].error) for name in ("good", "unallocated")] == [False, True]


async def test_uids_that_are_no_file_names(lab: Cluster) -> None:
    async with lab.running(LampDriver()), Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("c", "lamp-0")
        evil = type(claim)(claim.namespace, "../../x", claim.name)
        assert "is not valid" in (await kubelet.prepare(evil))["c"].error
        assert "is not valid" in (await kubelet.unprepare(evil))["c"]


class Moody(LampDriver):
    """Fails with each of `errors` in turn, then works."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        if self.errors:
            raise self.errors.pop(0)
        return await super().prepare(claim)


async def test_failures_are_told_and_retried(lab: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    driver = Moody(RecoverableError("warming up"), DRAError("never like this"), ValueError("oops"))
    async with lab.running(driver) as plugin, Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("c", "lamp-0")
        with caplog.at_level(logging.WARNING, "drakit.driver"):
            errors = [(await kubelet.prepare(claim))["c"].error for _ in range(4)]
        assert errors == ["warming up", "never like this", f"bug in driver {NAME}: ValueError: oops", ""]
        levels = [record.levelname for record in caplog.records]
        assert levels == ["WARNING", "ERROR", "ERROR"]
        assert caplog.records[0].__dict__["claim"] == "default/c"
        assert plugin.metrics.value("dra_driver_errors_total", "prepare") == 3
        assert "dra_driver_prepare_seconds_count" in plugin.metrics.text()


class Plain(LampDriver):
    """Plain functions, which run in a thread of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.began = threading.Event()

    def prepare(self, claim: Claim) -> Any:
        self.began.set()
        assert self.go.wait(10)
        assert threading.current_thread() is not threading.main_thread()
        return [lamp.prepared() for lamp in claim.devices]

    def unprepare(self, claim: PreparedClaim) -> Any:
        assert threading.current_thread() is not threading.main_thread()


async def test_plain_functions_and_a_kubelet_that_gives_up(lab: Cluster) -> None:
    driver = Plain()
    async with lab.running(driver), Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("c", "lamp-0")
        with pytest.raises(RecoverableError, match="no answer in time"):
            await kubelet.prepare(claim, timeout=0.2)
        assert driver.began.is_set()
        second = asyncio.create_task(kubelet.prepare(claim))
        driver.go.set()
        assert (await second)["c"].error == ""
        assert await kubelet.unprepare(claim) == {"c": ""}


class Hanging(LampDriver):
    """Never gets done with claims called "hang"."""

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        if claim.name == "hang":
            await asyncio.Event().wait()
        return await super().prepare(claim)


async def test_a_hanging_claim_does_not_hold_up_the_others(lab: Cluster) -> None:
    async with lab.running(Hanging()), Kubelet.meet(lab, NAME) as kubelet:
        hanging, good = await lab.claim("hang", "lamp-0"), await lab.claim("good", "lamp-1")
        with pytest.raises(RecoverableError, match="no answer in time"):
            await kubelet.prepare(hanging, timeout=0.2)
        assert (await kubelet.prepare(good))["good"].error == ""
        assert await kubelet.unprepare(hanging) == {"hang": ""}


class Sticky(LampDriver):
    """Does not let go at first."""

    is_stuck = True

    async def unprepare(self, claim: PreparedClaim) -> None:
        if self.is_stuck:
            raise RecoverableError("still warm")
        await super().unprepare(claim)


async def test_unprepare_that_fails_is_tried_again(lab: Cluster) -> None:
    driver = Sticky()
    async with lab.running(driver), Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("c", "lamp-0")
        first = await kubelet.prepare(claim)
        assert await kubelet.unprepare(claim) == {"c": "still warm"}
        assert list(driver.prepared) == [claim.uid]
        assert resolved(lab, first["c"].devices[0].cdi_device_ids) == ["LAMP=lamp-0"]
        driver.is_stuck = False
        assert await kubelet.unprepare(claim) == {"c": ""}
        assert list(driver.prepared) == []


async def test_calls_wait_for_another_instance(lab: Cluster) -> None:
    async with lab.running(LampDriver()), Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("c", "lamp-0")
        with open(lab.plugins / NAME / "lock") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(RecoverableError, match="no answer in time"):
                await kubelet.prepare(claim, timeout=0.1)
        assert (await kubelet.prepare(claim))["c"].error == ""


async def test_a_checkpoint_that_cannot_be_written_fails_the_claim(lab: Cluster) -> None:
    driver = LampDriver()
    async with lab.running(driver), Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("c", "lamp-0")
        obstacle = lab.plugins / NAME / ".checkpoint.json.new"
        obstacle.mkdir()
        assert "cannot write" in (await kubelet.prepare(claim))["c"].error
        assert driver.calls == []
        obstacle.rmdir()
        assert (await kubelet.prepare(claim))["c"].error == ""


async def test_many_cycles_leave_nothing(lab: Cluster) -> None:
    async with lab.running(LampDriver()), Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("c", "lamp-0")
        await kubelet.prepare(claim)
        await kubelet.unprepare(claim)
        before = len(os.listdir("/proc/self/fd")), sorted(os.listdir(lab.plugins / NAME))
        for _ in range(300):
            await kubelet.prepare(claim)
            await kubelet.unprepare(claim)
        assert (len(os.listdir("/proc/self/fd")), sorted(os.listdir(lab.plugins / NAME))) == before
        assert list(lab.cdi.iterdir()) == []


async def test_config_reaches_the_driver_and_bad_config_fails_the_claim(lab: Cluster) -> None:
    async with lab.running(build("gpu", {}, NODE)), Kubelet.meet(lab, "gpu.example.com") as kubelet:

        def config(kind: str) -> list[dict[str, Any]]:
            parameters = {"apiVersion": "gpu.resource.example.com/v1alpha1", "kind": kind}
            return [
                {"source": "FromClaim", "opaque": {"driver": "gpu.example.com", "parameters": parameters}}
            ]

        good = await lab.claim("good", "gpu-0", driver="gpu.example.com", config=config("GpuConfig"))
        bad = await lab.claim("bad", "gpu-1", driver="gpu.example.com", config=config("NicConfig"))
        answer = await kubelet.prepare(good, bad)
        assert answer["good"].error == ""
        assert answer["bad"].error == "config 0 (FromClaim): Invalid value 'NicConfig' - at `$.kind`"


# --- what is on disk ---------------------------------------------------------------------------------


async def test_lost_cdi_files_come_back_and_strange_ones_go(lab: Cluster) -> None:
    claim = await lab.claim("c", "lamp-0")
    async with lab.running(LampDriver()), Kubelet.meet(lab, NAME) as kubelet:
        first = await kubelet.prepare(claim)
    shutil.rmtree(lab.cdi)
    lab.cdi.mkdir()
    strange = lab.cdi / f"k8s.{NAME}-claim_nobody.json"
    other = lab.cdi / "k8s.other.example.com-claim_nobody.json"
    strange.write_text("{}")
    other.write_text("{}")
    driver = LampDriver()
    async with lab.running(driver), Kubelet.meet(lab, NAME) as kubelet:
        assert (strange.exists(), other.exists()) == (False, True)
        other.unlink()
        assert resolved(lab, first["c"].devices[0].cdi_device_ids) == ["LAMP=lamp-0"]
        assert list(driver.prepared) == [claim.uid]
        assert await kubelet.prepare(claim) == first
    assert driver.calls == []


async def test_claims_are_answered_while_the_api_server_is_away(lab: Cluster) -> None:
    claim = await lab.claim("c", "lamp-0")
    async with lab.running(LampDriver()), Kubelet.meet(lab, NAME) as kubelet:
        first = await kubelet.prepare(claim)
        await lab.client.delete(RESOURCE_CLAIMS, "c", "default")
        assert await kubelet.prepare(claim) == first
        assert await kubelet.unprepare(claim) == {"c": ""}


# --- health ---------------------------------------------------------------------------------------


class Doctor(LampDriver):
    def __init__(self) -> None:
        super().__init__()
        self.is_well = True

    def health(self) -> list[DeviceHealth]:
        return [DeviceHealth(NODE, "lamp-0", "Healthy" if self.is_well else "Unhealthy", message="flickers")]


@pytest.mark.parametrize("service", HEALTH_SERVICES)
async def test_health(lab: Cluster, service: str) -> None:
    driver = Doctor()
    async with lab.running(driver), Kubelet.meet(lab, NAME) as kubelet:
        assert service in kubelet.info.supported_versions
        channel = wire.connect(kubelet.info.endpoint)
        reports = HealthStub(channel, service).watch()
        assert [item.health for item in await anext(reports)] == ["Healthy"]
        driver.is_well = False
        driver.changed()
        assert [item.health for item in await anext(reports)] == ["Unhealthy"]
        await reports.aclose()
        await channel.close()
    driver.changed()


async def test_an_open_health_stream_does_not_hold_up_the_end(lab: Cluster) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(5), lab.running(Doctor(), grace=60):
            channel = wire.connect(lab.plugins / NAME / "dra.sock")
            stack.push_async_callback(channel.close)
            reports = HealthStub(channel).watch()
            await anext(reports)
        with pytest.raises(StopAsyncIteration):
            await anext(reports)
