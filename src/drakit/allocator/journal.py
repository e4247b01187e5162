"""Which nodes changed since someone last looked, so that looking again costs what changed."""

from __future__ import annotations

from collections.abc import Iterable

_KEPT = 65536


class Journal:
    """A row of changes with their numbers; the oldest are forgotten."""

    def __init__(self) -> None:
        self._first = 0
        self._names: list[str] = []

    @property
    def now(self) -> int:
        """The number the next change will have."""
        return self._first + len(self._names)

    def note(self, names: Iterable[str]) -> None:
        """The nodes `names` changed."""
        self._names.extend(names)
        if len(self._names) > _KEPT:
            self._first += len(self._names) // 2
            del self._names[: len(self._names) // 2]

    def forget(self) -> None:
        """Any node may have changed: nobody who looked before can go on from there."""
        self._first = self.now + 1
        self._names.clear()

    def since(self, number: int) -> list[str] | None:
        """The nodes that changed from `number` on; None when that is no longer known."""
        if number < self._first:
            return None
        return self._names[number - self._first :]
