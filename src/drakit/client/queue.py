"""A queue of keys for reconcilers.

A key waits at most once, however often it is added; a key added while it is worked on is handed out
again afterwards, never at the same time to two workers. So a worker always sees the newest state and
needs no lock. Failures of one key slow down that key alone.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from drakit.client.clock import Clock, Timer
from drakit.errors import APIError, Conflict, DRAError

K = TypeVar("K")

_log = logging.getLogger(__name__)


class WorkQueue(Generic[K]):
    """Keys to work on. `base` and `limit` bound the seconds before a failed key comes back: the delay
    doubles with each failure in a row, less a random part of it of at most `jitter` (0 to 1): many programs
    that failed at the same time do not come back at the same time."""

    def __init__(
        self, *, clock: Clock | None = None, base: float = 0.01, limit: float = 60.0, jitter: float = 0.0
    ) -> None:
        self._clock = clock or Clock()
        self._base = base
        self._limit = limit
        self._jitter = jitter
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, tuple[float, Timer]] = {}
        self._wakers: deque[asyncio.Future[None]] = deque()
        self._idle: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        """Keys that wait to be handed out; those of the future do not count."""
        return len(self._ready)

    def add(self, key: K) -> None:
        """Have `key` worked on soon."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._working:
            self._hand_out(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Have `key` worked on in `seconds`; of several such wishes the earliest holds."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.now() + seconds
        earlier = self._timers.get(key)
        if earlier is not None:
            if earlier[0] <= due:
                return
            earlier[1].cancel()
        self._timers[key] = (due, self._clock.call_later(seconds, lambda: self._ring(key)))

    def retry(self, key: K) -> float:
        """Have `key` worked on again after its back-off; returns the seconds until then."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._base * 2.0 ** min(failures, 32), self._limit)
        delay *= 1.0 - random.uniform(0.0, self._jitter)
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """`key` went well: its next failure starts again at the shortest delay."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key. The caller owns it until `done`."""
        while not self._ready:
            waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._wakers.append(waker)
            try:
                await waker
            except asyncio.CancelledError:
                if waker.done() and not waker.cancelled():
                    self._wake()
                raise
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """The work on `key` that `get` began has ended, well or not."""
        self._working.discard(key)
        if key in self._waiting:
            self._hand_out(key)
        elif not self._working and not self._ready:
            for idle in self._idle:
                if not idle.done():
                    idle.set_result(None)

    async def wait_idle(self) -> None:
        """Return when no key waits or is worked on; keys with a delay do not count."""
        while self._ready or self._working:
            idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.add(idle)
            try:
                await idle
            finally:
                self._idle.discard(idle)

    async def run(self, work: Callable[[K], Awaitable[None]], *, workers: int = 1, name: str = "") -> None:
        """Work on keys until cancelled. A failure puts its key back with back-off and is logged."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(work, name))

    async def _work(self, work: Callable[[K], Awaitable[None]], name: str) -> None:
        while True:
            key = await self.get()
            try:
                await work(key)
            except Conflict as error:
                _log.debug("%s %s: %s", name, key, error)
                self.retry(key)
            except (APIError, DRAError) as error:
                delay = self.retry(key)
                _log.info("%s %s: %s; again in %.2f s", name, key, error, delay)
            except Exception:
                _log.exception("%s %s: a bug", name, key)
                self.retry(key)
            else:
                self.forget(key)
            finally:
                self.done(key)

    def _hand_out(self, key: K) -> None:
        self._ready.append(key)
        self._wake()

    def _wake(self) -> None:
        while self._wakers:
            waker = self._wakers.popleft()
            if not waker.done():
                waker.set_result(None)
                return

    def _ring(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)
