"""Operators on values: equality, order, arithmetic, lookup.

These follow the dynamic rules of cel-go's values, quirks included: a Quantity, Semver, IP, CIDR or URL on
the left of `==` refuses a right side of another type, on the right it is merely unequal; inside lists and
maps such a refusal counts as equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from drakit.cel.value import (
    BoolKey,
    DeviceMap,
    Duration,
    Fault,
    NoOverload,
    Optional,
    Timestamp,
    TypeValue,
    Uint,
    keys_of,
    kind_of,
    register_kind,
    to_key,
)
from drakit.model.quantity import Quantity
from drakit.model.semver import Version

INT_MIN, INT_MAX, UINT_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
MAX_WORK: Final = 200_000
"""Steps, of about a tenth of a microsecond, that one evaluation may take (see `drakit.cel.library.work`)."""

_MIN_TIMESTAMP = -62135596800 * 10**9
_MAX_TIMESTAMP = 253402300799 * 10**9 + 999_999_999


class Meter:
    """Counts the steps taken, whatever they cost. `patterns` has the sizes of regular expressions."""

    __slots__ = ("left", "patterns")

    def __init__(self) -> None:
        self.left = MAX_WORK
        self.patterns: dict[str, int] = {}

    def spend(self, count: int) -> None:
        """Raises CostExceeded when the work is used up."""
        self.left -= count
        if self.left < 0:
            raise CostExceeded


class CostExceeded(Exception):
    """The evaluation was stopped: too much work."""


class Sum(Quantity):
    """A quantity made by `add` or `sub`. On the right of `==` Kubernetes does not know it for one."""

    __slots__ = ()


register_kind(Sum, "kubernetes.Quantity")
_REFUSING: dict[type, type] = {Quantity: Quantity, Sum: Quantity, Version: Version}


def register_refusing(cls: type) -> None:
    """Says that values of `cls`, on the left of `==`, accept only their own kind on the right."""
    _REFUSING[cls] = cls


_NUMERIC = frozenset((int, Uint, float))
_MAPS = (dict, DeviceMap)


def equal(a: Any, b: Any, meter: Meter | None = None) -> bool:
    """`a == b`. Raises NoOverload where cel-go does."""
    kind_a, kind_b = a.__class__, b.__class__
    if kind_a in _NUMERIC:
        return kind_b in _NUMERIC and bool(a == b)
    if a is None or b is None:
        return a is b
    wanted = _REFUSING.get(kind_a)
    if wanted is not None:
        if kind_b is not wanted:
            raise NoOverload
        return bool(a == b)
    if kind_a is list:
        return kind_b is list and _equal_lists(a, b, meter or Meter())
    if kind_a in _MAPS:
        return kind_b in _MAPS and _equal_maps(a, b, meter or Meter())
    if kind_a is Optional:
        if kind_b is not Optional or a.has_value is not b.has_value:
            return False
        return not a.has_value or equal(a.value, b.value, meter)
    return kind_a is kind_b and bool(a == b)


def _holds(a: Any, b: Any, meter: Meter) -> bool:
    """Equality of elements: a refusal counts as equal."""
    try:
        return equal(a, b, meter)
    except NoOverload:
        return True


def _equal_lists(a: list[Any], b: list[Any], meter: Meter) -> bool:
    if len(a) != len(b):
        return False
    meter.spend(12 + 4 * len(a))
    return all(_holds(x, y, meter) for x, y in zip(a, b, strict=True))


def _equal_maps(a: dict[Any, Any], b: dict[Any, Any], meter: Meter) -> bool:
    if len(a) != len(b):
        return False
    meter.spend(15 + 6 * len(a))
    has_default = b.__class__ is DeviceMap
    return all((key in b or has_default) and _holds(value, b[key], meter) for key, value in a.items())


_HASHED = frozenset((str, int, Uint, float, bool))
"""Kinds for which Python's equality, on any other value, holds wherever CEL's does."""


def contains(items: Sequence[Any], value: Any, meter: Meter | None = None) -> bool:
    """Whether a list has `value`; elements that refuse the comparison are passed over."""
    if value.__class__ in _HASHED and value not in items:
        return False
    meter = meter or Meter()
    meter.spend(4 * len(items))
    for item in items:
        try:
            if equal(value, item, meter):
                return True
        except NoOverload:
            continue
    return False


def is_in(value: Any, container: Any, meter: Meter | None = None) -> bool:
    """`value in container`."""
    kind = container.__class__
    if kind is list:
        return contains(container, value, meter)
    if kind in _MAPS:
        try:
            return to_key(value) in container
        except Fault:
            return False
    raise NoOverload


# --- order ----------------------------------------------------------------------------------------

_ORDERED = frozenset((bool, int, Uint, float, str, bytes, Timestamp, Duration))


def compare(operator: str, a: Any, b: Any) -> int:
    """-1, 0 or 1. `operator` is the function the error names."""
    kind_a, kind_b = a.__class__, b.__class__
    if kind_a not in _ORDERED:
        raise NoOverload(operator)
    if kind_a in _NUMERIC:
        if kind_b not in _NUMERIC:
            raise NoOverload
        if a != a or b != b:
            raise Fault("NaN values cannot be ordered")
    elif kind_a is not kind_b:
        raise NoOverload
    return int(a > b) - int(a < b)


def less(a: Any, b: Any) -> bool:
    return compare("_<_", a, b) < 0


def less_equal(a: Any, b: Any) -> bool:
    return compare("_<=_", a, b) <= 0


def greater(a: Any, b: Any) -> bool:
    return compare("_>_", a, b) > 0


def greater_equal(a: Any, b: Any) -> bool:
    return compare("_>=_", a, b) >= 0


# --- arithmetic -----------------------------------------------------------------------------------


def int64(value: int) -> int:
    """`value`, or the overflow error."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise Fault("integer overflow")


