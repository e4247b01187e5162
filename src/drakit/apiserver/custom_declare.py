"""The structural schema of a custom resource as CEL knows it: types, how big values may be, and the values.

Fields that CEL cannot name or whose type nobody knows are not to be selected; they are still part of what is
compared. A list of type set or map has no order: the old one is put in the order of the new one, so that
they are equal if their elements are.
Source: k8s.io/apiserver/pkg/cel/{escaping.go,limits.go,common/{schemas,values}.go}.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from drakit.cel import types
from drakit.cel.library.moment import parse_duration, parse_timestamp
from drakit.cel.size import Shape
from drakit.cel.types import Type
from drakit.cel.value import Fault
from drakit.model.validation.field import listed, mapped

Schema = Mapping[str, Any]

MAX_REQUEST = 3 * 1024 * 1024
_TEXT_SIZE, _BOOL_SIZE, _NUMBER_SIZE, _EITHER_SIZE = 2, 4, 1, 1
_FORMATS: Mapping[str, tuple[Type, int, int]] = {
    "duration": (types.DURATION, 3, 32),
    "date": (types.TIMESTAMP, 12, 12),
    "date-time": (types.TIMESTAMP, 21, 32),
}
"""Strings that are more: type, least and greatest size."""
_RESERVED = frozenset((
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if",
    "import", "let", "loop", "package", "namespace", "return", "var", "void", "while",
))  # fmt: skip
_ESCAPED = re.compile(r"__|[-./]")
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_NAMEABLE = re.compile(r"[a-zA-Z_./-][a-zA-Z0-9_./-]*")
_HIDDEN = "\0"


def escaped(name: str) -> str | None:
    """The identifier by which CEL selects a field, None if it cannot."""
    if name in _RESERVED:
        return f"__{name}__"
    return _ESCAPED.sub(lambda match: _ESCAPES[match[0]], name) if _NAMEABLE.fullmatch(name) else None


class Declared(Struct):
    """What CEL knows of a schema. `least` is the size of the shortest JSON of a value, `most` the greatest
    number of its elements. `item` is inside lists and maps; `fields` are an object's, by escaped names."""

    type: Type
    least: int
    most: int = 0
    item: Declared | None = None
    fields: dict[str, Declared] | None = None

    @property
    def shape(self) -> Shape:
        """Sizes for the estimate of costs."""
        if self.fields is not None:
            return Shape(0, fields={name: field.shape for name, field in self.fields.items()})
        if self.item is None:
            return Shape(self.most)
        return Shape(self.most, Shape(0) if self.type.kind == "map" else None, self.item.shape)

    def objects(self) -> Iterator[tuple[str, Mapping[str, Type]]]:
        """The fields of all object types in it, by the names of the types."""
        if self.item is not None:
            yield from self.item.objects()
        if self.fields is not None:
            yield self.type.name, {name: field.type for name, field in self.fields.items()}
            for field in self.fields.values():
                yield from field.objects()


def rooted(schema: Schema) -> Schema:
    """The schema of an object with the parts of every object that rules may look at."""
    properties = mapped(schema.get("properties"))
    metadata = mapped(mapped(properties.get("metadata")).get("properties"))
    if {"name", "generateName"} <= metadata.keys() and {"kind", "apiVersion"} <= properties.keys():
        return schema
    text = {"type": "string"}
    meta = {"type": "object", "properties": {"name": text, "generateName": text}}
    properties = {**properties, "kind": text, "apiVersion": text, "metadata": meta}
    return {**schema, "type": "object", "properties": properties}


def declare(schema: Schema, name: str, *, is_root: bool) -> Declared | None:
    """What CEL knows of `schema`; None for what it does not see. `name` is for the types of objects."""
    if schema.get("x-kubernetes-int-or-string"):
        longest = schema.get("maxLength")
        most = MAX_REQUEST - 2 if longest is None else 4 * max(0, longest)
        return Declared(types.DYN, _EITHER_SIZE, most)
    if is_root:
        schema = rooted(schema)
    kind = schema.get("type")
    if kind == "array":
        return _list(schema, name)
    if kind == "object":
        return (
            _map(schema, name)
            if isinstance(schema.get("additionalProperties"), dict)
            else _object(schema, name)
        )
    if kind == "string":
        return _string(schema)
    return {
        "boolean": Declared(types.BOOL, _BOOL_SIZE),
        "number": Declared(types.DOUBLE, _NUMBER_SIZE),
        "integer": Declared(types.INT, _NUMBER_SIZE),
    }.get(str(kind))


def _is_embedded(schema: Schema) -> bool:
    return schema.get("x-kubernetes-embedded-resource") is True


def _list(schema: Schema, name: str) -> Declared | None:
    items = mapped(schema.get("items"))
    item = declare(items, f"{name}.@idx", is_root=_is_embedded(items)) if items else None
    if item is None:
        return None
    most = schema.get("maxItems")
    most = (MAX_REQUEST - 2) // (item.least + 1) if most is None else max(0, most)
    return Declared(types.list_of(item.type), 2, most, item)


