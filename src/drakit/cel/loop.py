"""A planned comprehension, and going through it step by step."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from drakit.cel.frame import UNSET, Failure, Frame, Step
from drakit.cel.lookup import iterate, iterate_pairs
from drakit.cel.syntax import Fold
from drakit.cel.value import Fault

_NODE_WORK = 6


class Loop(Struct, eq=False, gc=False, kw_only=True):
    """The parts of a comprehension, and the slots of its accumulator and variables.

    `weight` is about how many nodes one round evaluates, loops inside it not counted by their rounds.
    """

    node: Fold
    accu_slot: int
    first_slot: int
    second_slot: int | None
    range: Step
    init: Step
    condition: Step
    step: Step
    result: Step
    weight: int

    def elements(self, value: Any) -> Any:
        """What there is to go through, or a Failure."""
        if value.__class__ is Failure:
            return value
        try:
            return iterate(value) if self.second_slot is None else iterate_pairs(value)
        except Fault as fault:
            return Failure(fault.message, self.node)

    def go(self, frame: Frame, items: list[Any]) -> Any:
        """The value, step by step."""
        slots, condition, step = frame.slots, self.condition.run, self.step.run
        accu_slot, first_slot, second_slot = self.accu_slot, self.first_slot, self.second_slot
        work, meter = self.weight * _NODE_WORK, frame.meter
        for item in items:
            if second_slot is None:
                slots[first_slot] = item
            else:
                slots[first_slot], slots[second_slot] = item
            meter.spend(work)
            if condition(frame) is False:
                break
            slots[accu_slot] = step(frame)
        return self.result.run(frame)

    def start(self, frame: Frame) -> Any:
        """What there is to go through, with the accumulator fresh, or a Failure."""
        frame.slots[self.accu_slot] = UNSET
        return self.elements(self.range.run(frame))


class Looped(Step, eq=False, gc=False):
    """The step of a comprehension."""

    loop: Loop
