"""How much work one evaluation may take here, whatever it costs in cel-go's units."""

from __future__ import annotations

from typing import Final

MAX_WORK: Final = 700_000
"""Steps, of at most 80 ns or so, that one evaluation may take (see `drakit.cel.library.work`)."""


LITTLE_WORK: Final = 2_000
"""What one comparison may take of the fast path, which has no meter and leaves more to the exact one."""


class Meter:
    """Counts the steps taken, whatever they cost. `patterns` has the sizes of regular expressions."""

    __slots__ = ("left", "patterns")

    def __init__(self, left: int = MAX_WORK) -> None:
        self.left = left
        self.patterns: dict[str, int] = {}

    def spend(self, count: int) -> None:
        """Raises CostExceeded when the work is used up."""
        self.left -= count
        if self.left < 0:
            raise CostExceeded


class CostExceeded(Exception):
    """The evaluation was stopped: too much work."""
