"""What an evaluation works on: the frame, errors as values, and the steps that a plan is made of.

Steps are structs the garbage collector need not know: they refer to each other in no circle, and an
expression of 10 KiB has ten thousand of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec import Struct

from drakit.cel.meter import CostExceeded, Meter
from drakit.cel.syntax import Node

COST_LIMIT: Final = 1_000_000
"""What one evaluation may cost (resource.k8s.io CELSelectorExpressionMaxCost)."""
FAULT_WORK: Final = 28
"""Steps that an error takes."""
UNSET: Final = object()


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


class Step(Struct, eq=False, gc=False):
    """A planned node."""

    def run(self, frame: Frame) -> Any:
        """The node's value, charged to the frame. Raises CostExceeded, Fault."""
        raise NotImplementedError


class Constant(Step, eq=False, gc=False):
    """What is known before any evaluation, and costs nothing."""

    value: Any

    def run(self, frame: Frame) -> Any:
        return self.value


class Traced(Step, eq=False, gc=False):
    """A step whose value is noted, by the number of its node."""

    step: Step
    number: int

    def run(self, frame: Frame) -> Any:
        value = frame.trace[self.number] = self.step.run(frame)
        return value


class Plan(NamedTuple):
    """A planned tree: what evaluates it, how many slots that takes, and the planned nodes by number, which
    its loops need once they are warm. Loops find them in the frame: if they knew the plan they are part of,
    what is compiled would be a circle of references, which only the garbage collector could end."""

    step: Step
    slots: int
    steps: dict[int, Step]
