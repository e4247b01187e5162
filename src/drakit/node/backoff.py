"""Delays that double with every failure in a row."""

from __future__ import annotations


class Backoff:
    """From `first` to `last` seconds. `until` is when the next try is due, 0 when there was no failure."""

    def __init__(self, first: float, last: float) -> None:
        self._first, self._last = first, last
        self.failures = 0
        self.until = 0.0

    def fail(self, now: float) -> float:
        """Take note of a failure; the seconds to wait."""
        delay: float = min(self._first * 2.0 ** min(self.failures, 32), self._last)
        self.failures += 1
        self.until = now + delay
        return delay

    def clear(self) -> None:
        """It went well, or everything is different now."""
        self.failures, self.until = 0, 0.0
