"""Regular expressions, with RE2: linear time whatever the pattern."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import re2

from drakit.cel.value import Fault

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20
MAX_PROGRAMS = 30_000
"""Instructions that the regular expressions of one expression may take together, for compiling them takes
its time; the usual one has 20."""
_MAX_PROGRAM = 10_000
_CLASS = 100
"""A Unicode class takes RE2 as long as so many instructions."""


@lru_cache(maxsize=512)
def compiled(pattern: str) -> Any:
    """The pattern. Raises Fault when it is none."""
    try:
        return re2.compile(pattern, options=_OPTIONS)
    except (re2.error, UnicodeError):
        raise Fault(f"error parsing regexp: {pattern!r}") from None


def program_size(pattern: str) -> int:
    """How many instructions the pattern takes, about; for one that is none, as many as one may."""
    classes = _CLASS * pattern.lower().count("\\p")
    if classes > MAX_PROGRAMS:
        return classes
    try:
        return int(compiled(pattern).programsize) + classes
    except Fault:
        return _MAX_PROGRAM


def matches(text: str, pattern: str) -> bool:
    return compiled(pattern).search(text) is not None


@lru_cache(maxsize=1024)
def find(text: str, pattern: str) -> str:
    match = _compiled_for_find(pattern).search(text)
    return match.group() if match is not None else ""


def find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    if limit == 0:
        return found
    for match in _compiled_for_find(pattern).finditer(text):
        found.append(match.group())
        if len(found) == limit:
            break
    return found


def _compiled_for_find(pattern: str) -> Any:
    try:
        return compiled(pattern)
    except Fault as fault:
        raise Fault(f"Illegal regex: {fault.message}") from None


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "matches": matches, "matches_string": matches, "string_find_string": find,
    "string_find_all_string": find_all, "string_find_all_string_int": find_all,
}  # fmt: skip
