"""The exact path: cel-go's evaluation, errors, costs and all.

The tree is planned once into closures over a `Frame`. What cel-go does is kept to the step, because costs
and error texts depend on it:

- An error is a value (`Failure`), absorbed by `&&`, `||`, `?:` branches not taken and lazy bindings. Calls of
  one or two arguments evaluate both before they fail and are charged all the same; calls of more stop at
  the first error and are not.
- A chain such as `device.attributes["a"].b` is one attribute with qualifiers: 1 for the root and 1 for each
  qualifier. As a branch of `?:` the root is not charged.
- Lists and maps of literals, conversions of literals and `x in [literals]` are folded and cost nothing.
- An accumulator, and so a `cel.bind` variable, is evaluated when first read.

Source: cel-go interpreter/{planner,interpretable,attributes,decorators,runtimecost}.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.cel.attribute import UNSET, Attribute, Failure, Frame, Qualifier, Run
from drakit.cel.charge import call_cost, cost_before, is_charged_before, is_unit
from drakit.cel.declare import Overload
from drakit.cel.library import FUNCTIONS, OPERATORS, PLAIN_REFUSAL
from drakit.cel.library.regex import compiled
from drakit.cel.operate import (
    CostExceeded,
    Meter,
    equal,
    is_in,
    iterate,
    iterate_pairs,
    shown,
)
from drakit.cel.syntax import Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select
from drakit.cel.types import Type
from drakit.cel.value import DeviceMap, Fault, NoOverload, Optional, TypeValue, Uint, kind_of, to_key
from drakit.model.quantity import Quantity
from drakit.model.semver import Version

Functions = dict[str, tuple[Overload, ...]]


class _Step:
    """A planned node: `run` evaluates it; a constant has `value`, an attribute its `attribute`."""

    __slots__ = ("attribute", "is_constant", "run", "value")

    def __init__(
        self, run: Run, *, value: Any = None, is_constant: bool = False, attribute: Attribute | None = None
    ) -> None:
        self.run = run
        self.value = value
        self.is_constant = is_constant
        self.attribute = attribute


class Planner:
    """Plans a checked tree. Raises Fault where instantiating the program fails."""

    def __init__(self, functions: Functions, *, is_traced: bool = False) -> None:
        self._functions = functions
        self._is_traced = is_traced
        self._scopes: list[tuple[str, int, bool]] = []
        self._inits: dict[int, Run] = {}
        self.slots = 0

    def plan(self, root: Node) -> Run:
        """The function that evaluates the tree."""
        return self._plan(root).run

    def _plan(self, node: Node) -> _Step:
        if isinstance(node, Literal):
            step = _constant(node.value)
        elif isinstance(node, Ident):
            step = self._ident(node)
        elif isinstance(node, Select):
            step = self._select(node)
        elif isinstance(node, Call):
            step = self._call(node)
        elif isinstance(node, ListNode):
            step = self._list(node)
        elif isinstance(node, MapNode):
            step = self._map(node)
        else:
            assert isinstance(node, Fold)
            step = self._fold(node)
        if self._is_traced:
            step.run = _traced(step.run, node.number)
        return step

    # --- attributes -------------------------------------------------------------------------------

    def _ident(self, node: Ident) -> _Step:
        for name, slot, is_accu in reversed(self._scopes):
            if name == node.name:
                return self._attribute(Attribute(node, self._variable(slot, is_accu)))
        if node.name == "device":
            return self._attribute(Attribute(node, lambda frame: frame.device))
        return _constant(TypeValue(node.name))

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

    def _attribute(self, attribute: Attribute, is_test: bool = False) -> _Step:
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
            return value.has_value if value.__class__ is Optional else value

        return _Step(test if is_test else run, attribute=attribute)

    def _operand(self, node: Node) -> Attribute:
        """The attribute that qualifiers on `node` are added to."""
        step = self._plan(node)
        return step.attribute or Attribute(node, step.run)

    def _select(self, node: Select) -> _Step:
        if node.type.kind == "type":
            return _constant(TypeValue(node.type.params[0].name if node.type.params else "type"))
        attribute = self._operand(node.operand)
        attribute.add(Qualifier(node, node.field, is_test=node.is_test))
        return self._attribute(attribute, node.is_test)

    def _index(self, node: Call, is_optional: bool) -> _Step:
        attribute = self._operand(node.args[0])
        index = self._plan(node.args[1])
        if index.is_constant:
            qualifier = Qualifier(node, index.value, is_optional=is_optional)
        else:
            dynamic = index.attribute or Attribute(node.args[1], index.run)
            qualifier = Qualifier(node, None, dynamic=dynamic, is_optional=is_optional)
        attribute.add(qualifier)
        return self._attribute(attribute)

    def _optional_select(self, node: Call) -> _Step:
        attribute = self._operand(node.args[0])
        field = node.args[1]
        assert isinstance(field, Literal)
        attribute.add(Qualifier(node, field.value, is_optional=True))
        return self._attribute(attribute)

    def _conditional(self, node: Call) -> _Step:
        condition = self._plan(node.args[0])
        branches = (self._operand(node.args[1]), self._operand(node.args[2]))
        return self._attribute(Attribute(node, condition.run, branches))

    # --- literals ---------------------------------------------------------------------------------

    def _list(self, node: ListNode) -> _Step:
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

        return _Step(run)

    def _map(self, node: MapNode) -> _Step:
        parts = [(self._plan(key), self._plan(value), is_opt) for key, value, is_opt in node.entries]
        if all(key.is_constant and value.is_constant and not is_opt for key, value, is_opt in parts):
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
                        continue
                    value = value.value
                entries[to_key(key)] = value
            return entries

        def run(frame: Frame) -> Any:
            try:
                result = build(frame)
            except Fault as fault:
                result = Failure(fault.message, node)
            frame.charge(30)
            return result

        return _Step(run)

    # --- calls ------------------------------------------------------------------------------------

    def _call(self, node: Call) -> _Step:
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
            folded = self._membership(node, steps)
            if folded is not None:
                return folded
        if function in _CONVERSIONS and len(steps) == 1 and steps[0].is_constant:
            return _constant(self._invoke(node)([steps[0].value], Meter()))
        return self._strict(node, steps)

    def _logical(self, node: Call) -> _Step:
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

        return _Step(run)

    def _lazy_optional(self, node: Call, steps: list[_Step], is_value: bool) -> _Step:
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

        return _Step(run)

    def _not_strictly_false(self, step: _Step) -> _Step:
        def run(frame: Frame) -> Any:
            value = step.run(frame)
            frame.charge(1)
            return value if value.__class__ is bool else True

        return _Step(run)

    def _membership(self, node: Call, steps: list[_Step]) -> _Step | None:
        """`x in [literals]`: looked up, at no cost. None where an element is no primitive."""
        items = steps[1].value
        if not items:
            return _constant(False)
        if any(kind_of(item) not in _PRIMITIVES for item in items):
            return None
        run_value = steps[0].run

        def run(frame: Frame) -> Any:
            value = run_value(frame)
            if value.__class__ is Failure:
                return value
            return kind_of(value) in _PRIMITIVES and is_in(value, items)

        return _Step(run)

    def _strict(self, node: Call, steps: list[_Step]) -> _Step:
        invoke = self._invoke(node)
        runs = [step.run for step in steps]
        function = node.function
        id_ = node.overloads[0] if len(node.overloads) == 1 else ""
        id_ = {"_==_": "equals", "_!=_": "not_equals"}.get(function, id_)
        stops_early = len(runs) > 2
        if function in _REGEX and len(steps) > 1 and steps[1].is_constant:
            compiled(steps[1].value)
            stops_early = True
        is_expensive = is_charged_before(id_)
        has_unit_cost = not is_expensive and is_unit(function, id_)
        is_append = function == "_+_" and self._is_accumulator(node.args[0], list)

        def run(frame: Frame) -> Any:
            args: list[Any] = []
            failure: Failure | None = None
            for part in runs:
                value = part(frame)
                args.append(value)
                if failure is None and value.__class__ is Failure:
                    failure = value
                    if stops_early:
                        return failure
            if failure is not None:
                frame.charge(1 if has_unit_cost else call_cost(function, id_, args, failure))
                return failure
            if is_append and args[0].__class__ is list and args[1].__class__ is list:
                args[0].extend(args[1])
                frame.charge(1)
                return args[0]
            if is_expensive:
                frame.charge(cost_before(id_, args) or 0)
            try:
                result = invoke(args, frame.meter)
            except Fault as fault:
                result = Failure(fault.message, node)
            if has_unit_cost:
                frame.charge(1)
            elif not is_expensive:
                frame.charge(call_cost(function, id_, args, result))
            return result

        if all(step.is_constant for step in steps):
            return _Step(_remembered(run))
        return _Step(run)

    def _is_accumulator(self, node: Node, of: type) -> bool:
        """Whether the node reads the accumulator of a macro that builds a list or map."""
        if not isinstance(node, Ident) or not node.name.startswith("@result"):
            return False
        return node.type.kind == ("list" if of is list else "map")

    def _invoke(self, node: Call) -> Callable[[list[Any], Meter], Any]:
        """What the call does with its arguments. Raises Fault."""
        function = node.function
        if function == "_!=_":
            return _not_equal
        if function in ("_==_", "@in", "_+_"):
            operator = OPERATORS[function]
            return lambda args, meter: operator(args[0], args[1], meter)
        if function in OPERATORS:
            operator = OPERATORS[function]
            return lambda args, meter: operator(*args)
        if function == "cel.@mapInsert":
            return _map_insert
        return self._dispatch(node)

    def _dispatch(self, node: Call) -> Callable[[list[Any], Meter], Any]:
        """The overload is chosen by the values when the checker left several."""
        function = node.function
        is_plain = function in PLAIN_REFUSAL or (function == "matches" and isinstance(node.args[-1], Literal))
        candidates = [
            (overload.args, FUNCTIONS[overload.id])
            for overload in self._functions[function]
            if (overload.id in node.overloads if len(node.overloads) == 1 else True)
        ]

        def invoke(args: list[Any], meter: Meter) -> Any:
            for wanted, implementation in candidates:
                if len(wanted) == len(args) and all(map(fits, wanted, args)):
                    return implementation(*args)
            if is_plain:
                raise NoOverload
            if function == "matches":
                raise NoOverload("matches")
            raise NoOverload(f"{function}({', '.join(map(kind_of, args))})")

        return invoke

    # --- comprehensions ---------------------------------------------------------------------------

    def _fold(self, node: Fold) -> _Step:
        range_run = self._plan(node.range).run
        init = self._plan(node.init)
        accu_slot, first_slot, second_slot = self.slots, self.slots + 1, self.slots + 2
        self.slots += 3
        self._inits[accu_slot] = _fresh(init)
        depth = len(self._scopes)
        self._scopes.append((node.accu, accu_slot, True))
        self._scopes.append((node.variable, first_slot, False))
        if node.variable2 is not None:
            self._scopes.append((node.variable2, second_slot, False))
        condition, step = self._plan(node.condition).run, self._plan(node.step).run
        del self._scopes[depth + 1 :]
        result = self._plan(node.result).run
        del self._scopes[depth:]
        has_two = node.variable2 is not None

        def run(frame: Frame) -> Any:
            slots = frame.slots
            slots[accu_slot] = UNSET
            elements = range_run(frame)
            if elements.__class__ is Failure:
                return elements
            try:
                items = iterate_pairs(elements) if has_two else iterate(elements)
            except Fault as fault:
                return Failure(fault.message, node)
            for item in items:
                if has_two:
                    slots[first_slot], slots[second_slot] = item
                else:
                    slots[first_slot] = item
                goes_on = condition(frame)
                if goes_on is False:
                    break
                slots[accu_slot] = step(frame)
            return result(frame)

        return _Step(run)


def _constant(value: Any) -> _Step:
    return _Step(lambda frame: value, value=value, is_constant=True)


def _fresh(step: _Step) -> Run:
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


def _not_equal(args: list[Any], meter: Meter) -> bool:
    """A refusal to compare makes values unequal."""
    try:
        return not equal(args[0], args[1], meter)
    except NoOverload:
        return True


def _map_insert(args: list[Any], meter: Meter) -> Any:
    """Adds to the map in place: only macros call it, on their own accumulator."""
    target = args[0]
    if target.__class__ is not dict:
        raise NoOverload
    entries = {to_key(args[1]): args[2]} if len(args) == 3 else args[1]
    if entries.__class__ not in (dict, DeviceMap):
        raise NoOverload
    for key, value in entries.items():
        if key in target:
            raise Fault(f"insert failed: key {shown(key)} already exists")
        target[key] = value
    return target


def fits(wanted: Type, value: Any) -> bool:
    """Whether a value has a declared type, as far as cel-go looks: the first element of a container."""
    kind = wanted.kind
    if kind in ("param", "dyn", "any"):
        return True
    if kind == "list":
        return value.__class__ is list and (not value or fits(wanted.params[0], value[0]))
    if kind == "map":
        if value.__class__ not in (dict, DeviceMap):
            return False
        return all(
            fits(wanted.params[0], key) and fits(wanted.params[1], item)
            for key, item in list(value.items())[:1]
        )
    return kind_of(value) == _RUNTIME_NAMES.get(wanted.name, wanted.name)


_RUNTIME_NAMES = {
    "duration": "google.protobuf.Duration",
    "timestamp": "google.protobuf.Timestamp",
    "null": "null_type",
}
_CONVERSIONS = frozenset(
    ("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint")
)
_SMALL = frozenset((bool, int, Uint, float, str, Quantity, Version))
_SMALL_LENGTH = 1000
_PRIMITIVES = frozenset(("bool", "bytes", "double", "int", "string", "uint"))
_REGEX = frozenset(("matches", "find", "findAll"))
