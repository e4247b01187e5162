"""Order and arithmetic, by the dynamic rules of cel-go's values."""

from __future__ import annotations

import math
from typing import Any

from drakit.cel.equality import NUMERIC
from drakit.cel.meter import LITTLE_WORK, Meter
from drakit.cel.value import Duration, Fault, NoOverload, Timestamp, Uint

INT_MIN, INT_MAX, UINT_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
MIN_TIMESTAMP = -62135596800 * 10**9
_MAX_TIMESTAMP = 253402300799 * 10**9 + 999_999_999
_ORDERED = frozenset((bool, int, Uint, float, str, bytes, Timestamp, Duration))


def unfit(operator: str, value: Any) -> NoOverload:
    """The refusal of an operator: kinds that have methods are asked for one, and refuse in other words."""
    return NoOverload("" if value.__class__ in (str, Timestamp, Duration) else operator)


def compare(operator: str, a: Any, b: Any) -> int:
    """-1, 0 or 1. `operator` is the function the error names."""
    kind_a, kind_b = a.__class__, b.__class__
    if kind_a not in _ORDERED:
        raise NoOverload(operator)
    if kind_a in NUMERIC:
        if kind_b not in NUMERIC:
            raise NoOverload
        if a != a or b != b:
            raise Fault("NaN values cannot be ordered")
        if kind_a is not kind_b and (kind_a is float or kind_b is float):
            a, b = float(a), float(b)  # As Go compares them, with the precision of doubles.
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
    if MIN_TIMESTAMP <= nanoseconds <= _MAX_TIMESTAMP:
        return Timestamp(nanoseconds)
    raise Fault("timestamp overflow")


def to_duration(nanoseconds: int) -> Duration:
    """The duration, or the overflow error."""
    return Duration(int64(nanoseconds))


_ADDABLE = frozenset((int, Uint, float, str, bytes, list, Timestamp, Duration))
_SUBTRACTABLE = frozenset((int, Uint, float, Timestamp, Duration))


def add(a: Any, b: Any, meter: Meter | None = None) -> Any:
    kind = a.__class__
    if kind not in _ADDABLE:
        raise unfit("_+_", a)
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
        (meter or Meter(LITTLE_WORK)).spend((len(a) + len(b)) // 4)
    return a + b


def subtract(a: Any, b: Any) -> Any:
    kind, kind_b = a.__class__, b.__class__
    if kind not in _SUBTRACTABLE:
        raise unfit("_-_", a)
    if kind is Timestamp:
        if kind_b is Duration:
            return to_timestamp(int(a) + int64(-int(b)))
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
    if kind not in NUMERIC:
        raise unfit("_*_", a)
    if kind is not b.__class__:
        raise NoOverload
    if kind is int:
        return int64(a * b)
    return _uint64(int(a) * int(b)) if kind is Uint else a * b


def divide(a: Any, b: Any) -> Any:
    kind = a.__class__
    if kind not in NUMERIC:
        raise unfit("_/_", a)
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
        raise unfit("_%_", a)
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
    raise NoOverload if kind is bool else unfit("-_", a)


def logical_not(a: Any) -> bool:
    if a.__class__ is not bool:
        raise NoOverload
    return not a
