"""What the SDK sees to beside the calls: devices in use, claims nobody ends, quarrels, news of trouble."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from drakit.client.api import NAMESPACES, NODES, RESOURCE_CLAIMS, RESOURCE_SLICES, Client
from drakit.driver import (
    Claim,
    Device,
    DeviceHealth,
    DeviceTaint,
    DroppedFields,
    Pool,
    PreparedDevice,
    RecoverableError,
    device,
    nodes,
)
from drakit.driver.cdi import CDIFiles
from drakit.driver.health import HealthReporter
from drakit.driver.metrics import Metrics
from drakit.driver.preparer import Preparer
from drakit.driver.publisher import REPAIRS
from drakit.driver.slices import slice_specs
from drakit.driver.stale import StaleClaims
from drakit.driver.status import StatusWriter
from drakit.errors import DRAError
from drakit.transport import Document, Request, Response, Transport
from tests.client.fake_clock import FakeClock, settle
from tests.driver.make import NODE, Cluster, Kubelet, LampDriver, cluster, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def preparer(lab: Cluster, driver: LampDriver) -> Preparer:
    metrics = Metrics(driver.name)
    statuses = StatusWriter(lab.client, driver.name, NODE, metrics, driver.trouble)
    files = CDIFiles(lab.cdi, driver.name)
    return Preparer(driver, lab.client, lab.plugins / driver.name, files, metrics, statuses)


async def test_the_kubelet_is_told_requests_and_not_their_alternatives(lab: Cluster) -> None:
    driver = LampDriver()
    async with lab.running(driver), Kubelet.meet(lab, driver.name) as kubelet:
        claim = await lab.claim("c", "light/bright:lamp-1")
        (found,) = (await kubelet.prepare(claim))["c"].devices
        assert found.requests == ("light",)


async def test_a_device_in_use_is_not_given_twice(lab: Cluster) -> None:
    driver = LampDriver()
    async with lab.running(driver), Kubelet.meet(lab, driver.name) as kubelet:
        first, second = await lab.claim("first", "lamp-0"), await lab.claim("second", "lamp-0")
        labels = {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
        await lab.client.patch(NAMESPACES, "default", labels)
        admin = await lab.claim("admin", "lamp-0", adminAccess=True)
        assert (await kubelet.prepare(first))["first"].error == ""
        error = (await kubelet.prepare(second))["second"].error
        assert error == f"device {NODE}/lamp-0 is still prepared for claim default/first"
        assert (await kubelet.prepare(admin))["admin"].error == ""
        await kubelet.unprepare(first)
        assert (await kubelet.prepare(second))["second"].error == ""


async def test_a_claim_that_was_given_other_devices_since(lab: Cluster) -> None:
    driver = LampDriver()
    async with lab.running(driver), Kubelet.meet(lab, driver.name) as kubelet:
        claim = await lab.claim("c", "lamp-0")
        await kubelet.prepare(claim)
        document = await lab.client.get(RESOURCE_CLAIMS, "c", "default")
        allocation = document["status"].pop("allocation")
        document = await lab.client.update(RESOURCE_CLAIMS, document, subresource="status")
        allocation["devices"]["results"][0]["device"] = "lamp-1"
        document = {**document, "status": {"allocation": allocation}}
        await lab.client.update(RESOURCE_CLAIMS, document, subresource="status")
        (found,) = (await kubelet.prepare(claim))["c"].devices
        assert found.device == "lamp-1"
    assert driver.calls == ["prepare c", "unprepare c", "prepare c"]


async def test_after_a_start_of_the_machine_claims_are_prepared_anew(
    lab: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = LampDriver()
    claims = [await lab.claim(f"c{number}", f"lamp-{number}") for number in range(2)]
    await preparer(lab, driver).prepare(claims)
    monkeypatch.setattr("drakit.driver.checkpoint._boot_id", lambda: "another")
    shutil.rmtree(lab.cdi)
    work = preparer(lab, driver)
    await work.start()
    assert [(claim.is_complete, len(claim.devices)) for claim in work.prepared.values()] == [(False, 1)] * 2
    assert not lab.cdi.exists()
    other = await lab.claim("other", "lamp-1")
    assert (await work.prepare([claims[0], other]))[other.uid].error == ""
    assert await work.unprepare([claims[1]]) == {claims[1].uid: ""}
    assert driver.calls[2:] == ["prepare c0", "prepare other", "unprepare c1"]


async def test_shares_of_a_device_are_given_to_several(lab: Cluster) -> None:
    driver = LampDriver()
    async with lab.running(driver), Kubelet.meet(lab, driver.name) as kubelet:
        for number in range(2):
            share = f"00000000-0000-4000-8000-00000000000{number}"
            claim = await lab.claim(f"c{number}", "lamp-0", shareID=share)
            assert (await kubelet.prepare(claim))[f"c{number}"].error == ""


async def test_a_driver_that_prepares_nothing_is_told_so(
    lab: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    class Lazy(LampDriver):
        async def prepare(self, claim: Claim) -> list[PreparedDevice]:
            return []

    driver = Lazy()
    async with lab.running(driver), Kubelet.meet(lab, driver.name) as kubelet:
        claim = await lab.claim("c", "lamp-0")
        with caplog.at_level(logging.WARNING):
            assert (await kubelet.prepare(claim))["c"].devices == ()
    assert f"claim default/c: the driver prepared nothing for {NODE}/lamp-0" in caplog.text


async def test_calls_of_a_driver_that_allows_it_overlap(lab: Cluster) -> None:
    class Busy(LampDriver):
        may_overlap = True

        def __init__(self) -> None:
            super().__init__()
            self.both = asyncio.Barrier(2)

        async def prepare(self, claim: Claim) -> list[PreparedDevice]:
            await self.both.wait()
            return await super().prepare(claim)

    driver = Busy()
    async with lab.running(driver), Kubelet.meet(lab, driver.name) as kubelet:
        claims = [await lab.claim(f"c{number}", f"lamp-{number}") for number in range(2)]
        answers = await asyncio.gather(*(kubelet.prepare(claim) for claim in claims))
        assert [answer[c.name].error for answer, c in zip(answers, claims, strict=True)] == ["", ""]
        answers = await asyncio.gather(*(kubelet.prepare(claims[0]) for _ in range(2)))
        assert answers[0] == answers[1]
    assert len(driver.calls) == 2


async def test_claims_that_are_gone_at_two_looks_are_unprepared(lab: Cluster) -> None:
    driver = LampDriver(4)
    work = preparer(lab, driver)
    await work.start()
    claims = {name: await lab.claim(name, f"lamp-{number}") for number, name in enumerate("abcd")}
    await work.prepare(list(claims.values()))
    await lab.client.delete(RESOURCE_CLAIMS, "a", "default")
    await lab.client.delete(RESOURCE_CLAIMS, "b", "default")
    await lab.claim("b", "lamp-1")
    document = await lab.client.get(RESOURCE_CLAIMS, "c", "default")
    await lab.client.update(RESOURCE_CLAIMS, {**document, "status": {}}, subresource="status")
    stale = StaleClaims(work, lab.client, driver.name)
    await stale.look()
    assert len(work.prepared) == 4
    await stale.look()
    assert [claim.name for claim in work.prepared.values()] == ["d"]
    assert sorted(driver.calls[4:]) == ["unprepare a", "unprepare b", "unprepare c"]


async def test_an_api_server_that_is_away_makes_no_claim_stale(lab: Cluster) -> None:
    driver = LampDriver()
    work = preparer(lab, driver)
    await work.start()
    claim = await lab.claim("c", "lamp-0")
    await work.prepare([claim])

    class Away:
        async def get(self, *_: object) -> None:
            raise DRAError("nobody answers")

    stale = StaleClaims(work, Away(), driver.name)  # type: ignore[arg-type]
    await stale.look()
    await stale.look()
    assert list(work.prepared) == [claim.uid]


async def test_two_that_publish_different_things_do_not_write_for_ever(lab: Cluster) -> None:
    old, new = LampDriver(2), LampDriver(3)
    async with lab.running(old) as first, lab.running(new, pod_uid="new") as second:
        plugins = (first, second)

        def writes() -> float:
            return sum(p.metrics.value("dra_driver_slice_writes_total", "update") for p in plugins)

        await until(lambda: writes() >= 2 * REPAIRS)
        await asyncio.sleep(0.1)
        assert writes() <= 2 * REPAIRS + 2


async def test_a_driver_hears_of_fields_that_are_dropped(tmp_path: Path) -> None:
    class Listening(LampDriver):
        heard: list[DRAError]

        def devices(self) -> Sequence[Device]:
            return [device("lamp-0", taints=[DeviceTaint(key="k", effect="NoSchedule")])]

        def trouble(self, error: DRAError) -> None:
            self.heard.append(error)

    driver = Listening()
    driver.heard = []
    async with cluster(tmp_path, "1.34") as lab, lab.running(driver):
        (error,) = driver.heard
    assert isinstance(error, DroppedFields)
    assert (error.fields, error.gates) == (("taints",), ("DRADeviceTaints",))
    assert "without taints: probably the feature gate DRADeviceTaints is off" in str(error)


async def test_refused_devices_do_not_keep_those_that_are_gone(lab: Cluster) -> None:
    driver = LampDriver(200)
    heard: list[DRAError] = []
    driver.trouble = heard.append  # type: ignore[method-assign]
    async with lab.running(driver):
        assert len(await lab.slices(driver.name)) == 2
        driver.lamps = [device("Not A Name")]
        driver.changed()
        await until(lambda: bool(heard))
        async with asyncio.timeout(10):
            while len(await lab.slices(driver.name)) == 2:
                await asyncio.sleep(0.01)


async def test_one_pool_of_many_instances(lab: Cluster) -> None:
    class Rack(LampDriver):
        def pools(self) -> Sequence[Pool]:
            return [Pool(self.only_pool, self.lamps, node_selector=nodes({"rack": self.only_pool}))]

    first, second = Rack(), Rack()
    first.only_pool, second.only_pool = "rack-a", "rack-b"
    async with lab.running(first), lab.running(second, pod_uid="second"):
        found = await lab.slices(first.name)
        assert {item["spec"]["pool"]["name"] for item in found} == {"rack-a", "rack-b"}
        (node,) = (await lab.client.list(NODES)).items
        for item in found:
            assert "nodeName" not in item["spec"]
            assert item["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
        name = found[1]["metadata"]["name"]
        await lab.client.delete(RESOURCE_SLICES, name)
        async with asyncio.timeout(10):
            while len(await lab.slices(first.name)) != 2:
                await asyncio.sleep(0.01)


async def test_an_instance_has_no_pool_but_its_own(lab: Cluster) -> None:
    driver = LampDriver()
    driver.only_pool = "rack-a"
    with pytest.raises(DRAError, match=f"its only pool is rack-a, not {NODE}"):
        await lab.plugin(driver).run()


def test_what_a_pool_says_of_all_its_slices() -> None:
    attribute = "lamp.example.com/kind"
    pool = Pool(NODE, LampDriver(200).lamps, partition_type_attribute=attribute, skip_node_operations=["*"])
    specs = slice_specs("lamp.example.com", NODE, pool)
    assert [(spec.partition_type_attribute, spec.skip_node_operations) for spec in specs] == [
        (attribute, ["*"]),
        (attribute, ["*"]),
    ]


async def test_a_lock_that_cannot_be_had_fails_the_call_in_words(lab: Cluster) -> None:
    driver = LampDriver()
    async with lab.running(driver), Kubelet.meet(lab, driver.name) as kubelet:
        claim = await lab.claim("c", "lamp-0")
        lock = lab.plugins / driver.name / "lock"
        lock.unlink()
        lock.mkdir()
        for call in (kubelet.prepare, kubelet.unprepare):
            with pytest.raises(
                RecoverableError, match=r"Resources: UNAVAILABLE: cannot lock .*: Is a directory"
            ):
                await call(claim)
        lock.rmdir()
        assert (await kubelet.prepare(claim))["c"].error == ""


class SlowNews:
    """A transport whose watches tell the next thing when they are let."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.turns = asyncio.Semaphore(1000)

    async def send(self, request: Request) -> Response:
        return await self._inner.send(request)

    async def watch(self, request: Request) -> AsyncIterator[Document]:
        async for event in self._inner.watch(request):
            await self.turns.acquire()
            yield event

    async def close(self) -> None:
        await self._inner.close()


