"""What makes the schema of a custom resource valid: it must be structural.

A schema is structural if every field it restricts is also declared with a type outside of allOf, anyOf,
oneOf and not.
Source: apiextensions-apiserver/pkg/apiserver/schema/validation.go.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import re2

from drakit.apiserver import custom
from drakit.errors import FieldError
from drakit.model.validation.field import (
    Errors,
    forbidden,
    invalid,
    listed,
    mapped,
    not_supported,
    repeated,
    required,
)

Schema = Mapping[str, Any]

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_NOT_NESTED = {
    "type": "must be empty to be structural",
    "additionalProperties": "must be undefined to be structural",
    "default": "must be undefined to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "nullable": "must be false to be structural",
    "externalDocs": "must be undefined to be structural",
    "x-kubernetes-preserve-unknown-fields": "must be false to be structural",
    "x-kubernetes-embedded-resource": "must be false to be structural",
    "x-kubernetes-int-or-string": "must be false to be structural",
    "x-kubernetes-list-map-keys": "must be empty to be structural",
    "x-kubernetes-list-type": "must be undefined to be structural",
    "x-kubernetes-map-type": "must be undefined to be structural",
    "x-kubernetes-validations": "must be empty to be structural",
}
_FORMS: Mapping[tuple[type, ...], str] = {
    (str,): "type title description format pattern x-kubernetes-list-type x-kubernetes-map-type",
    (int, float): "maximum minimum multipleOf",
    (int,): "maxLength minLength maxItems minItems maxProperties minProperties",
    (bool,): "exclusiveMaximum exclusiveMinimum uniqueItems nullable x-kubernetes-preserve-unknown-fields "
    "x-kubernetes-embedded-resource x-kubernetes-int-or-string",
    (list,): "enum required allOf anyOf oneOf items x-kubernetes-list-map-keys x-kubernetes-validations",
    (dict,): "properties not items additionalProperties",
}
"""What the fields of a schema hold. Upstream's types say this; the published ones end at `items`."""
_LISTS_OF = {"required": str, "x-kubernetes-list-map-keys": str, "allOf": dict, "anyOf": dict, "oneOf": dict}
_EMPTY: tuple[Any, ...] = (None, "", False, [], {})
MAX_DEPTH = 100


def schema_rules(schema: Any, path: str) -> Errors:
    """Every rule that the `openAPIV3Schema` at `path` breaks."""
    if not isinstance(schema, dict):
        return []
    errors = list(_supported(schema, path, 0))
    return errors or sorted(_structural(schema, path, "root", 0), key=str)


def _below(schema: Schema, path: str) -> Iterator[tuple[Schema, str]]:
    """The schemas inside `schema`, those of its value rules included."""
    for name, value in mapped(schema.get("properties")).items():
        yield mapped(value), f"{path}.properties[{name}]"
    for name in ("additionalProperties", "items", "not"):
        if isinstance(schema.get(name), dict):
            yield schema[name], f"{path}.{name}"
    for name in ("allOf", "oneOf", "anyOf"):
        for index, part in enumerate(listed(schema.get(name))):
            yield mapped(part), f"{path}.{name}[{index}]"


def _supported(schema: Schema, path: str, depth: int) -> Iterator[FieldError]:
    """What no schema of a custom resource may say, wherever it stands."""
    if depth > MAX_DEPTH:
        yield forbidden(path, f"schemas may not be nested deeper than {MAX_DEPTH} levels")
        return
    misshapen = list(_misshapen(schema, path))
    yield from misshapen
    if misshapen:
        return
    for name in _UNSUPPORTED:
        if schema.get(name) not in _EMPTY:
            yield forbidden(f"{path}.{name}", f"{name} is not supported")
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield forbidden(f"{path}.uniqueItems", text)
    kind = schema.get("type") or ""
    if kind == "null":
        yield forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    elif kind and kind not in _TYPES:
        yield not_supported(f"{path}.type", kind, _TYPES)
    if isinstance(schema.get("items"), list):
        yield forbidden(f"{path}.items", "items must be a schema object and not an array")
    rest = schema.get("additionalProperties")
    if schema.get("properties") and rest is not None and rest is not True:
        yield forbidden(
            f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive"
        )
    yield from _lists(schema, path)
    yield from _maps(schema, path)
    for below, place in _below(schema, path):
        yield from _supported(below, place, depth + 1)


