"""How the devices of this node are, as their drivers' health services last said.

A report holds for a time the driver names (30 seconds by default); what is not repeated by then counts as
Unknown again, so that a silent driver never leaves a device Healthy. So does everything a driver said when
it is not registered any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from drakit.client.clock import Clock, Timer
from drakit.pluginapi.health import DEFAULT_TIMEOUT, DeviceHealth, Health

DeviceKey = tuple[str, str, str]
"""Driver, pool, device."""


class _Entry(Struct):
    report: DeviceHealth
    until: float


class HealthCache:
    """`on_change(driver)` is called whenever a device of that driver looks different than before."""

    def __init__(self, clock: Clock, on_change: Callable[[str], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        self._entries: dict[DeviceKey, _Entry] = {}
        self._timers: dict[str, Timer] = {}

    def get(self, driver: str, pool: str, device: str) -> tuple[Health, str]:
        """The health of a device and the driver's words about it."""
        entry = self._entries.get((driver, pool, device))
        if entry is None or entry.until <= self._clock.now():
            return "Unknown", ""
        return entry.report.health, entry.report.message

    def put(self, driver: str, reports: Sequence[DeviceHealth]) -> None:
        """Take in what `driver` reported just now."""
        now = self._clock.now()
        is_new = False
        for report in reports:
            before = self.get(driver, report.pool, report.device)
            until = now + (report.timeout or DEFAULT_TIMEOUT)
            self._entries[driver, report.pool, report.device] = _Entry(report, until)
            is_new = is_new or before != (report.health, report.message)
        self._arm(driver)
        if is_new:
            self._on_change(driver)

    def drop(self, driver: str) -> None:
        """Nobody says any more how the devices of `driver` are."""
        known = [key for key in self._entries if key[0] == driver]
        for key in known:
            del self._entries[key]
        self._arm(driver)
        if known:
            self._on_change(driver)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _arm(self, driver: str) -> None:
        """Have what runs out next noticed."""
        if timer := self._timers.pop(driver, None):
            timer.cancel()
        ends = [entry.until for key, entry in self._entries.items() if key[0] == driver]
        if ends:
            delay = max(min(ends) - self._clock.now(), 0.0)
            self._timers[driver] = self._clock.call_later(delay, lambda: self._expire(driver))

    def _expire(self, driver: str) -> None:
        now = self._clock.now()
        late = [key for key, entry in self._entries.items() if key[0] == driver and entry.until <= now]
        for key in late:
            del self._entries[key]
        self._arm(driver)
        if late:
            self._on_change(driver)
