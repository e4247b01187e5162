"""Running a comprehension: step by step while cold, by generated statements once it has gone round often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.cel.charge import tenth
from drakit.cel.frame import UNSET, Failure, Frame
from drakit.cel.inline import function_of
from drakit.cel.loop import Loop, Looped
from drakit.cel.meter import CostExceeded
from drakit.cel.statements import Statements
from drakit.cel.step import disjunction
from drakit.cel.syntax import Node
from drakit.cel.value import DeviceMap

_WARM = 3000
"""About how many nodes are evaluated in a loop before statements are worth it."""
_LINE_WORK = 150
"""Steps that writing and compiling a line of them takes."""
_Fast = Callable[[Frame, list[Any]], Any]


class Bind(Looped, eq=False, gc=False):
    """`cel.bind`: a loop that goes round no more than once."""

    def run(self, frame: Frame) -> Any:
        return self.loop.go(frame, self.loop.start(frame))


class Comprehension(Looped, eq=False, gc=False):
    """A loop. Its statements, once there are some, know the loop and what is in it, but not this step."""

    heat: int = 0
    fast: _Fast | None = None

    def run(self, frame: Frame) -> Any:
        items = self.loop.start(frame)
        if items.__class__ is Failure:
            return items
        if self.fast is None:
            self.heat += len(items) * self.loop.weight
            if self.heat <= _WARM:
                return self.loop.go(frame, items)
            self.fast = _generate(self.loop, frame)
        return self.fast(frame, items)


def _generate(loop: Loop, frame: Frame) -> _Fast:
    text = Statements()
    lines = function_of(loop, frame.steps, text)
    frame.meter.spend(_LINE_WORK * len(lines))
    namespace: dict[str, Any] = {**_NAMESPACE, **text.constants}
    exec(compile("\n".join(lines), "<loop>", "exec"), namespace)
    fast: _Fast = namespace.pop("fast")
    return fast


def _over(frame: Frame, before: int, loop: Loop) -> None:
    """Goes through a round again that began at the cost `before` and passes the limit."""
    frame.cost = before
    loop.condition.run(frame)
    loop.step.run(frame)
    raise CostExceeded


def _no_condition(value: Any, node: Node) -> Any:
    return value if value.__class__ is Failure else Failure("no such overload", node)


_NAMESPACE = {
    "over": _over, "Exceeded": CostExceeded, "either": disjunction, "refuse": _no_condition,
    "Failure": Failure, "U": UNSET,
    "sized": frozenset((str, bytes, list, dict, DeviceMap)), "tenth": tenth,
}  # fmt: skip
