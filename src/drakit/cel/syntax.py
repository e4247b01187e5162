"""The syntax tree of an expression.

Macros are expanded while parsing, as cel-go does it, so the tree knows six kinds of node and a fold. Every
node carries `position`, where an error about it points (cel-go's choice: the operator, the opening
parenthesis), and `span`, the piece of source it came from. `number` is unique within a tree. The checker
fills in `type` and the overloads of calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from drakit.cel.types import ERROR, Type


class Node:
    """What all nodes have."""

    __slots__ = ("number", "position", "span", "type")

    def __init__(self, number: int, position: int, span: tuple[int, int]) -> None:
        self.number = number
        self.position = position
        self.span = span
        self.type: Type = ERROR

    def children(self) -> Sequence[Node]:
        """The direct parts, in the order of evaluation."""
        return ()


class Literal(Node):
    __slots__ = ("value",)

    def __init__(self, number: int, position: int, span: tuple[int, int], value: Any) -> None:
        super().__init__(number, position, span)
        self.value = value


class Ident(Node):
    __slots__ = ("name",)

    def __init__(self, number: int, position: int, span: tuple[int, int], name: str) -> None:
        super().__init__(number, position, span)
        self.name = name


class Select(Node):
    """`operand.field`, or with `is_test` the macro `has(operand.field)`."""

    __slots__ = ("field", "is_test", "operand")

    def __init__(
        self,
        number: int,
        position: int,
        span: tuple[int, int],
        operand: Node,
        field: str,
        is_test: bool = False,
    ) -> None:
        super().__init__(number, position, span)
        self.operand = operand
        self.field = field
        self.is_test = is_test

    def children(self) -> Sequence[Node]:
        return (self.operand,)


class Call(Node):
    """A function or operator (`_+_`, `_[_]`, `_?_:_`, ...). `target` is the receiver of a method call."""

    __slots__ = ("args", "function", "overloads", "target")

    def __init__(
        self,
        number: int,
        position: int,
        span: tuple[int, int],
        function: str,
        args: list[Node],
        target: Node | None = None,
    ) -> None:
        super().__init__(number, position, span)
        self.function = function
        self.target = target
        self.args = args
        self.overloads: tuple[str, ...] = ()

    def children(self) -> Sequence[Node]:
        return self.operands()

    def operands(self) -> list[Node]:
        """Target, if any, and arguments: what an implementation is given."""
        return self.args if self.target is None else [self.target, *self.args]


ALL_THERE: frozenset[int] = frozenset()
"""The optional items of a list that has none."""


class ListNode(Node):
    """`[a, ?b]`; `optional` has the indices written with a question mark."""

    __slots__ = ("items", "optional")

    def __init__(
        self, number: int, position: int, span: tuple[int, int], items: list[Node], optional: frozenset[int]
    ) -> None:
        super().__init__(number, position, span)
        self.items = items
        self.optional = optional

    def children(self) -> Sequence[Node]:
        return self.items


class MapNode(Node):
    """`{key: value, ?key: value}`; entries are (key, value, is optional)."""

    __slots__ = ("entries",)

    def __init__(
        self, number: int, position: int, span: tuple[int, int], entries: list[tuple[Node, Node, bool]]
    ) -> None:
        super().__init__(number, position, span)
        self.entries = entries

    def children(self) -> Sequence[Node]:
        return [part for key, value, _ in self.entries for part in (key, value)]


class MessageNode(MapNode):
    """`Object.spec{field: value}`: a map with a type; keys are literals."""

    __slots__ = ("name",)

    def __init__(
        self,
        number: int,
        position: int,
        span: tuple[int, int],
        entries: list[tuple[Node, Node, bool]],
        name: str,
    ) -> None:
        super().__init__(number, position, span, entries)
        self.name = name


class Fold(Node):
    """A comprehension: what the macros over lists and maps, and `cel.bind`, expand to.

    `accu` starts as `init` (evaluated when first read); for each element while `condition` holds it becomes
    `step`; then the value is `result`. `macro` names the macro, `predicate` and `transform` are the
    arguments as written.
    """

    __slots__ = (
        "accu", "condition", "init", "macro", "predicate", "range", "result", "step", "transform",
        "variable", "variable2",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        position: int,
        span: tuple[int, int],
        *,
        macro: str,
        range: Node,
        variable: str,
        variable2: str | None,
        accu: str,
        init: Node,
        condition: Node,
        step: Node,
        result: Node,
        predicate: Node | None = None,
        transform: Node | None = None,
    ) -> None:
        super().__init__(number, position, span)
        self.macro = macro
        self.range = range
        self.variable = variable
        self.variable2 = variable2
        self.accu = accu
        self.init = init
        self.condition = condition
        self.step = step
        self.result = result
        self.predicate = predicate
        self.transform = transform

    def children(self) -> Sequence[Node]:
        return (self.range, self.init, self.condition, self.step, self.result)


def walk(root: Node) -> Iterator[Node]:
    """Every node of the tree, parents first, left to right."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if parts := node.children():
            stack += parts[::-1]


def qualified_name(node: Node) -> str | None:
    """`a.b.c` when the node is a chain of names, else None."""
    parts: list[str] = []
    while isinstance(node, Select) and not node.is_test:
        parts.append(node.field)
        node = node.operand
    if not isinstance(node, Ident):
        return None
    parts.append(node.name)
    return ".".join(reversed(parts))
