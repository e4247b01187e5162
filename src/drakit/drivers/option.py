"""A driver's options, given as text, read strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drakit.errors import UsageError


class Options:
    """The options of the driver `name`. Ask for each, then call `done`: what nobody asked for is an error.

    Every method raises UsageError that names the option and what it takes.
    """

    def __init__(self, name: str, given: Mapping[str, str]) -> None:
        self._name = name
        self._given = given
        self._known: list[str] = []

    def text(self, key: str, default: str) -> str:
        self._known.append(key)
        return self._given.get(key, default)

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        text = self.text(key, str(default))
        if not text.isascii() or not text.isdecimal() or not low <= int(text) <= high:
            raise self.error(key, f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        text = self.text(key, default)
        if text not in choices:
            raise self.error(key, f"{text!r} is not one of {', '.join(choices)}")
        return text

    def share(self) -> tuple[int, int]:
        """The option `share`, INDEX/COUNT: which part of the machine is this node's, of several."""
        text = self.text("share", "0/1")
        index, slash, count = text.partition("/")
        numbers = [int(part) for part in (index, count) if part.isascii() and part.isdecimal()]
        if not slash or len(numbers) != 2 or numbers[0] >= numbers[1]:
            raise self.error("share", f"{text!r} is not INDEX/COUNT, like 0/2 or 1/2")
        return numbers[0], numbers[1]

    def done(self) -> None:
        """Raises UsageError if an option was given that nobody asked for."""
        unknown = sorted(set(self._given) - set(self._known))
        if unknown:
            known = ", ".join(self._known)
            raise UsageError(f"driver {self._name} has no option {unknown[0]!r}: it has {known}")

    def error(self, key: str, problem: str) -> UsageError:
        """The error to raise where the value of `key` is wrong."""
        return UsageError(f"driver {self._name}, option {key}: {problem}")
