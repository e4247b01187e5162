"""Statements for loops: a comprehension that goes round often becomes one Python function.

The function does what `Loop.go` does, costs to the unit included, with these savings:

- Costs known beforehand are added up here, and the limit is checked once a round.
- What does not depend on the variables of a loop is evaluated once for all its rounds; its cost is added
  each time. So an inner loop that is the same every time is gone through once.
- Integers are added and compared where they are; anything else goes through the planned call.

A node that is not known here is left to its planned step, with variables and cost handed over. A round
that passes the limit is finished first; nobody can tell, since evaluation has no effects but its cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from drakit.cel.attribute import UNSET, Failure, Frame, Run, Step
from drakit.cel.charge import tenth
from drakit.cel.loop import Loop
from drakit.cel.macro import ACCUMULATOR
from drakit.cel.operate import INT_MAX, INT_MIN, CostExceeded
from drakit.cel.syntax import Call, Fold, Ident, ListNode, Literal, Node, Select
from drakit.cel.value import DeviceMap

_WARM = 3000
"""About how many nodes are evaluated in a loop before statements are worth it."""
_MAX_NODES = 150
_MAX_LOOPS = 12
_MAX_INDENT = 70
_STEP_WORK, _NODE_WORK = 6, 6
_ARITHMETIC = {"_+_": "+", "_-_": "-", "_*_": "*"}
_ORDER = {"_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
_EQUALITY = {"_==_": "==", "_!=_": "!="}
_Steps = dict[int, Step]
_Fast = Callable[[Frame, list[Any]], Any]


def runner(loop: Loop, steps: _Steps) -> Run:
    """What evaluates the loop; `steps` has the planned nodes by number."""
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
            fast = _generate(loop, steps)
            return fast(frame, items)
        return loop.go(frame, items)

    return run


def is_accumulator(node: Node) -> bool:
    """Whether the node reads the accumulator of a macro that builds a list."""
    return isinstance(node, Ident) and node.name == ACCUMULATOR and node.type.kind == "list"


def _generate(loop: Loop, steps: _Steps) -> _Fast:
    writer = _Writer(steps)
    writer.line("S = frame.slots; M = frame.meter; c = frame.cost; L = frame.limit")
    writer.locals_at_start()
    result = writer.loop(loop, "items")
    writer.charge()
    writer.line("frame.cost = c")
    writer.line("if c > L: over(frame)")
    writer.line(f"return {result.text}")
    text = "\n".join(["def fast(frame, items):", *writer.finished()])
    namespace = {**_NAMESPACE, **writer.constants}
    exec(compile(text, "<loop>", "exec"), namespace)
    fast: _Fast = namespace["fast"]
    return fast


def _over(frame: Frame) -> None:
    frame.cost = frame.limit + 1
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
    "over": _over, "either": _disjunction, "refuse": _no_condition, "Failure": Failure, "U": UNSET,
    "sized": frozenset((str, bytes, list, dict, DeviceMap)), "tenth": tenth,
}  # fmt: skip


class _Term(NamedTuple):
    """A value: a name or literal of the generated code. `is_bool` says it is certainly true or false."""

    text: str
    is_bool: bool = False
    is_sure: bool = False
    """It is no error."""
    is_constant: bool = False
    value: Any = None


class _Writer:
    def __init__(self, steps: _Steps) -> None:
        self._steps = steps
        self.constants: dict[str, Any] = {}
        self._lines: list[str] = []
        self._indent = 1
        self._pending = 0
        self._count = 0
        self._left = _MAX_NODES
        self._loops = 0
        self._depth = 0
        self._places: dict[int, tuple[str, int]] = {}
        self._binds: dict[int, tuple[Loop, int]] = {}
        self._resets: dict[int, list[str]] = {}
        self._free: dict[int, frozenset[int]] = {}
        self._sizes: dict[int, int] = {}
        self._has_steps = False

    # --- text -------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        self._lines.append("  " * self._indent + text)

    def _name(self, prefix: str = "v") -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def _constant(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def charge(self) -> None:
        """Writes down what has been spent since the last time."""
        if self._pending:
            self.line(f"c += {self._pending}")
            self._pending = 0

    def locals_at_start(self) -> None:
        self._start = len(self._lines)
        self._resets[0] = []

    def finished(self) -> list[str]:
        self._lines[self._start : self._start] = [f"  {name} = U" for name in self._resets[0]]
        return self._lines

    # --- what a node depends on -------------------------------------------------------------------

    def _free_slots(self, node: Node) -> frozenset[int]:
        known = self._free.get(node.number)
        if known is None:
            step = self._steps.get(node.number)
            if step is not None and step.slot is not None:
                known = frozenset((step.slot,))
            else:
                parts = [self._free_slots(child) for child in node.children()]
                known = frozenset().union(*parts)
                if step is not None and step.loop is not None:
                    loop: Loop = step.loop
                    known -= {loop.accu_slot, loop.first_slot, loop.second_slot}
            self._free[node.number] = known
        return known

    def _size(self, node: Node) -> int:
        """How many nodes it has, those of loops inside it not counted, which tell the meter themselves."""
        known = self._sizes.get(node.number)
        if known is None:
            is_loop = isinstance(node, Fold) and node.macro != "bind"
            known = self._sizes[node.number] = 1 + (0 if is_loop else sum(map(self._size, node.children())))
        return known

    def _depth_of(self, node: Node) -> int:
        """The innermost loop whose variables the node reads."""
        depth = 0
        for slot in self._free_slots(node):
            if slot in self._places:
                depth = max(depth, self._places[slot][1])
            elif slot in self._binds:
                depth = max(depth, self._binds[slot][1])
        return depth

    # --- nodes ------------------------------------------------------------------------------------

    def _value(self, node: Node, is_branch: bool = False) -> _Term:
        """Writes what evaluates the node. The root of an attribute is free as a branch of `?:`."""
        step = self._steps[node.number]
        if step.is_constant:
            return self._literal(step.value)
        if isinstance(node, Ident) and step.slot is not None:
            return self._variable(node, step, is_branch)
        self._left -= 1
        if self._left < 0 or self._indent > _MAX_INDENT:
            return self._planned(node, step, is_branch)
        depth = self._depth_of(node)
        if depth < self._depth:
            return self._remembered(node, step, is_branch, depth)
        return self._evaluated(node, step, is_branch)

    def _evaluated(self, node: Node, step: Step, is_branch: bool) -> _Term:
        if isinstance(node, Call):
            if node.function in ("_&&_", "_||_"):
                return self._logical(node)
            if node.function == "_?_:_":
                return self._conditional(node)
            if node.function == "@not_strictly_false":
                term = self._value(node.args[0])
                self._pending += 1
                name = self._name()
                self.line(f"{name} = {term.text} if {term.text}.__class__ is bool else True")
                return _Term(name, is_bool=True, is_sure=True)
            if node.function == "_[_]":
                return self._index(node, step, is_branch)
            if node.function == "_+_" and is_accumulator(node.args[0]):
                return self._append(node, step)
            if step.call is not None:
                return self._call(node, step)
        if isinstance(node, Fold) and self._loops < _MAX_LOOPS:
            loop: Loop = step.loop
            return self._bind(loop) if node.macro == "bind" else self._inner(loop)
        if isinstance(node, Select):
            return self._select(node, step, is_branch)
        return self._planned(node, step, is_branch)

    def _literal(self, value: Any) -> _Term:
        text = repr(value) if value is None or value.__class__ is bool else self._constant(value)
        return _Term(text, is_bool=value.__class__ is bool, is_sure=True, is_constant=True, value=value)

    def _variable(self, node: Node, step: Step, is_branch: bool) -> _Term:
        slot = step.slot
        assert slot is not None
        place = self._places.get(slot)
        if place is None and slot not in self._binds:
            # A variable of a loop around this one, or a bound one: its step knows how to read it.
            return self._planned(node, step, is_branch)
        self._pending += not is_branch
        if place is not None:
            return _Term(place[0])
        name = self._name()
        loop, _ = self._binds[slot]
        self.charge()
        self.line(f"{name} = S[{slot}]")
        self.line(f"if {name} is U:")
        self.line(
            f"  frame.cost = c; {name} = S[{slot}] = {self._constant(loop.init)}(frame); c = frame.cost"
        )
        self._has_steps = True
        return _Term(name)

    def _planned(self, node: Node, step: Step, is_branch: bool) -> _Term:
        """Left to the step."""
        run = step.attribute.resolve if is_branch and step.attribute is not None else step.run
        self.charge()
        self._has_steps = True
        name = self._name()
        self.line(f"frame.cost = c; M.spend({_STEP_WORK + _NODE_WORK * self._size(node)})")
        self.line(f"{name} = {self._constant(run)}(frame)")
        self.line("c = frame.cost")
        return _Term(name)

    def _remembered(self, node: Node, step: Step, is_branch: bool, depth: int) -> _Term:
        """Evaluated once for each round of the loop at `depth`, charged every time."""
        self.charge()
        name, cost, before = self._name("m"), self._name("n"), self._name("b")
        self._resets[depth].append(name)
        self.line(f"if {name} is U:")
        outer, self._depth = self._depth, depth
        self._indent += 1
        self.line(f"{before} = c")
        term = self._evaluated(node, step, is_branch)
        self.charge()
        self.line(f"{name} = {term.text}; {cost} = c - {before}")
        self._indent -= 1
        self._depth = outer
        self.line(f"else: c += {cost}")
        return _Term(name, term.is_bool, term.is_sure)

    # --- operators --------------------------------------------------------------------------------

    def _logical(self, node: Call) -> _Term:
        decisive = node.function == "_||_"
        left = self._value(node.args[0])
        if left.is_constant and left.value is decisive:
            return left
        name = self._name()
        self.charge()
        self.line(f"if {left.text} is {decisive}: {name} = {decisive}")
        self.line("else:")
        self._indent += 1
        right = self._value(node.args[1])
        self.charge()
        both = f"either({left.text}, {right.text}, {decisive}, {self._constant(node)})"
        checks = [f"{term.text}.__class__ is bool" for term in (left, right) if not term.is_bool]
        if checks:
            self.line(f"{name} = {right.text} if {' and '.join(checks)} else {both}")
        else:
            self.line(f"{name} = {right.text}")
        self._indent -= 1
        return _Term(name, is_bool=not checks, is_sure=not checks)

    def _conditional(self, node: Call) -> _Term:
        test, first, second = node.args
        condition = self._value(test)
        name = self._name()
        self.charge()
        sure = []
        for word, branch in (
            (f"if {condition.text} is True:", first),
            (f"elif {condition.text} is False:", second),
        ):
            self.line(word)
            self._indent += 1
            term = self._value(branch, is_branch=True)
            self.charge()
            self.line(f"{name} = {term.text}")
            self._indent -= 1
            sure.append(term)
        self.line(f"else: {name} = refuse({condition.text}, {self._constant(node)})")
        return _Term(name)

    def _call(self, node: Call, step: Step) -> _Term:
        call = step.call
        assert call is not None
        operands = node.operands()[:1] if call.fixed_cost == 0 else node.operands()
        terms = [self._value(operand) for operand in operands]
        args = f"[{', '.join(term.text for term in terms)}]"
        name = self._name()
        if call.fixed_cost is not None:
            self._pending += call.fixed_cost
            plain = self._inline(node, terms)
            other = f"{self._constant(call.compute)}(frame, {args})"
            if plain is None:
                self.line(f"{name} = {other}")
            else:
                test, value, check = plain
                self.line(f"if {test}:")
                self.line(f"  {name} = {value}")
                if check:
                    self.line(f"  if not {INT_MIN} <= {name} <= {INT_MAX}: {name} = {other}")
                self.line(f"else: {name} = {other}")
            return _Term(name)
        self.charge()
        applied = f"frame.cost = c; {name} = {self._constant(call.apply)}(frame, {args}); c = frame.cost"
        if node.function in _EQUALITY:
            left, right = terms
            self.line(f"if {_are_ints(left, right)}:")
            self.line(f"  {name} = {left.text} {_EQUALITY[node.function]} {right.text}; c += 1")
            self.line(f"elif {left.text}.__class__ is str and {right.text}.__class__ is str:")
            self.line(f"  {name} = {left.text} {_EQUALITY[node.function]} {right.text}")
            self.line(f"  c += tenth(min(len({left.text}), len({right.text})))")
            self.line(f"else: {applied}")
        else:
            self.line(applied)
        return _Term(name)

    def _inline(self, node: Call, terms: list[_Term]) -> tuple[str, str, bool] | None:
        """(test, value, may overflow) for a call on integers or booleans."""
        function = node.function
        if function == "!_":
            return f"{terms[0].text}.__class__ is bool", f"not {terms[0].text}", False
        if function == "size" and len(terms) == 1:
            return f"{terms[0].text}.__class__ in sized", f"len({terms[0].text})", False
        if len(terms) != 2:
            return None
        left, right = terms
        operator = _ARITHMETIC.get(function) or _ORDER.get(function)
        if operator is None:
            return None
        return _are_ints(left, right), f"{left.text} {operator} {right.text}", function in _ARITHMETIC

    def _append(self, node: Call, step: Step) -> _Term:
        """`accumulator + [item]` in place."""
        added = node.args[1]
        if not isinstance(added, ListNode) or len(added.items) != 1 or added.optional:
            return self._planned(node, step, False)
        accu = self._value(node.args[0])
        if self._steps[added.number].is_constant:
            item = self._literal(self._steps[added.number].value[0])
        else:
            item = self._value(added.items[0])
            self._pending += 10
        self._pending += 1
        name = self._name()
        self.line(f"if {accu.text}.__class__ is Failure: {name} = {accu.text}")
        self.line(f"elif {item.text}.__class__ is Failure: {name} = {item.text}")
        self.line(f"else: {name} = {accu.text}; {name}.append({item.text})")
        return _Term(name)

    # --- attributes -------------------------------------------------------------------------------

    def _root(self, node: Node) -> str | None:
        """The name of a loop variable."""
        slot = self._steps[node.number].slot
        place = None if slot is None else self._places.get(slot)
        return None if place is None else place[0]

    def _select(self, node: Select, step: Step, is_branch: bool) -> _Term:
        root = None if node.is_test else self._root(node.operand)
        if root is None:
            return self._planned(node, step, is_branch)
        return self._qualified(node, step, is_branch, *_entry(root, node.field))

    def _index(self, node: Call, step: Step, is_branch: bool) -> _Term:
        container, index = node.args
        root, at = self._root(container), self._root(index)
        if root is not None and isinstance(index, Literal):
            if index.value.__class__ is int and index.value >= 0:
                test = f"{root}.__class__ is list and {index.value} < len({root})"
                return self._qualified(node, step, is_branch, test, f"{root}[{index.value}]")
            if index.value.__class__ is str:
                return self._qualified(node, step, is_branch, *_entry(root, index.value))
        if root is None or at is None:
            return self._planned(node, step, is_branch)
        test = f"{root}.__class__ is list and {at}.__class__ is int and 0 <= {at} < len({root})"
        return self._qualified(node, step, is_branch, test, f"{root}[{at}]")

    def _qualified(self, node: Node, step: Step, is_branch: bool, test: str, value: str) -> _Term:
        self.charge()
        name = self._name()
        self.line(f"if {test}:")
        self.line(f"  {name} = {value}; c += {1 if is_branch else 2}")
        self.line("else:")
        self._indent += 1
        term = self._planned(node, step, is_branch)
        self.line(f"{name} = {term.text}")
        self._indent -= 1
        return _Term(name)

    # --- loops ------------------------------------------------------------------------------------

    def _bind(self, loop: Loop) -> _Term:
        self._binds[loop.accu_slot] = (loop, self._depth)
        self.line(f"S[{loop.accu_slot}] = U")
        return self._value(loop.node.result)

    def _inner(self, loop: Loop) -> _Term:
        elements = self._value(loop.node.range)
        items, name = self._name("i"), self._name()
        self.charge()
        self.line(f"{items} = {self._constant(loop.elements)}({elements.text})")
        self.line(f"if {items}.__class__ is Failure: {name} = {items}")
        self.line("else:")
        self._indent += 1
        term = self.loop(loop, items)
        self.charge()
        self.line(f"{name} = {term.text}")
        self._indent -= 1
        return _Term(name)

    def loop(self, loop: Loop, items: str) -> _Term:
        """Goes through `items`, the name of a list."""
        accu, first, second = self._name("a"), self._name("x"), self._name("y")
        init = self._steps[loop.node.init.number].value
        fresh = f"{self._constant(init)}.copy()" if init.__class__ in (list, dict) else repr(init)
        self.charge()
        self.line(f"{accu} = {fresh}")
        self._loops += 1
        self._depth += 1
        depth = self._depth
        self._places[loop.accu_slot] = (accu, depth)
        self._places[loop.first_slot] = (first, depth)
        targets = first
        if loop.second_slot is not None:
            self._places[loop.second_slot] = (second, depth)
            targets = f"{first}, {second}"
        self.line(f"for {targets} in {items}:")
        self._indent += 1
        self._round(loop, accu, targets)
        self._indent -= 1
        self._depth -= 1
        self._loops -= 1
        self._places[loop.accu_slot] = (accu, self._depth)
        self.line(f"S[{loop.accu_slot}] = {accu}")
        return self._value(loop.node.result)

    def _round(self, loop: Loop, accu: str, targets: str) -> None:
        start = len(self._lines)
        outer = self._resets.get(self._depth)
        resets = self._resets[self._depth] = []
        condition = self._value(loop.node.condition)
        if not condition.is_constant:
            self.charge()
            self.line(f"if {condition.text} is False: break")
        step = self._value(loop.node.step)
        self.charge()
        self.line(f"{accu} = {step.text}")
        self.line("if c > L: over(frame)")
        before = [f"{name} = U" for name in resets]
        if self._has_steps:
            slots = [loop.first_slot] + ([] if loop.second_slot is None else [loop.second_slot])
            values = zip(slots, targets.split(", "), strict=True)
            before += [f"S[{slot}] = {name}" for slot, name in values] + [f"S[{loop.accu_slot}] = {accu}"]
        self._lines[start:start] = ["  " * self._indent + text for text in before]
        if outer is not None:
            self._resets[self._depth] = outer


def _entry(root: str, key: str) -> tuple[str, str]:
    """Test and value for an entry of a map."""
    return f"{root}.__class__ is dict and {key!r} in {root}", f"{root}[{key!r}]"


def _are_ints(left: _Term, right: _Term) -> str:
    tests = [f"{term.text}.__class__ is int" for term in (left, right) if term.value.__class__ is not int]
    return " and ".join(tests) or "True"
