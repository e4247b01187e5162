"""Both ends of each protocol over a real unix socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from drakit.errors import RecoverableError, UsageError
from drakit.pluginapi import wire
from drakit.pluginapi.dra import (
    DRA_SERVICES,
    DRA_V1,
    DRA_V1BETA1,
    Claim,
    DRAStub,
    PreparedDevice,
    PrepareResult,
    choose_service,
    dra_handlers,
)
from drakit.pluginapi.health import HEALTH_SERVICES, DeviceHealth, HealthStub, health_handlers
from drakit.pluginapi.registration import (
    PluginInfo,
    RegistrationStub,
    registration_channel,
    registration_handlers,
)

pytestmark = pytest.mark.anyio

CLAIMS = [Claim("default", "uid-1", "one"), Claim("default", "uid-2", "two")]


@asynccontextmanager
async def served(path: Path, handlers: list[grpc.GenericRpcHandler]) -> AsyncIterator[grpc.aio.Channel]:
    server = await wire.serve(path, handlers)
    channel = wire.connect(path)
    try:
        yield channel
    finally:
        await channel.close()
        await server.stop(0)


class Driver:
    """Prepares "one", fails the rest."""

    def __init__(self) -> None:
        self.unprepared: list[Claim] = []

    async def prepare(self, claims: Sequence[Claim]) -> Mapping[str, PrepareResult]:
        device = PreparedDevice(("gpu",), "node-1", "gpu-0", ("example.com/gpu=gpu-0",), "share")
        plain = PreparedDevice((), "node-1", "gpu-1")
        return {
            claim.uid: PrepareResult((device, plain))
            if claim.name == "one"
            else PrepareResult(error="out of stock")
            for claim in claims
        }

    async def unprepare(self, claims: Sequence[Claim]) -> Mapping[str, str]:
        self.unprepared += claims
        return {claim.uid: "" for claim in claims}


class Silent(Driver):
    """Never answers."""

    async def prepare(self, claims: Sequence[Claim]) -> Mapping[str, PrepareResult]:
        await asyncio.Event().wait()
        return {}


class Broken(Driver):
    async def prepare(self, claims: Sequence[Claim]) -> Mapping[str, PrepareResult]:
        raise ValueError("a bug")


@pytest.mark.parametrize("service", DRA_SERVICES)
async def test_prepare_and_unprepare(tmp_path: Path, service: str) -> None:
    driver = Driver()
    async with served(tmp_path / "dra.sock", dra_handlers(driver)) as channel:
        stub = DRAStub(channel, service)
        results = await stub.prepare(CLAIMS)
        assert results["uid-1"].devices == (
            PreparedDevice(("gpu",), "node-1", "gpu-0", ("example.com/gpu=gpu-0",), "share"),
            PreparedDevice((), "node-1", "gpu-1"),
        )
        assert results["uid-2"] == PrepareResult(error="out of stock")
        assert await stub.unprepare(CLAIMS) == {"uid-1": "", "uid-2": ""}
        assert driver.unprepared == CLAIMS


async def test_a_hanging_driver_is_recoverable(tmp_path: Path) -> None:
    async with served(tmp_path / "dra.sock", dra_handlers(Silent())) as channel:
        with pytest.raises(RecoverableError, match="NodePrepareResources: no answer in time"):
            await DRAStub(channel).prepare(CLAIMS, timeout=0.05)


async def test_a_bug_in_the_driver_is_recoverable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with served(tmp_path / "dra.sock", dra_handlers(Broken())) as channel:
        with pytest.raises(RecoverableError, match="NodePrepareResources: UNKNOWN"):
            await DRAStub(channel).prepare(CLAIMS)


async def test_nobody_listens(tmp_path: Path) -> None:
    channel = wire.connect(tmp_path / "none.sock")
    with pytest.raises(RecoverableError, match="NodePrepareResources: UNAVAILABLE"):
        await DRAStub(channel).prepare(CLAIMS, timeout=5)
    await channel.close()


class Plugin:
    def __init__(self) -> None:
        self.statuses: list[tuple[bool, str]] = []

    async def get_info(self) -> PluginInfo:
        return PluginInfo("DRAPlugin", "gpu.example.com", "/plugins/dra.sock", DRA_SERVICES)

    async def notify(self, is_registered: bool, error: str) -> None:
        self.statuses.append((is_registered, error))


async def test_registration(tmp_path: Path) -> None:
    plugin = Plugin()
    async with served(tmp_path / "reg.sock", registration_handlers(plugin)) as channel:
        kubelets = registration_channel(tmp_path / "reg.sock")
        for one in (kubelets, channel):  # whatever the server is called
            assert await RegistrationStub(one).get_info() == await plugin.get_info()
        stub = RegistrationStub(kubelets)
        await stub.notify(True)
        await stub.notify(False, "no such driver")
        await kubelets.close()
    assert plugin.statuses == [(True, ""), (False, "no such driver")]


class Healths:
    def __init__(self) -> None:
        self.is_closed = asyncio.Event()

    async def watch_health(self) -> AsyncIterator[Sequence[DeviceHealth]]:
        try:
            yield [DeviceHealth("p", "gpu-0", "Healthy", 7, 60), DeviceHealth("p", "gpu-1", "Unknown")]
            yield [DeviceHealth("p", "gpu-1", "Unhealthy", message="x" * 2000)]
            await asyncio.Event().wait()
        finally:
            self.is_closed.set()


@pytest.mark.parametrize("service", HEALTH_SERVICES)
async def test_health(tmp_path: Path, service: str) -> None:
    plugin = Healths()
    async with served(tmp_path / "dra.sock", health_handlers(plugin)) as channel:
        reports = HealthStub(channel, service).watch()
        assert await anext(reports) == [
            DeviceHealth("p", "gpu-0", "Healthy", 7, 60),
            DeviceHealth("p", "gpu-1", "Unknown"),
        ]
        (late,) = await anext(reports)
        assert (late.health, len(late.message), late.message[-4:]) == ("Unhealthy", 1024, "x...")
        await reports.aclose()
        await plugin.is_closed.wait()


async def test_a_report_of_many_devices_goes_in_several_messages(tmp_path: Path) -> None:
    class Many:
        async def watch_health(self) -> AsyncIterator[Sequence[DeviceHealth]]:
            yield [
                DeviceHealth("p", f"gpu-{n}", "Unhealthy", message="\N{SNOWMAN}" * 400) for n in range(5000)
            ]

    async with served(tmp_path / "dra.sock", health_handlers(Many())) as channel:
        parts = [part async for part in HealthStub(channel).watch()]
    assert [health.device for part in parts for health in part] == [f"gpu-{n}" for n in range(5000)]
    assert len(parts) > 1, "a kubelet takes no message of more than 4 MiB"
    assert parts[0][0].message == "\N{SNOWMAN}" * 340 + "..."


async def test_an_answer_that_no_kubelet_would_take(tmp_path: Path) -> None:
    class Chatty(Driver):
        async def prepare(self, claims: Sequence[Claim]) -> Mapping[str, PrepareResult]:
            return {"uid-1": PrepareResult(error="x" * wire.MAX_MESSAGE)}

    async with served(tmp_path / "dra.sock", dra_handlers(Chatty())) as channel:
        with pytest.raises(wire.CallFailed, match="RESOURCE_EXHAUSTED"):
            await DRAStub(channel).prepare(CLAIMS)


IN_GO = [
    ("UNAVAILABLE", "gone", "rpc error: code = Unavailable desc = gone"),
    ("FAILED_PRECONDITION", "no", "rpc error: code = FailedPrecondition desc = no"),
    ("CANCELLED", "bye", "rpc error: code = Canceled desc = bye"),
    (
        "DEADLINE_EXCEEDED",
        "Deadline Exceeded",
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
    ),
]


@pytest.mark.parametrize(("code", "detail", "text"), IN_GO)
async def test_failures_in_the_words_of_the_kubelet(code: str, detail: str, text: str) -> None:
    assert wire.CallFailed("NodePrepareResources", code, detail).in_go == text


SERVICES = [
    (["v1.DRAPlugin", "v1beta1.DRAPlugin", "v1.DRAResourceHealth"], DRA_V1),
    (["v2.DRAPlugin", "v1beta1.DRAPlugin", "v1.DRAPlugin"], DRA_V1BETA1),
    (["v1beta1.DRAPlugin"], DRA_V1BETA1),
    (["v9.DRAPlugin"], None),
    ([], None),
]


@pytest.mark.parametrize(("supported", "chosen"), SERVICES)
async def test_choose_service(supported: list[str], chosen: str | None) -> None:
    assert choose_service(supported) == chosen


async def test_sockets(tmp_path: Path) -> None:
    path = tmp_path / "dra.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    server = await wire.serve(path, dra_handlers(Driver()))
    assert path.stat().st_mode & 0o777 == 0o600
    await server.stop(0)
    assert not path.exists()


async def test_stopping_leaves_a_successors_socket(tmp_path: Path) -> None:
    path = tmp_path / "dra.sock"
    first = await wire.serve(path, dra_handlers(Driver()))
    second = await wire.serve(path, dra_handlers(Driver()))
    assert (first.is_in_place(), second.is_in_place()) == (False, True)
    await first.stop(0)
    channel = wire.connect(path)
    assert "uid-1" in await DRAStub(channel).prepare(CLAIMS)
    await channel.close()
    await second.stop(0)


async def test_sockets_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="longer than 100 bytes"):
        await wire.serve(tmp_path / ("d" * 100) / "dra.sock", [])
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="it is no socket"):
        await wire.serve(tmp_path / "file", [])
    with pytest.raises(UsageError, match="cannot serve on socket"):
        await wire.serve(tmp_path / "file" / "dra.sock", [])
    assert os.listdir(tmp_path) == ["file"]
