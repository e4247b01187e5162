"""The exact path: cel-go's evaluation, errors, costs and all.

The tree is planned once into closures over a `Frame`. What cel-go does is kept to the step, because costs
and error texts depend on it:

- An error is a value (`Failure`), absorbed by `&&`, `||`, `?:` branches not taken and lazy bindings. Calls of
  one or two arguments evaluate both before they fail and are charged all the same; calls of more, and those
  of which only the values tell which overload is meant, stop at the first error, and are charged when that
  was the last argument's.
- A chain such as `device.attributes["a"].b` is one attribute with qualifiers: 1 for the root and 1 for each
  qualifier. As a branch of `?:` the root is not charged.
- Lists and maps of literals, conversions of literals and `x in [literals]` are folded and cost nothing.
- An accumulator, and so a `cel.bind` variable, is evaluated when first read.

Source: cel-go interpreter/{planner,interpretable,attributes,decorators,runtimecost}.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

from drakit.cel import types
from drakit.cel.attribute import KEY_CLASSES, UNSET, Attribute, Failure, Frame, Plan, Qualifier, Run, Step
from drakit.cel.call import REGEX, FunctionCall, Functions, Membership, constant_value
from drakit.cel.library.regex import compiled
from drakit.cel.lookup import go_type, shown
from drakit.cel.loop import Loop
from drakit.cel.macro import is_accumulator
from drakit.cel.meter import CostExceeded
from drakit.cel.size import MOST
from drakit.cel.syntax import (
    Call,
    Fold,
    Ident,
    ListNode,
    Literal,
    MapNode,
    MessageNode,
    Node,
    Select,
    qualified_name,
)
from drakit.cel.value import Fault, Lazy, Message, Optional, TypeValue, Uint, to_key
from drakit.cel.warm import runner
from drakit.model.quantity import Quantity
from drakit.model.semver import Version


class Planner:
    """Plans a checked tree. Raises Fault where instantiating the program fails."""

    def __init__(self, functions: Functions, roots: frozenset[str], *, is_traced: bool = False) -> None:
        self._functions = functions
        self._roots = roots
        self._is_traced = is_traced
        self._scopes: list[tuple[str, int, bool]] = []
        self._inits: dict[int, Run] = {}
        self._steps: dict[int, Step] = {}
        self._planned = 0
        self._slots = 0
        self._has_loops = False

    def plan(self, root: Node) -> Plan:
        """How to evaluate the tree."""
        run = self._plan(root).run
        return Plan(run, self._slots, self._steps if self._has_loops else {})

    def _plan(self, node: Node) -> Step:
        step = _RULES[node.__class__](self, node)
        if self._is_traced:
            step.run = _traced(step.run, node.number)
        self._steps[node.number] = step
        self._planned += 1
        return step

    # --- attributes -------------------------------------------------------------------------------

    def _literal(self, node: Literal) -> Step:
        return _constant(node.value)

    def _ident(self, node: Ident) -> Step:
        for name, slot, is_accu in reversed(self._scopes):
            if name == node.name:
                if node.type.kind == "type":
                    raise Fault(f"reference to undefined type: {node.name}")
                step = self._attribute(Attribute(node, self._variable(slot, is_accu)))
                step.slot = slot
                return step
        return self._root(node, node.name) or _constant(TypeValue(node.name))

    def _root(self, node: Node, name: str) -> Step | None:
        """A variable that has a value; a name may have dots in it."""
        if name not in self._roots:
            return None
        if name == "device":
            return self._attribute(Attribute(node, lambda frame: frame.variables["device"]))

        def root(frame: Frame) -> Any:
            value = frame.variables[name]
            if value.__class__ is not Lazy:
                return value
            try:
                return value.get()
            except Fault as fault:
                return Failure(fault.message, node)

        return self._attribute(Attribute(node, root))

    def _variable(self, slot: int, is_accu: bool) -> Run:
        if not is_accu:
            return lambda frame: frame.slots[slot]
        init = self._inits[slot]

        def accumulated(frame: Frame) -> Any:
            value = frame.slots[slot]
            if value is UNSET:
                value = frame.slots[slot] = init(frame)
            return value

        return accumulated

    def _attribute(self, attribute: Attribute, is_test: bool = False) -> Step:
        is_free = attribute.branches is not None or is_test

        def run(frame: Frame) -> Any:
            value = attribute.resolve(frame)
            if not is_free:
                frame.cost += 1
                if frame.cost > frame.limit:
                    raise CostExceeded
            return value

        def test(frame: Frame) -> Any:
            value = attribute.resolve(frame)
            if attribute.branches is not None:
                # For a root, which a branch was not charged for. In Go the number is unsigned.
                frame.cost = (frame.cost - 1) & MOST
                frame.charge(0)
            return value.has_value if value.__class__ is Optional else value

        return Step(test if is_test else run, attribute=attribute)

    def _operand(self, node: Node) -> Attribute:
        """The attribute that qualifiers on `node` are added to."""
        step = self._plan(node)
        return step.attribute or Attribute(node, step.run)

    def _select(self, node: Select) -> Step:
        if node.type.kind == "type":
            return _constant(TypeValue(types.full(structs.replace(node.type.params[0], params=()))))
        name = qualified_name(node)
        if name is not None and (step := self._root(node, name)) is not None:
            return step
        attribute = self._operand(node.operand)
        attribute.add(Qualifier(node, node.field, is_test=node.is_test))
        return self._attribute(attribute, node.is_test)

    def _index(self, node: Call, is_optional: bool) -> Step:
        attribute = self._operand(node.args[0])
        index = self._plan(node.args[1])
        if index.is_constant:
            if index.value.__class__ not in KEY_CLASSES:
                raise Fault(f"invalid qualifier type: {go_type(index.value)}")
            qualifier = Qualifier(node, index.value, is_optional=is_optional)
        else:
            dynamic = index.attribute or Attribute(node.args[1], index.run)
            qualifier = Qualifier(node, None, dynamic=dynamic, is_optional=is_optional)
        attribute.add(qualifier)
        return self._attribute(attribute)

    def _optional_select(self, node: Call) -> Step:
        attribute = self._operand(node.args[0])
        field = node.args[1]
        assert isinstance(field, Literal)
        attribute.add(Qualifier(node, field.value, is_optional=True))
        return self._attribute(attribute)

    def _conditional(self, node: Call) -> Step:
        condition = self._plan(node.args[0])
        branches = (self._operand(node.args[1]), self._operand(node.args[2]))
        return self._attribute(Attribute(node, condition.run, branches))

    # --- literals ---------------------------------------------------------------------------------

    def _list(self, node: ListNode) -> Step:
        steps = [self._plan(item) for item in node.items]
        if all(step.is_constant for step in steps) and not node.optional:
            return _constant([step.value for step in steps])
        parts = [(step.run, index in node.optional) for index, step in enumerate(steps)]

        def run(frame: Frame) -> Any:
            items: list[Any] = []
            for part, is_optional in parts:
                value = part(frame)
                if value.__class__ is Failure:
                    frame.charge(10)
                    return value
                if not is_optional:
                    items.append(value)
                elif value.__class__ is not Optional:
                    frame.charge(10)
                    return Failure(
                        f"cannot initialize optional list element from non-optional value {shown(value)}",
                        node,
                    )
                elif value.has_value:
                    items.append(value.value)
            frame.charge(10)
            return items

        return Step(run)

    def _map(self, node: MapNode) -> Step:
        parts = [(self._plan(key), self._plan(value), is_opt) for key, value, is_opt in node.entries]
        name = node.name if isinstance(node, MessageNode) else None
        is_plain = not isinstance(node, MessageNode)
        if is_plain and all(key.is_constant and value.is_constant and not opt for key, value, opt in parts):
            return _constant({to_key(key.value): value.value for key, value, _ in parts})

        def build(frame: Frame) -> Any:
            entries: dict[Any, Any] = {}
            for key_step, value_step, is_optional in parts:
                key = key_step.run(frame)
                if key.__class__ is Failure:
                    return key
                value = value_step.run(frame)
                if value.__class__ is Failure:
                    return value
                if is_optional:
                    if value.__class__ is not Optional:
                        text = f"cannot initialize optional entry '{shown(key)}' from non-optional value "
                        return Failure(text + shown(value), node)
                    if not value.has_value:
                        entries.pop(to_key(key), None)
                        continue
                    value = value.value
                entries[to_key(key)] = value
            return entries if name is None else Message(name, entries)

        def run(frame: Frame) -> Any:
            try:
                result = build(frame)
            except Fault as fault:
                result = Failure(fault.message, node)
            frame.charge(30 if name is None else 40)
            return result

        return Step(run)

    # --- calls ------------------------------------------------------------------------------------

    def _call(self, node: Call) -> Step:
        function = node.function
        if function in ("_&&_", "_||_"):
            return self._logical(node)
        if function == "_?_:_":
            return self._conditional(node)
        if function == "_[_]" or function == "_[?_]":
            return self._index(node, function == "_[?_]")
        if function == "_?._":
            return self._optional_select(node)
        steps = [self._plan(operand) for operand in node.operands()]
        if function in ("or", "orValue") and len(steps) == 2:
            return self._lazy_optional(node, steps, function == "orValue")
        if function == "@not_strictly_false":
            return self._not_strictly_false(steps[0])
        if function == "@in" and node.overloads == ("in_list",) and steps[1].is_constant:
            if not steps[1].value:
                return _constant(False)
            if Membership.is_possible(steps[1].value):
                return self._membership(steps)
        if function in _CONVERSIONS and len(steps) == 1 and steps[0].is_constant:
            return _constant(constant_value(node, self._functions, [steps[0].value]))
        return self._strict(node, steps)

    def _logical(self, node: Call) -> Step:
        left, right = self._plan(node.args[0]).run, self._plan(node.args[1]).run
        decisive = node.function == "_||_"

        def run(frame: Frame) -> Any:
            first = left(frame)
            if first is decisive:
                return decisive
            second = right(frame)
            if second is decisive:
                return decisive
            for value in (first, second):
                if value.__class__ is not bool:
                    return value if value.__class__ is Failure else Failure("no such overload", node)
            return not decisive

        return Step(run)

    def _lazy_optional(self, node: Call, steps: list[Step], is_value: bool) -> Step:
        left, right = steps[0].run, steps[1].run

        def run(frame: Frame) -> Any:
            value = left(frame)
            if value.__class__ is Failure:
                return value
            if value.__class__ is not Optional:
                return Failure("no such overload", node)
            if value.has_value:
                return value.value if is_value else value
            return right(frame)

        return Step(run)

    def _not_strictly_false(self, step: Step) -> Step:
        def run(frame: Frame) -> Any:
            value = step.run(frame)
            frame.charge(1)
            return value if value.__class__ is bool else True

        return Step(run)

    def _membership(self, steps: list[Step]) -> Step:
        call, item = Membership(steps[1].value), steps[0].run
        return Step(lambda frame: call.compute(frame, [item(frame)]), call=call)

    def _strict(self, node: Call, steps: list[Step]) -> Step:
        has_pattern = node.function in REGEX and len(steps) > 1 and steps[1].value.__class__ is str
        call = FunctionCall(node, self._functions, has_pattern=has_pattern)
        runs = [step.run for step in steps]
        stops_early = len(runs) > 2 or call.is_open or node.function == "format"
        if has_pattern:
            compiled(steps[1].value)
            stops_early = True
        last = len(runs) - 1
        apply = self._appending(node, call) or call.apply

        def run(frame: Frame) -> Any:
            args: list[Any] = []
            for index, part in enumerate(runs):
                value = part(frame)
                args.append(value)
                if stops_early and index < last and value.__class__ is Failure:
                    return value
            return apply(frame, args)

        if all(step.is_constant for step in steps):
            return Step(_remembered(run))
        return Step(run, call=None if stops_early else call)

    def _appending(self, node: Call, call: FunctionCall) -> Callable[[Frame, list[Any]], Any] | None:
        """Macros build their lists by `accumulator + [item]`, which adds in place."""
        if node.function != "_+_" or not is_accumulator(node.args[0]):
            return None

        def append(frame: Frame, args: list[Any]) -> Any:
            first, second = args
            if first.__class__ is not list or second.__class__ is not list:
                return call.apply(frame, args)
            first.extend(second)
            frame.charge(1)
            return first

        return append

    # --- comprehensions ---------------------------------------------------------------------------

    def _fold(self, node: Fold) -> Step:
        range = self._plan(node.range)
        was_traced = self._is_traced
        # Nobody is shown what goes on inside a loop.
        self._is_traced = was_traced and node.macro == "bind"
        init = self._plan(node.init)
        slot = self._slots
        self._slots += 3
        self._inits[slot] = _fresh(init)
        depth = len(self._scopes)
        self._scopes.append((node.accu, slot, True))
        self._scopes.append((node.variable, slot + 1, False))
        if node.variable2 is not None:
            self._scopes.append((node.variable2, slot + 2, False))
        before = self._planned
        condition, step = self._plan(node.condition), self._plan(node.step)
        weight = self._planned - before
        del self._scopes[depth + 1 :]
        result = self._plan(node.result)
        del self._scopes[depth:]
        self._is_traced = was_traced
        loop = Loop(
            node, slot, range=range, init=self._inits[slot], condition=condition, step=step, result=result,
            weight=weight,
        )  # fmt: skip
        self._has_loops = self._has_loops or node.macro != "bind"
        return Step(runner(loop), loop=loop)


_RULES: dict[type, Callable[[Planner, Any], Step]] = {
    Literal: Planner._literal, Ident: Planner._ident, Select: Planner._select, Call: Planner._call,
    ListNode: Planner._list, MapNode: Planner._map, MessageNode: Planner._map, Fold: Planner._fold,
}  # fmt: skip


def _constant(value: Any) -> Step:
    return Step(lambda frame: value, value=value, is_constant=True)


def _fresh(step: Step) -> Run:
    """The first value of an accumulator: a literal list or map is copied, for macros add to it."""
    if step.is_constant and step.value.__class__ in (list, dict):
        return lambda frame: step.value.copy()
    return step.run


def _remembered(run: Run) -> Run:
    """A call of constants runs once; after that its cost is charged and its value, if a small one, reused."""
    known: list[tuple[int, Any]] = []

    def remembered(frame: Frame) -> Any:
        if known:
            frame.charge(known[0][0])
            return known[0][1]
        before = frame.cost
        value = run(frame)
        if value.__class__ in _SMALL and (value.__class__ is not str or len(value) <= _SMALL_LENGTH):
            known.append((frame.cost - before, value))
        return value

    return remembered


def _traced(run: Run, number: int) -> Run:
    def traced(frame: Frame) -> Any:
        value = run(frame)
        frame.trace[number] = value
        return value

    return traced


_CONVERSIONS = frozenset(
    ("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint")
)
_SMALL = frozenset((bool, int, Uint, float, str, Quantity, Version))
_SMALL_LENGTH = 1000
