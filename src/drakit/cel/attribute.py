"""Attributes: a root value with the qualifiers selected on it, resolved in one go as cel-go does it.

Each qualifier costs 1, and the root does, but not as a branch of `?:`. Where a qualifier is optional, all
after it are, and the result is an optional.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from drakit.cel.frame import FAULT_WORK, UNSET, Failure, Frame, Step
from drakit.cel.lookup import MISSING, find, go_type, select
from drakit.cel.meter import CostExceeded
from drakit.cel.size import MOST
from drakit.cel.syntax import Node
from drakit.cel.value import NONE, Fault, Lazy, Optional, Uint


class Qualifier(Struct, eq=False, gc=False):
    """One step into a value: a constant `key`, or `dynamic`, an attribute that gives the key."""

    node: Node
    key: Any
    dynamic: Attribute | None = None
    is_optional: bool = False
    is_test: bool = False


class Attribute(Step, eq=False, gc=False):
    """A root value, which the kinds of attribute know, and the qualifiers on it."""

    node: Node
    qualifiers: tuple[Qualifier, ...] = ()

    def add(self, qualifier: Qualifier) -> None:
        self.qualifiers += (qualifier,)

    def root(self, frame: Frame) -> Any:
        """The value, or a Failure, that the qualifiers are for."""
        raise NotImplementedError

    def run(self, frame: Frame) -> Any:
        value = self.resolve(frame)
        frame.cost += 1
        if frame.cost > frame.limit:
            raise CostExceeded
        return value

    def resolve(self, frame: Frame) -> Any:
        """The value; the root is not charged."""
        value = self.root(frame)
        if not self.qualifiers or value.__class__ is Failure:
            return value
        is_optional = value.__class__ is Optional
        if is_optional:
            if not value.has_value:
                return value
            value = value.value
        for qualifier in self.qualifiers:
            is_optional = is_optional or qualifier.is_optional
            try:
                value = _qualify(frame, qualifier, value, is_optional)
            except Fault as fault:
                frame.meter.spend(FAULT_WORK)
                return Failure(fault.message, qualifier.node)
            if value is MISSING:
                return NONE
            if value.__class__ is Failure:
                return value
        return Optional(value) if is_optional else value


class DeviceVariable(Attribute, eq=False, gc=False):
    """The device."""

    def root(self, frame: Frame) -> Any:
        return frame.variables["device"]


class Variable(Attribute, eq=False, gc=False, kw_only=True):
    """A declared variable; its name may have dots in it."""

    name: str

    def root(self, frame: Frame) -> Any:
        value = frame.variables[self.name]
        if value.__class__ is not Lazy:
            return value
        try:
            return value.get()
        except Fault as fault:
            return Failure(fault.message, self.node)


class Slot(Attribute, eq=False, gc=False, kw_only=True):
    """A variable of a macro."""

    slot: int

    def root(self, frame: Frame) -> Any:
        return frame.slots[self.slot]


class Accumulator(Slot, eq=False, gc=False, kw_only=True):
    """What a macro gathers, or binds: it is evaluated when first read."""

    init: Step

    def root(self, frame: Frame) -> Any:
        value = frame.slots[self.slot]
        if value is UNSET:
            value = frame.slots[self.slot] = self.init.run(frame)
        return value


class Computed(Attribute, eq=False, gc=False, kw_only=True):
    """Qualifiers on the value of any other expression."""

    step: Step

    def root(self, frame: Frame) -> Any:
        return self.step.run(frame)


class Conditional(Attribute, eq=False, gc=False, kw_only=True):
    """A condition between two attributes, which get the qualifiers."""

    condition: Step
    branches: tuple[Attribute, Attribute]

    def add(self, qualifier: Qualifier) -> None:
        for branch in self.branches:
            branch.add(qualifier)

    def run(self, frame: Frame) -> Any:
        return self.resolve(frame)

    def resolve(self, frame: Frame) -> Any:
        value = self.condition.run(frame)
        if value.__class__ is Failure:
            return value
        if value is True:
            return self.branches[0].resolve(frame)
        if value is False:
            return self.branches[1].resolve(frame)
        return Failure("no such overload", self.node)


class Test(Step, eq=False, gc=False):
    """`has(...)`: the last qualifier of the attribute is a test."""

    attribute: Attribute

    def run(self, frame: Frame) -> Any:
        value = self.attribute.resolve(frame)
        if self.attribute.__class__ is Conditional:
            # For a root, which a branch was not charged for. In Go the number is unsigned.
            frame.cost = (frame.cost - 1) & MOST
            frame.charge(0)
        return value.has_value if value.__class__ is Optional else value


def attribute_of(step: Step) -> Attribute | None:
    """The attribute that a step is or tests, which more qualifiers may be added to."""
    if isinstance(step, Attribute):
        return step
    return step.attribute if isinstance(step, Test) else None


def _qualify(frame: Frame, qualifier: Qualifier, value: Any, is_optional: bool) -> Any:
    """One step further: the value, a Failure, or MISSING where an optional step finds nothing."""
    key = qualifier.key
    if qualifier.dynamic is not None:
        key = qualifier.dynamic.resolve(frame)
        if key.__class__ is Failure:
            if not is_optional:
                frame.charge(1)
            return key
        if key.__class__ not in KEY_CLASSES:
            if not is_optional:
                frame.charge(1)
            return Failure(f"invalid qualifier type: {go_type(key)}", qualifier.node)
    if is_optional:
        found = find(value, key)
        if found is MISSING:
            return MISSING
        frame.charge(1)
        return True if qualifier.is_test else found
    frame.charge(1)
    if qualifier.is_test:
        return find(value, key) is not MISSING
    return select(value, key)


KEY_CLASSES = frozenset((str, int, Uint, bool, float))
"""What can be between brackets."""
