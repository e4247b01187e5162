"""Custom resources: what their own structural schema prunes, defaults and refuses.

A CustomResourceDefinition brings an `openAPIV3Schema` per version. Fields it does not name are pruned,
`default` values filled in, and what is left must keep its rules, in the words of upstream's validator.
What an update leaves as it is may break rules that came later. Rules written in CEL are `custom_cel`'s.
Source: apiextensions-apiserver/pkg/apiserver/{schema,validation}, kube-openapi/pkg/validation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import re2

from drakit.apiserver.custom_declare import mark
from drakit.apiserver.custom_embedded import embedded_rules
from drakit.apiserver.custom_formats import has_format
from drakit.errors import BadRequest, FieldError
from drakit.model.validation.field import (
    Errors,
    duplicate,
    invalid,
    listed,
    mapped,
    quoted,
    required,
    too_long,
    too_many,
)
from drakit.transport import Document

Schema = Mapping[str, Any]
_ROOT = ("apiVersion", "kind", "metadata")
_MAX_DEPTH = 200


def prune(document: Document, schema: Schema) -> list[str]:
    """Take out of `document`, in place, what `schema` does not know; a text for each such field."""
    stray: list[str] = []
    _prune(document, schema, "", stray, 0)
    return stray


def _prune(value: Any, schema: Schema, path: str, stray: list[str], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise BadRequest(f"the object is nested too deeply at {path[:200]}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            _prune(item, mapped(schema.get("items")), f"{path}[{index}]", stray, depth + 1)
        return
    if not isinstance(value, dict):
        return
    properties, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    is_preserving = schema.get("x-kubernetes-preserve-unknown-fields") is True
    is_object = not path or schema.get("x-kubernetes-embedded-resource") is True
    for key in list(value):
        place = f"{path}.{key}" if path else key
        if is_object and key in _ROOT:
            continue
        below = properties.get(key, rest if isinstance(rest, dict) else None)
        if below is not None:
            _prune(value[key], below, place, stray, depth + 1)
        elif rest is True:
            _prune(value[key], {}, place, stray, depth + 1)
        elif not is_preserving:
            stray.append(f"unknown field {quoted(place)}")
            del value[key]


def default(value: Any, schema: Schema) -> None:
    """Fill in, in place, the defaults of fields that are absent, or null where null is not allowed; such
    nulls without a default go."""
    _drop_nulls(value, schema)
    _fill(value, schema)


def _drop_nulls(value: Any, schema: Schema) -> None:
    if isinstance(value, list):
        for item in value:
            _drop_nulls(item, mapped(schema.get("items")))
    elif isinstance(value, dict):
        properties, rest = mapped(schema.get("properties")), schema.get("additionalProperties")
        for key in list(value):
            below = properties.get(key, rest if isinstance(rest, dict) else None)
            if value[key] is None and below is not None:
                if not below.get("nullable") and below.get("default") is None:
                    del value[key]
            else:
                _drop_nulls(value[key], mapped(below))


def _fill(value: Any, schema: Schema) -> None:
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, dict):
            for index, item in enumerate(value):
                if item is None and "default" in items and not items.get("nullable"):
                    value[index] = copy.deepcopy(items["default"])
                _fill(value[index], items)
        return
    if not isinstance(value, dict):
        return
    properties, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    for key, below in properties.items():
        is_absent = key not in value or (value[key] is None and not below.get("nullable"))
        if "default" in below and is_absent:
            value[key] = copy.deepcopy(below["default"])
    for key, item in value.items():
        below = properties.get(key, rest if isinstance(rest, dict) else None)
        if below is None:
            continue
        if item is None and "default" in below and not below.get("nullable"):
            value[key] = copy.deepcopy(below["default"])
        _fill(value[key], below)


_NEW: Any = object()
"""Stands for the old value where there is none to compare with."""


def validate(document: Document, schema: Schema, old: Document | None = None) -> Errors:
    """Every rule of `schema` that `document`, or what it changes of `old`, breaks. apiVersion, kind and
    metadata are not looked at."""
    bare = {key: value for key, value in document.items() if key not in _ROOT}
    properties = {k: v for k, v in (schema.get("properties") or {}).items() if k not in _ROOT}
    before = _NEW if old is None else old
    wanted = {**schema, "properties": properties}
    found = {str(error): error for error in _check(bare, wanted, "", 0, before)}
    return list(found.values()) + list(embedded_rules(bare, wanted))


def type_invalid(path: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueTypeInvalid", path, f"Invalid value: {quoted(value)}: {detail}")


_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def _type_name(value: Any) -> str:
    for name, types in _TYPES.items():
        if isinstance(value, types) and (name == "boolean" or not isinstance(value, bool)):
            return name
    return "null"


def _has_type(value: Any, wanted: str) -> bool:
    name = _type_name(value)
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return name == wanted or (wanted == "number" and name == "integer")


def _check(value: Any, schema: Schema, path: str, depth: int, old: Any = _NEW) -> Iterator[FieldError]:
    if depth > _MAX_DEPTH or (value is None and schema.get("nullable")):
        return
    if depth and old is not _NEW and value == old:
        return
    shown = path or '""'
    wanted = schema.get("type")
    name = _type_name(value)
    if schema.get("x-kubernetes-int-or-string"):
        if name not in ("integer", "string"):
            yield type_invalid(path, name, f'{shown} in body must be of type integer,string: "{name}"')
    elif wanted and not _has_type(value, wanted):
        yield type_invalid(path, name, f'{shown} in body must be of type {wanted}: "{name}"')
        if (name, wanted) != ("number", "integer"):
            yield from _check_choice(value, schema, path)
            return
        yield _composite(f"Checked value must be of type integer (default format) in {path}")
    yield from _check_choice(value, schema, path)
    if isinstance(value, dict):
        yield from _check_object(value, schema, path, depth, old if isinstance(old, dict) else {})
    elif isinstance(value, list):
        yield from _check_list(value, schema, path, depth, old if isinstance(old, list) else [])
    elif isinstance(value, str):
        yield from _check_text(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _check_number(value, schema, path)
    yield from _check_combined(value, schema, path, depth)


def _check_choice(value: Any, schema: Schema, path: str) -> Iterator[FieldError]:
    choices = schema.get("enum")
    if choices and not any(value == choice and type(value) is type(choice) for choice in choices):
        texts = [quoted(choice if isinstance(choice, str) else quoted(choice)) for choice in choices]
        text = f"Unsupported value: {quoted(value)}: supported values: {', '.join(texts)}"
        yield FieldError("FieldValueNotSupported", path, text)


def _check_object(
    value: Document, schema: Schema, path: str, depth: int, old: Document
) -> Iterator[FieldError]:
    properties, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    for name in schema.get("required") or ():
        if name not in value:
            yield required(f"{path}.{name}" if path else name)
    count, most, least = len(value), schema.get("maxProperties"), schema.get("minProperties")
    if most is not None and count > most:
        yield too_many(path, count, most)
    if least is not None and count < least:
        yield invalid(path, count, f"{path} in body should have at least {least} properties")
    for key, item in value.items():
        below = properties.get(key, rest if isinstance(rest, dict) else None)
        if below is not None:
            yield from _check(item, below, f"{path}.{key}" if path else key, depth + 1, old.get(key, _NEW))


def _check_list(
    value: list[Any], schema: Schema, path: str, depth: int, old: list[Any]
) -> Iterator[FieldError]:
    most, least = schema.get("maxItems"), schema.get("minItems")
    if most is not None and len(value) > most:
        yield too_many(path, len(value), most)
    if least is not None and len(value) < least:
        yield invalid(path, len(value), f"{path} in body should have at least {least} items")
    items = schema.get("items")
    keys = listed(schema.get("x-kubernetes-list-map-keys"))
    before = {mark(item, keys): item for item in old} if keys else {}
    if isinstance(items, dict):
        for index, item in enumerate(value):
            earlier = before.get(mark(item, keys), _NEW) if before else _NEW
            yield from _check(item, items, f"{path}[{index}]", depth + 1, earlier)
    yield from _check_unique(value, schema, path)


def _check_unique(value: list[Any], schema: Schema, path: str) -> Iterator[FieldError]:
    kind, keys = schema.get("x-kubernetes-list-type"), listed(schema.get("x-kubernetes-list-map-keys"))
    if kind not in ("set", "map"):
        return
    if kind == "map":
        for index, item in enumerate(value):
            if item is not None and not isinstance(item, dict):
                text = "must be an object for an array of list-type map"
                yield invalid(f"{path}[{index}]", item, text)
                return
    times: dict[Any, int] = {}
    for index, item in enumerate(value):
        own = mark(item, keys)
        times[own] = times.get(own, 0) + 1
        if times[own] == 2:
            is_keyed = kind == "map" and isinstance(item, dict)
            shown = {key: item[key] for key in keys if key in item} if is_keyed else item
            yield duplicate(f"{path}[{index}]", shown)


def _check_text(value: str, schema: Schema, path: str) -> Iterator[FieldError]:
    most, least, pattern = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if most is not None and len(value) > most:
        yield too_long(path, most)
    if least is not None and len(value) < least:
        yield invalid(path, value, f"{path} in body should be at least {least} chars long")
    if pattern and (compiled := _pattern(pattern)) is not None and not compiled.search(value):
        yield invalid(path, value, f"{path} in body should match '{pattern}'")
    form = schema.get("format")
    if form and not has_format(value, form):
        yield type_invalid(path, value, f"{path} in body must be of type {form}: {quoted(value)}")


@lru_cache(maxsize=512)
def _pattern(text: str) -> Any:
    """The pattern in RE2's language, which has no exponential searches; None if it is not in it."""
    try:
        return re2.compile(text)
    except re2.error:
        return None


