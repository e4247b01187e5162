"""The steps of literals, operators and calls.

What cel-go does is kept to the unit, because costs and error texts depend on it:

- An error is a value (`Failure`), absorbed by `&&`, `||`, `?:` branches not taken and lazy bindings. Calls of
  one or two arguments evaluate both before they fail and are charged all the same; calls of more, and those
  of which only the values tell which overload is meant, stop at the first error, and are charged when that
  was the last argument's.
- Lists and maps are charged when they are made, even where an element is an error.

Source: cel-go interpreter/{interpretable,runtimecost}.go.
"""

from __future__ import annotations

from typing import Any

from drakit.cel.call import Operation
from drakit.cel.frame import Failure, Frame, Step
from drakit.cel.lookup import shown
from drakit.cel.syntax import ListNode, MapNode, MessageNode, Node
from drakit.cel.value import Fault, Message, Optional, Uint, to_key
from drakit.model.quantity import Quantity
from drakit.model.semver import Version


class Copied(Step, eq=False, gc=False):
    """A literal list or map that a macro begins with, and adds to."""

    value: list[Any] | dict[Any, Any]

    def run(self, frame: Frame) -> Any:
        return self.value.copy()


class ListStep(Step, eq=False, gc=False):
    """`[a, ?b]`."""

    node: ListNode
    items: tuple[Step, ...]

    def run(self, frame: Frame) -> Any:
        result = self._made(frame)
        frame.charge(10)
        return result

    def _made(self, frame: Frame) -> Any:
        optional = self.node.optional
        made: list[Any] = []
        for index, item in enumerate(self.items):
            value = item.run(frame)
            if value.__class__ is Failure:
                return value
            if index not in optional:
                made.append(value)
            elif value.__class__ is not Optional:
                text = f"cannot initialize optional list element from non-optional value {shown(value)}"
                return Failure(text, self.node)
            elif value.has_value:
                made.append(value.value)
        return made


class MapStep(Step, eq=False, gc=False):
    """`{a: b, ?c: d}`, or a message; entries are (key, value, is optional)."""

    node: MapNode
    entries: tuple[tuple[Step, Step, bool], ...]

    def run(self, frame: Frame) -> Any:
        node = self.node
        try:
            result = self._made(frame)
        except Fault as fault:
            result = Failure(fault.message, node)
        if not isinstance(node, MessageNode):
            frame.charge(30)
            return result
        frame.charge(40)
        return result if result.__class__ is Failure else Message(node.name, result)

    def _made(self, frame: Frame) -> Any:
        made: dict[Any, Any] = {}
        for key_step, value_step, is_optional in self.entries:
            key = key_step.run(frame)
            if key.__class__ is Failure:
                return key
            value = value_step.run(frame)
            if value.__class__ is Failure:
                return value
            if is_optional:
                if value.__class__ is not Optional:
                    text = f"cannot initialize optional entry '{shown(key)}' from non-optional value "
                    return Failure(text + shown(value), self.node)
                if not value.has_value:
                    made.pop(to_key(key), None)
                    continue
                value = value.value
            made[to_key(key)] = value
        return made


class Logical(Step, eq=False, gc=False):
    """`&&` or `||`; the `decisive` value makes the other one unimportant."""

    node: Node
    left: Step
    right: Step
    decisive: bool

    def run(self, frame: Frame) -> Any:
        decisive = self.decisive
        first = self.left.run(frame)
        if first is decisive:
            return decisive
        return disjunction(first, self.right.run(frame), decisive, self.node)


def disjunction(first: Any, second: Any, decisive: bool, node: Node) -> Any:
    """`&&` or `||` of two values, the first of which does not decide it."""
    if second is decisive:
        return decisive
    for value in (first, second):
        if value.__class__ is not bool:
            return value if value.__class__ is Failure else Failure("no such overload", node)
    return not decisive


class Otherwise(Step, eq=False, gc=False):
    """`a.or(b)`, `a.orValue(b)`: b is evaluated where it is needed."""

    node: Node
    first: Step
    second: Step
    is_value: bool

    def run(self, frame: Frame) -> Any:
        value = self.first.run(frame)
        if value.__class__ is Failure:
            return value
        if value.__class__ is not Optional:
            return Failure("no such overload", self.node)
        if value.has_value:
            return value.value if self.is_value else value
        return self.second.run(frame)


