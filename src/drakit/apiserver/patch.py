"""The three patch formats besides server-side apply: JSON patch, merge patch, strategic merge patch.

All three return a new document that may share parts with the old one and never change their arguments.
A strategic merge patch is a merge patch that knows lists: the type says by which key the items of a list
are the same (`merge_key`), and directives in the patch ($patch, $retainKeys, $setElementOrder/FIELD,
$deleteFromPrimitiveList/FIELD) say the rest.
Source: apimachinery/pkg/util/strategicpatch/patch.go, apiserver/pkg/endpoints/handlers/patch.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonpatch
import jsonpointer
import msgspec

from drakit.apiserver.schema import Type
from drakit.errors import BadRequest, Invalid, RequestTooLarge, UnsupportedMediaType
from drakit.transport import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Document

MAX_OPERATIONS = 10_000
"""Operations one JSON patch may hold (maxJSONPatchOperations)."""

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE_PRIMITIVE = "$deleteFromPrimitiveList/"
_REJECTED = "the server rejected our request due to an error in our request"


class TestFailed(Invalid):
    """A JSON patch with a `test` that does not hold."""


def apply_patch(current: Document, patch: Any, content_type: str, type_: Type | None) -> Document:
    """What `current` becomes by `patch` of the format `content_type`; both are left as they are.

    `type_` steers a strategic merge patch; None (a custom resource) refuses that format. Raises
    BadRequest for a patch that is no patch, Invalid for one that does not fit the object.
    """
    if content_type == JSON_PATCH:
        return _json_patch(current, patch)
    if not isinstance(patch, dict):
        text = f"json: cannot unmarshal {_json_kind(patch)} into Go value of type map[string]interface {{}}"
        raise BadRequest(text if content_type == STRATEGIC_PATCH else f"error decoding patch: {text}")
    if content_type == MERGE_PATCH:
        merged: Document = _merge(current, patch)
        return merged
    if content_type == STRATEGIC_PATCH and type_ is not None:
        return _strategic(current, patch, type_)
    accepted = [JSON_PATCH, MERGE_PATCH] + ([STRATEGIC_PATCH] if type_ is not None else [])
    raise UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted)
    )


def _json_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    for kind, name in ((str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return name
    return "null"


def _rejected() -> Invalid:
    return Invalid(_REJECTED, details={})


# --- JSON patch -----------------------------------------------------------------------------------


def _json_patch(current: Document, patch: Any) -> Document:
    if not isinstance(patch, list):
        raise BadRequest(
            f"error decoding patch: json: cannot unmarshal {_json_kind(patch)} into Go value of type "
            "[]handlers.jsonPatchOp"
        )
    if len(patch) > MAX_OPERATIONS:
        raise RequestTooLarge(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}"
        )
    for operation in patch:
        _check_operation(operation)
    copy = msgspec.json.decode(msgspec.json.encode(current))
    try:
        result = jsonpatch.JsonPatch(patch).apply(copy, in_place=True)
    except jsonpatch.JsonPatchTestFailed:
        raise TestFailed(_REJECTED, details={}) from None
    except (
        jsonpatch.JsonPatchException,
        jsonpointer.JsonPointerException,
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
    ):
        raise _rejected() from None
    if not isinstance(result, dict):
        raise _rejected()
    return result


def _check_operation(operation: Any) -> None:
    text = f"error decoding patch: json: cannot unmarshal {_json_kind(operation)} into Go"
    if not isinstance(operation, dict):
        raise BadRequest(f"{text} value of type handlers.jsonPatchOp")
    for name in ("op", "path", "from"):
        if not isinstance(value := operation.get(name, ""), str | None):
            text = f"error decoding patch: json: cannot unmarshal {_json_kind(value)} into Go"
            raise BadRequest(f"{text} struct field jsonPatchOp.{name} of type string")


# --- merge patch ----------------------------------------------------------------------------------


def _merge(current: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


# --- strategic merge patch ------------------------------------------------------------------------


def _strategic(current: Any, patch: dict[str, Any], type_: Type | None) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequest(f"Unknown patch type {directive!r} found in the strategic merge patch")
    merged = dict(current) if isinstance(current, dict) else {}
    _retain_keys(merged, patch)
    for key, value in patch.items():
        if key in (_DIRECTIVE, _RETAIN) or key.startswith(_ORDER):
            continue
        if key.startswith(_DELETE_PRIMITIVE):
            _delete_primitives(merged, key.removeprefix(_DELETE_PRIMITIVE), value)
            continue
        if value is None:
            merged.pop(key, None)
            continue
        merged[key] = _strategic_value(merged.get(key), value, _field(type_, key), patch.get(_ORDER + key))
    for key, order in patch.items():
        name = key.removeprefix(_ORDER)
        if key.startswith(_ORDER) and name not in patch and isinstance(merged.get(name), list):
            field = _field(type_, name)
            merged[name] = _ordered(merged[name], merged[name], order, _merge_key(field))
    return merged


def _field(type_: Type | None, name: str) -> Type | None:
    if type_ is None:
        return None
    return type_.items if type_.shape == "map" else type_.fields.get(name)


def _merge_key(field: Type | None) -> str:
    return field.merge_key if field is not None else ""


def _retain_keys(merged: dict[str, Any], patch: dict[str, Any]) -> None:
    keep = patch.get(_RETAIN)
    if keep is None:
        return
    if not isinstance(keep, list) or not all(isinstance(name, str) for name in keep):
        raise BadRequest(f"{_RETAIN} must be a list of field names")
    stray = next((k for k in patch if not k.startswith("$") and patch[k] is not None and k not in keep), None)
    if stray is not None:
        raise BadRequest(f"{_RETAIN} must list every field the patch sets: {stray!r} is missing")
    for key in [key for key in merged if key not in keep]:
        del merged[key]


def _delete_primitives(merged: dict[str, Any], name: str, gone: Any) -> None:
    if not isinstance(gone, list):
        raise BadRequest(f"{_DELETE_PRIMITIVE}{name} must be a list")
    if isinstance(merged.get(name), list):
        merged[name] = [item for item in merged[name] if item not in gone]


def _strategic_value(current: Any, value: Any, field: Type | None, order: Any) -> Any:
    if isinstance(value, dict):
        if field is not None and "replace" in field.strategy:
            return value
        if field is None or field.shape == "any":
            return _merge(current, value)
        return _strategic(current, value, field)
    if isinstance(value, list) and field is not None and "merge" in field.strategy:
        before = current if isinstance(current, list) else []
        if field.merge_key:
            merged = _merge_objects(before, value, field)
        else:
            merged = before + [item for item in value if item not in before]
        return _ordered(merged, before, order, field.merge_key)
    return value


def _merge_objects(before: list[Any], patch: list[Any], field: Type) -> list[Any]:
    key = field.merge_key
    for item in patch:
        if not isinstance(item, dict):
            raise BadRequest(
                f"the strategic merge patch has a {_json_kind(item)} in a list of objects keyed by {key}"
            )
    if any(item.get(_DIRECTIVE) == "replace" for item in patch):
        return [item for item in patch if item.get(_DIRECTIVE) != "replace"]
    merged = list(before)
    for item in patch:
        if key not in item:
            raise BadRequest(
                f"map: {msgspec.json.encode(item).decode()} does not contain declared merge key: {key}"
            )
        same = [
            i for i, other in enumerate(merged) if isinstance(other, dict) and other.get(key) == item[key]
        ]
        if item.get(_DIRECTIVE) == "delete":
            merged = [other for i, other in enumerate(merged) if i not in same]
        elif same:
            merged[same[0]] = _strategic(merged[same[0]], item, field.items)
        else:
            merged.append(_strategic({}, item, field.items))
    return merged


def _ordered(merged: list[Any], before: list[Any], order: Any, key: str) -> list[Any]:
    """`merged` with the items that $setElementOrder names in its order; the others keep their place
    relative to these as far as the list before the patch says so."""
    if order is None:
        return merged
    if not isinstance(order, list):
        raise BadRequest("$setElementOrder must be a list")
    name_of: Callable[[Any], Any] = (
        (lambda item: item.get(key) if isinstance(item, dict) else item) if key else (lambda item: item)
    )
    wanted = [name_of(item) for item in order]
    named = sorted((i for i in merged if name_of(i) in wanted), key=lambda item: wanted.index(name_of(item)))
    others = [item for item in merged if name_of(item) not in wanted]
    position = [name_of(item) for item in before]
    result: list[Any] = []
    while named and others:
        left, right = name_of(named[0]), name_of(others[0])
        is_first = left in position and right in position and position.index(left) < position.index(right)
        result.append(named.pop(0) if is_first else others.pop(0))
    return result + named + others
