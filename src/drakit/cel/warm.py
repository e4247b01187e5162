"""Running a comprehension: step by step while cold, by generated statements once it has gone round often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.cel.attribute import UNSET, Failure, Frame, Run
from drakit.cel.charge import tenth
from drakit.cel.inline import Steps, function_of
from drakit.cel.loop import Loop
from drakit.cel.meter import CostExceeded
from drakit.cel.statements import Statements
from drakit.cel.syntax import Node
from drakit.cel.value import DeviceMap

_WARM = 3000
"""About how many nodes are evaluated in a loop before statements are worth it."""
_Fast = Callable[[Frame, list[Any]], Any]


def runner(loop: Loop) -> Run:
    """What evaluates the loop."""
    if loop.node.macro == "bind":
        return lambda frame: loop.go(frame, loop.start(frame))
    heat = 0
    fast: _Fast | None = None

    def run(frame: Frame) -> Any:
        nonlocal heat, fast
        items = loop.start(frame)
        if items.__class__ is Failure:
            return items
        if fast is not None:
            return fast(frame, items)
        heat += len(items) * loop.weight
        if heat > _WARM:
            fast = _generate(loop, frame.steps)
            return fast(frame, items)
        return loop.go(frame, items)

    return run


def _generate(loop: Loop, steps: Steps) -> _Fast:
    text = Statements()
    lines = function_of(loop, steps, text)
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


def _disjunction(first: Any, second: Any, decisive: bool, node: Node) -> Any:
    """`&&` or `||` of two values, the first of which does not decide it."""
    if second is decisive:
        return decisive
    for value in (first, second):
        if value.__class__ is not bool:
            return value if value.__class__ is Failure else Failure("no such overload", node)
    return not decisive


def _no_condition(value: Any, node: Node) -> Any:
    return value if value.__class__ is Failure else Failure("no such overload", node)


_NAMESPACE = {
    "over": _over, "Exceeded": CostExceeded, "either": _disjunction, "refuse": _no_condition,
    "Failure": Failure, "U": UNSET,
    "sized": frozenset((str, bytes, list, dict, DeviceMap)), "tenth": tenth,
}  # fmt: skip
