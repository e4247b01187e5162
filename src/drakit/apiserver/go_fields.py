"""What Go's structs say about their fields and the published OpenAPI does not.

Go cannot tell an absent number from 0 unless the field is a pointer, so an optional field that is none is
dropped where it is empty; a struct held by value is there before anybody sets it, and a field that is not
"omitempty" is written even if it holds nothing. `data/go-fields.json` lists, by the type's name (behind its
group and version where these differ): `pointers` among the optional fields, `embedded` structs, optional
fields that are `written` always, those written as `null`, and required ones that are `unwritten` when empty.
The lists of a device attribute count as pointers: the rules tell an empty one from none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import msgspec

from drakit.apiserver.schema import Type

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


@cache
def _facts() -> Mapping[str, Mapping[str, frozenset[str]]]:
    text = (files("drakit.apiserver") / "data" / "go-fields.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, dict[str, frozenset[str]]])


@lru_cache(maxsize=8192)
def _of(table: str, definition: str) -> frozenset[str]:
    group, version, name = ["", "", *definition.split(".")][-3:]
    rows = _facts()[table]
    return rows.get(f"{group}.{version}.{name}", rows.get(name, _NONE))


def kept_empty(type_: Type) -> frozenset[str]:
    """The optional fields of a published type that are written also where they are empty."""
    return frozenset().union(*(_of(table, type_.definition) for table in ("pointers", "written", "null")))


def unwritten(type_: Type) -> frozenset[str]:
    """The required fields of a published type that are not written where they are empty."""
    return _of("unwritten", type_.definition)


@lru_cache(maxsize=4096)
def zero_of(type_: Type) -> Mapping[str, Any]:
    """What Go writes for a published struct in which nobody set anything. It is shared: never changed."""
    if not type_.definition:
        return {}
    embedded, written, null, unwritten = (
        _of(table, type_.definition) for table in ("embedded", "written", "null", "unwritten")
    )
    zero: dict[str, Any] = {}
    for name, field in type_.fields.items():
        if name in embedded:
            zero[name] = zero_of(field)
        elif name in null:
            zero[name] = None
        elif name in written or (name in type_.required and name not in unwritten):
            zero[name] = _ZEROES.get(field.scalar)
    return zero


def fresh(zero: Any) -> Any:
    """A zero that belongs to the caller."""
    return {name: fresh(item) for name, item in zero.items()} if isinstance(zero, Mapping) else zero
