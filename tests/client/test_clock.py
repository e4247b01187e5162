from __future__ import annotations

import asyncio

import pytest

from drakit.client.clock import Clock, micro_timestamp, parse_timestamp, timestamp
from tests.client.fake_clock import FakeClock, settle

pytestmark = pytest.mark.anyio


def test_times_as_the_api_writes_them() -> None:
    assert timestamp(1_800_000_000.9) == "2027-01-15T08:00:00Z"
    assert micro_timestamp(1_800_000_000.25) == "2027-01-15T08:00:00.250000Z"
    assert parse_timestamp("2027-01-15T08:00:00Z") == 1_800_000_000
    assert parse_timestamp("2027-01-15T09:00:00.5+01:00") == 1_800_000_000.5
    with pytest.raises(ValueError, match="yesterday"):
        parse_timestamp("yesterday")


async def test_sleep_ends_when_its_time_has_come() -> None:
    clock = FakeClock()
    sleeper = asyncio.create_task(clock.sleep(5))
    await clock.advance(4)
    assert not sleeper.done()
    await clock.advance(1)
    assert sleeper.done()


async def test_a_cancelled_sleep_leaves_no_timer() -> None:
    clock = FakeClock()
    sleeper = asyncio.create_task(clock.sleep(5))
    await settle()
    sleeper.cancel()
    await settle()
    assert clock.pending == []


async def test_the_real_clock_sleeps() -> None:
    clock = Clock()
    before = clock.now()
    await clock.sleep(0.001)
    assert clock.now() > before
