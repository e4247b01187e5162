"""Statements for loops: a comprehension that goes round often becomes one Python function.

The function does what `Loop.go` does, costs to the unit included, with these savings:

- Costs known beforehand are added up here, and the limit is checked once a round.
- What does not depend on the variables of a loop is evaluated once for all its rounds; its cost is added
  each time. So an inner loop that is the same every time is gone through once.
- Integers are added and compared where they are; anything else goes through the planned call.

A node that is not known here is left to its planned step, with variables and cost handed over. A round
that passes the limit is finished first, and then gone through again step by step, for the cost at which it
passed it; nobody can tell, since evaluation has no effects but its cost.
"""

from __future__ import annotations

from typing import Any

from drakit.cel.arithmetic import INT_MAX, INT_MIN
from drakit.cel.attribute import Slot, attribute_of
from drakit.cel.dependence import Dependence
from drakit.cel.frame import Constant, Step
from drakit.cel.loop import Loop, Looped
from drakit.cel.macro import is_accumulator
from drakit.cel.statements import Open, Statements, Term, are_ints, entry_test
from drakit.cel.step import Applied
from drakit.cel.syntax import Call, Fold, Ident, ListNode, Literal, Node, Select

_MAX_NODES = 150
_MAX_LOOPS = 12
_MAX_INDENT = 70
_STEP_WORK, _NODE_WORK = 6, 4
_ARITHMETIC = {"_+_": "+", "_-_": "-", "_*_": "*"}
_ORDER = {"_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
_EQUALITY = {"_==_": "==", "_!=_": "!="}
Steps = dict[int, Step]


def function_of(loop: Loop, steps: Steps, text: Statements) -> list[str]:
    """The lines of `fast(frame, items)`, which goes through `items` and gives the value."""
    return ["def fast(frame, items):", *_Writer(steps, text).function(loop)]


class _Writer:
    def __init__(self, steps: Steps, text: Statements) -> None:
        self._steps = steps
        self._text = text
        self._nodes = Dependence(steps)
        self._left = _MAX_NODES
        self._loops = 0
        self._depth = 0
        self._open: list[Open] = []
        self._resets: dict[int, list[str]] = {}
        self._has_steps = False

    def function(self, loop: Loop) -> list[str]:
        """The lines of a function that goes through `items` and gives the value."""
        self._text.line("S = frame.slots; M = frame.meter; c = frame.cost; L = frame.limit")
        start = len(self._text.lines)
        resets = self._resets[0] = []
        result = self._loop(loop, "items")
        self._text.charge()
        self._text.line("frame.cost = c")
        # The rounds stayed within the limit, and what follows the last goes up by 1 at a time.
        self._text.line("if c > L: frame.cost = L + 1; raise Exceeded")
        self._text.line(f"return {result.text}")
        self._text.lines[start:start] = [f"  {name} = U" for name in resets]
        return self._text.lines

    # --- nodes ------------------------------------------------------------------------------------

    def _value(self, node: Node, is_branch: bool = False) -> Term:
        """Writes what evaluates the node. The root of an attribute is free as a branch of `?:`."""
        step = self._steps[node.number]
        if isinstance(step, Constant):
            return self._literal(step.value)
        if isinstance(node, Ident) and isinstance(step, Slot):
            return self._variable(node, step, is_branch)
        self._left -= 1
        if self._left < 0 or self._text.indent > _MAX_INDENT:
            return self._planned(node, step, is_branch)
        depth = self._nodes.depth_of(node)
        if depth < self._depth:
            return self._remembered(node, step, is_branch, depth)
        return self._evaluated(node, step, is_branch)

    def _evaluated(self, node: Node, step: Step, is_branch: bool) -> Term:
        if isinstance(node, Call):
            if node.function in ("_&&_", "_||_"):
                return self._logical(node)
            if node.function == "_?_:_":
                return self._conditional(node)
            if node.function == "@not_strictly_false":
                term = self._value(node.args[0])
                self._text.pending += 1
                name = self._text.name()
                self._text.line(f"{name} = {term.text} if {term.text}.__class__ is bool else True")
                return Term(name, is_bool=True, is_sure=True)
            if node.function == "_[_]":
                return self._index(node, step, is_branch)
            if node.function == "_+_" and is_accumulator(node.args[0]):
                return self._append(node, step)
            if isinstance(step, Applied):
                return self._call(node, step)
        if isinstance(node, Fold) and isinstance(step, Looped) and self._loops < _MAX_LOOPS:
            return self._bind(step.loop) if node.macro == "bind" else self._inner(step.loop)
        if isinstance(node, Select):
            return self._select(node, step, is_branch)
        return self._planned(node, step, is_branch)

    def _literal(self, value: Any) -> Term:
        text = repr(value) if value is None or value.__class__ is bool else self._text.constant(value)
        return Term(text, is_bool=value.__class__ is bool, is_sure=True, is_constant=True, value=value)

    def _variable(self, node: Node, step: Slot, is_branch: bool) -> Term:
        slot = step.slot
        place = self._nodes.places.get(slot)
        if place is None and slot not in self._nodes.binds:
            # A variable of a loop around this one, or a bound one: its step knows how to read it.
            return self._planned(node, step, is_branch)
        self._text.pending += not is_branch
        if place is not None:
            return Term(place[0])
        name = self._text.name()
        loop, _ = self._nodes.binds[slot]
        self._text.charge()
        self._text.line(f"{name} = S[{slot}]")
        self._text.line(f"if {name} is U:")
        self._text.indent += 1
        self._check(is_handed=True)
        init = f"{self._text.constant(loop.init.run)}(frame)"
        self._text.line(f"frame.cost = c; {name} = S[{slot}] = {init}; c = frame.cost")
        self._text.indent -= 1
        self._has_steps = True
        return Term(name)

    def _planned(self, node: Node, step: Step, is_branch: bool) -> Term:
        """Left to the step."""
        attribute = attribute_of(step) if is_branch else None
        run = step.run if attribute is None else attribute.resolve
        self._text.charge()
        self._has_steps = True
        name = self._text.name()
        self._check(is_handed=True)
        self._text.line(f"frame.cost = c; M.spend({_STEP_WORK + _NODE_WORK * self._nodes.size(node)})")
        self._text.line(f"{name} = {self._text.constant(run)}(frame)")
        self._text.line("c = frame.cost")
        return Term(name)

    def _remembered(self, node: Node, step: Step, is_branch: bool, depth: int) -> Term:
        """Evaluated once for each round of the loop at `depth`, charged every time."""
        self._text.charge()
        name, cost, before = self._text.name("m"), self._text.name("n"), self._text.name("b")
        self._resets[depth].append(name)
        self._text.line(f"if {name} is U:")
        outer, self._depth = self._depth, depth
        self._text.indent += 1
        self._text.line(f"{before} = c")
        term = self._evaluated(node, step, is_branch)
        self._text.charge()
        self._text.line(f"{name} = {term.text}; {cost} = c - {before}")
        self._text.indent -= 1
        self._depth = outer
        self._text.line(f"else: c += {cost}")
        return Term(name, term.is_bool, term.is_sure)

    # --- operators --------------------------------------------------------------------------------

    def _logical(self, node: Call) -> Term:
        decisive = node.function == "_||_"
        left = self._value(node.args[0])
        if left.is_constant and left.value is decisive:
            return left
        name = self._text.name()
        self._text.charge()
        self._text.line(f"if {left.text} is {decisive}: {name} = {decisive}")
        self._text.line("else:")
        self._text.indent += 1
        right = self._value(node.args[1])
        self._text.charge()
        both = f"either({left.text}, {right.text}, {decisive}, {self._text.constant(node)})"
        checks = [f"{term.text}.__class__ is bool" for term in (left, right) if not term.is_bool]
        if checks:
            self._text.line(f"{name} = {right.text} if {' and '.join(checks)} else {both}")
        else:
            self._text.line(f"{name} = {right.text}")
        self._text.indent -= 1
        return Term(name, is_bool=not checks, is_sure=not checks)

    def _conditional(self, node: Call) -> Term:
        test, first, second = node.args
        condition = self._value(test)
        name = self._text.name()
        self._text.charge()
        sure = []
        for word, branch in (
            (f"if {condition.text} is True:", first),
            (f"elif {condition.text} is False:", second),
        ):
            self._text.line(word)
            self._text.indent += 1
            term = self._value(branch, is_branch=True)
            self._text.charge()
            self._text.line(f"{name} = {term.text}")
            self._text.indent -= 1
            sure.append(term)
        self._text.line(f"else: {name} = refuse({condition.text}, {self._text.constant(node)})")
        return Term(name)

    def _call(self, node: Call, call: Applied) -> Term:
        operands = node.operands()[:1] if call.fixed_cost == 0 else node.operands()
        terms = [self._value(operand) for operand in operands]
        args = f"[{', '.join(term.text for term in terms)}]"
        name = self._text.name()
        if call.fixed_cost is not None:
            self._text.pending += call.fixed_cost
            plain = self._inline(node, terms)
            other = f"{self._text.constant(call.compute)}(frame, {args})"
            if plain is None:
                self._text.line(f"{name} = {other}")
            else:
                test, value, check = plain
                self._text.line(f"if {test}:")
                self._text.line(f"  {name} = {value}")
                if check:
                    self._text.line(f"  if not {INT_MIN} <= {name} <= {INT_MAX}: {name} = {other}")
                self._text.line(f"else: {name} = {other}")
            return Term(name)
        self._text.charge()
        if node.function in _EQUALITY:
            left, right = terms
            self._text.line(f"if {are_ints(left, right)}:")
            self._text.line(f"  {name} = {left.text} {_EQUALITY[node.function]} {right.text}; c += 1")
            self._text.line(f"elif {left.text}.__class__ is str and {right.text}.__class__ is str:")
            self._text.line(f"  {name} = {left.text} {_EQUALITY[node.function]} {right.text}")
            self._text.line(f"  c += tenth(min(len({left.text}), len({right.text})))")
            self._text.line("else:")
            self._text.indent += 1
            self._apply(call, name, args)
            self._text.indent -= 1
        else:
            self._apply(call, name, args)
        return Term(name)

    def _apply(self, call: Applied, name: str, args: str) -> None:
        """Writes down a call that may cost anything."""
        self._check()
        applied = f"{self._text.constant(call.apply)}(frame, {args})"
        self._text.line(f"frame.cost = c; {name} = {applied}; c = frame.cost")

    def _inline(self, node: Call, terms: list[Term]) -> tuple[str, str, bool] | None:
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
        return are_ints(left, right), f"{left.text} {operator} {right.text}", function in _ARITHMETIC

    def _append(self, node: Call, step: Step) -> Term:
        """`accumulator + [item]` in place."""
        added = node.args[1]
        if not isinstance(added, ListNode) or len(added.items) != 1 or added.optional:
            return self._planned(node, step, False)
        accu = self._value(node.args[0])
        made = self._steps[added.number]
        if isinstance(made, Constant):
            item = self._literal(made.value[0])
        else:
            item = self._value(added.items[0])
            self._text.pending += 10
        self._text.pending += 1
        name = self._text.name()
        self._text.line(f"if {accu.text}.__class__ is Failure: {name} = {accu.text}")
        self._text.line(f"elif {item.text}.__class__ is Failure: {name} = {item.text}")
        self._text.line(f"else: {name} = {accu.text}; {name}.append({item.text})")
        return Term(name)

    # --- attributes -------------------------------------------------------------------------------

    def _root(self, node: Node) -> str | None:
        """The name of a loop variable."""
        step = self._steps[node.number]
        if not isinstance(node, Ident) or not isinstance(step, Slot):
            return None
        place = self._nodes.places.get(step.slot)
        return None if place is None else place[0]

    def _select(self, node: Select, step: Step, is_branch: bool) -> Term:
        root = None if node.is_test else self._root(node.operand)
        if root is None:
            return self._planned(node, step, is_branch)
        return self._qualified(node, step, is_branch, *entry_test(root, node.field))

    def _index(self, node: Call, step: Step, is_branch: bool) -> Term:
        container, index = node.args
        root, at = self._root(container), self._root(index)
        if root is not None and isinstance(index, Literal):
            if index.value.__class__ is int and index.value >= 0:
                test = f"{root}.__class__ is list and {index.value} < len({root})"
                return self._qualified(node, step, is_branch, test, f"{root}[{index.value}]")
            if index.value.__class__ is str:
                return self._qualified(node, step, is_branch, *entry_test(root, index.value))
        if root is None or at is None:
            return self._planned(node, step, is_branch)
        test = f"{root}.__class__ is list and {at}.__class__ is int and 0 <= {at} < len({root})"
        return self._qualified(node, step, is_branch, test, f"{root}[{at}]")

    def _qualified(self, node: Node, step: Step, is_branch: bool, test: str, value: str) -> Term:
        self._text.charge()
        name = self._text.name()
        self._text.line(f"if {test}:")
        self._text.line(f"  {name} = {value}; c += {1 if is_branch else 2}")
        self._text.line("else:")
        self._text.indent += 1
        term = self._planned(node, step, is_branch)
        self._text.line(f"{name} = {term.text}")
        self._text.indent -= 1
        return Term(name)

    # --- loops ------------------------------------------------------------------------------------

    def _bind(self, loop: Loop) -> Term:
        self._nodes.binds[loop.accu_slot] = (loop, self._depth)
        self._text.line(f"S[{loop.accu_slot}] = U")
        return self._value(loop.node.result)

    def _inner(self, loop: Loop) -> Term:
        elements = self._value(loop.node.range)
        items, name = self._text.name("i"), self._text.name()
        self._text.charge()
        self._text.line(f"{items} = {self._text.constant(loop.elements)}({elements.text})")
        self._text.line(f"if {items}.__class__ is Failure: {name} = {items}")
        self._text.line("else:")
        self._text.indent += 1
        term = self._loop(loop, items)
        self._text.charge()
        self._text.line(f"{name} = {term.text}")
        self._text.indent -= 1
        return Term(name)

    def _loop(self, loop: Loop, items: str) -> Term:
        """Goes through `items`, the name of a list."""
        accu, first, second = self._text.name("a"), self._text.name("x"), self._text.name("y")
        init = self._steps[loop.node.init.number]
        assert isinstance(init, Constant)
        is_made = init.value.__class__ in (list, dict)
        fresh = f"{self._text.constant(init.value)}.copy()" if is_made else repr(init.value)
        self._text.charge()
        self._text.line(f"{accu} = {fresh}")
        self._loops += 1
        self._depth += 1
        depth = self._depth
        self._nodes.places[loop.accu_slot] = (accu, depth)
        self._nodes.places[loop.first_slot] = (first, depth)
        targets = first
        if loop.second_slot is not None:
            self._nodes.places[loop.second_slot] = (second, depth)
            targets = f"{first}, {second}"
        self._text.line(f"for {targets} in {items}:")
        self._text.indent += 1
        self._open.append(Open(loop, targets, accu, self._text.name("z")))
        self._round(loop, accu, targets)
        self._open.pop()
        self._text.indent -= 1
        self._depth -= 1
        self._loops -= 1
        self._nodes.places[loop.accu_slot] = (accu, self._depth)
        self._text.line(f"S[{loop.accu_slot}] = {accu}")
        return self._value(loop.node.result)

    def _round(self, loop: Loop, accu: str, targets: str) -> None:
        start = len(self._text.lines)
        outer = self._resets.get(self._depth)
        resets = self._resets[self._depth] = []
        condition = self._value(loop.node.condition)
        if not condition.is_constant:
            self._text.charge()
            self._text.line(f"if {condition.text} is False:")
            self._text.indent += 1
            self._check()
            self._text.line("break")
            self._text.indent -= 1
        step = self._value(loop.node.step)
        self._text.charge()
        self._check()
        self._text.line(f"{accu} = {step.text}")
        before = [f"{self._open[-1].cost} = c"] + [f"{name} = U" for name in resets]
        if self._has_steps:
            before += [*self._open[-1].handed(), f"S[{loop.accu_slot}] = {accu}"]
        self._text.lines[start:start] = ["  " * self._text.indent + text for text in before]
        if outer is not None:
            self._resets[self._depth] = outer

    def _check(self, is_handed: bool = False) -> None:
        """Writes down what is done where the innermost loop's round has passed the limit; `is_handed` where
        planned steps have the variables anyhow."""
        if not self._open:
            return
        loop, _, accu, cost = self._open[-1]
        over = f"over(frame, {cost}, {self._text.constant(loop)})"
        if is_handed:
            self._text.line(f"if c > L: {over}")
            return
        self._text.line("if c > L:")
        handed = [text for each in self._open for text in each.handed()]
        for text in (*handed, f"S[{loop.accu_slot}] = {accu}", over):
            self._text.line(f"  {text}")
