"""The strings library: everything but `format`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.cel.lookup import shown
from drakit.cel.value import Fault

_MAX_RESULT = 10_000_000
"""Characters a replacement may produce; the cost limit stops an expression long before."""
_TO_LOWER = {ord(c): ord(c) + 32 for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_TO_UPPER = {lower: upper for upper, lower in _TO_LOWER.items()}
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_QUOTED = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
           "\\": "\\\\", '"': '\\"'}  # fmt: skip


def char_at(text: str, index: int) -> str:
    if index < 0 or index > len(text):
        raise Fault(f"index out of range: {index}")
    return text[index : index + 1]


def index_of(text: str, part: str, offset: int = 0) -> int:
    if part == "":
        return offset if offset else 0
    if offset < 0:
        raise Fault(f"index out of range: {offset}")
    if offset >= len(text):
        return -1
    return text.find(part, offset)


def last_index_of(text: str, part: str, offset: int | None = None) -> int:
    if part == "":
        return len(text) if offset is None else offset
    if offset is None:
        offset = len(text) - 1
    if offset < 0:
        raise Fault(f"index out of range: {offset}")
    if offset >= len(text):
        return -1
    return text.rfind(part, 0, offset + len(part))


def lower_ascii(text: str) -> str:
    return text.lower() if text.isascii() else text.translate(_TO_LOWER)


def upper_ascii(text: str) -> str:
    return text.upper() if text.isascii() else text.translate(_TO_UPPER)


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    found = text.count(old) if old else len(text) + 1
    replaced = found if count < 0 else min(found, count)
    if len(text) + replaced * len(new) > _MAX_RESULT:
        raise Fault("operation cancelled: the result of replace is too long")
    return text.replace(old, new, count) if count >= 0 else text.replace(old, new)


def split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if limit == 1:
        return [text]
    if separator == "":
        if limit < 0 or limit >= len(text):
            return list(text)
        return [*text[: limit - 1], text[limit - 1 :]]
    return text.split(separator, limit - 1) if limit > 0 else text.split(separator)


def substring(text: str, start: int, end: int | None = None) -> str:
    if end is None:
        if start < 0 or start > len(text):
            raise Fault(f"index out of range: {start}")
        return text[start:]
    if start > end:
        raise Fault(f"invalid substring range. start: {start}, end: {end}")
    if start < 0 or start > len(text):
        raise Fault(f"index out of range: {start}")
    if end > len(text):
        raise Fault(f"index out of range: {end}")
    return text[start:end]


def trim(text: str) -> str:
    return text.strip(_SPACE)


def join(items: list[str], separator: str = "") -> str:
    for item in items:
        if item.__class__ is not str:
            raise Fault(f"join: invalid input: {shown(item)}")
    if sum(map(len, items)) + len(separator) * len(items) > _MAX_RESULT:
        raise Fault("operation cancelled: the result of join is too long")
    return separator.join(items)


def quote(text: str) -> str:
    return '"' + "".join(_QUOTED.get(c, c) for c in text) + '"'


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "jsonpatch_escapekey_string": lambda text: text.replace("~", "~0").replace("/", "~1"),
    "contains_string": lambda text, part: part in text,
    "starts_with_string": lambda text, part: text.startswith(part),
    "ends_with_string": lambda text, part: text.endswith(part),
    "string_char_at_int": char_at, "string_index_of_string": index_of,
    "string_index_of_string_int": index_of, "string_last_index_of_string": last_index_of,
    "string_last_index_of_string_int": last_index_of, "string_lower_ascii": lower_ascii,
    "string_upper_ascii": upper_ascii, "string_replace_string_string": replace,
    "string_replace_string_string_int": replace, "string_split_string": split,
    "string_split_string_int": split, "string_substring_int": substring,
    "string_substring_int_int": substring, "string_trim": trim, "list_join": join,
    "list_join_string": join, "strings_quote": quote,
}  # fmt: skip
