"""Literals that are numbers: their values. ValueError is raised for those that are none, or too big."""

from __future__ import annotations

from collections.abc import Callable

from drakit.cel.value import Uint


def _int(text: str) -> int:
    if len(text) > 1000:
        raise ValueError(text)
    value = int(text, 16 if "x" in text else 10)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(text)
    return value


def _uint(text: str) -> Uint:
    if len(text) > 1000:
        raise ValueError(text)
    value = int(text[:-1], 16 if "x" in text else 10)
    if value >= 1 << 64:
        raise ValueError(text)
    return Uint(value)


def _double(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


NUMBERS: dict[str, Callable[[str], int | float | Uint]] = {"int": _int, "uint": _uint, "double": _double}
"""What reads the text of a literal, by the kind of its token."""
