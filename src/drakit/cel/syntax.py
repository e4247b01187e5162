"""The syntax tree of an expression.

Macros are expanded while parsing, as cel-go does it, so the tree knows six kinds of node and a fold. Every
node carries `position`, where an error about it points (cel-go's choice: the operator, the opening
parenthesis), and `span`, the piece of source it came from. `number` is unique within a tree. The checker
fills in `type` and the overloads of calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from drakit.cel.types import ERROR, Type


class Placed(Struct, eq=False, gc=False):
    """Where a node is. Trees have no circles, so the garbage collector need not know their nodes."""

    number: int
    position: int
    span: tuple[int, int]


class Node(Placed, eq=False, gc=False, kw_only=True):
    """What all nodes have."""

    type: Type = ERROR

    def children(self) -> Sequence[Node]:
        """The direct parts, in the order of evaluation."""
        return ()


class Literal(Node, eq=False, gc=False):
    value: Any


class Ident(Node, eq=False, gc=False):
    name: str


class Select(Node, eq=False, gc=False):
    """`operand.field`, or with `is_test` the macro `has(operand.field)`."""

    operand: Node
    field: str
    is_test: bool = False

    def children(self) -> Sequence[Node]:
        return (self.operand,)


class Call(Node, eq=False, gc=False):
    """A function or operator (`_+_`, `_[_]`, `_?_:_`, ...). `target` is the receiver of a method call."""

    function: str
    args: list[Node]
    target: Node | None = None
    overloads: tuple[str, ...] = ()

    def children(self) -> Sequence[Node]:
        return self.operands()

    def operands(self) -> list[Node]:
        """Target, if any, and arguments: what an implementation is given."""
        return self.args if self.target is None else [self.target, *self.args]


ALL_THERE: frozenset[int] = frozenset()
"""The optional items of a list that has none."""


class ListNode(Node, eq=False, gc=False):
    """`[a, ?b]`; `optional` has the indices written with a question mark."""

    items: list[Node]
    optional: frozenset[int]

    def children(self) -> Sequence[Node]:
        return self.items


class MapNode(Node, eq=False, gc=False):
    """`{key: value, ?key: value}`; entries are (key, value, is optional)."""

    entries: list[tuple[Node, Node, bool]]

    def children(self) -> Sequence[Node]:
        return [part for key, value, _ in self.entries for part in (key, value)]


class MessageNode(MapNode, eq=False, gc=False):
    """`Object.spec{field: value}`: a map with a type; keys are literals."""

    name: str


class Fold(Node, eq=False, gc=False, kw_only=True):
    """A comprehension: what the macros over lists and maps, and `cel.bind`, expand to.

    `accu` starts as `init` (evaluated when first read); for each element while `condition` holds it becomes
    `step`; then the value is `result`. `macro` names the macro, `predicate` and `transform` are the
    arguments as written.
    """

    macro: str
    range: Node
    variable: str
    variable2: str | None
    accu: str
    init: Node
    condition: Node
    step: Node
    result: Node
    predicate: Node | None = None
    transform: Node | None = None

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
