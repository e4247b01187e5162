"""The three patch formats besides server-side apply: JSON patch, merge patch, strategic merge patch.

All three return a new document that may share parts with the old one and never change their arguments.
Source: apiserver/pkg/endpoints/handlers/patch.go.
"""

from __future__ import annotations

from typing import Any

import msgspec

from drakit.apiserver.json_patch import NotApplicable, TestFailed, apply_operations
from drakit.apiserver.schema import Type
from drakit.apiserver.strategic_patch import REJECTED, apply_strategic
from drakit.errors import BadRequest, Invalid, RequestTooLarge, UnsupportedMediaType
from drakit.transport import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Document

MAX_OPERATIONS = 10_000
"""Operations one JSON patch may hold (maxJSONPatchOperations)."""


class PatchTestFailed(Invalid):
    """A JSON patch with a `test` that does not hold."""


def apply_patch(current: Document, patch: Any, content_type: str, type_: Type | None) -> Document:
    """What `current` becomes by `patch` of the format `content_type`; both are left as they are.

    `type_` steers a strategic merge patch; None (a custom resource) refuses that format. Raises
    BadRequest for a patch that is no patch, Invalid for one that does not fit the object.
    """
    if content_type == JSON_PATCH:
        return _json_patch(current, patch)
    if patch is None and content_type == MERGE_PATCH:
        raise BadRequest("Invalid JSON Patch")
    if not isinstance(patch, dict):
        text = f"json: cannot unmarshal {_json_kind(patch)} into Go value of type map[string]interface {{}}"
        raise BadRequest(text if content_type == STRATEGIC_PATCH else f"error decoding patch: {text}")
    if content_type == MERGE_PATCH:
        merged: Document = _merge(current, patch)
        return merged
    if content_type == STRATEGIC_PATCH and type_ is not None:
        return apply_strategic(current, patch, type_)
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
    return Invalid(REJECTED, details={})


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
    copy, operations = (msgspec.json.decode(msgspec.json.encode(part)) for part in (current, patch))
    try:
        result = apply_operations(copy, operations)
    except TestFailed:
        raise PatchTestFailed(REJECTED, details={}) from None
    except NotApplicable:
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
    """RFC 7386; where there was no object, nulls go from objects in lists too."""
    if not isinstance(patch, dict):
        return patch if isinstance(current, dict) else _pruned(patch)
    if not isinstance(current, dict):
        return _pruned(patch)
    merged = dict(current)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _pruned(value: Any) -> Any:
    """`value` without the nulls in its objects."""
    if isinstance(value, dict):
        return {key: _pruned(item) for key, item in value.items() if item is not None}
    return [_pruned(item) for item in value] if isinstance(value, list) else value