def _misshapen(schema: Schema, path: str) -> Iterator[FieldError]:
    """Fields that hold what no such field can hold."""
    wanted: dict[str, tuple[type, ...]] = {}
    for forms, fields in _FORMS.items():
        for name in fields.split():
            wanted[name] = (*wanted.get(name, ()), *forms)
    wanted["additionalProperties"] += (bool,)
    for name, forms in wanted.items():
        value = schema.get(name)
        is_wrong = value is not None and not isinstance(value, forms)
        if (
            is_wrong
            or (isinstance(value, bool) and bool not in forms)
            or (name in _LISTS_OF and not all(isinstance(item, _LISTS_OF[name]) for item in listed(value)))
        ):
            yield invalid(f"{path}.{name}", value, "is not what this field of a schema holds")
    for name, value in mapped(schema.get("properties")).items():
        if not isinstance(value, dict):
            yield invalid(f"{path}.properties[{name}]", value, "must be a schema")


def _lists(schema: Schema, path: str) -> Iterator[FieldError]:
    kind, keys = schema.get("x-kubernetes-list-type"), listed(schema.get("x-kubernetes-list-map-keys"))
    if kind is not None and schema.get("type") != "array":
        text = "must be array if x-kubernetes-list-type is specified"
        value = schema.get("type") or ""
        yield invalid(f"{path}.type", value, text) if value else required(f"{path}.type", text)
    if kind not in (None, "atomic", "set", "map"):
        yield not_supported(f"{path}.x-kubernetes-list-type", kind, ("atomic", "set", "map"))
    place = f"{path}.x-kubernetes-list-map-keys"
    yield from _elements(kind, mapped(schema.get("items")), f"{path}.items")
    if kind != "map":
        if keys and kind is None:
            text = "must be map if x-kubernetes-list-map-keys is non-empty"
            yield required(f"{path}.x-kubernetes-list-type", text)
        elif keys:
            text = "must be map if x-kubernetes-list-map-keys is non-empty"
            yield invalid(f"{path}.x-kubernetes-list-type", kind, text)
        return
    if not keys:
        yield required(place, "must not be empty if x-kubernetes-list-type is map")
    items = mapped(schema.get("items"))
    if items.get("type") != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        yield invalid(f"{path}.items.type", items.get("type") or "", text)
    fields = mapped(items.get("properties"))
    for index, key in enumerate(keys):
        yield from _key(mapped(fields.get(key)), f"{path}.items.properties[{key}]")
        if key not in fields:
            text = "entries must all be names of item properties"
            yield invalid(f"{place}[{index}]", key, text)
        elif key not in listed(items.get("required")) and "default" not in mapped(fields[key]):
            text = (
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required "
                "property"
            )
            yield required(f"{path}.items.properties[{key}].default", text)
    yield from repeated(keys, place)


def _key(field: Schema, path: str) -> Iterator[FieldError]:
    """What a field must be that tells the elements of a list apart."""
    if field.get("type") in ("array", "object"):
        text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
        yield invalid(f"{path}.type", field["type"], text)
    if field.get("nullable"):
        text = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
        yield forbidden(f"{path}.nullable", text)


def _maps(schema: Schema, path: str) -> Iterator[FieldError]:
    how, kind = schema.get("x-kubernetes-map-type"), schema.get("type") or ""
    if how is not None and kind != "object":
        text = "must be object if x-kubernetes-map-type is specified"
        yield invalid(f"{path}.type", kind, text) if kind else required(f"{path}.type", text)
    if how not in (None, "atomic", "granular"):
        yield not_supported(f"{path}.x-kubernetes-map-type", how, ("atomic", "granular"))


