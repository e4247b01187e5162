"""Kubernetes' quantities and semantic versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.cel.arithmetic import INT_MAX, INT_MIN
from drakit.cel.equality import Sum
from drakit.cel.value import Fault
from drakit.model.quantity import Quantity
from drakit.model.semver import Version


def quantity(text: str) -> Quantity:
    try:
        return Quantity.parse(text)
    except ValueError as error:
        raise Fault(str(error)) from None


def is_quantity(text: str) -> bool:
    try:
        Quantity.parse(text)
    except ValueError:
        return False
    return True


def as_integer(value: Quantity) -> int:
    integer = value.as_int64()
    if integer is None:
        raise Fault("cannot convert value to integer")
    return integer


def _sum(value: Quantity) -> Quantity:
    """`value` marked as the result of arithmetic."""
    return Sum(value.unscaled, value.scale, value.format, is_decimal=value.is_decimal)


def add(a: Quantity, b: Quantity) -> Quantity:
    return _sum(a + b)


def add_int(a: Quantity, b: int) -> Quantity:
    return _sum(a + Quantity(b, 0, "DecimalExponent"))


def sub(a: Quantity, b: Quantity) -> Quantity:
    return _sum(a - b)


def sub_int(a: Quantity, b: int) -> Quantity:
    if b == INT_MIN and a.sign >= 0 and a.as_int64() is not None:
        return add_int(a, b)  # In Go its negative is itself.
    return _sum(a - Quantity(b, 0, "DecimalExponent"))


def semver(text: str, normalize: bool = False) -> Version:
    try:
        return Version.parse(text, normalize)
    except ValueError as error:
        raise Fault(str(error)) from None


def is_semver(text: str, normalize: bool = False) -> bool:
    try:
        Version.parse(text, normalize)
    except ValueError:
        return False
    return True


def _compare(a: Any, b: Any) -> int:
    return int(a > b) - int(a < b)


def _signed(number: int) -> int:
    """An unsigned number as Go's conversion to int64 has it."""
    return number if number <= INT_MAX else number - (1 << 64)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "string_to_quantity": quantity, "is_quantity_string": is_quantity,
    "quantity_sign": lambda value: value.sign, "quantity_is_greater_than": lambda a, b: a > b,
    "quantity_is_less_than": lambda a, b: a < b, "quantity_compare_to": _compare,
    "quantity_get_float": lambda value: value.as_approximate_float(), "quantity_get_int": as_integer,
    "quantity_is_integer": lambda value: value.as_int64() is not None, "quantity_add": add,
    "quantity_add_int": add_int, "quantity_sub": sub, "quantity_sub_int": sub_int,
    "string_to_semver": semver, "string_bool_to_semver": semver, "is_semver_string": is_semver,
    "is_semver_string_bool": is_semver, "semver_is_greater_than": lambda a, b: a > b,
    "semver_is_less_than": lambda a, b: a < b, "semver_compare_to": _compare,
    "semver_major": lambda value: _signed(value.major), "semver_minor": lambda value: _signed(value.minor),
    "semver_patch": lambda value: _signed(value.patch),
}  # fmt: skip
