"""Sets of fields: which parts of an object a manager owns, and how two objects differ.

A path is a tuple of steps as FieldsV1 spells them: `f:name` for a field, `k:{"name":"x"}` for the item of a
list with keys, `v:"x"` for the item of a set. A set of fields is a frozenset of paths. That a path is in
the set says nothing about what is below it: below a part that is owned as a whole (an atomic list, a
scalar) there is nothing, and a struct is owned through its fields.
Source: sigs.k8s.io/structured-merge-diff fieldpath and typed (tofieldset.go, compare.go).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from drakit.apiserver.schema import Type

Path = tuple[str, ...]
Fields = frozenset[Path]

_REMEMBERED, _REMEMBERED_PATHS, _REMEMBERED_BYTES = 1024, 200, 8192
"""Objects of one kind, written by one client, have the same fields: so many sets are kept in both forms, if
they are no longer than that."""
_KEY_DEFAULTS = {"protocol": "TCP"}
"""Defaults of key fields: they take part in a key even where a client left them out."""


def to_fields_v1(fields: Fields) -> dict[str, Any]:
    """The set as FieldsV1 writes it, steps in order. The result may be shared: it must not be changed."""
    return _remembered_tree(fields) if len(fields) <= _REMEMBERED_PATHS else _tree(fields)


def _tree(fields: Fields) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(fields):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node["."] = {}
    return _without_dots(tree)


_remembered_tree = lru_cache(maxsize=_REMEMBERED)(_tree)


def _without_dots(tree: dict[str, Any]) -> dict[str, Any]:
    """Drop the dot where it says nothing: a node without children is a member by being there."""
    return {
        step: {} if set(below) == {"."} else _without_dots(below) if step != "." else {}
        for step, below in tree.items()
    }


def from_fields_v1(tree: Any) -> Fields:
    """The set that FieldsV1 means; what is no FieldsV1 means the empty set."""
    if not isinstance(tree, dict):
        return frozenset()
    text = msgspec.json.encode(tree)
    return _remembered_fields(text) if len(text) <= _REMEMBERED_BYTES else frozenset(_paths(tree, ()))


@lru_cache(maxsize=_REMEMBERED)
def _remembered_fields(text: bytes) -> Fields:
    return frozenset(_paths(msgspec.json.decode(text), ()))


def _paths(tree: Mapping[str, Any], path: Path) -> Iterator[Path]:
    for step, below in tree.items():
        if step == ".":
            if path:
                yield path
        elif isinstance(below, dict) and below:
            yield from _paths(below, (*path, step))
        else:
            yield (*path, step)


def path_text(path: Path) -> str:
    """A path as conflicts print it: `.spec.containers[name="c"].image`."""
    parts: list[str] = []
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            parts.append(f".{rest}")
        elif kind == "k":
            keys = json.loads(rest)
            parts.append("[" + ",".join(f"{name}={json.dumps(keys[name])}" for name in sorted(keys)) + "]")
        else:
            parts.append(f"[={rest}]")
    return "".join(parts)


@lru_cache(maxsize=4096)
def field_step(name: str) -> str:
    """The step to a field. One object for all its uses: paths are hashed and compared all the time."""
    return f"f:{name}"


def item_step(item: Any, type_: Type) -> str:
    """The step to an item of a list that is no atomic one."""
    if type_.list_type == "set":
        return "v:" + _compact(item)
    keys: list[Any] = []
    for name in type_.keys:
        value = item.get(name) if isinstance(item, dict) else None
        if value is None:
            value = _KEY_DEFAULTS.get(name)
        if value is not None:
            keys += (name, value)
    is_short = all(isinstance(value, int) or (isinstance(value, str) and len(value) < 256) for value in keys)
    return _remembered_step(*keys) if is_short else _key_step(*keys)


def _key_step(*keys: Any) -> str:
    """The step to the item with these keys: name, value, name, value."""
    return "k:" + _compact(dict(zip(keys[::2], keys[1::2], strict=True)))


_remembered_step = lru_cache(maxsize=4096, typed=True)(_key_step)
_ENCODER = json.JSONEncoder(separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _compact(value: Any) -> str:
    return _ENCODER.encode(value)


def _below(value: Any, type_: Type | None) -> Iterator[tuple[str, Any, Type | None]]:
    """The steps from `value` to its parts; none if it is owned as a whole."""
    if isinstance(value, dict):
        if type_ is not None and type_.is_atomic:
            return
        for key, item in value.items():
            yield field_step(key), item, field_type(type_, key)
    elif isinstance(value, list) and type_ is not None and not type_.is_atomic:
        for item in value:
            yield item_step(item, type_), item, type_.items


def field_type(type_: Type | None, name: str) -> Type | None:
    if type_ is None or type_.shape not in ("object", "map"):
        return None
    return type_.items if type_.shape == "map" else type_.fields.get(name)


def _is_whole(value: Any, type_: Type | None) -> bool:
    """Whether a value is owned as a whole: scalars, atomic lists and maps, what no type describes."""
    if isinstance(value, dict):
        return type_ is not None and type_.is_atomic
    return not isinstance(value, list) or type_ is None or type_.is_atomic


def fields_of(document: Any, type_: Type | None) -> Fields:
    """What a client that applies `document` comes to own."""
    return frozenset(_applied(document, type_, ()))


def _applied(value: Any, type_: Type | None, path: Path) -> Iterator[Path]:
    if _is_whole(value, type_):
        yield path
        return
    for step, item, below in _below(value, type_):
        here = (*path, step)
        is_struct_field = step[0] == "f" and type_ is not None and type_.shape == "object"
        if item is None or item == {} or not is_struct_field:
            yield here
        yield from _applied(item, below, here)


class Difference(Struct, frozen=True):
    """How a new object differs from an old one: paths it adds, changes, and no longer has."""

    added: Fields
    modified: Fields
    removed: Fields

    @property
    def changed(self) -> Fields:
        return self.added | self.modified


def compare(old: Any, new: Any, type_: Type | None) -> Difference:
    """The difference between two objects of one type."""
    added: set[Path] = set()
    modified: set[Path] = set()
    removed: set[Path] = set()
    _compare(old, new, type_, (), added, modified, removed)
    return Difference(frozenset(added), frozenset(modified), frozenset(removed))


def _all(value: Any, type_: Type | None, path: Path, into: set[Path]) -> None:
    """Every path at and below `path`."""
    if path:
        into.add(path)
    if isinstance(value, dict):
        if type_ is not None and type_.is_atomic:
            return
        for key, item in value.items():
            here = (*path, field_step(key))
            if isinstance(item, dict | list):
                _all(item, field_type(type_, key), here, into)
            else:
                into.add(here)
    elif isinstance(value, list):
        for step, item, below in _below(value, type_):
            _all(item, below, (*path, step), into)


def _compare(
    old: Any,
    new: Any,
    type_: Type | None,
    path: Path,
    added: set[Path],
    modified: set[Path],
    removed: set[Path],
) -> None:
    if old == new:
        return
    if _is_whole(new, type_) or _is_whole(old, type_):
        modified.add(path)
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key, item in old.items():
            if key not in new:
                _all(item, field_type(type_, key), (*path, field_step(key)), removed)
        for key, item in new.items():
            if key not in old:
                _all(item, field_type(type_, key), (*path, field_step(key)), added)
            elif old[key] != item:
                here = (*path, field_step(key))
                _compare(old[key], item, field_type(type_, key), here, added, modified, removed)
        return
    before = {step: (item, below) for step, item, below in _below(old, type_)}
    after = {step: (item, below) for step, item, below in _below(new, type_)}
    for step, (item, below) in before.items():
        if step not in after:
            _all(item, below, (*path, step), removed)
    for step, (item, below) in after.items():
        here = (*path, step)
        if step not in before:
            _all(item, below, here, added)
        else:
            _compare(before[step][0], item, below, here, added, modified, removed)


def with_parents(fields: Fields, type_: Type | None) -> Fields:
    """The set together with every struct field on the way to a member."""
    result = set(fields)
    for path in fields:
        at: Type | None = type_
        for index, step in enumerate(path[:-1]):
            if step[0] == "f":
                if at is not None and at.shape == "object" and step[2:] in at.fields:
                    result.add(path[: index + 1])
                at = field_type(at, step[2:])
            else:
                at = at.items if at is not None and at.shape == "list" else None
    return frozenset(result)
