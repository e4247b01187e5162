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

    def done(self) -> None:
        """Raises UsageError if an option was given that nobody asked for."""
        unknown = sorted(set(self._given) - set(self._known))
        if unknown:
            known = ", ".join(self._known)
            raise UsageError(f"driver {self._name} has no option {unknown[0]!r}: it has {known}")

    def error(self, key: str, problem: str) -> UsageError:
        """The error to raise where the value of `key` is wrong."""
        return UsageError(f"driver {self._name}, option {key}: {problem}")
