"""CEL's types and how they are written.

A type is its kind, name and parameters, so equality is structural and cheap. A kind "var" is a type
variable of the checker, numbered by its name; a kind "param" is one of a declaration, named A, B or T.
"""

from __future__ import annotations

from msgspec import Struct


class Type(Struct, frozen=True, gc=False):
    kind: str
    name: str
    params: tuple[Type, ...] = ()

    def __str__(self) -> str:
        if not self.params:
            return self.name
        return f"{self.name}({', '.join(map(str, self.params))})"


DYN = Type("dyn", "dyn")
ANY = Type("any", "any")
"""An attribute before attributes could be lists: like dyn, but nothing to iterate over."""
NULL = Type("null", "null")
BOOL = Type("bool", "bool")
INT = Type("int", "int")
UINT = Type("uint", "uint")
DOUBLE = Type("double", "double")
STRING = Type("string", "string")
BYTES = Type("bytes", "bytes")
TIMESTAMP = Type("timestamp", "timestamp")
DURATION = Type("duration", "duration")
ERROR = Type("error", "!error!")
QUANTITY = Type("object", "kubernetes.Quantity")
SEMVER = Type("object", "kubernetes.Semver")
URL = Type("object", "kubernetes.URL")
NAMED_FORMAT = Type("object", "kubernetes.NamedFormat")
IP = Type("opaque", "net.IP")
CIDR = Type("opaque", "net.CIDR")
DEVICE = Type("object", "kubernetes.DRADevice")
AUTHORIZER = Type("object", "kubernetes.authorization.Authorizer")
PATH_CHECK = Type("object", "kubernetes.authorization.PathCheck")
GROUP_CHECK = Type("object", "kubernetes.authorization.GroupCheck")
RESOURCE_CHECK = Type("object", "kubernetes.authorization.ResourceCheck")
DECISION = Type("object", "kubernetes.authorization.Decision")


def list_of(item: Type) -> Type:
    return Type("list", "list", (item,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", "map", (key, value))


def optional_of(item: Type) -> Type:
    return Type("opaque", "optional_type", (item,))


def type_of(item: Type) -> Type:
    return Type("type", "type", (item,))


def is_optional(type_: Type) -> bool:
    return type_.name == "optional_type" and type_.kind == "opaque"


def is_dyn(type_: Type) -> bool:
    return type_.kind in ("dyn", "any")


def full(type_: Type) -> str:
    """How a type is written with the names that protocol buffers have for some."""
    name = _FULL_NAMES.get(type_.kind, type_.name)
    return f"{name}({', '.join(map(full, type_.params))})" if type_.params else name


_FULL_NAMES = {
    "timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration", "null": "null_type",
    "any": "google.protobuf.Any",
}  # fmt: skip
NULLABLE = frozenset(("null", "any", "opaque", "object", "timestamp", "duration"))
"""Kinds whose place null may take."""
