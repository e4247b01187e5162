"""Whether a device may serve a demand, as far as that depends on the device alone.

The checks come in Kubernetes' order. What they say depends only on the values they read, so it is worked
out once for all devices that agree on those values and on their fingerprint: a serial number that no
expression reads makes no device special.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from drakit import cel
from drakit.allocator.capacity import NotEligible, consumption
from drakit.allocator.device import Published
from drakit.allocator.request import Demand, Expression
from drakit.allocator.tolerations import untolerated
from drakit.allocator.trace import Check, Refusal
from drakit.errors import AllocationError, CELError
from drakit.model.quantity import Quantity
from drakit.profile import Gate, Profile

_HINT = (
    ". consider using CEL optional chaining (.? followed by orValue()) "
    "or guarding the check with has() for optional fields"
)


class Failure(Struct, frozen=True):
    """A selector that does not compile or fails on the device, or a capacity that cannot be worked out."""

    expression: Expression | None
    is_compile: bool
    message: str


class Verdict(Struct, frozen=True):
    """`refusal` is the first check it does not pass, taints aside; a tainted device counts for requests for
    all devices (and spoils them). `consumes` is what a shareable device gives for the demand."""

    refusal: Refusal | None = None
    failure: Failure | None = None
    taint: Refusal | None = None
    consumes: Mapping[str, Quantity] = {}


def judge(demand: Demand, published: Published, is_here: bool, profile: Profile) -> Verdict:
    device = published.device
    if device.binding_conditions and not profile.is_on(Gate.DEVICE_BINDING_CONDITIONS):
        return Verdict(refusal=Refusal(Check.GATE, reason=Gate.DEVICE_BINDING_CONDITIONS))
    for expression in demand.expressions:
        outcome = _select(expression, demand, published, profile)
        if isinstance(outcome, Failure):
            return Verdict(failure=outcome)
        if outcome is not None:
            return Verdict(refusal=outcome)
    if not is_here:
        return Verdict(refusal=Refusal(Check.NODE))
    consumes: Mapping[str, Quantity] = {}
    if profile.is_on(Gate.CONSUMABLE_CAPACITY):
        try:
            consumes = consumption(
                demand.capacity, device.capacity, profile.is_on(Gate.FRACTIONAL_CAPACITY_RANGE)
            )
        except NotEligible as error:
            needed = demand.capacity.get(error.name)
            return Verdict(
                refusal=Refusal(
                    Check.CAPACITY,
                    name=error.name,
                    needed="" if needed is None else str(needed),
                    reason=error.reason,
                )
            )
        except AllocationError as error:
            return Verdict(failure=Failure(None, False, str(error)))
        except ValueError as error:
            return Verdict(refusal=Refusal(Check.CAPACITY, reason=str(error)))
    if device.consumes_counters:
        if not profile.is_on(Gate.PARTITIONABLE_DEVICES):
            return Verdict(refusal=Refusal(Check.GATE, reason=Gate.PARTITIONABLE_DEVICES))
        has_groups = any(row.compatibility_groups for row in device.consumes_counters)
        if has_groups and not profile.is_on(Gate.COMPATIBILITY_GROUPS):
            return Verdict(refusal=Refusal(Check.GATE, reason=Gate.COMPATIBILITY_GROUPS))
    taint = untolerated(published.taints, demand.tolerations)
    return Verdict(
        taint=None if taint is None else Refusal(Check.TAINT, taint=taint),
        consumes=consumes if published.is_shareable else {},
    )


def _select(
    expression: Expression, demand: Demand, published: Published, profile: Profile
) -> Refusal | Failure | None:
    try:
        selector = cel.compile(expression.text, profile.version, profile=profile)
    except CELError as error:
        return Failure(expression, True, error.message)
    try:
        if selector.matches(published.device, published.driver):
            return None
    except CELError as error:
        return Failure(expression, False, error.message)
    return Refusal(
        Check.SELECTOR,
        is_class=expression.is_class,
        selector=expression.index,
        expression=expression.text,
    )


def failure_text(failure: Failure, claim: str, demand: Demand, device: str) -> str:
    """The error as Kubernetes words it."""
    if failure.expression is None:
        return f"claim {claim}, request {demand.name}: device {device}: {failure.message}"
    owner = f"class {demand.asked.device_class_name}" if failure.expression.is_class else f"claim {claim}"
    where = f"{owner}: selector #{failure.expression.index}"
    if failure.is_compile:
        return f"{where}: CEL compile error: {failure.message}"
    hint = _HINT if failure.message.startswith("no such key") else ""
    return f"{where} on device {device}: CEL runtime error: {failure.message}{hint}"
