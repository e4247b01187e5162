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
from drakit.allocator.device import Published, Value
from drakit.allocator.request import Demand, Expression
from drakit.allocator.tolerations import untolerated
from drakit.allocator.trace import Check, Refusal
from drakit.errors import AllocationError, CELError
from drakit.model.quantity import Quantity
from drakit.model.resource import DerivedAttribute
from drakit.model.semver import Version
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
    derived: str = ""
    """The derived attribute that fails, in place of `expression`."""


class Verdict(Struct, frozen=True):
    """`refusal` is the first check it does not pass, taints aside; a tainted device counts for requests for
    all devices (and spoils them). `consumes` is what a shareable device gives for the demand."""

    refusal: Refusal | None = None
    failure: Failure | None = None
    taint: Refusal | None = None
    consumes: Mapping[str, Quantity] = {}
    derived: Mapping[str, tuple[Value, ...] | Failure] = {}
    """The demand's own attributes of the device. One that fails matters when a constraint asks for it."""

    def values_of(self, attribute: str) -> tuple[Value, ...]:
        """What the device has of a derived attribute, for constraints."""
        values = self.derived.get(attribute, ())
        return () if isinstance(values, Failure) else values


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
            is_fractional = profile.is_on(Gate.FRACTIONAL_CAPACITY_RANGE)
            consumes = consumption(published.driver, demand.capacity, device.capacity, is_fractional)
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
    if published.slice.spec.skip_node_operations and not profile.is_on(Gate.OPTIONAL_NODE_OPERATIONS):
        return Verdict(refusal=Refusal(Check.GATE, reason=Gate.OPTIONAL_NODE_OPERATIONS))
    if device.consumes_counters and not profile.is_on(Gate.PARTITIONABLE_DEVICES):
        return Verdict(refusal=Refusal(Check.GATE, reason=Gate.PARTITIONABLE_DEVICES))
    taint = untolerated(published.taints, demand.tolerations)
    return Verdict(
        taint=None if taint is None else Refusal(Check.TAINT, taint=taint),
        consumes=consumes if published.is_shareable else {},
        derived={d.name: _derive(d, published, profile) for d in demand.derived},
    )


def _select(
    expression: Expression, demand: Demand, published: Published, profile: Profile
) -> Refusal | Failure | None:
    try:
        selector = expression.selector(profile)
    except CELError as error:
        return Failure(expression, True, error.message)
    try:
        if published.is_odd:
            # An expression fails on such a device even if it does not read what is odd about it.
            oddity = selector.explain(published.device, published.driver).error
            if oddity is not None:
                raise oddity
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


def _derive(
    attribute: DerivedAttribute, published: Published, profile: Profile
) -> tuple[Value, ...] | Failure:
    try:
        evaluator = cel.compile_value(attribute.expression, profile.version, profile=profile)
    except CELError as error:
        return Failure(None, True, error.message, attribute.name)
    try:
        value = evaluator.value(published.device, published.driver)
    except CELError as error:
        return Failure(None, False, error.message, attribute.name)
    values = _as_values(value, profile.is_on(Gate.LIST_ATTRIBUTES))
    if values is None:
        return Failure(None, False, "the value is no attribute value", attribute.name)
    return values


def _as_values(value: object, are_lists_known: bool) -> tuple[Value, ...] | None:
    """A result of CEL as an attribute's values; None for what an attribute cannot hold."""
    if isinstance(value, bool):
        return (("bool", value),)
    if isinstance(value, int):
        return (("int", int(value)),)
    if isinstance(value, str):
        return (("string", value),)
    if isinstance(value, Version):
        return (("version", str(value)),)
    if isinstance(value, list) and are_lists_known:
        rows = [_as_values(one, False) for one in value]
        kinds = {row[0][0] for row in rows if row}
        if all(rows) and len(kinds) <= 1:
            return tuple(dict.fromkeys(row[0] for row in rows if row))
    return None


def failure_text(failure: Failure, claim: str, demand: Demand, device: str) -> str:
    """The error as Kubernetes words it."""
    if failure.derived:
        if failure.is_compile:
            return f"compile derived attribute {failure.derived} failed: {failure.message}"
        return f"evaluate derived attribute {failure.derived} on device {device} failed: {failure.message}"
    if failure.expression is None:
        return f"claim {claim}, request {demand.name}: device {device}: {failure.message}"
    owner = f"class {demand.asked.device_class_name}" if failure.expression.is_class else f"claim {claim}"
    where = f"{owner}: selector #{failure.expression.index}"
    if failure.is_compile:
        return f"{where}: CEL compile error: {failure.message}"
    hint = _HINT if failure.message.startswith("no such key") else ""
    return f"{where} on device {device}: CEL runtime error: {failure.message}{hint}"