def _check_number(value: float, schema: Schema, path: str) -> Iterator[FieldError]:
    most, least, step = schema.get("maximum"), schema.get("minimum"), schema.get("multipleOf")
    if most is not None and (value > most or (schema.get("exclusiveMaximum") and value == most)):
        word = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        yield invalid(path, value, f"{path} in body should be {word} {most}")
    if least is not None and (value < least or (schema.get("exclusiveMinimum") and value == least)):
        word = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield invalid(path, value, f"{path} in body should be {word} {least}")
    if step and Decimal(str(value)) % Decimal(str(step)):
        yield invalid(path, value, f"{path} in body should be a multiple of {step}")


def _composite(text: str) -> FieldError:
    """What is wrong with parts together: upstream does not say where, but in the text."""
    return FieldError("FieldValueInvalid", "<nil>", f'Invalid value: "": {text}')


def _check_combined(value: Any, schema: Schema, path: str, depth: int) -> Iterator[FieldError]:
    """anyOf and oneOf show what is wrong with the alternative that has most to its credit."""

    def found(parts: list[Any]) -> list[Errors]:
        return [list(_check(value, part, path, depth + 1)) for part in parts]

    shown = quoted(path)
    all_of = found(listed(schema.get("allOf")))
    any_of, one_of = found(listed(schema.get("anyOf"))), found(listed(schema.get("oneOf")))
    negated = schema.get("not")
    if any_of and all(any_of):
        yield _composite(f"{shown} must validate at least one schema (anyOf)")
        yield from any_of[0]
    valid = sum(not errors for errors in one_of)
    if one_of and valid != 1:
        count = f"Found {valid} valid alternatives" if valid else "Found none valid"
        yield _composite(f"{shown} must validate one and only one schema (oneOf). {count}")
        if not valid:
            yield from one_of[0]
    if any(all_of):
        yield _composite(
            f"{shown} must validate all the schemas (allOf){'. None validated' if all(all_of) else ''}"
        )
        yield from (error for errors in all_of for error in errors)
    if isinstance(negated, dict) and not any(found([negated])):
        yield _composite(f"{shown} must not validate the schema (not)")
