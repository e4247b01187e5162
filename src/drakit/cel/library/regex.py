"""Regular expressions, with RE2: linear time whatever the pattern."""

from __future__ import annotations

import re
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
        program = re2.compile(pattern, options=_OPTIONS)
    except re2.error as error:
        raise Fault(f"error parsing regexp: {_reason(error, pattern)}") from None
    except UnicodeError:
        raise Fault(f"error parsing regexp: invalid UTF-8: `{pattern}`") from None
    if "\\C" in pattern and _ANY_BYTE.fullmatch(pattern):
        raise Fault("error parsing regexp: invalid escape sequence: `\\C`")
    if pattern.count("(") > _MAX_NESTING and _nesting(pattern) > _MAX_NESTING:
        raise Fault(f"error parsing regexp: expression nests too deeply: `{pattern}`")
    return program


_ANY_BYTE = re.compile(r"(?s)(?:[^\\]|\\[^QC]|\\Q.*?(?:\\E|\Z))*\\C.*")
"""RE2 knows `\\C`, any byte; Go does not."""
_MAX_NESTING = 999
_WORDS = {
    "missing )": "missing closing )", "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
    "trailing \\": "trailing backslash at end of expression",
}  # fmt: skip


def _reason(error: Exception, pattern: str) -> str:
    """RE2's error in the words of Go's regexp, which is the same code in another language."""
    text = error.args[0] if error.args else ""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    words, _, part = text.partition(": ")
    if words.startswith("pattern too large"):
        words, part = "expression too large", pattern
    return f"{_WORDS.get(words, words)}: `{part}`"


def _nesting(pattern: str) -> int:
    """How deep its parentheses are."""
    depth = deepest = 0
    for match in _PARENTHESIS.finditer(pattern):
        depth += (match.group() == "(") - (match.group() == ")")
        deepest = max(deepest, depth)
    return deepest


_PARENTHESIS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()]", re.DOTALL)


def program_size(pattern: str) -> int:
    """How many instructions the pattern takes, about; for one that is none, as many as one may."""
    classes = _CLASS * pattern.lower().count("\\p")
    if classes > MAX_PROGRAMS:
        return classes
    try:
        return int(compiled(pattern).programsize) + classes
    except Fault:
        return _MAX_PROGRAM


def _valid(text: str) -> str:
    """`text` without halves of surrogate pairs, which RE2 does not take."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def matches(text: str, pattern: str) -> bool:
    return compiled(pattern).search(_valid(text)) is not None


def find(text: str, pattern: str) -> str:
    match = _compiled_for_find(pattern).search(_valid(text))
    return match.group() if match is not None else ""


def find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    if limit == 0:
        return found
    end = -1
    for match in _compiled_for_find(pattern).finditer(_valid(text)):
        if match.start() == match.end() == end:
            continue  # To Go, an empty match right after a match is none.
        end = match.end()
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
