"""A clock whose hands the test turns."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from drakit.client.clock import Clock


class _Timer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class FakeClock(Clock):
    """Starts at `start`; nothing happens before `advance`."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._timers: list[tuple[float, int, _Timer]] = []
        self._count = 0

    def now(self) -> float:
        return self._now

    def call_later(self, seconds: float, call: Callable[[], None]) -> _Timer:
        timer = _Timer(call)
        self._count += 1
        heapq.heappush(self._timers, (self._now + seconds, self._count, timer))
        return timer

    @property
    def pending(self) -> list[float]:
        """Seconds until each call that is still wanted."""
        return sorted(due - self._now for due, _, timer in self._timers if timer.call is not None)

    async def advance(self, seconds: float) -> None:
        """Turn the hands; what becomes due is called in order, and the loop gets to run in between."""
        await settle()
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, due)
            if timer.call is not None:
                timer.call()
                await settle()
        self._now = end
        await settle()


async def settle(rounds: int = 50) -> None:
    """Let every task that can run do so."""
    for _ in range(rounds):
        await asyncio.sleep(0)