def _uint64(value: int) -> Uint:
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise Fault("unsigned integer overflow")


def to_timestamp(nanoseconds: int) -> Timestamp:
    """The timestamp, or the overflow error."""
    if _MIN_TIMESTAMP <= nanoseconds <= _MAX_TIMESTAMP:
        return Timestamp(nanoseconds)
    raise Fault("timestamp overflow")


def to_duration(nanoseconds: int) -> Duration:
    """The duration, or the overflow error."""
    if INT_MIN <= nanoseconds <= INT_MAX:
        return Duration(nanoseconds)
    raise Fault("duration overflow")


_ADDABLE = frozenset((int, Uint, float, str, bytes, list, Timestamp, Duration))
_SUBTRACTABLE = frozenset((int, Uint, float, Timestamp, Duration))


def add(a: Any, b: Any, meter: Meter | None = None) -> Any:
    kind = a.__class__
    if kind not in _ADDABLE:
        raise NoOverload("_+_")
    kinds = (kind, b.__class__)
    if kinds == (Timestamp, Duration) or kinds == (Duration, Timestamp):
        return to_timestamp(int(a) + int(b))
    if kind is not b.__class__ or kind is Timestamp:
        raise NoOverload
    if kind is int:
        return int64(a + b)
    if kind is Uint:
        return _uint64(int(a) + int(b))
    if kind is Duration:
        return to_duration(int(a) + int(b))
    if kind is list:
        (meter or Meter()).spend((len(a) + len(b)) // 4)
    return a + b


def subtract(a: Any, b: Any) -> Any:
    kind, kind_b = a.__class__, b.__class__
    if kind not in _SUBTRACTABLE:
        raise NoOverload("_-_")
    if kind is Timestamp:
        if kind_b is Duration:
            return to_timestamp(int(a) - int(b))
        if kind_b is Timestamp:
            return to_duration(int(a) - int(b))
        raise NoOverload
    if kind is not kind_b:
        raise NoOverload
    if kind is int:
        return int64(a - b)
    if kind is Uint:
        return _uint64(int(a) - int(b))
    return to_duration(int(a) - int(b)) if kind is Duration else a - b


def multiply(a: Any, b: Any) -> Any:
    kind = a.__class__
    if kind not in _NUMERIC:
        raise NoOverload("_*_")
    if kind is not b.__class__:
        raise NoOverload
    if kind is int:
        return int64(a * b)
    return _uint64(int(a) * int(b)) if kind is Uint else a * b


def divide(a: Any, b: Any) -> Any:
    kind = a.__class__
    if kind not in _NUMERIC:
        raise NoOverload("_/_")
    if kind is not b.__class__:
        raise NoOverload
    if kind is float:
        if b == 0:
            if a == 0 or a != a:
                return math.nan
            return math.copysign(math.inf, a) * math.copysign(1.0, b)
        return a / b
    if b == 0:
        raise Fault("division by zero")
    quotient = abs(int(a)) // abs(int(b))
    if kind is Uint:
        return Uint(quotient)
    return int64(quotient if (a < 0) == (b < 0) else -quotient)


def modulo(a: Any, b: Any) -> Any:
    kind = a.__class__
    if kind is not int and kind is not Uint:
        raise NoOverload("_%_")
    if kind is not b.__class__:
        raise NoOverload
    if b == 0:
        raise Fault("modulus by zero")
    if kind is Uint:
        return Uint(int(a) % int(b))
    if a == INT_MIN and b == -1:
        raise Fault("integer overflow")
    remainder = abs(a) % abs(b)
    return -remainder if a < 0 else remainder


def negate(a: Any) -> Any:
    kind = a.__class__
    if kind is int:
        return int64(-a)
    if kind is float:
        return -a
    if kind is Duration:
        return to_duration(-int(a))
    raise NoOverload("-_")


def logical_not(a: Any) -> bool:
    if a.__class__ is not bool:
        raise NoOverload("!_")
    return not a


# --- lookup ---------------------------------------------------------------------------------------


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
        return format(value, ".17g") if value != value or value in (math.inf, -math.inf) else f"{value:g}"
    if value.__class__ in (str, Quantity, Sum, Version):
        return str(value)
    return kind_of(value)


def list_index(index: Any) -> int:
    """The position a list index stands for."""
    kind = index.__class__
    if kind is int:
        return int(index)
    if kind is float and math.isfinite(index) and index == int(index) and INT_MIN <= index <= INT_MAX:
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
    if kind is dict:
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
    raise NoOverload("size")


def iterate(value: Any) -> list[Any]:
    """What a comprehension with one variable goes over: elements, or keys."""
    if isinstance(value, list):
        return value
    if value.__class__ in _MAPS:
        return list(keys_of(value))
    raise Fault(f"got '{_GO_TYPES.get(kind_of(value), kind_of(value))}', expected iterable type")


def iterate_pairs(value: Any) -> list[tuple[Any, Any]]:
    """What a comprehension with two variables goes over: index or key, and value."""
    if value.__class__ is list:
        return list(enumerate(value))
    if value.__class__ in _MAPS:
        return [(key.value if key.__class__ is BoolKey else key, item) for key, item in value.items()]
    raise Fault(f"unsupported comprehension range type: {_GO_TYPES.get(kind_of(value), kind_of(value))}")


_GO_TYPES = {
    "bool": "types.Bool", "int": "types.Int", "uint": "types.Uint", "double": "types.Double",
    "string": "types.String", "bytes": "types.Bytes", "null_type": "types.Null", "type": "*types.Type",
    "google.protobuf.Timestamp": "types.Timestamp", "google.protobuf.Duration": "types.Duration",
    "optional_type": "*types.Optional", "kubernetes.Quantity": "cel.Quantity",
    "kubernetes.Semver": "cel.Semver", "net.IP": "cel.IP", "net.CIDR": "cel.CIDR",
    "kubernetes.URL": "cel.URL", "kubernetes.NamedFormat": "*cel.Format",
}  # fmt: skip


def type_value(value: Any) -> TypeValue:
    """`type(value)`."""
    return TypeValue(kind_of(value))
