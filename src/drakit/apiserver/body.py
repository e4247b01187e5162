"""Request bodies: JSON, YAML or protobuf text to a document.

YAML is read as sigs.k8s.io/yaml reads it: YAML 1.1 with `y` and `n` as booleans, no dates, JSON's types.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Hashable
from typing import Any

import msgspec
import yaml

from drakit.apiserver import protobuf
from drakit.apiserver.go_json import json_problem, summary
from drakit.errors import BadRequest, UnsupportedMediaType
from drakit.model.nesting import refuse_deep
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
        return {_key(key, value): value for key, value in mapping.items()}


def _key(key: Any, value: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, str | int | float):
        return str(key)
    shown = value if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    shown = f'"{shown}"' if isinstance(shown, str) else shown
    raise _NoYAML(f"unsupported map key of type: %!s(<nil>), key: <nil>, value: {shown}")


class _NoYAML(ValueError):
    """Raised with the whole of Go's text."""


_BOOL = re.compile(
    r"^(?:y|Y|yes|Yes|YES|on|On|ON|true|True|TRUE|n|N|no|No|NO|off|Off|OFF|false|False|FALSE)$"
)
_INTEGER = re.compile(r"([+-]?)(?:0b([01]+)|0x([0-9a-f]+)|0o?([0-7]+)|(0|[1-9][0-9]*))", re.I | re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_STANDARD = "tag:yaml.org,2002:"


def _number(text: str) -> int | float | str:
    """A plain scalar that begins like a number; what is none is text."""
    if _SPECIAL.fullmatch(text):
        name = "NaN" if "n" in text.lower()[-1:] else "-Inf" if text[0] == "-" else "+Inf"
        raise _NoYAML(f"json: unsupported value: {name}")
    plain = text.replace("_", "") if text[0] != "." else text
    found = _INTEGER.fullmatch(plain)
    if found is not None:
        digits, base = next(
            (part, base) for part, base in zip(found.groups()[1:], (2, 16, 8, 10), strict=True) if part
        )
        number = int(digits, base) * (-1 if found[1] == "-" else 1)
        if -(1 << 63) <= number < 1 << 64:
            return number
    if not _FLOAT.fullmatch(plain):
        return text
    value = float(plain)
    if value in (float("inf"), float("-inf")):
        return text
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def _scalar(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _null(loader: yaml.SafeLoader, node: yaml.Node) -> None:
    if str(node.value) not in ("", "~", "null", "Null", "NULL"):
        raise _NoYAML(f"yaml: cannot decode !!str `{node.value}` as a !!null")


def _binary(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    try:
        return base64.b64decode(str(node.value)).decode("utf-8", "replace")
    except ValueError as error:
        raise _NoYAML("yaml: !!binary value contains invalid base64 data") from error


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    """What has a tag that means nothing here is what it would be without."""
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return str(node.value)


_OWN = tuple(f":{name}" for name in ("timestamp", "bool", "int", "float", "value"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rows if not tag.endswith(_OWN)]
    for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_STANDARD}bool", _BOOL, list("yYnNtTfFoO"))
_Loader.add_implicit_resolver(f"{_STANDARD}int", re.compile(r"^[-+.0-9]"), list("-+.0123456789"))
_Loader.add_constructor(
    f"{_STANDARD}bool", lambda loader, node: node.value.lower() in ("y", "yes", "on", "true")
)
for _name in ("int", "float"):
    _Loader.add_constructor(f"{_STANDARD}{_name}", lambda loader, node: _number(str(node.value) or "x"))
_Loader.add_constructor(f"{_STANDARD}merge", _scalar)
_Loader.add_constructor(f"{_STANDARD}null", _null)
_Loader.add_constructor(f"{_STANDARD}binary", _binary)
_Loader.add_multi_constructor("!", _tagged)


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


def plain(value: Any) -> Any:
    """What a YAML loader gave as JSON has it, aliases written out. Raises ValueError, TypeError or
    RecursionError for what JSON cannot say or is far larger than its text."""
    if _size(value, {}) > _YAML_VALUES:
        raise ValueError("document contains excessive aliasing")
    return msgspec.json.decode(msgspec.json.encode(value, order="sorted"))


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
        refuse_deep(body)
        loader = _Loader(body)
        try:
            value = loader.get_data() if loader.check_node() else None
        finally:
            loader.dispose()
        return plain(value)
    except _NoYAML:
        raise
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"yaml: {_problem(error, body)}") from None
    except yaml.reader.ReaderError:
        raise ValueError("yaml: control characters are not allowed") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, UnicodeError, OverflowError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"yaml: {text}") from None


def _problem(error: yaml.MarkedYAMLError, body: bytes) -> str:
    if error.problem == "found undefined alias" and error.problem_mark is not None:
        alias = re.match(r"\*([\w-]+)", body.decode(errors="replace")[error.problem_mark.index :])
        return f"unknown anchor '{alias[1] if alias else ''}' referenced"
    if (error.problem or "").startswith("expected a mapping or list of mappings for merging"):
        return "map merge requires map or sequence of maps as the value"
    return f"{_where(error)}{error.problem or 'unknown problem'}"


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