def _map(schema: Schema, name: str) -> Declared | None:
    values = schema["additionalProperties"]
    item = declare(values, f"{name}.@elem", is_root=_is_embedded(values))
    if item is None:
        return None
    most = schema.get("maxProperties")
    most = (MAX_REQUEST - 2) // (item.least + 6) if most is None else max(0, most)
    return Declared(types.map_of(types.STRING, item.type), 2, most, item)


def _object(schema: Schema, name: str) -> Declared:
    fields: dict[str, Declared] = {}
    least = 2
    for key, below in mapped(schema.get("properties")).items():
        identifier = escaped(key)
        field = declare(mapped(below), f"{name}.{identifier}", is_root=_is_embedded(mapped(below)))
        if field is None:
            continue
        if identifier is not None:
            fields[identifier] = field
        if key in listed(schema.get("required")) and mapped(below).get("default") is None:
            least += len(key) + field.least + 4
    return Declared(Type("object", name), least, fields=fields)


def _string(schema: Schema) -> Declared:
    form, longest = schema.get("format"), schema.get("maxLength")
    if isinstance(form, str) and form in _FORMATS:
        type_, least, most = _FORMATS[form]
        return Declared(type_, least, most)
    if form == "byte":
        return Declared(types.BYTES, _TEXT_SIZE, MAX_REQUEST - 2 if longest is None else max(0, longest))
    if longest is not None:
        return Declared(types.STRING, _TEXT_SIZE, 4 * max(0, longest))
    if choices := listed(schema.get("enum")):
        most = max((len(choice.encode()) for choice in choices if isinstance(choice, str)), default=0)
        return Declared(types.STRING, _TEXT_SIZE, most)
    return Declared(types.STRING, _TEXT_SIZE, MAX_REQUEST - 2)


# --- values ---------------------------------------------------------------------------------------


def value_of(value: Any, schema: Schema, *, is_root: bool = False, beside: Any = None) -> Any:
    """The CEL value of a JSON value. `beside` is the new value where this one is the old."""
    if value is None or schema.get("x-kubernetes-int-or-string"):
        return value
    if isinstance(value, dict):
        return _mapping(value, rooted(schema) if is_root else schema, mapped(beside))
    if isinstance(value, list):
        return _elements(value, schema, listed(beside))
    kind, form = schema.get("type"), schema.get("format")
    if isinstance(value, bool):
        return value
    if kind == "number" and isinstance(value, int | float):
        return float(value)
    if isinstance(value, float) and kind == "integer" and value.is_integer():
        return int(value)
    if isinstance(value, str) and form in _READERS:
        try:
            return _READERS[form](value)
        except (Fault, ValueError):
            return value
    return value


_READERS: Mapping[Any, Callable[[str], Any]] = {
    "duration": parse_duration,
    "date": lambda text: parse_timestamp(f"{text}T00:00:00Z"),
    "date-time": parse_timestamp,
    "byte": base64.b64decode,
}


def _mapping(value: dict[str, Any], schema: Schema, beside: dict[str, Any]) -> dict[str, Any]:
    rest, properties = schema.get("additionalProperties"), mapped(schema.get("properties"))
    if isinstance(rest, dict):
        is_root = _is_embedded(rest)
        return {
            key: value_of(item, rest, is_root=is_root, beside=beside.get(key)) for key, item in value.items()
        }
    found = {}
    for key, item in value.items():
        below, name = properties.get(key), escaped(key)
        if item is None and properties:
            continue  # where fields have names, null is as good as absent
        if not isinstance(below, dict) or name is None:
            found[_HIDDEN + key] = item
        else:
            is_root = _is_embedded(below)
            found[name] = value_of(item, below, is_root=is_root, beside=beside.get(key))
    return found


def _elements(value: list[Any], schema: Schema, beside: list[Any]) -> list[Any]:
    items = mapped(schema.get("items"))
    is_root = _is_embedded(items)
    keys = listed(schema.get("x-kubernetes-list-map-keys"))
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("set", "map") or not beside:
        return [value_of(item, items, is_root=is_root) for item in value]
    places = {mark(item, keys): index for index, item in enumerate(beside)}
    ordered = sorted(value, key=lambda item: places.get(mark(item, keys), len(places)))
    return [
        value_of(item, items, is_root=is_root, beside=beside[at] if at is not None else None)
        for item in ordered
        for at in (places.get(mark(item, keys)),)
    ]


def mark(item: Any, keys: list[str]) -> Any:
    """What tells an element of a list of type map (with `keys`) or set from the others."""
    if keys and isinstance(item, dict):
        return tuple(_hashable(item.get(key)) for key in keys)
    return _hashable(item)


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return ("map", *sorted((key, repr(_hashable(item))) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", *map(_hashable, value))
    return (type(value) is bool, value)
