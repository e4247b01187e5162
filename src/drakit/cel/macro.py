"""The macros: calls that are rewritten while parsing.

The expansions are cel-go's, node for node, because costs count nodes. All nodes a macro makes point at the
call's opening parenthesis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.cel.source import Issue
from drakit.cel.syntax import ALL_THERE, Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select, walk

ACCUMULATOR = "@result"
_QUANTIFIERS = ("all", "exists", "exists_one", "existsOne")
_MAX_COPIED = 5000
"""Nodes that macros may copy."""
_TRANSFORMS = ("transformList", "transformMap", "transformMapEntry")


def is_accumulator(node: Node) -> bool:
    """Whether the node reads the accumulator of a macro that builds a list."""
    return isinstance(node, Ident) and node.name == ACCUMULATOR and node.type.kind == "list"


class _Wrong(Exception):
    """An argument a macro cannot have."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.issue: Issue = (position, message)


class Expander:
    """Expands the macros that exist; `number` gives new nodes their numbers. What is wrong with the arguments
    of one is added to `issues`."""

    def __init__(
        self,
        number: Callable[[], int],
        has_optionals: bool,
        has_two_variables: bool,
        has_sort_by: bool,
        has_bind: bool,
        issues: list[Issue],
    ) -> None:
        self._number = number
        self._has_optionals = has_optionals
        self._has_two_variables = has_two_variables
        self._has_sort_by = has_sort_by
        self._has_bind = has_bind
        self._issues = issues
        self._copied = 0

    def function(self, position: int, span: tuple[int, int], name: str, args: list[Node]) -> Node | None:
        """The expansion of `name(args)`, or None when it is no macro."""
        if name != "has" or len(args) != 1:
            return None
        operand = args[0]
        if not isinstance(operand, Select):
            self._issues.append((operand.position, "invalid argument to has() macro"))
            return Literal(self._number(), position, span, None)
        return Select(self._number(), position, span, operand.operand, operand.field, is_test=True)

    def method(
        self, position: int, span: tuple[int, int], target: Node, name: str, args: list[Node]
    ) -> Node | None:
        """The expansion of `target.name(args)`, or None when it is no macro."""
        try:
            return self._method(_Make(self._number, position, span), target, name, args)
        except _Wrong as wrong:
            self._issues.append(wrong.issue)
            return Literal(self._number(), position, span, None)

    def _method(self, make: _Make, target: Node, name: str, args: list[Node]) -> Node | None:
        count = len(args)
        if name == "bind" and count == 3 and isinstance(target, Ident) and target.name == "cel":
            return self._bind(make, args) if self._has_bind else None
        if count == 2 and name in _QUANTIFIERS and name != "existsOne":
            return self._quantifier(make, target, name, [self._variable(args[0])], args[1])
        if count in (2, 3) and name == "map":
            variable = self._variable(args[0], "argument is not an identifier")
            return self._list(make, target, name, [variable], args[1] if count == 3 else None, args[-1])
        if count == 2 and name == "filter":
            variable = self._variable(args[0], "argument is not an identifier")
            return self._list(make, target, name, [variable], args[1], args[0])
        if self._has_optionals and count == 2 and name in ("optMap", "optFlatMap"):
            return self._optional(
                make, target, name,
                self._variable(args[0], f"{name}() variable name must be a simple identifier"), args[1],
            )  # fmt: skip
        if self._has_two_variables:
            if count == 3 and name in _QUANTIFIERS:
                return self._quantifier(make, target, name, self._variables(args), args[2])
            if count in (3, 4) and name in _TRANSFORMS:
                predicate = args[2] if count == 4 else None
                variables = self._variables(args)
                if name == "transformList":
                    return self._list(make, target, name, variables, predicate, args[-1])
                return self._map(make, target, name, variables, predicate, args[-1])
        if self._has_sort_by and count == 2 and name == "sortBy":
            variable = self._variable(args[0], "argument is not an identifier")
            return self._sort_by(make, target, variable, args[1])
        return None

    def _variable(self, node: Node, message: str = "argument must be a simple name") -> str:
        if not isinstance(node, Ident):
            raise _Wrong(node.position, message)
        return node.name

    def _variables(self, args: list[Node]) -> list[str]:
        first, second = self._variable(args[0]), self._variable(args[1])
        if first == second:
            raise _Wrong(args[1].position, f"duplicate variable name: {second}")
        return [first, second]

    def _quantifier(self, make: _Make, target: Node, name: str, variables: list[str], test: Node) -> Node:
        accu = make.ident
        if name == "all":
            return make.fold(
                name, target, variables, make.literal(True),
                condition=make.call("@not_strictly_false", accu()),
                step=make.call("_&&_", accu(), test), result=accu(), predicate=test,
            )  # fmt: skip
        if name == "exists":
            return make.fold(
                name, target, variables, make.literal(False),
                condition=make.call("@not_strictly_false", make.call("!_", accu())),
                step=make.call("_||_", accu(), test), result=accu(), predicate=test,
            )  # fmt: skip
        step = make.call("_?_:_", test, make.call("_+_", accu(), make.literal(1)), accu())
        return make.fold(
            "exists_one", target, variables, make.literal(0), condition=make.literal(True), step=step,
            result=make.call("_==_", accu(), make.literal(1)), predicate=test,
        )  # fmt: skip

    def _list(
        self, make: _Make, target: Node, name: str, variables: list[str], test: Node | None, item: Node
    ) -> Node:
        step: Node = make.call("_+_", make.ident(), make.items(item))
        if test is not None:
            step = make.call("_?_:_", test, step, make.ident())
        return make.fold(
            name, target, variables, make.items(), condition=make.literal(True), step=step,
            result=make.ident(), predicate=test, transform=item,
        )  # fmt: skip

    def _map(
        self, make: _Make, target: Node, name: str, variables: list[str], test: Node | None, item: Node
    ) -> Node:
        key = [make.ident(variables[0])] if name == "transformMap" else []
        step: Node = make.call("cel.@mapInsert", make.ident(), *key, item)
        if test is not None:
            step = make.call("_?_:_", test, step, make.ident())
        return make.fold(
            name, target, variables, make.entries(), condition=make.literal(True), step=step,
            result=make.ident(), predicate=test, transform=item,
        )  # fmt: skip

    def _bind(self, make: _Make, args: list[Node]) -> Node:
        name = self._variable(args[0], "cel.bind() variable names must be simple identifiers")
        return make.bind(name, args[1], args[2])

    def _optional(self, make: _Make, target: Node, name: str, variable: str, body: Node) -> Node:
        """The target is there twice, so a chain of these doubles in size with each."""
        for _ in walk(target):
            self._copied += 1
            if self._copied > _MAX_COPIED:
                raise _Wrong(body.position, f"expression too large: {name}() copies what it is called on")
        value = make.bind(variable, make.method(target, "value"), body)
        present = value if name == "optFlatMap" else make.call("optional.of", value)
        return make.call("_?_:_", make.method(target, "hasValue"), present, make.call("optional.none"))

    def _sort_by(self, make: _Make, target: Node, variable: str, key: Node) -> Node:
        """The list is bound to a name so that it is evaluated once."""
        if isinstance(target, Literal | MapNode):
            kinds = "a list, identifier, comprehension, call or select expression"
            raise _Wrong(target.position, f"sortBy can only be applied to {kinds}")
        name = "@__sortBy_input__"
        keys = self._list(make, make.ident(name), "map", [variable], None, key)
        return make.bind(name, target, make.method(make.ident(name), "@sortByAssociatedKeys", keys))


