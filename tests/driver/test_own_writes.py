"""What was written goes over what the informer has, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.driver.own_writes import SECONDS, OwnWrites
from tests.client.fake_clock import FakeClock

pytestmark = pytest.mark.anyio

POOL = "p"


def slice_at(version: int, name: str = "a", **meta: Any) -> dict[str, Any]:
    meta = {"name": name, "uid": name, "resourceVersion": str(version), **meta}
    return {"metadata": meta, "spec": {"pool": {"name": POOL}}}


STORED: dict[str, tuple[list[dict[str, Any]], str, list[int]]] = {
    "not heard of": ([], "6", [7]),
    "heard of what was before": ([slice_at(5)], "6", [7]),
    "heard of it": ([slice_at(7)], "7", [7]),
    "heard of what came after": ([slice_at(9)], "9", [9]),
    "heard that it is gone": ([], "8", []),
    "a list that is newer": ([slice_at(5)], "8", [5]),
    "no history": ([slice_at(5)], "", [7]),
}


@pytest.mark.parametrize("case", STORED)
def test_stored(case: str) -> None:
    seen, version, found = STORED[case]
    own = OwnWrites(FakeClock())
    own.stored(slice_at(7))
    assert [int(item["metadata"]["resourceVersion"]) for item in own.over(POOL, seen, version)] == found
    assert own.is_ahead(POOL) == (found == [7] and seen != [slice_at(7)])
    assert own.over("other", [], "0") == []


DELETED: dict[str, tuple[list[dict[str, Any]], int]] = {
    "still there": ([slice_at(7)], 0),
    "gone": ([], 0),
    "another of that name": ([slice_at(9, uid="new")], 1),
    "going": ([slice_at(8, deletionTimestamp="2026-01-01T00:00:00Z")], 1),
}


@pytest.mark.parametrize("case", DELETED)
def test_deleted(case: str) -> None:
    seen, count = DELETED[case]
    own = OwnWrites(FakeClock())
    own.stored(slice_at(7))
    own.deleted(slice_at(7))
    assert len(own.over(POOL, seen, "6")) == count
    assert own.is_ahead(POOL) == (case == "still there")


async def test_a_server_that_was_set_back_is_believed_in_the_end() -> None:
    clock = FakeClock()
    own = OwnWrites(clock)
    own.stored(slice_at(7))
    own.deleted(slice_at(6, "b"))
    await clock.advance(SECONDS - 1)
    assert [item["metadata"]["name"] for item in own.over(POOL, [slice_at(2, "b")], "2")] == ["a"]
    await clock.advance(1)
    assert [item["metadata"]["name"] for item in own.over(POOL, [slice_at(2, "b")], "2")] == ["b"]
    assert not own.is_ahead(POOL)
