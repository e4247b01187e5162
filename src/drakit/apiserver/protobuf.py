"""Kubernetes' protobuf request bodies as the JSON documents they stand for.

Go clients since 1.32 send built-in kinds as protobuf and do not fall back. A body is "k8s\\0" and a
runtime.Unknown message that names apiVersion and kind around the object. The numbers of the fields come
from tables made by scripts/protobuf_fields.py; no generated code, no protobuf runtime. A field that is in
no table is dropped, as a server drops what is newer than itself.

Go's encoder writes the zero value of every field that is no pointer; JSON leaves those out. So does this.
"""

from __future__ import annotations

import base64
import datetime
import gzip
import struct
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from drakit.errors import BadRequest
from drakit.transport import Document

_MAGIC = b"k8s\0"
_MAX_DEPTH = 100
_META = "apimachinery.pkg.apis.meta.v1."
_GROUP_PACKAGES = {"": "core", "rbac.authorization.k8s.io": "rbac"}
_META_KINDS = frozenset({"DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "Status"})
_DOUBLE, _FLOAT, _INT64, _INT32, _BOOL, _STRING, _BYTES = 1, 2, 3, 5, 8, 9, 12

Value = int | bytes
Row = tuple[str, str, str | int]
"""JSON name; o, O, r, m or i (see scripts/protobuf_fields.py); message or scalar type."""


class _Broken(Exception):
    """The bytes are no message of that kind."""


@cache
def _tables() -> dict[str, dict[int, Row]]:
    data = files("drakit.apiserver") / "data"
    kind = dict[str, dict[int, Row]]
    table = msgspec.json.decode(gzip.decompress((data / "protobuf.json.gz").read_bytes()), type=kind)
    for name, rows in msgspec.json.decode((data / "protobuf-new.json").read_bytes(), type=kind).items():
        table[name] = table.get(name, {}) | rows
    return table


def decode(body: bytes) -> Document:
    """The document in `body`. Raises BadRequest for bytes that are no such message."""
    try:
        return _decode(body)
    except (_Broken, IndexError, ValueError, KeyError, struct.error, OverflowError) as error:
        raise BadRequest(
            f"the body of the request is no Kubernetes protobuf message: {error or 'it ends too early'}"
        ) from None


def _decode(body: bytes) -> Document:
    if body[:4] != _MAGIC:
        raise _Broken(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        )
    unknown = dict(_fields(body[4:]))
    meta = {number: _text(value) for number, value in _fields(_bytes(unknown.get(1, b"")))}
    api_version, kind = meta.get(1, ""), meta.get(2, "")
    group, _, version = api_version.rpartition("/")
    package = _GROUP_PACKAGES.get(group, group.partition(".")[0])
    name = f"{_META}{kind}" if kind in _META_KINDS else f"api.{package}.{version}.{kind}"
    if name not in _tables():
        raise _Broken(f'no kind "{kind}" is registered for version "{api_version}"')
    document = _message(name, _bytes(unknown.get(2, b"")), 0)
    return {"kind": kind, "apiVersion": api_version, **document}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(data):
            raise _Broken("it ends too early")
        byte = data[at]
        at += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result, at
        shift += 7
        if shift > 63:
            raise _Broken("a number is too long")


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _Broken(f"wire type {wire}")
        if at + size > end:
            raise _Broken("it ends too early")
        yield tag >> 3, data[at : at + size]
        at += size


def _bytes(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    raise _Broken("a number stands where a message should")


def _text(value: Value) -> str:
    return _bytes(value).decode()


def _signed(value: Value) -> int:
    if not isinstance(value, int):
        raise _Broken("a message stands where a number should")
    return value - (1 << 64) if value >> 63 else value


def _scalar(kind: int, value: Value) -> Any:
    if kind == _STRING:
        return _text(value)
    if kind in (_INT64, _INT32):
        return _signed(value)
    if kind == _BOOL:
        return bool(value)
    if kind == _BYTES:
        return base64.b64encode(_bytes(value)).decode()
    if kind == _DOUBLE:
        return struct.unpack("<d", _bytes(value))[0]
    if kind == _FLOAT:
        return struct.unpack("<f", _bytes(value))[0]
    return _signed(value)


def _time(data: bytes, is_micro: bool) -> str | None:
    found = dict(_fields(data))
    if not found:
        return None
    seconds, nanos = _signed(found.get(1, 0)), _signed(found.get(2, 0))
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    text = f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0")
    return f"{text}.{nanos // 1000:06d}Z" if is_micro else f"{text}Z"


def _int_or_string(data: bytes) -> Any:
    found = dict(_fields(data))
    return _text(found.get(3, b"")) if found.get(1) else _signed(found.get(2, 0))


def _raw(data: bytes) -> Any:
    found = dict(_fields(data)).get(1)
    return msgspec.json.decode(_bytes(found)) if found else None


def _message(name: str, data: bytes, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise _Broken("it is nested too deeply")
    special = _SPECIAL.get(name)
    if special is not None:
        return special(data)
    rows = _tables()[name]
    if name.endswith((".Verbs", ".ExtraValue")):
        return [_text(value) for _, value in _fields(data)]
    document: Document = {}
    for number, value in _fields(data):
        row = rows.get(number)
        if row is None:
            continue
        field, how, kind = row
        if how == "m":
            key, item = _entry(kind, _bytes(value), depth)
            document.setdefault(field, {})[key] = item
            continue
        item = _scalar(kind, value) if isinstance(kind, int) else _message(kind, _bytes(value), depth + 1)
        if how == "r":
            document.setdefault(field, []).append(item)
        elif how == "i":
            document.update(item)
        elif item is not None and (how == "o" or item):
            document[field] = item
    if (union := _UNIONS.get(name)) is not None:
        return next((document[field] for field in union if field in document), None)
    return document


def _entry(kind: str | int, data: bytes, depth: int) -> tuple[str, Any]:
    found = dict(_fields(data))
    value = found.get(2)
    if isinstance(kind, int):
        empty: Value = b"" if kind in (_STRING, _BYTES) else 0
        return _text(found.get(1, b"")), _scalar(kind, empty if value is None else value)
    return _text(found.get(1, b"")), _message(kind, _bytes(value or b""), depth + 1)


_SPECIAL = {
    f"{_META}Time": lambda data: _time(data, False),
    f"{_META}MicroTime": lambda data: _time(data, True),
    f"{_META}FieldsV1": _raw,
    "apimachinery.pkg.runtime.RawExtension": _raw,
    "apimachinery.pkg.api.resource.Quantity": lambda data: _text(dict(_fields(data)).get(1, b"0")),
    "apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    "api.apiextensions.v1.JSON": _raw,
}
_UNIONS = {
    "api.apiextensions.v1.JSONSchemaPropsOrArray": ("schema", "jSONSchemas"),
    "api.apiextensions.v1.JSONSchemaPropsOrBool": ("schema", "allows"),
    "api.apiextensions.v1.JSONSchemaPropsOrStringArray": ("schema", "property"),
}
"""Messages that stand for one of their fields: the first that is there."""
