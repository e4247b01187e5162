"""Expressions over declared variables: what admission policies and the rules of custom resources are made of.

The same parser, checker and exact evaluation as for devices, in the environment that `declare.declared`
makes. Values are plain JSON, or what `drakit.cel.value` says; one that is costly to find is a `Lazy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from drakit.cel.compile import COST_EXCEEDED, checked
from drakit.cel.cost import max_cost
from drakit.cel.declare import Environment
from drakit.cel.frame import COST_LIMIT, Failure, Frame
from drakit.cel.meter import MAX_WORK, CostExceeded
from drakit.cel.plan import Planner
from drakit.cel.size import Shape
from drakit.cel.stack import deep_stack, no_collection, roomy
from drakit.cel.syntax import Ident, Select, qualified_name, walk
from drakit.cel.types import Type
from drakit.cel.value import Fault
from drakit.errors import CELError

_WORK = 2 * MAX_WORK
"""Objects may be large; Kubernetes reckons with a tenth of a second for one evaluation."""


class Outcome(Struct, frozen=True):
    """What an evaluation gave: a value, or an error's text; and its cost."""

    value: Any
    error: str
    cost: int


class Expression:
    """A compiled expression. `type` is its result's, `max_cost` the most it may cost by the `shapes` of the
    variables, `names` the variables it reads. Raises CELError."""

    def __init__(
        self, text: str, environment: Environment, shapes: Mapping[str, Shape] | None = None
    ) -> None:
        self.text = text
        with deep_stack(text), no_collection():
            root = checked(text, environment)
            self.max_cost = max_cost(root, shapes or {})
            try:
                self._plan = Planner(environment.functions, environment.roots).plan(root)
            except Fault as fault:
                raise CELError(f"program instantiation failed: {fault.message}", source=text) from None
            names = {qualified_name(node) for node in walk(root) if isinstance(node, Ident | Select)}
        self.names = environment.roots & names
        self.type: Type = root.type

    def evaluate(self, variables: Mapping[str, Any], limit: int = COST_LIMIT) -> Outcome:
        """The outcome for these values of all declared variables."""
        frame = Frame(variables, self._plan, limit)
        frame.meter.left = _WORK
        try:
            with deep_stack(self.text):
                value = roomy(self._plan.step.run, frame)
        except CostExceeded:
            frame.stopped()
            return Outcome(None, COST_EXCEEDED, frame.cost)
        except Fault as fault:
            return Outcome(None, fault.message, frame.cost)
        if isinstance(value, Failure):
            return Outcome(None, value.message, frame.cost)
        return Outcome(value, "", frame.cost)
