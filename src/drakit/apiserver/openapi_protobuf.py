"""The OpenAPI v2 document as the protobuf message that Go clients ask for.

`kubectl apply` of a `kind: List` checks the list against this document and takes no other form of it. Of the
message (gnostic's openapi.v2.Document) only what a Kubernetes document uses is written: definitions and
the operations of paths with their query parameters.
Source: google/gnostic, openapiv2/OpenAPIv2.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
ACCEPTED = frozenset({CONTENT_TYPE, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"})

Schema = Mapping[str, Any]
_OPERATIONS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
_TEXTS = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_COUNTS = {"maxLength": 11, "minLength": 12, "maxItems": 14, "minItems": 15, "uniqueItems": 16}
_COUNTS |= {"maxProperties": 17, "minProperties": 18}


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode()) if value else b""


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _any(field: int, value: Any) -> bytes:
    """Any JSON, as the YAML text it also is."""
    return _message(field, _text(2, msgspec.json.encode(value).decode() + "\n"))


def _named(field: int, rows: Iterable[tuple[str, Any]], encode: Callable[[Any], bytes]) -> bytes:
    """A map: pairs of a name and a value."""
    return b"".join(_message(field, _text(1, name) + _message(2, encode(value))) for name, value in rows)


def _extensions(field: int, schema: Schema) -> bytes:
    rows = [(key, value) for key, value in schema.items() if key.startswith("x-")]
    return b"".join(_message(field, _text(1, key) + _any(2, value)) for key, value in rows)


def encode(document: Schema) -> bytes:
    """The message for the JSON `document`."""
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    parts = [
        _text(1, document["swagger"]),
        _message(2, info),
        _message(8, _named(2, document["paths"].items(), _path)),
        _message(9, _named(1, document["definitions"].items(), _schema)),
    ]
    return b"".join(parts)


def _path(path: Schema) -> bytes:
    return b"".join(_message(_OPERATIONS[name], _operation(row)) for name, row in path.items())


def _operation(operation: Schema) -> bytes:
    parts = [_text(5, operation.get("operationId", ""))]
    parts += [_text(7, name) for name in operation.get("consumes", ())]
    parts += [_message(8, _parameter(row)) for row in operation.get("parameters", ())]
    return b"".join(parts) + _extensions(13, operation)


def _parameter(parameter: Schema) -> bytes:
    """A query parameter, inside what says that it is one."""
    own = _text(2, parameter["in"]) + _text(4, parameter["name"]) + _text(6, parameter["type"])
    return _message(1, _message(2, _message(3, own)))


def _schema(schema: Schema) -> bytes:
    parts = [_text(field, schema[key]) for key, field in _TEXTS.items() if schema.get(key)]
    parts += [_number(field, int(schema[key])) for key, field in _COUNTS.items() if schema.get(key)]
    if "default" in schema:
        parts.append(_any(5, schema["default"]))
    parts += [_text(19, name) for name in schema.get("required") or ()]
    parts += [_any(20, value) for value in schema.get("enum") or ()]
    rest = schema.get("additionalProperties")
    if isinstance(rest, bool):
        parts.append(_message(21, _number(2, int(rest))))
    elif rest is not None:
        parts.append(_message(21, _message(1, _schema(rest))))
    if schema.get("type"):
        parts.append(_message(22, _text(1, schema["type"])))
    if isinstance(schema.get("items"), Mapping):
        parts.append(_message(23, _message(1, _schema(schema["items"]))))
    parts += [_message(24, _schema(part)) for part in schema.get("allOf") or ()]
    if schema.get("properties"):
        parts.append(_message(25, _named(1, schema["properties"].items(), _schema)))
    return b"".join(parts) + _extensions(31, schema)
