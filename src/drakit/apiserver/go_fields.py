"""What Go's structs say about their fields and the published OpenAPI does not.

Go cannot tell an absent number from 0 unless the field is a pointer, so an optional field that is none is
dropped where it is empty; and a struct held by value is there before anybody sets it. `data/go-fields.json`
lists both by the type's name, behind its version where versions differ. The lists of a device attribute count
as pointers: the rules tell an empty one from none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files

import msgspec

from drakit.apiserver.schema import Type

_NONE: frozenset[str] = frozenset()


@cache
def _facts() -> Mapping[str, Mapping[str, frozenset[str]]]:
    text = (files("drakit.apiserver") / "data" / "go-fields.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, dict[str, frozenset[str]]])


@lru_cache(maxsize=4096)
def _of(table: str, definition: str) -> frozenset[str]:
    *_, version, name = ["", *definition.split(".")]
    rows = _facts()[table]
    return rows.get(f"{version}.{name}", rows.get(name, _NONE))


def pointers(type_: Type) -> frozenset[str]:
    """The optional fields of a published type that hold empty values apart from absent ones."""
    return _of("pointers", type_.definition)


def embedded(type_: Type) -> frozenset[str]:
    """The fields of a published type that are structs held by value."""
    return _of("embedded", type_.definition)
