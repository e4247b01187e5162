"""The health stream: what the driver says of its devices, at once, on change, and again before it goes stale.

A kubelet takes a device for Unknown when nobody spoke of it for 30 seconds, or as long as was said with it.
The driver is asked each time, so one that hangs says nothing, and its devices become Unknown, as they
should. It is told of that.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Sequence

from msgspec import structs

from drakit.client.clock import Clock
from drakit.driver.driver import Driver
from drakit.errors import RecoverableError
from drakit.pluginapi.health import DEFAULT_TIMEOUT, DeviceHealth

REPEAT_SECONDS = 10.0

_log = logging.getLogger(__name__)


class HealthReporter:
    """Serves the health stream of `driver` to any number of listeners."""

    def __init__(self, driver: Driver, *, clock: Clock | None = None) -> None:
        self._driver = driver
        self._clock = clock or Clock()
        self._listeners: set[asyncio.Event] = set()
        self._is_closed = False

    @property
    def is_supported(self) -> bool:
        """Whether the driver has anything to say of health."""
        return type(self._driver).health is not Driver.health

    def wake(self) -> None:
        """Have every listener told now."""
        for listener in self._listeners:
            listener.set()

    def close(self) -> None:
        """End every stream, so that nobody waits for them."""
        self._is_closed = True
        self.wake()

    async def watch_health(self) -> AsyncIterator[Sequence[DeviceHealth]]:
        """A report now, after every `wake`, and every ten seconds or in time for the device that is forgotten
        first, until `close`."""
        woken = asyncio.Event()
        self._listeners.add(woken)
        try:
            while not self._is_closed:
                woken.clear()
                report = await self._report()
                yield report
                shortest = min(
                    (health.timeout for health in report if health.timeout > 0), default=DEFAULT_TIMEOUT
                )
                timer = self._clock.call_later(min(REPEAT_SECONDS, shortest / 3), woken.set)
                try:
                    await woken.wait()
                finally:
                    timer.cancel()
        finally:
            self._listeners.discard(woken)

    async def _report(self) -> Sequence[DeviceHealth]:
        said = self._driver.health()
        timer = self._clock.call_later(DEFAULT_TIMEOUT, self._tell_of_silence)
        try:
            found = await said if inspect.isawaitable(said) else said
        finally:
            timer.cancel()
        now = int(self._clock.now())
        return [
            health if health.last_updated else structs.replace(health, last_updated=now)
            for health in found or ()
        ]

    def _tell_of_silence(self) -> None:
        error = RecoverableError(
            f"driver {self._driver.name} has not said how its devices are for {DEFAULT_TIMEOUT} seconds:"
            " the kubelet takes their health for unknown"
        )
        _log.warning("%s", error)
        self._driver.trouble(error)
