"""Equality and membership, by the dynamic rules of cel-go's values, quirks included.

A Quantity, Semver, IP, CIDR or URL on the left of `==` refuses a right side of another type, on the right it
is merely unequal; inside lists and maps such a refusal counts as equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drakit.cel.meter import LITTLE_WORK, Meter
from drakit.cel.value import DeviceMap, Fault, NoOverload, Optional, Uint, register_kind, to_key
from drakit.model.quantity import Quantity
from drakit.model.semver import Version


class Sum(Quantity):
    """A quantity made by `add` or `sub`. On the right of `==` Kubernetes does not know it for one."""

    __slots__ = ()


register_kind(Sum, "kubernetes.Quantity")
_REFUSING: dict[type, type] = {Quantity: Quantity, Sum: Quantity, Version: Version}


def register_refusing(cls: type) -> None:
    """Says that values of `cls`, on the left of `==`, accept only their own kind on the right."""
    _REFUSING[cls] = cls


NUMERIC = frozenset((int, Uint, float))
MAPS = (dict, DeviceMap)


def equal(a: Any, b: Any, meter: Meter | None = None) -> bool:
    """`a == b`. Raises NoOverload where cel-go does."""
    kind_a, kind_b = a.__class__, b.__class__
    if kind_a in NUMERIC:
        if kind_b not in NUMERIC:
            return False
        if kind_a is kind_b or (kind_a is not float and kind_b is not float):
            return bool(a == b)
        return float(a) == float(b)
    if a is None or b is None:
        return a is b
    wanted = _REFUSING.get(kind_a)
    if wanted is not None:
        if kind_b is not wanted:
            raise NoOverload
        return bool(a == b)
    if kind_a is list:
        return kind_b is list and _equal_lists(a, b, meter or Meter(LITTLE_WORK))
    if kind_a in MAPS:
        return kind_b in MAPS and _equal_maps(a, b, meter or Meter(LITTLE_WORK))
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
    meter.spend(30 + 15 * len(a))
    return all(_holds(x, y, meter) for x, y in zip(a, b, strict=True))


def _equal_maps(a: dict[Any, Any], b: dict[Any, Any], meter: Meter) -> bool:
    if len(a) != len(b):
        return False
    meter.spend(30 + 15 * len(a))
    has_default = b.__class__ is DeviceMap
    return all((key in b or has_default) and _holds(value, b[key], meter) for key, value in a.items())


_PLAIN = frozenset((str, bool))
_EXACT = 1 << 53
"""Up to here doubles have every integer."""


def _is_plain(value: Any) -> bool:
    """Whether Python's equality, on any other value, holds wherever CEL's does."""
    kind = value.__class__
    return kind in _PLAIN or (kind in NUMERIC and -_EXACT < value < _EXACT)


def contains(items: Sequence[Any], value: Any, meter: Meter | None = None) -> bool:
    """Whether a list has `value`; elements that refuse the comparison are passed over."""
    if _is_plain(value) and value not in items:
        return False
    meter = meter or Meter(LITTLE_WORK)
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
    if kind in MAPS:
        try:
            return to_key(value) in container
        except Fault:
            return False
    raise NoOverload
