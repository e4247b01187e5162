"""JSON patch as the API server understands it, which is more than RFC 6902.

A `replace` may name a field that is not there, indices count from the end when negative, a value left out is
null, what stands before the first slash of a path does not matter, and a document that would be replaced by
what is no document stays. The numbers 1 and 1.0 differ.
Source: evanphx/json-patch (patch.go).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from drakit.transport import Document

MAX_COPIED = 3 << 20
"""Bytes that the `copy` operations of one patch may add (JSONPatchMaxCopyBytes)."""
_INDEX = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_ABSENT = object()


class NotApplicable(Exception):
    """The patch does not fit the document."""


class TestFailed(NotApplicable):
    """A `test` that does not hold."""


def apply_operations(document: Document, operations: list[Document]) -> Any:
    """What `document`, the caller's own, becomes. Raises NotApplicable."""
    return _Patched(document).after(operations)


class _Patched:
    def __init__(self, document: Any) -> None:
        self._document = document
        self._copied = 0

    def after(self, operations: list[Document]) -> Any:
        for operation in operations:
            match operation.get("op"):
                case "add":
                    self._add(_text(operation, "path"), operation.get("value"))
                case "remove":
                    _remove(*self._find(_text(operation, "path")))
                case "replace":
                    self._replace(_text(operation, "path"), operation.get("value", _ABSENT))
                case "move":
                    self._move(operation)
                case "copy":
                    self._copy(operation)
                case "test":
                    self._test(_text(operation, "path"), operation.get("value"))
                case _:
                    raise NotApplicable
        return self._document

    def _find(self, path: str) -> tuple[Any, str]:
        """The object or list that `path` leads into, and the key there."""
        _, *parts = path.split("/")
        if not parts:
            raise NotApplicable
        *way, key = (part.replace("~1", "/").replace("~0", "~") for part in parts)
        at = self._document
        for part in way:
            at = _get(at, part)
            if not isinstance(at, dict | list):
                raise NotApplicable
        return at, key

    def _add(self, path: str, value: Any) -> None:
        at, key = self._find(path)
        if isinstance(at, dict):
            at[key] = value
        elif key == "-":
            at.append(value)
        else:
            at.insert(_index(key, len(at) + 1), value)

    def _replace(self, path: str, value: Any) -> None:
        if path == "":
            if value is _ABSENT:
                raise NotApplicable
            if isinstance(value, dict | list):
                self._document = value
            return
        value = None if value is _ABSENT else value
        at, key = self._find(path)
        if isinstance(at, dict):
            at[key] = value
        else:
            at[_index(key, len(at))] = value

    def _move(self, operation: Document) -> None:
        at, key = self._find(_text(operation, "from"))
        value = _get(at, key)
        _remove(at, key)
        self._add(_text(operation, "path"), value)

    def _copy(self, operation: Document) -> None:
        value = _get(*self._find(_text(operation, "from")))
        text = msgspec.json.encode(value)
        self._copied += len(text)
        if self._copied > MAX_COPIED:
            raise NotApplicable
        self._add(_text(operation, "path"), msgspec.json.decode(text))

    def _test(self, path: str, value: Any) -> None:
        found = self._document if path == "" else _get(*self._find(path))
        if not _equal(found, value):
            raise TestFailed


def _text(operation: Document, name: str) -> str:
    found = operation.get(name)
    if not isinstance(found, str):
        raise NotApplicable
    return found


def _index(key: str, size: int) -> int:
    index = int(key) if _INDEX.fullmatch(key) else size
    if not -size <= index < size:
        raise NotApplicable
    return index + size if index < 0 else index


def _get(at: Any, key: str) -> Any:
    """What is there; a field that is not there is null."""
    return at.get(key) if isinstance(at, dict) else at[_index(key, len(at))]


def _remove(at: Any, key: str) -> None:
    if isinstance(at, list):
        del at[_index(key, len(at))]
    elif at.pop(key, _ABSENT) is _ABSENT:
        raise NotApplicable


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return type(one) is type(other) and bool(one == other)
