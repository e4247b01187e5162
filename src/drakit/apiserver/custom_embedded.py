"""Objects inside of custom resources (`x-kubernetes-embedded-resource`): they are what objects must be.

Source: apiextensions-apiserver/pkg/apiserver/schema/objectmeta/validation.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from drakit.errors import FieldError
from drakit.model.validation import names
from drakit.model.validation.field import invalid, mapped, required
from drakit.model.validation.meta import check_annotations, check_labels

Schema = Mapping[str, Any]
_MAX_DEPTH = 200


def embedded_rules(value: Any, schema: Schema, path: str = "", depth: int = 0) -> Iterator[FieldError]:
    """What is wrong with the objects inside of `value`."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        items = mapped(schema.get("items"))
        for index, item in enumerate(value if items else ()):
            yield from embedded_rules(item, items, f"{path}[{index}]", depth + 1)
    if not isinstance(value, dict):
        return
    if path and schema.get("x-kubernetes-embedded-resource") is True:
        yield from _object(value, path)
    properties, rest = mapped(schema.get("properties")), mapped(schema.get("additionalProperties"))
    for key, item in value.items():
        below = properties.get(key, rest)
        if below and isinstance(below, dict):
            yield from embedded_rules(item, below, f"{path}.{key}" if path else key, depth + 1)


def _object(value: dict[str, Any], path: str) -> Iterator[FieldError]:
    for field in ("apiVersion", "kind"):
        text, place = value.get(field), f"{path}.{field}"
        if field not in value:
            yield required(place, "must not be empty")
        elif not isinstance(text, str):
            yield invalid(place, text, "must be a string")
        elif not text:
            yield invalid(place, text, "must not be empty")
        elif field == "apiVersion" and text.count("/") > 1:
            yield invalid(place, text, f"unexpected GroupVersion string: {text}")
        elif field == "kind" and (wrong := names.dns_1035_label(text.lower())):
            text_ = "may have mixed case, but should otherwise match: " + ",".join(wrong)
            yield invalid(place, text, text_)
    if "metadata" in value:
        yield from _metadata(value["metadata"], f"{path}.metadata")


def _metadata(metadata: Any, path: str) -> Iterator[FieldError]:
    if not isinstance(metadata, dict):
        yield invalid(path, metadata, "must be an object")
        return
    for field in ("name", "generateName", "namespace"):
        text = metadata.get(field)
        if text is not None and not isinstance(text, str):
            yield invalid(f"{path}.{field}", text, "must be a string")
        elif text:
            rule = names.dns_label if field == "namespace" else names.path_segment
            yield from (invalid(f"{path}.{field}", text, problem) for problem in rule(text))
    for field, check in (("labels", check_labels), ("annotations", check_annotations)):
        rows = metadata.get(field)
        if rows is None:
            continue
        if not isinstance(rows, dict) or not all(isinstance(text, str) for text in rows.values()):
            yield invalid(f"{path}.{field}", rows, "must hold strings")
        else:
            yield from check(rows, f"{path}.{field}")
