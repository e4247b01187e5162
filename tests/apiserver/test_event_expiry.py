"""Events go an hour after they were last written, over restarts too."""

from __future__ import annotations

from pathlib import Path

import pytest

from drakit.apiserver.expiry import EventExpiry
from drakit.store import Store
from drakit.transport import MERGE_PATCH
from tests.apiserver.served import Served

pytestmark = pytest.mark.anyio

EVENTS = "/api/v1/namespaces/default/events"


def event(name: str) -> dict[str, object]:
    about = {"kind": "Pod", "name": "p", "namespace": "default"}
    return {"metadata": {"name": name}, "involvedObject": about, "reason": "r", "type": "Normal"}


async def names(served: Served) -> list[str]:
    return [item["metadata"]["name"] for item in (await served.ok("GET", EVENTS))["items"]]


async def test_an_event_goes_an_hour_after_its_last_write() -> None:
    async with Served() as served:
        expiry = EventExpiry(served.api.store, served.clock)
        await served.ok("POST", EVENTS, event("old"))
        await served.ok("POST", EVENTS, event("touched"))
        served.clock.advance(3000)
        await served.ok("PATCH", f"{EVENTS}/touched", {"count": 2}, content_type=MERGE_PATCH)
        await served.ok("POST", EVENTS, event("new"))
        assert await expiry.sweep() == 0
        served.clock.advance(601)
        assert await expiry.sweep() == 1
        assert await names(served) == ["new", "touched"]
        served.clock.advance(3600)
        assert await expiry.sweep() == 2
        assert await names(served) == []


async def test_after_a_restart_the_event_itself_says_how_old_it_is(tmp_path: Path) -> None:
    async with Served(store=Store(tmp_path / "state.db")) as served:
        await served.ok("POST", EVENTS, event("old"))
        served.clock.advance(1800)
        await served.ok("POST", EVENTS, {**event("new"), "lastTimestamp": "2026-11-22T12:30:00Z"})
    async with Served(store=Store(tmp_path / "state.db")) as served:
        served.clock.advance(3601)
        assert await EventExpiry(served.api.store, served.clock).sweep() == 1
        assert await names(served) == ["new"]
