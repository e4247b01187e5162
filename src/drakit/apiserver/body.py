"""Request bodies: JSON, YAML or protobuf text to a document.

YAML is read as sigs.k8s.io/yaml reads it: YAML 1.1 with `y` and `n` as booleans, no dates, JSON's types.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Hashable
from typing import Any

import msgspec
import yaml

from drakit.apiserver import protobuf
from drakit.apiserver.go_json import json_problem, summary
from drakit.errors import BadRequest, UnsupportedMediaType
from drakit.transport import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Document

MAX_BODY = 3 << 20
"""Bytes of a request body (upstream's limit for resource requests)."""
MAX_DEPTH = 200
_YAML_VALUES = 500_000
_ACCEPTED = "application/json, application/yaml, application/vnd.kubernetes.protobuf"

JSON_TYPE = "application/json"
YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", APPLY_PATCH)
PROTOBUF_TYPE = "application/vnd.kubernetes.protobuf"


class _Loader(yaml.CSafeLoader):
    """The safe loader with the scalars of sigs.k8s.io/yaml."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        return {_key(key): value for key, value in mapping.items()}


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, str | int | float):
        return str(key)
    raise ValueError(f"unsupported map key {key!r}")


_BOOL = re.compile(
    r"^(?:y|Y|yes|Yes|YES|on|On|ON|true|True|TRUE|n|N|no|No|NO|off|Off|OFF|false|False|FALSE)$"
)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rows if not tag.endswith((":timestamp", ":bool"))]
    for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL, list("yYnNtTfFoO"))
_Loader.add_constructor(
    "tag:yaml.org,2002:bool", lambda loader, node: node.value.lower() in ("y", "yes", "on", "true")
)


def _size(value: Any, known: dict[int, int]) -> int:
    """How many values there are once aliases are written out. Raises ValueError for one inside itself."""
    if not isinstance(value, dict | list):
        return 1
    found = known.get(id(value))
    if found is None:
        known[id(value)] = 0
        items = value.values() if isinstance(value, dict) else value
        found = known[id(value)] = 1 + sum(_size(item, known) for item in items)
    if found == 0:
        raise ValueError("anchor contains itself")
    return found


def from_json(body: bytes) -> Any:
    """The value of JSON text. Raises ValueError, with Go's text, for anything else."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(json_problem(body) or str(error)) from None


def unrecognized(why: str, body: bytes) -> BadRequest:
    """The error for a body of which not even the kind can be read."""
    return BadRequest(
        f"the object provided is unrecognized (must be of a known type): {why} ({summary(body)})"
    )


NO_KIND = "couldn't get version/kind; json parse error: "


def from_yaml(body: bytes) -> Any:
    """The value of the first YAML document. Raises ValueError, with Go's text, for what is no YAML."""
    if body[:1] == b"{":
        with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            return msgspec.json.decode(body)
    try:
        loader = _Loader(body)
        try:
            value = loader.get_data() if loader.check_node() else None
        finally:
            loader.dispose()
        if _size(value, {}) > _YAML_VALUES:
            raise ValueError("document contains excessive aliasing")
        return msgspec.json.decode(msgspec.json.encode(value))
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"yaml: {_where(error)}{error.problem or 'unknown problem'}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, UnicodeError, OverflowError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"yaml: {text}") from None


def _where(error: yaml.MarkedYAMLError) -> str:
    """The line that go-yaml names: of the context if there is one, counted from 0 but by the scanner."""
    context, problem = error.context_mark, error.problem_mark
    line = int((context.line if context else 0) or (problem.line if problem else 0))
    if line and isinstance(error, yaml.scanner.ScannerError):
        line += 1
    return f"line {line}: " if line else ""


def media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


_PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


def read_body(body: bytes, content_type: str, *, is_patch: bool = False) -> tuple[Any, bytes | None]:
    """The document in `body` and, for JSON, the text it came from; (None, None) for no body.

    Raises UnsupportedMediaType for a type that is not an API server's, BadRequest for broken text.
    """
    kind = media_type(content_type) or JSON_TYPE
    if is_patch and kind not in _PATCHES:
        raise UnsupportedMediaType("415: Unsupported Media Type", details={})
    if not body:
        return None, None
    if kind == PROTOBUF_TYPE:
        return protobuf.decode(body), None
    try:
        if kind in YAML_TYPES:
            return from_yaml(body), None
        if is_patch or kind == JSON_TYPE:
            return from_json(body), body
    except ValueError as error:
        raise _unreadable(body, kind, str(error)) from None
    raise UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: " + _ACCEPTED,
        details={},
    )


def _unreadable(body: bytes, kind: str, why: str) -> BadRequest:
    if kind == APPLY_PATCH:
        return BadRequest(f"error decoding YAML: error converting YAML to JSON: {why}")
    if kind in (JSON_PATCH, MERGE_PATCH):
        return BadRequest(f"error decoding patch: {why}")
    if kind == STRATEGIC_PATCH:
        return BadRequest(why)
    return unrecognized(f"{NO_KIND}{why}" if kind == JSON_TYPE else why, body)


def object_of(document: Any) -> Document:
    """The body as an object. Raises BadRequest for anything else."""
    if not isinstance(document, dict):
        raise BadRequest("the request has no body: an object was expected")
    return document


def part(document: Document, name: str) -> Document:
    """An object inside `document`; {} if it is missing. Raises BadRequest if it is something else."""
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"json: cannot unmarshal {type(value).__name__} into field {name}")
    return value
