"""What an evaluation works on: the frame, errors as values, and attributes.

An attribute is a root value with the qualifiers selected on it, resolved in one go as cel-go does it; each
qualifier costs 1. Where one is optional, all after it are, and the result is an optional.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct

from drakit.cel.lookup import MISSING, find, go_type, select
from drakit.cel.meter import CostExceeded, Meter
from drakit.cel.syntax import Node
from drakit.cel.value import NONE, Fault, Optional, Uint

COST_LIMIT: Final = 1_000_000
"""What one evaluation may cost (resource.k8s.io CELSelectorExpressionMaxCost)."""


class Failure:
    """An error as a value. `node` is where it arose."""

    __slots__ = ("message", "node")

    def __init__(self, message: str, node: Node) -> None:
        self.message = message
        self.node = node


class Frame:
    """One evaluation of a plan: the values of the variables, those inside macros (`slots`), what it has cost
    so far."""

    __slots__ = ("cost", "limit", "meter", "slots", "steps", "trace", "variables")

    def __init__(self, variables: Mapping[str, Any], plan: Plan, limit: int = COST_LIMIT) -> None:
        self.variables = variables
        self.slots: list[Any] = [UNSET] * plan.slots
        self.steps = plan.steps
        self.cost = 0
        self.limit = limit
        self.meter = Meter()
        self.trace: dict[int, Any] = {}

    def stopped(self) -> None:
        """Notes that the evaluation was stopped: whether by its cost or by its work, it cost too much."""
        self.cost = max(self.cost, self.limit + 1)

    def charge(self, amount: int) -> None:
        """Raises CostExceeded once the limit is passed."""
        self.cost += amount
        if self.cost > self.limit:
            raise CostExceeded


FAULT_WORK: Final = 20
"""Steps that an error takes."""
UNSET: Final = object()
Run = Callable[[Frame], Any]


class Strict(Protocol):
    """What is done with arguments that are evaluated already. `fixed_cost` is None where they decide it."""

    fixed_cost: int | None

    def apply(self, frame: Frame, args: list[Any]) -> Any:
        """The value for `args`, charged; an error among them is the value."""

    def compute(self, frame: Frame, args: list[Any]) -> Any:
        """The value, free of charge."""


class Step(Struct, eq=False, gc=False):
    """A planned node: `run` evaluates it. Other fields say more of some kinds of node: the `value` of a
    constant, the `attribute` of an attribute, the `slot` of a variable, the `call` of a strict call, the
    `loop` of a comprehension."""

    run: Run
    value: Any = None
    is_constant: bool = False
    attribute: Attribute | None = None
    slot: int | None = None
    call: Strict | None = None
    loop: Any = None


class Plan(NamedTuple):
    """A planned tree: what evaluates it, how many slots that takes, and the planned nodes by number, which
    its loops need once they are warm. Loops find them in the frame: if they knew the plan they are part of,
    what is compiled would be a circle of references, which only the garbage collector could end."""

    run: Run
    slots: int
    steps: dict[int, Step]


class Qualifier(Struct, eq=False, gc=False):
    """One step into a value: a constant `key`, or `dynamic`, an attribute that gives the key."""

    node: Node
    key: Any
    dynamic: Attribute | None = None
    is_optional: bool = False
    is_test: bool = False


class Attribute(Struct, eq=False, gc=False):
    """A root value and the qualifiers on it, or a condition between two such."""

    node: Node
    root: Run
    branches: tuple[Attribute, Attribute] | None = None
    qualifiers: list[Qualifier] = []

    def add(self, qualifier: Qualifier) -> None:
        if self.branches is None:
            self.qualifiers.append(qualifier)
        else:
            for branch in self.branches:
                branch.add(qualifier)

    def resolve(self, frame: Frame) -> Any:
        value = self.root(frame)
        if value.__class__ is Failure:
            return value
        if self.branches is not None:
            if value is True:
                return self.branches[0].resolve(frame)
            if value is False:
                return self.branches[1].resolve(frame)
            return Failure("no such overload", self.node)
        return self._qualified(frame, value) if self.qualifiers else value

    def _qualified(self, frame: Frame, value: Any) -> Any:
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
