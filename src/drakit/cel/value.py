"""Values at run time.

    int -> int      uint -> Uint     double -> float   bool -> bool    string -> str    bytes -> bytes
    null -> None    list -> list     map -> dict       type -> TypeValue
    optional_type -> Optional        timestamp -> Timestamp (nanoseconds)   duration -> Duration
    Quantity, Semver (drakit.model), IP, CIDR, URL, NamedFormat: objects of their own

A dict key is the value itself, except that true and false are `BoolKey`s, because to Python they equal 1
and 0. Nothing ever changes a value in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from drakit.model.quantity import Quantity
from drakit.model.semver import Version


class Fault(Exception):
    """A CEL error while evaluating; `message` has cel-go's words."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NoOverload(Fault):
    """Values a function or operator is not made for."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(f"no such overload: {detail}" if detail else "no such overload")


class Uint(int):
    """An unsigned integer; equal to the int of the same number, as in CEL."""

    __slots__ = ()


class Timestamp(int):
    """Nanoseconds since 1970 in UTC."""

    __slots__ = ()


class Duration(int):
    """Nanoseconds."""

    __slots__ = ()


class TypeValue:
    """A type as a value: `type(1) == int`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class Optional:
    """An optional value; `NONE` is the one without."""

    __slots__ = ("has_value", "value")

    def __init__(self, value: Any, has_value: bool = True) -> None:
        self.value = value
        self.has_value = has_value


NONE: Final = Optional(None, has_value=False)


class Lazy:
    """The value of a variable that is worked out when first read, once."""

    __slots__ = ("_known", "_work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work: Callable[[], Any] | None = work
        self._known: Any = None

    def get(self) -> Any:
        """The value. Raises Fault where there is none."""
        if self._work is not None:
            work, self._work = self._work, None
            try:
                self._known = work()
            except Fault as fault:
                self._known = fault
        if isinstance(self._known, Fault):
            raise self._known
        return self._known


class BoolKey:
    """true or false as a key of a dict."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value


_TRUE_KEY, _FALSE_KEY = BoolKey(True), BoolKey(False)


def to_key(value: Any) -> Any:
    """The dict key of a CEL map key. Raises Fault for what cannot be one."""
    kind = value.__class__
    if kind is bool:
        return _TRUE_KEY if value else _FALSE_KEY
    if kind is str or kind is int or kind is Uint:
        return value
    if (
        kind is float
        and value == value
        and value not in (float("inf"), float("-inf"))
        and value == int(value)
    ):
        return int(value)
    raise Fault(f"unsupported key type: {kind_of(value)}")


def keys_of(mapping: dict[Any, Any]) -> Iterator[Any]:
    """The CEL keys of a map."""
    return (key.value if key.__class__ is BoolKey else key for key in mapping)


class DeviceMap(dict[str, Any]):
    """Attributes or capacity by domain: a domain that has none is an empty map, never missing."""

    __slots__ = ()

    def __missing__(self, key: Any) -> dict[str, Any]:
        return EMPTY


EMPTY: Final[dict[str, Any]] = {}


class Message(dict[str, Any]):
    """What `name{field: value}` makes: its fields."""

    __slots__ = ("name",)

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.name = name


_KINDS: dict[type, str] = {
    bool: "bool", int: "int", Uint: "uint", float: "double", str: "string", bytes: "bytes", list: "list",
    dict: "map", DeviceMap: "map", Message: "object", type(None): "null_type", Optional: "optional_type",
    TypeValue: "type",
    Timestamp: "google.protobuf.Timestamp", Duration: "google.protobuf.Duration",
    Quantity: "kubernetes.Quantity", Version: "kubernetes.Semver",
}  # fmt: skip


def register_kind(cls: type, name: str) -> None:
    """Says which CEL type the values of a Python class have."""
    _KINDS[cls] = name


def kind_of(value: Any) -> str:
    """The name of a value's CEL type."""
    return _KINDS[value.__class__]
