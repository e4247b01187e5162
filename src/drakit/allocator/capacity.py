"""Consumable capacity: how much of a device a request takes.

A request names the quantity it wants of each capacity. What the device's policy makes of it is rounded up
to the next value the policy allows; what is not named takes the policy's default, or else everything. A name
may be written with the driver's domain or without it, in requests, slices and results alike.

Source: structured/internal/*/consumable_capacity.go of Kubernetes 1.37 and KEP-5075.
"""

from __future__ import annotations

from collections.abc import Mapping

from drakit.errors import AllocationError
from drakit.model.quantity import Quantity
from drakit.model.resource import CapacityRequestPolicy, CapacityRequestPolicyRange, DeviceCapacity

_MAX = 2**63 - 1
_MILLI = 10**6


class NotEligible(Exception):
    """The device cannot serve the request whatever is free: `name` and why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def qualified(name: str, driver: str) -> str:
    """The name with its domain, which is the driver's where it has none."""
    return name if "/" in name else f"{driver}/{name}"


def consumption(
    driver: str,
    requests: Mapping[str, str | int | float],
    capacity: Mapping[str, DeviceCapacity],
    is_fractional: bool,
) -> dict[str, Quantity]:
    """What a request for `requests` takes of each `capacity` of a device of `driver`.

    Of two requests that differ by the driver's domain only the one that has it counts. `is_fractional`
    allows ranges in thousandths. Raises NotEligible when the device lacks a capacity or a policy forbids the
    amount, AllocationError when the amount cannot be represented, ValueError for a quantity that cannot be
    read.
    """
    names = {qualified(name, driver) for name in capacity}
    wanted: dict[str, str | int | float] = {}
    for name in requests:
        full = qualified(name, driver)
        if full not in names:
            raise NotEligible(name, "the device has no such capacity")
        if name == full or full not in requests:
            wanted[full] = requests[name]
    taken: dict[str, Quantity] = {}
    for name, offered in capacity.items():
        full = qualified(name, driver)
        asked = Quantity.of(wanted[full]) if full in wanted else None
        amount = _rounded(name, asked, offered, is_fractional)
        if amount.sign < 0:
            raise AllocationError(f'capacity "{name}": capacity value is negative')
        policy = offered.request_policy
        if policy is not None and _is_forbidden(amount, policy, is_fractional):
            raise NotEligible(name, f"{amount} is not allowed by the request policy")
        taken[name] = amount
    for name, amount in taken.items():
        if amount > Quantity.of(capacity[name].value):
            raise NotEligible(name, f"{amount} is more than its {capacity[name].value}")
    return taken


def _rounded(name: str, asked: Quantity | None, offered: DeviceCapacity, is_fractional: bool) -> Quantity:
    policy = offered.request_policy
    if asked is None:
        return Quantity.of(policy.default if policy and policy.default is not None else offered.value)
    if policy is None:
        return asked
    if policy.valid_range is not None and policy.valid_range.min is not None:
        return _round_to_step(name, asked, policy.valid_range, is_fractional)
    for value in policy.valid_values:
        allowed = Quantity.of(value)
        if asked <= allowed:
            return allowed
    return asked


def _round_to_step(
    name: str, asked: Quantity, span: CapacityRequestPolicyRange, is_fractional: bool
) -> Quantity:
    low = Quantity.of(span.min or "0")
    if asked < low:
        return low
    if span.step is None:
        return asked
    step = Quantity.of(span.step)
    scale = -3 if _in_milli(span, is_fractional) else 0
    exact = asked.nano % _MILLI == 0 if scale else True
    if not exact or abs(asked.nano) > _MAX * 10 ** (9 + scale):
        raise _unrepresentable(name, asked)
    unit, base = step.scaled(scale), low.scaled(scale)
    if unit <= 0:
        raise NotEligible(name, "the step of its request policy is not positive")
    total = base + unit * -(-(asked.scaled(scale) - base) // unit)
    if total > _MAX:
        raise _unrepresentable(name, asked)
    if scale and total % 1000 == 0:
        return Quantity(total // 1000, 0, step.format)
    return Quantity(total, scale, step.format)


def _unrepresentable(name: str, asked: Quantity) -> AllocationError:
    problem = "capacity request cannot be represented in the device's range arithmetic"
    return AllocationError(f'capacity "{name}": {problem}: {asked}')


def _is_forbidden(amount: Quantity, policy: CapacityRequestPolicy, is_fractional: bool) -> bool:
    if policy.default is not None and amount == Quantity.of(policy.default):
        return False
    span = policy.valid_range
    if span is not None:
        if span.max is not None and amount > Quantity.of(span.max):
            return True
        if span.step is None:
            return False
        scale = -3 if _in_milli(span, is_fractional) else 0
        if scale and amount.nano % _MILLI:
            return True
        step = Quantity.of(span.step).scaled(scale)
        low = Quantity.of(span.min or "0").scaled(scale)
        return step <= 0 or (amount.scaled(scale) - low) % step != 0
    if policy.valid_values:
        return all(amount != Quantity.of(value) for value in policy.valid_values)
    return False


def _in_milli(span: CapacityRequestPolicyRange, is_fractional: bool) -> bool:
    """Whether the range is counted in thousandths: every bound must be a whole number of them."""
    if not is_fractional:
        return False
    bounds = [Quantity.of(value) for value in (span.min, span.max, span.step) if value is not None]
    return all(b.nano % _MILLI == 0 and abs(b.nano) <= _MAX * _MILLI for b in bounds) and (
        span.step is None or Quantity.of(span.step).nano >= _MILLI
    )
