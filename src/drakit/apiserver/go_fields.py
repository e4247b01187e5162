"""What Go's structs say about their fields and the published OpenAPI does not.

Go cannot tell an absent number from 0 unless the field is a pointer, so an optional field that is none is
dropped where it is empty; a struct held by value is there before anybody sets it, and a field that is not
"omitempty" is written even if it holds nothing. `data/go-fields.json` lists, by the type's name (behind its
group and version where these differ): `pointers` among the optional fields, `embedded` structs, optional
fields that are `written` always, those written as `null`, and required ones that are `unwritten` when empty.
`named` has the Go types that errors name where the schema says no more than "string". The lists of a device
attribute count as pointers: the rules tell an empty one from none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from drakit.apiserver.schema import Type

T = TypeVar("T")
_NONE: frozenset[str] = frozenset()
_ZEROES: Mapping[str, Any] = {
    "string": "",
    "quantity": "0",
    "int32": 0,
    "int64": 0,
    "double": 0,
    "intstr": 0,
    "bool": False,
}


class _Facts(Struct):
    pointers: dict[str, frozenset[str]]
    embedded: dict[str, frozenset[str]]
    written: dict[str, frozenset[str]]
    null: dict[str, frozenset[str]]
    unwritten: dict[str, frozenset[str]]
    named: dict[str, dict[str, str]]


@cache
def _facts() -> _Facts:
    text = (files("drakit.apiserver") / "data" / "go-fields.json").read_bytes()
    return msgspec.json.decode(text, type=_Facts)


_Table = Literal["pointers", "embedded", "written", "null", "unwritten"]


@lru_cache(maxsize=8192)
def _of(table: _Table, definition: str) -> frozenset[str]:
    rows: Mapping[str, frozenset[str]] = getattr(_facts(), table)
    found = _row(rows, definition)
    return _NONE if found is None else found


def _row(rows: Mapping[str, T], definition: str) -> T | None:
    group, version, name = ["", "", *definition.split(".")][-3:]
    return rows.get(f"{group}.{version}.{name}", rows.get(name))


def go_name(type_: Type, name: str) -> str:
    """The Go type of a field of a published type, as errors name it."""
    found = (_row(_facts().named, type_.definition) or {}).get(name)
    return found or type_.fields[name].go_name


def kept_empty(type_: Type) -> frozenset[str]:
    """The optional fields of a published type that are written also where they are empty."""
    own = type_.definition
    return _of("pointers", own) | _of("written", own) | _of("null", own)


def unwritten(type_: Type) -> frozenset[str]:
    """The required fields of a published type that are not written where they are empty."""
    return _of("unwritten", type_.definition)


@lru_cache(maxsize=4096)
def zero_of(type_: Type) -> Mapping[str, Any]:
    """What Go writes for a published struct in which nobody set anything, nothing for other types. It is
    shared: never changed."""
    if not type_.definition.startswith("io.k8s."):
        return {}
    own = type_.definition
    embedded, written, null = _of("embedded", own), _of("written", own), _of("null", own)
    zero: dict[str, Any] = {}
    for name, field in type_.fields.items():
        if name in embedded:
            zero[name] = zero_of(field)
        elif name in null:
            zero[name] = None
        elif name in written or (name in type_.required and name not in unwritten(type_)):
            zero[name] = _ZEROES.get(field.scalar)
    return zero


def fresh(zero: Any) -> Any:
    """A zero that belongs to the caller."""
    return {name: fresh(item) for name, item in zero.items()} if isinstance(zero, Mapping) else zero