async def test_a_watch_that_is_behind_does_not_make_it_write_again(lab: Cluster) -> None:
    news = SlowNews(lab.client.transport)
    lab.client = Client(news)
    driver = LampDriver(300)
    async with lab.running(driver) as plugin, asyncio.timeout(20):
        before = await lab.slices(driver.name)
        await until(lambda: news.turns._value < 1000)
        news.turns = asyncio.Semaphore(0)
        driver.lamps = [device(lamp.name, {"color": "red"}) for lamp in driver.lamps]
        driver.changed()
        await asyncio.sleep(0)
        await plugin.publisher.published.wait()
        for _ in range(4):
            news.turns.release()
            await settle()
        driver.lamps.pop()
        driver.changed()
        await asyncio.sleep(0)
        await plugin.publisher.published.wait()
        news.turns = asyncio.Semaphore(1000)
        await settle()
        after = await lab.slices(driver.name)
    assert [item["metadata"]["uid"] for item in after] == [item["metadata"]["uid"] for item in before]
    assert [item["metadata"]["generation"] for item in after] == [2, 2, 3]
    assert {item["spec"]["pool"]["generation"] for item in after} == {2}


async def test_sockets_of_killed_instances_go_and_no_others(lab: Cluster) -> None:
    dead, live = (f"00000000-0000-4000-8000-00000000000{number}" for number in range(2))
    folder = lab.plugins / LampDriver.name
    folder.mkdir(parents=True)
    left = [
        lab.registry / f"{LampDriver.name}-{dead}-reg.sock",
        lab.registry / f"{LampDriver.name}-uv3onAQeF1Y-reg.sock",
        folder / f"dra-{dead}.sock",
        folder / "dra-uv3onAQeF1Y.sock",
        lab.registry / f"{LampDriver.name}-anotherone1-reg.sock",
        lab.registry / f"other.example.com-{dead}-reg.sock",
        lab.registry / f"{LampDriver.name}-reg.sock",
    ]
    for path in left:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    async with lab.running(LampDriver(), pod_uid=live):
        assert [path.exists() for path in left] == [*[False] * 4, *[True] * 3]
        async with lab.running(LampDriver(), pod_uid=live.replace("1", "2")):
            await until(lambda: len(list(lab.registry.glob(f"{LampDriver.name}-0*-reg.sock"))) == 2)


