"""What is said about a patch whose outcome is no object of the kind: as upstream, with the patch shown.

A strategic merge patch is shown as Go prints a map; for the other formats the whole outcome is shown, as
JSON with sorted keys where the patch went.
Source: apiserver/pkg/endpoints/handlers/patch.go, apimachinery/pkg/runtime/converter.go.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from drakit.errors import BadRequest, Invalid
from drakit.model.validation.field import invalid, json_text
from drakit.transport import JSON_PATCH, STRATEGIC_PATCH, Document

_HANDLED = re.compile(r" in version \S+ cannot be handled as a \w+: ")
_WRONG = re.compile(
    r"json: cannot unmarshal (\w+)(?: (\S+))? into Go (?:struct field \S+|value) of type (.+)"
)
_GO_KINDS = {"object": "map", "array": "slice"}


def refused(error: BadRequest, patch: Any, outcome: Document, content_type: str) -> BadRequest | Invalid:
    """`error`, met when the `outcome` of `patch` was decoded, as the client is told of it."""
    found = _HANDLED.search(error.message)
    if found is None:
        return error
    why = error.message[found.end() :]
    if content_type == STRATEGIC_PATCH:
        wrong = _WRONG.fullmatch(why)
        shown, why = go_text(patch), _converting(*wrong.groups()) if wrong else why
    else:
        shown = json_text(_sorted(outcome, _places(patch) if content_type == JSON_PATCH else patch))
    return Invalid.of("", "", "", [invalid("patch", shown, why)])


def _converting(json_kind: str, number: str | None, wanted: str) -> str:
    """A wrong type as the converter of unstructured objects puts it."""
    kind = _GO_KINDS.get(json_kind, json_kind)
    if json_kind == "number":
        kind = "float64" if number and "." in number else "int64"
    if wanted.startswith(("[]", "map[")):
        return f"cannot restore {'slice' if wanted[0] == '[' else 'map'} from {kind}"
    if "." in wanted:
        return f"cannot restore struct from: {kind}"
    return f"cannot convert {kind} to {wanted}"


def go_text(value: Any) -> str:
    """`value` as Go's %v prints decoded JSON."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, value))}]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _places(patch: Any) -> Any:
    """Where a JSON patch goes, as nested objects."""
    places: Document = {}
    for operation in patch if isinstance(patch, list) else ():
        for name in ("path", "from"):
            at = places
            path = operation.get(name) if isinstance(operation, dict) else None
            for part in str(path or "").split("/")[1:]:
                at = at.setdefault(part, {})
    return places


def _sorted(value: Any, places: Any) -> Any:
    if not isinstance(places, dict):
        return value
    if isinstance(value, dict):
        return {key: _sorted(value[key], places.get(key)) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item, places.get(str(index))) for index, item in enumerate(value)]
    return value
