"""What was worked out for one device, kept for the next: devices have few distinct versions, quantities and
models, and parsing or matching one takes longer than the rest of a selector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.cel.library import FUNCTIONS
from drakit.cel.library.regex import compiled
from drakit.model.quantity import parse_field
from drakit.model.semver import parse_text

_MOST = 4096


class Remembered(dict[Any, Any]):
    """Results of a function of one value, looked up in a single step: devices have few distinct versions,
    quantities and models, and the functions take longer than the rest of a selector."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, value: Any) -> Any:
        result = self._function(value)
        if len(self) >= _MOST:
            self.clear()
        self[value] = result
        return result


def matcher(pattern: str, changes: list[Callable[[str], str]]) -> Remembered:
    """Whether a text matches, after `changes` to it, the last first."""
    search = compiled(pattern).search

    def matches(text: str) -> bool:
        for change in reversed(changes):
            text = change(text)
        return search(text) is not None

    return Remembered(matches)


VERSION_KEYS = Remembered(lambda text: parse_text(text).key)
QUANTITY_KEYS = Remembered(lambda text: parse_field(text).nano)
CHANGES: dict[str, Callable[[str], str]] = {
    "lowerAscii": FUNCTIONS["string_lower_ascii"],
    "upperAscii": FUNCTIONS["string_upper_ascii"],
    "trim": FUNCTIONS["string_trim"],
}