def _elements(kind: Any, items: Schema, path: str) -> Iterator[FieldError]:
    """What the elements of a list of type set or map must be."""
    if kind not in ("set", "map"):
        return
    if items.get("nullable"):
        yield forbidden(f"{path}.nullable", f"cannot be nullable when x-kubernetes-list-type is {kind}")
    text = "must be atomic as item of a list with x-kubernetes-list-type=set"
    if kind == "set" and items.get("type") == "array":
        inner = items.get("x-kubernetes-list-type")
        if inner not in (None, "atomic"):
            yield invalid(f"{path}.x-kubernetes-list-type", inner, text)
    elif kind == "set" and items.get("type") == "object":
        inner = items.get("x-kubernetes-map-type")
        if inner != "atomic":
            yield invalid(f"{path}.x-kubernetes-map-type", inner or "null", text)


_MISSING = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}


def _structural(schema: Schema, path: str, level: str, depth: int) -> Iterator[FieldError]:
    """What keeps a schema from being structural."""
    kind, is_embedded = schema.get("type") or "", bool(schema.get("x-kubernetes-embedded-resource"))
    is_open = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    is_either = bool(schema.get("x-kubernetes-int-or-string"))
    if kind == "array" and not isinstance(schema.get("items"), dict):
        yield required(f"{path}.items", "must be specified")
    for below, place, next_level in _declared(schema, path):
        yield from _structural(below, place, next_level, depth + 1)
    if level == "root" and schema.get("additionalProperties") not in (None, True):
        yield forbidden(f"{path}.additionalProperties", "must not be used at the root")
    text = "must be false if x-kubernetes-int-or-string is true"
    for name, is_set in (("preserve-unknown-fields", is_open), ("embedded-resource", is_embedded)):
        if is_either and is_set:
            yield invalid(f"{path}.x-kubernetes-{name}", True, text)
    if is_embedded and kind != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        yield invalid(f"{path}.type", kind, text) if kind else required(f"{path}.type", text)
    elif not kind and not is_either and not is_open:
        yield required(f"{path}.type", _MISSING[level])
    if level == "root" and kind not in ("", "object"):
        yield invalid(f"{path}.type", kind, "must be object at the root")
    if is_embedded and not is_open and not schema.get("properties"):
        text = (
            "must not be empty if x-kubernetes-embedded-resource is true without "
            "x-kubernetes-preserve-unknown-fields"
        )
        yield required(f"{path}.properties", text)
    yield from _metadata(schema, path, level, is_embedded)
    yield from _values(schema, path)
    yield from _default(schema, path, level)
    if level == "root":
        yield from _complete(schema, schema, path)


def _declared(schema: Schema, path: str) -> Iterator[tuple[Schema, str, str]]:
    if isinstance(schema.get("items"), dict):
        yield schema["items"], f"{path}.items", "item"
    for name, value in mapped(schema.get("properties")).items():
        yield mapped(value), f"{path}.properties[{name}]", "field"
    if isinstance(schema.get("additionalProperties"), dict):
        yield schema["additionalProperties"], f"{path}.additionalProperties", "field"


def _metadata(schema: Schema, path: str, level: str, is_embedded: bool) -> Iterator[FieldError]:
    fields = mapped(schema.get("properties"))
    if level != "root" and not is_embedded:
        return
    for name in ("kind", "apiVersion"):
        kind = mapped(fields.get(name)).get("type")
        if name in fields and kind != "string":
            yield invalid(f"{path}.properties[{name}].type", kind or "", "must be string")
    metadata, place = mapped(fields.get("metadata")), f"{path}.properties[metadata]"
    if "metadata" not in fields:
        return
    if metadata.get("type") != "object":
        yield invalid(f"{place}.type", metadata.get("type") or "", "must be object")
    given = {key for key, value in metadata.items() if value not in _EMPTY} - {"type", "description"}
    allowed = set(mapped(metadata.get("properties"))) <= {"name", "generateName"}
    if level == "root" and (given - {"properties"} or not allowed):
        text = (
            "must not specify anything other than name and generateName, but metadata is implicitly specified"
        )
        yield forbidden(place, text)


