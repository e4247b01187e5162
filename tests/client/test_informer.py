from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from drakit.client import informer as module
from drakit.client.api import PODS, Client
from drakit.client.informer import Informer, Informers
from drakit.errors import ServiceUnavailable, TooManyRequests
from drakit.transport import Document
from tests.client.fake_clock import FakeClock, settle
from tests.client.fake_transport import FakeServer

pytestmark = pytest.mark.anyio


class Seen:
    """A handler that writes down what it is told."""

    def __init__(self) -> None:
        self.changes: list[str] = []

    def __call__(self, old: Document | None, new: Document | None) -> None:
        document = new or old
        assert document is not None
        sign = "+" if old is None else "-" if new is None else "~"
        self.changes.append(sign + document["metadata"]["name"])


@asynccontextmanager
async def running(informer: Informer | Informers) -> AsyncIterator[None]:
    task = asyncio.create_task(informer.run())
    await settle()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def make(server: FakeServer, clock: FakeClock) -> tuple[Informer, Seen]:
    informer, seen = Informer(Client(server), PODS, clock=clock), Seen()
    informer.add_handler(seen)
    return informer, seen


async def test_lists_then_follows(server: FakeServer, clock: FakeClock) -> None:
    server.put("a")
    informer, seen = make(server, clock)
    assert not informer.is_synced
    async with running(informer):
        await informer.wait_synced()
        server.put("b")
        server.put("a", x=1)
        server.remove("b")
        await settle()
        assert seen.changes == ["+a", "+b", "~a", "-b"]
        assert [d["x"] for d in informer.items()] == [1]
        a = informer.get("ns/a")
        assert a is not None
        assert (a["kind"], a["apiVersion"]) == ("Pod", "v1")


async def test_lists_in_pages(server: FakeServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    for name in "abcde":
        server.put(name)
    informer, seen = make(server, clock)
    async with running(informer):
        assert seen.changes == ["+a", "+b", "+c", "+d", "+e"]
        assert len([r for r in server.requests if "watch" not in r.query]) == 3


async def test_a_page_that_is_gone(
    server: FakeServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    for name in "abc":
        server.put(name)
    server.forget_pages = True
    informer, seen = make(server, clock)
    async with running(informer):
        assert seen.changes == ["+a", "+b", "+c"]
        assert [r.query.get("limit") for r in server.requests] == ["2", "2", None, None]


async def test_a_watch_that_ends_goes_on_where_it_was(server: FakeServer, clock: FakeClock) -> None:
    informer, seen = make(server, clock)
    async with running(informer):
        server.put("a")
        await settle()
        server.hang_up()
        await settle()
        server.put("b")
        await clock.advance(1)
        assert seen.changes == ["+a", "+b"]
        assert len([r for r in server.requests if "watch" not in r.query]) == 1


async def test_lost_history_is_merged_not_repeated(server: FakeServer, clock: FakeClock) -> None:
    for name in ("same", "gone", "changed", "reborn"):
        server.put(name)
    informer, seen = make(server, clock)
    async with running(informer):
        seen.changes.clear()
        server.hang_up()
        await settle()
        server.remove("gone")
        server.put("changed", x=1)
        server.remove("reborn")
        server.put("reborn")
        server.put("new")
        server.compact()
        await clock.advance(2)
        assert sorted(seen.changes) == ["+new", "+reborn", "-gone", "-reborn", "~changed"]
        server.put("later")
        await settle()
        assert seen.changes[-1] == "+later"


async def test_bookmarks_spare_a_relist(server: FakeServer, clock: FakeClock) -> None:
    server.put("a")
    informer, _ = make(server, clock)
    async with running(informer):
        server.bookmark()
        await settle()
        server.compact()
        server.hang_up()
        await clock.advance(2)
        assert [r.query.get("resourceVersion") for r in server.requests] == [None, "1", "2"]


async def test_backs_off_with_growing_delays(server: FakeServer, clock: FakeClock) -> None:
    server.broken = [ServiceUnavailable("down"), TooManyRequests("slow"), ServiceUnavailable("down")]
    server.put("a")
    informer, seen = make(server, clock)
    async with running(informer):
        delays = []
        while not informer.is_synced:
            (delay,) = clock.pending
            delays.append(delay)
            await clock.advance(delay)
        assert seen.changes == ["+a"]
        assert len(delays) == 3
        assert 0.1 <= delays[0] <= 0.2 <= delays[1] <= 0.4 <= delays[2] <= 0.8


async def test_indexes_follow(server: FakeServer, clock: FakeClock) -> None:
    server.put("a", color="red")
    informer, _ = make(server, clock)

    def by_color(document: Document) -> list[str]:
        return [document["color"]] if "color" in document else []

    async with running(informer):
        informer.add_index("color", by_color)
        informer.add_index("color", by_color)
        with pytest.raises(ValueError, match="color"):
            informer.add_index("color", lambda document: [])
        server.put("b", color="red")
        await settle()
        assert {d["metadata"]["name"] for d in informer.by_index("color", "red")} == {"a", "b"}
        server.put("b", color="blue")
        server.remove("a")
        await settle()
        assert informer.by_index("color", "red") == []
        assert [d["metadata"]["name"] for d in informer.by_index("color", "blue")] == ["b"]
        assert informer.by_index("color", "green") == []


async def test_a_late_handler_sees_what_is_there(server: FakeServer, clock: FakeClock) -> None:
    server.put("a")
    informer, _ = make(server, clock)
    async with running(informer):
        late = Seen()
        informer.add_handler(late)
        server.put("b")
        await settle()
        assert late.changes == ["+a", "+b"]


async def test_a_handler_that_fails_harms_nobody(
    server: FakeServer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    informer = Informer(Client(server), PODS, clock=clock)

    def broken(old: Document | None, new: Document | None) -> None:
        raise KeyError("oops")

    seen = Seen()
    informer.add_handler(broken)
    informer.add_handler(seen)
    async with running(informer):
        server.put("a")
        server.put("b")
        await settle()
        assert seen.changes == ["+a", "+b"]
        assert "oops" in caplog.text


async def test_nonsense_from_the_server_is_survived(
    server: FakeServer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    informer, seen = make(server, clock)
    async with running(informer):
        server.put("a")
        server.history.append((server.version + 1, {"type": "ADDED", "object": {"kind": "Pod"}}))
        server.version += 1
        server.put("b")
        await clock.advance(5)
        assert seen.changes == ["+a", "+b"]
        assert "cannot make sense" in caplog.text


async def test_sharing(server: FakeServer, clock: FakeClock) -> None:
    informers = Informers(Client(server), clock=clock)
    pods = informers.informer(PODS)
    assert informers.informer(PODS) is pods
    assert informers.informer(PODS, label_selector="a=b") is not pods
    async with running(informers):
        await informers.wait_synced()
        late = informers.informer(PODS, "ns")
        await late.wait_synced()
        assert len([r for r in server.requests if "watch" not in r.query]) == 3