class _Make:
    """Makes nodes at one place of the source."""

    def __init__(self, number: Callable[[], int], position: int, span: tuple[int, int]) -> None:
        self._number = number
        self._position = position
        self._span = span

    def literal(self, value: Any) -> Node:
        return Literal(self._number(), self._position, self._span, value)

    def ident(self, name: str = ACCUMULATOR) -> Node:
        return Ident(self._number(), self._position, self._span, name)

    def items(self, *items: Node) -> Node:
        return ListNode(self._number(), self._position, self._span, list(items), ALL_THERE)

    def entries(self) -> Node:
        return MapNode(self._number(), self._position, self._span, [])

    def call(self, function: str, *args: Node) -> Node:
        return Call(self._number(), self._position, self._span, function, list(args))

    def method(self, target: Node, function: str, *args: Node) -> Node:
        return Call(self._number(), self._position, self._span, function, list(args), target)

    def bind(self, name: str, value: Node, body: Node) -> Node:
        """A fold over nothing whose accumulator is the bound variable."""
        return Fold(
            self._number(), self._position, self._span, macro="bind", range=self.items(), variable="#unused",
            variable2=None, accu=name, init=value, condition=self.literal(False), step=self.ident(name),
            result=body, transform=body,
        )  # fmt: skip

    def fold(
        self, macro: str, range: Node, variables: list[str], init: Node, *, condition: Node, step: Node,
        result: Node, predicate: Node | None = None, transform: Node | None = None,
    ) -> Node:  # fmt: skip
        return Fold(
            self._number(), self._position, self._span, macro=macro, range=range, variable=variables[0],
            variable2=variables[1] if len(variables) > 1 else None, accu=ACCUMULATOR, init=init,
            condition=condition, step=step, result=result, predicate=predicate, transform=transform,
        )  # fmt: skip