def _values(schema: Schema, path: str) -> Iterator[FieldError]:
    """The value rules of a schema: what stands in allOf and its like may restrict, not declare."""
    is_either = bool(schema.get("x-kubernetes-int-or-string"))
    for name in ("anyOf", "allOf", "oneOf"):
        parts = listed(schema.get(name))
        if is_either and name == "anyOf" and parts == _INT_OR_STRING:
            continue
        for index, part in enumerate(parts):
            if is_either and name == "allOf" and not index and mapped(part).get("anyOf") == _INT_OR_STRING:
                part = {key: value for key, value in part.items() if key != "anyOf"}
            yield from _nested(mapped(part), f"{path}.{name}[{index}]", has_rules=name == "allOf")
    if isinstance(schema.get("not"), dict):
        yield from _nested(schema["not"], f"{path}.not")
    pattern = schema.get("pattern")
    if pattern and (problem := _pattern_problem(pattern)):
        text = f"must be a valid regular expression, but isn't: {problem}"
        yield invalid(f"{path}.pattern", pattern, text)


def _pattern_problem(pattern: str) -> str:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        text = error.args[0] if error.args else ""
        return f"error parsing regexp: {text.decode() if isinstance(text, bytes) else text}"
    return ""


def _nested(schema: Schema, path: str, *, has_rules: bool = False) -> Iterator[FieldError]:
    """What may not stand in a value rule. Inside of allOf there may be rules in CEL."""
    yield from _values(schema, path)
    if isinstance(schema.get("items"), dict):
        yield from _nested(schema["items"], f"{path}.items", has_rules=has_rules)
    for name, below in mapped(schema.get("properties")).items():
        yield from _nested(mapped(below), f"{path}.properties[{name}]", has_rules=has_rules)
    for name, text in _NOT_NESTED.items():
        if schema.get(name) not in _EMPTY and not (has_rules and name == "x-kubernetes-validations"):
            yield forbidden(f"{path}.{name}", text)
    if "metadata" in mapped(schema.get("properties")):
        yield forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _complete(schema: Schema, declared: Schema, place: str, said: str = "") -> Iterator[FieldError]:
    """Fields and items that value rules of `schema`, at `said`, name but `declared`, at `place`, does not."""
    said = said or place
    if isinstance(schema.get("not"), dict):
        yield from _named(schema["not"], declared, place, f"{said}.not")
    for name in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(listed(schema.get(name))):
            yield from _named(mapped(part), declared, place, f"{said}.{name}[{index}]")


def _named(part: Schema, declared: Any, place: str, said: str) -> Iterator[FieldError]:
    if not isinstance(declared, dict):
        yield required(place, f"because it is defined in {said}")
        return
    yield from _complete(part, declared, place, said)
    if isinstance(part.get("items"), dict):
        yield from _named(part["items"], declared.get("items"), f"{place}.items", f"{said}.items")
    fields, rest = mapped(declared.get("properties")), declared.get("additionalProperties")
    for name, below in mapped(part.get("properties")).items():
        here, there = f"{place}.properties[{name}]", f"{said}.properties[{name}]"
        if name in fields or not isinstance(rest, dict):
            yield from _named(mapped(below), fields.get(name), here, there)


def _default(schema: Schema, path: str, level: str) -> Iterator[FieldError]:
    """A default must itself be what the schema wants."""
    if "default" not in schema:
        return
    value = copy.deepcopy(schema["default"])
    if value is None and not schema.get("nullable"):
        return
    wrapped = {"value": value}
    whole = {"type": "object", "properties": {"value": schema}}
    stray = custom.prune(wrapped, whole)
    if stray:
        text = "must not have unknown fields"
        yield invalid(f"{path}.default", schema["default"], text)
    custom.default(wrapped, whole)
    for error in custom.validate(wrapped, whole):
        text = str(error).partition(": ")[2]
        is_somewhere = error.field != "<nil>"
        place = f"{path}.default{error.field.removeprefix('value')}" if is_somewhere else error.field
        yield FieldError(error.reason, place, text)
