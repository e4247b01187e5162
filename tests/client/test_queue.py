from __future__ import annotations

import asyncio

import pytest

from drakit.client.queue import WorkQueue
from drakit.errors import Conflict, ServiceUnavailable
from tests.client.fake_clock import FakeClock, settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_a_key_waits_once(clock: FakeClock) -> None:
    queue = WorkQueue[str](clock=clock)
    queue.add("a")
    queue.add("b")
    queue.add("a")
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]


async def test_a_key_in_work_comes_back_after_it(clock: FakeClock) -> None:
    queue = WorkQueue[str](clock=clock)
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done(key)
    assert len(queue) == 1


async def test_the_earliest_delay_holds(clock: FakeClock) -> None:
    queue = WorkQueue[str](clock=clock)
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    await clock.advance(4.9)
    assert len(queue) == 0
    await clock.advance(0.2)
    assert len(queue) == 1
    assert clock.pending == []


async def test_back_off_doubles_until_forgotten(clock: FakeClock) -> None:
    queue = WorkQueue[str](clock=clock, base=1, limit=5)
    delays = []
    for _ in range(5):
        delays.append(queue.retry("a"))
        await clock.advance(5)
    queue.forget("a")
    delays.append(queue.retry("a"))
    assert delays == [1, 2, 4, 5, 5, 1]


async def test_workers_retry_what_fails(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    queue = WorkQueue[str](clock=clock, base=1)
    outcomes: list[Exception | None] = [Conflict("old"), ServiceUnavailable("down"), KeyError("bug"), None]
    done: list[str] = []

    async def work(key: str) -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        done.append(key)

    task = asyncio.create_task(queue.run(work, workers=2, name="test"))
    queue.add("a")
    for delay in (1, 2, 4):
        await settle()
        assert done == []
        assert clock.pending == [delay]
        await clock.advance(delay)
    assert done == ["a"]
    assert "KeyError" in caplog.text
    task.cancel()
    await asyncio.wait([task])


async def test_one_key_is_never_worked_on_twice_at_once(clock: FakeClock) -> None:
    queue = WorkQueue[int](clock=clock)
    busy: set[int] = set()
    runs = 0

    async def work(key: int) -> None:
        nonlocal runs
        assert key not in busy
        busy.add(key)
        runs += 1
        await asyncio.sleep(0)
        if runs < 50:
            queue.add(key)
        await asyncio.sleep(0)
        busy.discard(key)

    task = asyncio.create_task(queue.run(work, workers=8))
    for key in range(3):
        queue.add(key)
    await settle()
    await queue.wait_idle()
    assert runs >= 50
    assert not busy
    task.cancel()
    await asyncio.wait([task])


async def test_a_cancelled_getter_loses_no_wake_up(clock: FakeClock) -> None:
    queue = WorkQueue[str](clock=clock)
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await settle()
    queue.add("a")
    first.cancel()
    await settle()
    assert await second == "a"