async def test_a_driver_that_does_not_say_its_health_in_time_is_told(lab: Cluster) -> None:
    told: list[DRAError] = []

    class Silent(LampDriver):
        async def health(self) -> list[DeviceHealth]:  # type: ignore[override]
            await asyncio.Event().wait()
            return []

        def trouble(self, error: DRAError) -> None:
            told.append(error)

    clock = FakeClock()
    asking = asyncio.ensure_future(anext(HealthReporter(Silent(), clock=clock).watch_health()))
    await clock.advance(29)
    assert told == []
    await clock.advance(1)
    assert ["has not said how its devices are for 30 seconds" in str(error) for error in told] == [True]
    asking.cancel()


async def test_health_is_repeated_before_the_kubelet_forgets_it() -> None:
    class Brief(LampDriver):
        def health(self) -> list[DeviceHealth]:
            brief = DeviceHealth(NODE, "lamp-1", "Healthy", timeout=6)
            return [DeviceHealth(NODE, "lamp-0", "Healthy"), brief]

    clock = FakeClock()
    stream = HealthReporter(Brief(), clock=clock).watch_health()
    await anext(stream)
    again = asyncio.ensure_future(anext(stream))
    await clock.advance(1.9)
    assert not again.done()
    await clock.advance(0.2)
    assert len(await again) == 2
    await stream.aclose()  # type: ignore[attr-defined]


async def test_health_may_be_asked_for(lab: Cluster) -> None:
    class Asking(LampDriver):
        async def health(self) -> list[DeviceHealth]:  # type: ignore[override]
            await asyncio.sleep(0)
            return [DeviceHealth(NODE, "lamp-0", "Healthy")]

    stream = HealthReporter(Asking()).watch_health()
    (found,) = await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert (found.device, found.health, found.last_updated > 0) == ("lamp-0", "Healthy", True)


async def test_attributes_for_the_container_alone(lab: Cluster) -> None:
    class Named(LampDriver):
        has_metadata = True

        async def prepare(self, claim: Claim) -> list[PreparedDevice]:
            return [lamp.prepared(attributes={"path": "/dev/lamp", "index": 7}) for lamp in claim.devices]

    driver = Named()
    async with lab.running(driver), Kubelet.meet(lab, driver.name) as kubelet:
        claim = await lab.claim("c", "lamp-1")
        assert (await kubelet.prepare(claim))["c"].error == ""
        text = (lab.plugins / driver.name / "metadata" / claim.uid / "r" / "metadata.json").read_text()
    assert '"string": "/dev/lamp"' in text
    assert '"int": 7' in text
    assert '"int": 1' not in text
