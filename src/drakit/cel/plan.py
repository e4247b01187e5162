"""The exact path: cel-go's evaluation, errors, costs and all.

The tree is planned once into steps over a `Frame` (see `drakit.cel.step` and `drakit.cel.attribute`), as
cel-go's planner does it, because costs and error texts depend on it:

- A chain such as `device.attributes["a"].b` is one attribute with qualifiers.
- Lists and maps of literals, conversions of literals and `x in [literals]` are folded and cost nothing.
- An accumulator, and so a `cel.bind` variable, is evaluated when first read.

Source: cel-go interpreter/{planner,decorators}.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import structs

from drakit.cel import types
from drakit.cel.attribute import (
    KEY_CLASSES,
    Accumulator,
    Attribute,
    Computed,
    Conditional,
    DeviceVariable,
    Qualifier,
    Slot,
    Test,
    Variable,
    attribute_of,
)
from drakit.cel.call import REGEX, Functions, Operation, constant_value
from drakit.cel.frame import Constant, Plan, Step, Traced
from drakit.cel.library.regex import compiled
from drakit.cel.lookup import go_type
from drakit.cel.loop import Loop
from drakit.cel.macro import is_accumulator
from drakit.cel.step import (
    Appended,
    Copied,
    ListStep,
    Logical,
    MapStep,
    NotStrictlyFalse,
    Otherwise,
    Remembered,
    Stopping,
    Strict,
    membership,
)
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
from drakit.cel.value import Fault, TypeValue, to_key
from drakit.cel.warm import Bind, Comprehension


class Planner:
    """Plans a checked tree. Raises Fault where instantiating the program fails."""

    def __init__(self, functions: Functions, roots: frozenset[str], *, is_traced: bool = False) -> None:
        self._functions = functions
        self._roots = roots
        self._is_traced = is_traced
        self._scopes: list[tuple[str, int, bool]] = []
        self._inits: dict[int, Step] = {}
        self._steps: dict[int, Step] = {}
        self._operations: dict[tuple[str, tuple[str, ...], bool], Operation] = {}
        self._slots = 0
        self._has_loops = False

    def plan(self, root: Node) -> Plan:
        """How to evaluate the tree."""
        step = self._plan(root)
        return Plan(step, self._slots, self._steps if self._has_loops else {})

    def _plan(self, node: Node) -> Step:
        """What evaluates the node. `_steps` has it too, without what notes the value where that is traced."""
        step = self._steps[node.number] = _RULES[node.__class__](self, node)
        return Traced(step, node.number) if self._is_traced else step

    def _values(self, nodes: Sequence[Node]) -> list[Any] | None:
        """The values of planned nodes, where all are known."""
        values = []
        for node in nodes:
            step = self._steps[node.number]
            if not isinstance(step, Constant):
                return None
            values.append(step.value)
        return values

    # --- attributes -------------------------------------------------------------------------------

    def _literal(self, node: Literal) -> Step:
        return Constant(node.value)

    def _ident(self, node: Ident) -> Step:
        for name, slot, is_accu in reversed(self._scopes):
            if name == node.name:
                if node.type.kind == "type":
                    raise Fault(f"reference to undefined type: {node.name}")
                if is_accu:
                    return Accumulator(node, slot=slot, init=self._inits[slot])
                return Slot(node, slot=slot)
        return self._root(node, node.name) or Constant(TypeValue(node.name))

    def _root(self, node: Node, name: str) -> Step | None:
        """A variable that has a value; a name may have dots in it."""
        if name not in self._roots:
            return None
        return DeviceVariable(node) if name == "device" else Variable(node, name=name)

    def _attribute(self, node: Node) -> Attribute:
        """The attribute that a node is, to which qualifiers may be added, or that has its value."""
        step = self._plan(node)
        return attribute_of(self._steps[node.number]) or Computed(node, step=step)

    def _select(self, node: Select) -> Step:
        if node.type.kind == "type":
            return Constant(TypeValue(types.full(structs.replace(node.type.params[0], params=()))))
        name = qualified_name(node)
        if name is not None and (step := self._root(node, name)) is not None:
            return step
        attribute = self._attribute(node.operand)
        attribute.add(Qualifier(node, node.field, is_test=node.is_test))
        return Test(attribute) if node.is_test else attribute

    def _index(self, node: Call, is_optional: bool) -> Step:
        container, key = node.args
        attribute, dynamic = self._attribute(container), self._attribute(key)
        known = self._values([key])
        if known is None:
            qualifier = Qualifier(node, None, dynamic=dynamic, is_optional=is_optional)
        elif known[0].__class__ in KEY_CLASSES:
            qualifier = Qualifier(node, known[0], is_optional=is_optional)
        else:
            raise Fault(f"invalid qualifier type: {go_type(known[0])}")
        attribute.add(qualifier)
        return attribute

    def _optional_select(self, node: Call) -> Step:
        attribute = self._attribute(node.args[0])
        field = node.args[1]
        assert isinstance(field, Literal)
        attribute.add(Qualifier(node, field.value, is_optional=True))
        return attribute

    def _conditional(self, node: Call) -> Step:
        condition, first, second = node.args
        return Conditional(
            node, condition=self._plan(condition), branches=(self._attribute(first), self._attribute(second))
        )

    # --- literals ---------------------------------------------------------------------------------

    def _list(self, node: ListNode) -> Step:
        items = tuple([self._plan(item) for item in node.items])
        values = None if node.optional else self._values(node.items)
        return ListStep(node, items) if values is None else Constant(values)

    def _map(self, node: MapNode) -> Step:
        entries = tuple([(self._plan(key), self._plan(value), is_opt) for key, value, is_opt in node.entries])
        is_plain = not isinstance(node, MessageNode) and not any(is_opt for _, _, is_opt in entries)
        values = self._values(node.children()) if is_plain else None
        if values is None:
            return MapStep(node, entries)
        return Constant(dict(zip(map(to_key, values[::2]), values[1::2], strict=True)))

    # --- calls ------------------------------------------------------------------------------------

    def _call(self, node: Call) -> Step:
        function = node.function
        if function in ("_&&_", "_||_"):
            left, right = node.args
            return Logical(node, self._plan(left), self._plan(right), function == "_||_")
        if function == "_?_:_":
            return self._conditional(node)
        if function == "_[_]" or function == "_[?_]":
            return self._index(node, function == "_[?_]")
        if function == "_?._":
            return self._optional_select(node)
        operands = node.operands()
        steps = tuple([self._plan(operand) for operand in operands])
        if function in ("or", "orValue") and len(steps) == 2:
            return Otherwise(node, steps[0], steps[1], function == "orValue")
        if function == "@not_strictly_false":
            return NotStrictlyFalse(steps[0])
        if function == "@in" and node.overloads == ("in_list",):
            literals = self._values(operands[1:])
            if literals is not None:
                if not literals[0]:
                    return Constant(False)
                if (found := membership(steps[0], literals[0])) is not None:
                    return found
        known = self._values(operands)
        if function in _CONVERSIONS and len(steps) == 1 and known is not None:
            return Constant(constant_value(node, self._functions, known))
        step = self._strict(node, steps)
        return step if known is None else Remembered(step)

    def _strict(self, node: Call, steps: tuple[Step, ...]) -> Step:
        has_pattern = False
        if node.function in REGEX:
            for pattern in self._values(node.operands()[1:2]) or ():
                if pattern.__class__ is str:
                    compiled(pattern)
                    has_pattern = True
        operation = self._operation(node, has_pattern)
        # Macros build their lists by `accumulator + [item]`, which adds in place.
        is_appended = node.function == "_+_" and is_accumulator(node.args[0])
        call = (Appended if is_appended else Strict)(node, operation, steps)
        stops_early = has_pattern or len(steps) > 2 or operation.is_open or node.function == "format"
        return Stopping(call) if stops_early else call

    def _operation(self, node: Call, has_pattern: bool) -> Operation:
        key = node.function, node.overloads, has_pattern
        known = self._operations.get(key)
        if known is None:
            known = Operation(node.function, node.overloads, self._functions, has_pattern=has_pattern)
            self._operations[key] = known
        return known

    # --- comprehensions ---------------------------------------------------------------------------

    def _fold(self, node: Fold) -> Step:
        range = self._plan(node.range)
        was_traced = self._is_traced
        # Nobody is shown what goes on inside a loop.
        self._is_traced = was_traced and node.macro == "bind"
        slot = self._slots
        self._slots += 3
        init = self._inits[slot] = self._init(node)
        depth = len(self._scopes)
        self._scopes.append((node.accu, slot, True))
        self._scopes.append((node.variable, slot + 1, False))
        if node.variable2 is not None:
            self._scopes.append((node.variable2, slot + 2, False))
        before = len(self._steps)
        condition, step = self._plan(node.condition), self._plan(node.step)
        weight = len(self._steps) - before
        del self._scopes[depth + 1 :]
        result = self._plan(node.result)
        del self._scopes[depth:]
        self._is_traced = was_traced
        loop = Loop(
            node=node, accu_slot=slot, first_slot=slot + 1,
            second_slot=None if node.variable2 is None else slot + 2,
            range=range, init=init, condition=condition, step=step, result=result, weight=weight,
        )  # fmt: skip
        if node.macro == "bind":
            return Bind(loop)
        self._has_loops = True
        return Comprehension(loop)

    def _init(self, node: Fold) -> Step:
        """The first value of an accumulator."""
        step = self._plan(node.init)
        known = self._values([node.init])
        if known is not None and known[0].__class__ in (list, dict):
            return Copied(known[0])
        return step


_RULES: dict[type, Callable[[Planner, Any], Step]] = {
    Literal: Planner._literal, Ident: Planner._ident, Select: Planner._select, Call: Planner._call,
    ListNode: Planner._list, MapNode: Planner._map, MessageNode: Planner._map, Fold: Planner._fold,
}  # fmt: skip
_CONVERSIONS = frozenset(
    ("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint")
)
