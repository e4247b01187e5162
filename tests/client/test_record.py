from __future__ import annotations

import pytest

from drakit.client import record
from drakit.client.api import Client
from drakit.client.record import EventRecorder
from drakit.errors import ServiceUnavailable
from drakit.transport import Document
from tests.client.fake_clock import FakeClock
from tests.client.fake_transport import FakeServer

pytestmark = pytest.mark.anyio

POD: Document = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7"},
}


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def recorder(server: FakeServer, clock: FakeClock) -> EventRecorder:
    return EventRecorder(Client(server), "tester", "host-1", clock=clock)


def events(server: FakeServer) -> list[Document]:
    return list(server.objects.values())


async def test_writes_an_event(server: FakeServer, recorder: EventRecorder) -> None:
    recorder.event(POD, "Warning", "Failed", "because")
    await recorder.flush()
    (event,) = events(server)
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "p",
        "namespace": "ns",
        "uid": "u",
        "resourceVersion": "7",
    }
    assert event["source"] == {"component": "tester", "host": "host-1"}
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "Failed", "because")
    assert event["count"] == 1
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2027-01-15T08:00:00Z"
    assert "action" not in event


async def test_repeats_become_a_count(server: FakeServer, recorder: EventRecorder, clock: FakeClock) -> None:
    for _ in range(3):
        recorder.event(POD, "Warning", "Failed", "because")
        await recorder.flush()
        await clock.advance(10)
    (event,) = events(server)
    assert event["count"] == 3
    assert event["lastTimestamp"] == "2027-01-15T08:00:20Z"


async def test_repeats_during_a_write_are_written_together(
    server: FakeServer, recorder: EventRecorder
) -> None:
    for _ in range(10):
        recorder.event(POD, "Warning", "Failed", "because")
    await recorder.flush()
    (event,) = events(server)
    assert event["count"] == 10
    assert len(server.requests) == 1


async def test_many_messages_of_one_reason_are_combined(server: FakeServer, recorder: EventRecorder) -> None:
    for number in range(15):
        recorder.event(POD, "Warning", "Failed", f"try {number}")
        await recorder.flush()
    assert len(events(server)) == record.SIMILAR + 1
    combined = events(server)[-1]
    assert combined["count"] == 5
    assert combined["message"] == "(combined from similar events): try 14"


async def test_a_flood_about_one_object_is_cut_off(
    server: FakeServer, recorder: EventRecorder, clock: FakeClock
) -> None:
    other = POD | {"metadata": {"name": "q", "namespace": "ns", "uid": "v"}}
    for number in range(100):
        recorder.event(POD, "Normal", f"Reason{number}", "text")
        await recorder.flush()
    recorder.event(other, "Normal", "Fine", "text")
    await recorder.flush()
    assert len(events(server)) == record.BURST + 1
    await clock.advance(record.REFILL_SECONDS)
    recorder.event(POD, "Normal", "Again", "text")
    await recorder.flush()
    assert len(events(server)) == record.BURST + 2


async def test_an_event_deleted_meanwhile_is_written_anew(
    server: FakeServer, recorder: EventRecorder
) -> None:
    recorder.event(POD, "Warning", "Failed", "because")
    await recorder.flush()
    server.remove(next(iter(server.objects)))
    recorder.event(POD, "Warning", "Failed", "because")
    await recorder.flush()
    (event,) = events(server)
    assert event["count"] == 2


async def test_a_server_that_is_down_harms_nobody(server: FakeServer, recorder: EventRecorder) -> None:
    server.broken = [ServiceUnavailable("down")]
    recorder.event(POD, "Warning", "Failed", "lost")
    recorder.event(POD, "Warning", "Failed", "kept")
    await recorder.flush()
    assert [event["message"] for event in events(server)] == ["kept"]


async def test_what_waits_is_bounded(
    server: FakeServer, recorder: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "WAITING", 5)
    for number in range(20):
        recorder.event(POD, "Normal", f"Reason{number}", "text")
    await recorder.flush()
    assert [event["reason"] for event in events(server)] == [f"Reason{n}" for n in range(15, 20)]


async def test_long_messages_are_cut(server: FakeServer, recorder: EventRecorder) -> None:
    recorder.event(POD, "Normal", "Long", "ä" * 2000)
    await recorder.flush()
    (event,) = events(server)
    assert len(event["message"].encode()) <= record.MESSAGE_BYTES
    assert event["message"].endswith("...")
