"""Whether an applied configuration fits its type: what server-side apply refuses before it merges.

Unlike other writes, an apply takes no field that the type does not know. Upstream answers 500 where this
answers 400: the fault is the client's.
Source: sigs.k8s.io/structured-merge-diff typed/validate.go, managedfields/internal/structuredmerge.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drakit.apiserver.apply_fields import item_step, key_default, path_text
from drakit.apiserver.patch_refusal import go_text
from drakit.apiserver.schema import Type
from drakit.errors import BadRequest
from drakit.transport import Document

_NUMBERS = frozenset({"int32", "int64", "double"})
_TEXTS = frozenset({"string", "bytes"})


def check_fits(applied: Document, type_: Type | None) -> None:
    """Raises BadRequest for a configuration that has fields, types or list items which `type_` has not."""
    if type_ is None:
        return
    problems = list(_problems(applied, type_, ""))
    if not problems:
        return
    found = applied.get("metadata")
    metadata = found if isinstance(found, dict) else {}
    group, _, version = str(applied.get("apiVersion")).rpartition("/")
    where = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"
    what = f"{where}; {group}/{version}, Kind={applied.get('kind') or ''}"
    text = problems[0] if len(problems) == 1 else "\n".join(["errors:", *(f"  {one}" for one in problems)])
    raise BadRequest(f"failed to create typed patch object ({what}): {text}")


def _problems(value: Any, type_: Type, path: str) -> Iterator[str]:
    if value is None or type_.shape == "any":
        return
    if type_.shape in ("object", "map"):
        if not isinstance(value, dict):
            yield f"{path}: expected map, got &{{{go_text(value)}}}"
            return
        yield from _members(value, type_, path)
    elif type_.shape == "list":
        if not isinstance(value, list):
            yield f"{path}: expected list, got &{{{go_text(value)}}}"
            return
        yield from _items(value, type_, path)
    elif (why := _scalar_problem(value, type_.scalar)) is not None:
        yield f"{path}: {why}"


def _members(value: Document, type_: Type, path: str) -> Iterator[str]:
    is_open = type_.is_preserving or (type_.shape == "object" and not type_.fields)
    for key in sorted(value):
        inner = type_.items if type_.shape == "map" else type_.fields.get(key)
        if inner is not None:
            yield from _problems(value[key], inner, f"{path}.{key}")
        elif not is_open:
            yield f"{path}.{key}: field not declared in schema"


def _items(value: list[Any], type_: Type, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, item in enumerate(value):
        place = f"[{index}]"
        if type_.list_type in ("map", "set"):
            if (why := _unkeyed(item, type_)) is not None:
                yield f"{path}: element {index}: {why}"
                return
            place = path_text((item_step(item, type_),))
            if place in seen:
                yield f"{path}: duplicate entries for key {place}"
            seen.add(place)
        yield from _problems(item, type_.items, path + place)


def _unkeyed(item: Any, type_: Type) -> str | None:
    """Why an item of a list that has keys, or is a set, has no key; None if it has one."""
    if type_.list_type == "set":
        if isinstance(item, list):
            return "not supported: associative list with lists as elements"
        what = "a map type" if isinstance(item, dict) else "an explicit null" if item is None else ""
        return f"associative list without keys has an element that's {what}" if what else None
    if not isinstance(item, dict):
        kind = "a null element" if item is None else "non-map elements"
        return f"associative list with keys may not have {kind}"
    if any(key in item or key_default(type_.items, key) is not None for key in type_.keys):
        return None
    missing = " ".join(f'"{key}"' for key in type_.keys)
    return (
        f"associative list with keys has an element that omits all key fields [{missing}] (and doesn't have "
        "default values for any key fields)"
    )


def _scalar_problem(value: Any, scalar: str) -> str | None:
    if scalar == "bool":
        return None if isinstance(value, bool) else f"expected boolean, got &{{{go_text(value)}}}"
    if scalar in _NUMBERS:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return None
        return f"expected numeric (int or float), got {_go_type(value)}"
    if scalar in _TEXTS and not isinstance(value, str):
        return f"expected string, got &value.valueUnstructured{{Value:{go_text(value)}}}"
    return f"expected any scalar, got &{{{go_text(value)}}}" if isinstance(value, dict | list) else None


def _go_type(value: Any) -> str:
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list):
        return "[]interface {}"
    return "bool" if isinstance(value, bool) else "string"
