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

from drakit.apiserver.go_fields import zero_of
from drakit.apiserver.schema import Type

Path = tuple[str, ...]
Fields = frozenset[Path]

_REMEMBERED, _REMEMBERED_PATHS, _REMEMBERED_BYTES = 1024, 200, 8192
"""Objects of one kind, written by one client, have the same fields: so many sets are kept in both forms, if
they are no longer than that."""
_KEY_DEFAULTS = {
    ("ContainerPort", "protocol"): "TCP",
    ("ServicePort", "protocol"): "TCP",
    ("LocalObjectReference", "name"): "",
}
_ABSENT = object()


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


def reading_order(path: Path) -> tuple[tuple[Any, ...], ...]:
    """What upstream's walk through a set sorts by: at every level its members before what is below."""
    last = len(path) - 1
    return tuple((depth < last, *_step_order(step)) for depth, step in enumerate(path))


def _step_order(step: str) -> tuple[Any, ...]:
    kind, _, rest = step.partition(":")
    if kind == "f":
        return (0, rest)
    value = json.loads(rest)
    rows = sorted(value.items()) if kind == "k" else [("", value)]
    return (1 if kind == "k" else 2, *((name, *_value_order(item)) for name, item in rows))


def _value_order(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return (2, value)
    if isinstance(value, int | float):
        return (0, value)
    return (1, value) if isinstance(value, str) else (3, _compact(value))


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
        value = item.get(name, _ABSENT) if isinstance(item, dict) else _ABSENT
        if value is _ABSENT:
            value = key_default(type_.items, name)
            if value is None:
                continue
        keys += (name, value)
    is_short = all(isinstance(value, int) or (isinstance(value, str) and len(value) < 256) for value in keys)
    return _remembered_step(*keys) if is_short else _key_step(*keys)


@lru_cache(maxsize=1024)
def key_default(items: Type, name: str) -> Any:
    """What a key field of these items means where a client left it out; None if it is no part of the key."""
    known = _KEY_DEFAULTS.get((items.name, name), zero_of(items).get(name))
    field = items.fields.get(name)
    return field.source.get("default") if known is None and field is not None else known


def _key_step(*keys: Any) -> str:
    """The step to the item with these keys: name, value, name, value."""
    return "k:" + _compact(dict(zip(keys[::2], keys[1::2], strict=True)))


_remembered_step = lru_cache(maxsize=4096, typed=True)(_key_step)
_ENCODER = json.JSONEncoder(separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _compact(value: Any) -> str:
    return _ENCODER.encode(value)


def field_type(type_: Type | None, name: str) -> Type | None:
    """The type of a part; None where nothing is said of it."""
    if type_ is None or type_.shape not in ("object", "map"):
        return None
    return type_.items if type_.shape == "map" else type_.fields.get(name)


def _is_granular(value: Any, type_: Type | None) -> bool:
    """Whether the parts of a value are owned each by itself. What no type describes is so as far as it has
    fields."""
    if isinstance(value, dict):
        return type_ is None or not type_.is_atomic
    return isinstance(value, list) and type_ is not None and type_.shape == "list" and not type_.is_atomic


def _items(value: list[Any], type_: Type) -> dict[str, list[Any]]:
    """The items of a list by their steps; more than one to a step are duplicates."""
    found: dict[str, list[Any]] = {}
    for item in value:
        found.setdefault(item_step(item, type_), []).append(item)
    return found


def fields_of(document: Any, type_: Type | None) -> Fields:
    """What a client that applies `document` comes to own."""
    return frozenset(_applied(document, type_, ()))


def _applied(value: Any, type_: Type | None, path: Path) -> Iterator[Path]:
    if not _is_granular(value, type_):
        if value is not None or type_ is None or type_.shape in ("scalar", "any") or type_.is_atomic:
            yield path
        return
    if isinstance(value, dict):
        is_struct = type_ is not None and type_.shape == "object"
        for key, item in value.items():
            here = (*path, field_step(key))
            below = field_type(type_, key)
            if item is None or item == {} or not is_struct or below is None:
                yield here
            yield from _applied(item, below, here)
        return
    assert type_ is not None
    for step, same in _items(value, type_).items():
        here = (*path, step)
        yield here
        if len(same) == 1:
            yield from _applied(same[0], type_.items, here)


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
    walk = _Comparison()
    walk.compare(old, new, type_, ())
    return Difference(frozenset(walk.added), frozenset(walk.modified), frozenset(walk.removed))


class _Comparison:
    """One walk through two values side by side; `_ABSENT` is not there, None is there and null."""

    def __init__(self) -> None:
        self.added: set[Path] = set()
        self.modified: set[Path] = set()
        self.removed: set[Path] = set()

    def compare(self, old: Any, new: Any, type_: Type | None, path: Path) -> None:
        if old is new:
            return
        if not (_is_granular(old, type_) or _is_granular(new, type_)) or not (_filled(old) or _filled(new)):
            self._leaf(old, new, path)
            return
        if isinstance(old, dict) or isinstance(new, dict):
            if type_ is None and not all(isinstance(one, dict) or _is_nothing(one) for one in (old, new)):
                self.modified.add(path)  # what no type describes may become something else
            self._fields(old, new, type_, path)
        else:
            assert type_ is not None
            self._items(old, new, type_, path)
        if old is _ABSENT and path:
            self.added.add(path)
        elif new is _ABSENT:
            self.removed.add(path)

    def _leaf(self, old: Any, new: Any, path: Path) -> None:
        if old is _ABSENT:
            self.added.add(path)
        elif new is _ABSENT:
            self.removed.add(path)
        elif old != new:
            self.modified.add(path)

    def _fields(self, old: Any, new: Any, type_: Type | None, path: Path) -> None:
        before = old if isinstance(old, dict) else {}
        after = new if isinstance(new, dict) else {}
        for key, item in before.items():
            now = after.get(key, _ABSENT)
            if now is not item:
                self.compare(item, now, field_type(type_, key), (*path, field_step(key)))
        for key, item in after.items():
            if key not in before:
                self.compare(_ABSENT, item, field_type(type_, key), (*path, field_step(key)))

    def _items(self, old: Any, new: Any, type_: Type, path: Path) -> None:
        before = _items(old, type_) if isinstance(old, list) else {}
        after = _items(new, type_) if isinstance(new, list) else {}
        for step in {**before, **after}:
            was, now = before.get(step, []), after.get(step, [])
            here = (*path, step)
            if len(was) <= 1 and len(now) <= 1:
                self.compare((was or [_ABSENT])[0], (now or [_ABSENT])[0], type_.items, here)
            elif len(was) > 1 and len(now) > 1:
                if was != now:
                    self.modified.add(here)
            elif len(was) > 1:
                if now:
                    self.compare(_ABSENT, now[0], type_.items, here)
                self.removed.add(here)
            else:
                if was:
                    self.compare(was[0], _ABSENT, type_.items, here)
                self.added.add(here)


def _is_nothing(value: Any) -> bool:
    return value is None or value is _ABSENT


def _filled(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


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