class NotStrictlyFalse(Step, eq=False, gc=False):
    """Anything but false, errors too: the condition of some loops."""

    step: Step

    def run(self, frame: Frame) -> Any:
        value = self.step.run(frame)
        frame.charge(1)
        return value if value.__class__ is bool else True


class Applied(Step, eq=False, gc=False):
    """A step that does something with arguments, all of which are evaluated before."""

    @property
    def fixed_cost(self) -> int | None:
        """None where the arguments decide it."""
        raise NotImplementedError

    def apply(self, frame: Frame, args: list[Any]) -> Any:
        """The value for `args`, charged; an error among them is the value."""
        raise NotImplementedError

    def compute(self, frame: Frame, args: list[Any]) -> Any:
        """The value, free of charge."""
        raise NotImplementedError


class Strict(Applied, eq=False, gc=False):
    """A call of a function or operator."""

    node: Node
    operation: Operation
    steps: tuple[Step, ...]

    @property
    def fixed_cost(self) -> int | None:
        return self.operation.fixed_cost

    def run(self, frame: Frame) -> Any:
        args: list[Any] = []
        for step in self.steps:
            args.append(step.run(frame))
        return self.apply(frame, args)

    def apply(self, frame: Frame, args: list[Any]) -> Any:
        return self.operation.apply(frame, args, self.node)

    def compute(self, frame: Frame, args: list[Any]) -> Any:
        return self.operation.compute(frame, args, self.node)


class Appended(Strict, eq=False, gc=False):
    """`accumulator + [item]`: macros build their lists by it, in place."""

    def apply(self, frame: Frame, args: list[Any]) -> Any:
        first, second = args
        if first.__class__ is not list or second.__class__ is not list:
            return super().apply(frame, args)
        first.extend(second)
        frame.charge(1)
        return first


class Stopping(Step, eq=False, gc=False):
    """A call that stops at the first error."""

    call: Strict

    def run(self, frame: Frame) -> Any:
        args: list[Any] = []
        last = len(self.call.steps) - 1
        for index, step in enumerate(self.call.steps):
            value = step.run(frame)
            args.append(value)
            if index < last and value.__class__ is Failure:
                return value
        return self.call.apply(frame, args)


class Remembered(Step, eq=False, gc=False):
    """A call of constants: it runs once; after that its cost is charged and its value, if a small one, used
    again."""

    step: Step
    is_known: bool = False
    value: Any = None
    cost: int = 0

    def run(self, frame: Frame) -> Any:
        if self.is_known:
            frame.charge(self.cost)
            return self.value
        before = frame.cost
        value = self.step.run(frame)
        if value.__class__ in _SMALL and (value.__class__ is not str or len(value) <= _SMALL_LENGTH):
            self.value, self.cost, self.is_known = value, frame.cost - before, True
        return value


_SMALL = frozenset((bool, int, Uint, float, str, Quantity, Version))
_SMALL_LENGTH = 1000


class Membership(Applied, eq=False, gc=False):
    """`x in [literals]`: looked up, at no cost. The literals are primitive values."""

    item: Step
    keys: frozenset[Any]
    doubles: frozenset[float]
    """Of integers, as Go makes doubles of them: the nearest."""

    @property
    def fixed_cost(self) -> int | None:
        return 0

    def run(self, frame: Frame) -> Any:
        return self.compute(frame, [self.item.run(frame)])

    def apply(self, frame: Frame, args: list[Any]) -> Any:
        return self.compute(frame, args)

    def compute(self, frame: Frame, args: list[Any]) -> Any:
        value = args[0]
        if value.__class__ is Failure:
            return value
        if value.__class__ is float and value in self.doubles:
            return True
        return value.__class__ in _PRIMITIVES and _primitive_key(value) in self.keys


def membership(item: Step, literals: Any) -> Membership | None:
    """`item in literals`, where every element is primitive."""
    if not all(literal.__class__ in _PRIMITIVES for literal in literals):
        return None
    doubles = frozenset(float(literal) for literal in literals if literal.__class__ in (int, Uint))
    return Membership(item, frozenset(map(_primitive_key, literals)), doubles)


_PRIMITIVES = frozenset((bool, float, int, str, Uint))


def _primitive_key(value: Any) -> Any:
    """Equal for equal values only: to Python true is 1."""
    return (value,) if value.__class__ is bool else value
