"""Looking into values: fields, keys, indices, elements, sizes, types."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from drakit.cel.arithmetic import INT_MAX, INT_MIN
from drakit.cel.double import string_of_double
from drakit.cel.equality import MAPS, Sum
from drakit.cel.value import (
    BoolKey,
    DeviceMap,
    Duration,
    Fault,
    Message,
    NoOverload,
    Timestamp,
    TypeValue,
    Uint,
    keys_of,
    kind_of,
    to_key,
)
from drakit.model.quantity import Quantity
from drakit.model.semver import Version

_MOST_SHOWN = 100
"""Elements of a list that an error names."""


def shown(value: Any) -> str:
    """A key or index as an error names it."""
    if value.__class__ is bool:
        return "true" if value else "false"
    if value.__class__ is BoolKey:
        return shown(value.value)
    if value.__class__ is bytes:
        return str(value, "utf-8", "replace")
    if value.__class__ in (int, Uint, Timestamp, Duration):
        return str(int(value))
    if value.__class__ is float:
        return string_of_double(value)
    if value.__class__ in (str, Quantity, Sum, Version):
        return str(value)
    if value.__class__ is list:
        return f"[{', '.join('list' if v.__class__ is list else shown(v) for v in value[:_MOST_SHOWN])}]"
    return kind_of(value)


def list_index(index: Any) -> int:
    """The position a list index stands for."""
    kind = index.__class__
    if kind is int:
        return int(index)
    if kind is float and math.isfinite(index) and index == int(index) and INT_MIN < index < INT_MAX:
        return int(index)
    if kind is Uint and index <= INT_MAX:
        return int(index)
    if kind is float or kind is Uint:
        raise Fault(f"unsupported index value {shown(index)} in list")
    raise Fault(f"unsupported index type '{kind_of(index)}' in list")


MISSING: Final = object()


def find(container: Any, key: Any) -> Any:
    """`container[key]`, or MISSING where the container has no such key or index. Raises Fault."""
    kind = container.__class__
    if kind is DeviceMap:
        return container[key] if key.__class__ is str else {}
    if kind is dict or kind is Message:
        try:
            return container.get(to_key(key), MISSING)
        except Fault:
            return MISSING
    if kind is list:
        position = list_index(key)
        return container[position] if 0 <= position < len(container) else MISSING
    return MISSING


def select(container: Any, key: Any) -> Any:
    """`container[key]` or `container.key`. Raises Fault when there is none."""
    value = find(container, key)
    if value is MISSING:
        if container.__class__ is list:
            raise Fault(f"index out of bounds: {shown(key)}")
        raise Fault(f"no such key: {shown(key)}")
    return value


def size(value: Any) -> int:
    if value.__class__ in (str, bytes, list, dict, DeviceMap):
        return len(value)
    raise NoOverload("" if value.__class__ in (Timestamp, Duration) else "size")


def iterate(value: Any) -> list[Any]:
    """What a comprehension with one variable goes over: elements, or keys."""
    if isinstance(value, list):
        return value
    if value.__class__ in MAPS:
        return list(keys_of(value))
    raise Fault(f"got '{go_type(value)}', expected iterable type")


class Numbered:
    """The items of a list with their indices, made as they are gone through."""

    __slots__ = ("_items",)

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return enumerate(self._items)


def iterate_pairs(value: Any) -> Numbered | list[tuple[Any, Any]]:
    """What a comprehension with two variables goes over: index or key, and value."""
    if value.__class__ is list:
        return Numbered(value)
    if value.__class__ in MAPS:
        return [(key.value if key.__class__ is BoolKey else key, item) for key, item in value.items()]
    raise Fault(f"unsupported comprehension range type: {go_type(value)}")


def go_type(value: Any) -> str:
    """What Go calls the type of a value; errors about what should not come up name it."""
    kind = kind_of(value)
    return "*cel.Quantity" if value.__class__ is Sum else _GO_TYPES.get(kind, kind)


_GO_TYPES = {
    "bool": "types.Bool", "int": "types.Int", "uint": "types.Uint", "double": "types.Double",
    "string": "types.String", "bytes": "types.Bytes", "null_type": "types.Null", "type": "*types.Type",
    "google.protobuf.Timestamp": "types.Timestamp", "google.protobuf.Duration": "types.Duration",
    "optional_type": "*types.Optional", "kubernetes.Quantity": "cel.Quantity",
    "kubernetes.Semver": "cel.Semver", "net.IP": "cel.IP", "net.CIDR": "cel.CIDR",
    "kubernetes.URL": "cel.URL", "kubernetes.NamedFormat": "cel.Format", "list": "*types.baseList",
    "map": "*types.baseMap",
}  # fmt: skip


def type_value(value: Any) -> TypeValue:
    """`type(value)`."""
    return TypeValue(kind_of(value))


def no_bool(value: Any) -> str:
    """Why a value, which is no bool, does not become the result of a selector."""
    kind = kind_of(value)
    return _NO_BOOL.get(kind) or f"type conversion error from {_NO_BOOL_NAMES.get(kind, kind)} to 'bool'"


_NO_BOOL = {
    "int": "unsupported type conversion from 'int' to bool",
    "uint": "unsupported type conversion from 'uint' to bool",
    "string": "unsupported native conversion from string to 'bool'",
    "type": "type conversion not supported for 'type'",
    "optional_type": "optional.none() dereference",
}
_NO_BOOL_NAMES = {
    "bytes": "Bytes", "double": "Double", "null_type": "'null_type'", "net.IP": "'IP'", "net.CIDR": "'CIDR'",
    "kubernetes.NamedFormat": "'Format'", "kubernetes.Quantity": "'Quantity'", "kubernetes.URL": "'URL'",
    "kubernetes.Semver": "'Semver'", "google.protobuf.Duration": "'Duration'",
    "google.protobuf.Timestamp": "'Timestamp'",
}  # fmt: skip
"""What kinds are called there; each was given its words by somebody else."""
