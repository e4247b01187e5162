"""From tokens to the syntax tree: recursive descent over CEL's grammar, macros expanded on the way.

    expression = or ["?" or ":" expression]
    or         = and {"||" and};  and = relation {"&&" relation}      balanced trees, as cel-go builds them
    relation   = sum {("<" "<=" ">" ">=" "==" "!=" "in") sum}
    sum        = product {("+" | "-") product};  product = unary {("*" | "/" | "%") unary}
    unary      = {"!"} member | {"-"} member
    member     = primary {"." name ["(" arguments ")"] | ".?" name | "[" ["?"] expression "]"}
    primary    = ["."] name ["(" arguments ")"] | "(" expression ")" | list | map | literal

Depth is counted the way cel-go does it: 250 levels of nested expressions, and 250 operators, selections,
indices and calls of methods on the way from the whole expression to any part of it.
"""

from __future__ import annotations

from typing import NoReturn

from drakit.cel.cursor import Cursor
from drakit.cel.macro import Expander
from drakit.cel.number import NUMBERS
from drakit.cel.repair import operands
from drakit.cel.source import compile_error
from drakit.cel.syntax import (
    ALL_THERE,
    Call,
    Ident,
    ListNode,
    Literal,
    MapNode,
    MessageNode,
    Node,
    Select,
    qualified_name,
)
from drakit.cel.token import Token

MAX_DEPTH = 250

_LEVELS: tuple[dict[str, str], ...] = (
    {},
    {"<": "_<_", "<=": "_<=_", ">": "_>_", ">=": "_>=_", "==": "_==_", "!=": "_!=_", "in": "@in"},
    {"+": "_+_", "-": "_-_"},
    {"*": "_*_", "/": "_/_", "%": "_%_"},
)
_BINARY = {op: (level, function) for level, ops in enumerate(_LEVELS) for op, function in ops.items()}
_RESERVED = frozenset((
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
    "namespace", "return", "var", "void", "while",
))  # fmt: skip
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def parse(
    source: str, *, has_optionals: bool, has_two_variables: bool, has_sort_by: bool, has_bind: bool
) -> tuple[Node, int]:
    """The tree of `source` and the number of its nodes. The flags say which macros and syntax exist.

    Raises CELError for text that is no expression.
    """
    parser = _Parser(source, has_optionals)
    parser.expander = Expander(
        parser.node_number, has_optionals, has_two_variables, has_sort_by, has_bind, parser.issues
    )
    try:
        root = parser.expression()
    finally:
        del parser.expander  # It knows the parser: a circle that only the garbage collector would end.
    token = parser.token
    if token[0] != "end":
        is_last = parser.tokens[parser.index + 1][0] == "end"
        what = "extraneous" if is_last else "mismatched"
        parser.fail(token[2], f"Syntax error: {what} input '{parser.text(token)}' expecting <EOF>")
    if parser.issues:
        raise compile_error(source, parser.issues)
    return root, parser.count


class _Parser(Cursor):
    expander: Expander

    def __init__(self, source: str, has_optionals: bool) -> None:
        super().__init__(source)
        self.count = 0
        self.depth = 0
        self.height = 0
        """Of the highest part of the node that is being parsed, as far as it is: operators and so on."""
        self.has_optionals = has_optionals

    def node_number(self) -> int:
        self.count += 1
        return self.count

    def too_deep(self) -> NoReturn:
        raise compile_error(
            self.source, [(self.token[2], f"expression recursion limit exceeded: {MAX_DEPTH}")]
        )

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.too_deep()
        siblings, self.height = self.height, 0
        start = self.token[2]
        node = self.logical(start)
        question = self.accept("?")
        if question is not None:
            if_true = self.logical(self.token[2])
            self.need(":")
            if_false = self.expression()
            node = self.call(question[2], start, "_?_:_", [node, if_true, if_false])
            self.higher()
        self.height = max(siblings, self.height)
        self.depth -= 1
        return node

    def higher(self) -> None:
        """Counts a level above the parts parsed so far."""
        self.height += 1
        if self.height > MAX_DEPTH:
            self.too_deep()

    def call(self, position: int, start: int, function: str, args: list[Node]) -> Call:
        return Call(self.node_number(), position, (start, self.end()), function, args)

    def logical(self, start: int) -> Node:
        """`or` and `and` at once."""
        alternatives: list[Node] = []
        or_positions: list[int] = []
        while True:
            terms = [self.binary(1)]
            and_positions: list[int] = []
            while (token := self.accept("&&")) is not None:
                and_positions.append(token[2])
                terms.append(self.binary(1))
            alternatives.append(self.balanced("_&&_", terms, and_positions) if and_positions else terms[0])
            bar = self.accept("||")
            if bar is None:
                break
            or_positions.append(bar[2])
        return self.balanced("_||_", alternatives, or_positions) if or_positions else alternatives[0]

    def balanced(self, function: str, terms: list[Node], positions: list[int]) -> Node:
        return self.halved(function, terms, positions, 0, len(positions) - 1)

    def halved(self, function: str, terms: list[Node], positions: list[int], low: int, high: int) -> Node:
        middle = (low + high + 1) // 2
        left = terms[middle] if middle == low else self.halved(function, terms, positions, low, middle - 1)
        right = (
            terms[middle + 1] if middle == high else self.halved(function, terms, positions, middle + 1, high)
        )
        span = (left.span[0], right.span[1])
        return Call(self.node_number(), positions[middle], span, function, [left, right])

    def binary(self, level: int) -> Node:
        siblings, self.height = self.height, 0
        start = self.token[2]
        node = self.unary()
        while True:
            token = self.token
            operator = _BINARY.get(token[1]) if token[0] in ("op", "ident") else None  # type: ignore[arg-type]
            if operator is None or operator[0] < level:
                break
            self.index += 1
            right = self.unary() if operator[0] == 3 else self.binary(operator[0] + 1)
            node = self.call(token[2], start, operator[1], [node, right])
            self.higher()
        self.height = max(siblings, self.height)
        return node

    def unary(self) -> Node:
        token = self.token
        if token[0] != "op" or token[1] not in ("!", "-"):
            return self.member()
        count = 0
        while self.accept(str(token[1])):
            count += 1
        following = self.token
        if token[1] == "-" and count == 1 and following[0] in ("int", "double"):
            return self.member(negative_from=token[2])
        operand = self.negative() if token[1] == "!" else self.member()
        if count % 2 == 0:
            return operand
        return self.call(token[2], token[2], "!_" if token[1] == "!" else "-_", [operand])

    def negative(self) -> Node:
        """A member that may begin with a negative number."""
        minus = self.token
        if minus[0] == "op" and minus[1] == "-" and self.tokens[self.index + 1][0] in ("int", "double"):
            self.index += 1
            return self.member(negative_from=minus[2])
        return self.member()

    def member(self, negative_from: int | None = None) -> Node:
        siblings, self.height = self.height, 0
        start = self.token[2] if negative_from is None else negative_from
        node = self.primary(negative_from)
        while True:
            token = self.token
            if token[0] != "op" or token[1] not in (".", "[", "{"):
                break
            if token[1] == "{":
                message = self.message(node, token, start)
                if message is None:
                    break
                node = message
                continue
            self.index += 1
            node = (
                self.selection(node, token, start) if token[1] == "." else self.index_of(node, token, start)
            )
            self.higher()
        self.height = max(siblings, self.height)
        return node

    def selection(self, node: Node, dot: Token, start: int) -> Node:
        is_optional = self.has_optionals and self.accept("?") is not None
        name = self.token
        if name[0] == "escaped":
            self.issues.append((name[2], "unsupported syntax: '`'"))
        elif name[0] != "ident" or name[1] in _CONSTANTS or name[1] == "in":
            text = "." if name[0] == "end" else self.source[dot[2] : name[3]]
            self.fail(name[2], f"Syntax error: no viable alternative at input '{text}'")
        self.index += 1
        field = str(name[1])
        if is_optional:
            literal = Literal(self.node_number(), name[2], (name[2], name[3]), field)
            return self.call(dot[2], start, "_?._", [node, literal])
        opening = self.accept("(")
        if opening is None:
            return Select(self.node_number(), dot[2], (start, name[3]), node, field)
        args = self.arguments()
        span = (start, self.end())
        expanded = self.expander.method(opening[2], span, node, field, args)
        return expanded or Call(self.node_number(), opening[2], span, field, args, node)

    def message(self, node: Node, brace: Token, start: int) -> MessageNode | None:
        """`name{field: value}` makes a message."""
        name = qualified_name(node)
        if name is None:
            return None
        self.index += 1
        entries: list[tuple[Node, Node, bool]] = []
        while not self.accept("}"):
            is_optional = self.has_optionals and self.accept("?") is not None
            field = self.token
            if field[0] != "ident":
                text = f"Syntax error: mismatched input '{self.text(field)}' expecting IDENTIFIER"
                self.fail(field[2], text)
            self.index += 1
            key = Literal(self.node_number(), field[2], (field[2], field[3]), str(field[1]))
            self.need(":")
            entries.append((key, self.expression(), is_optional))
            if not self.accept(","):
                self.close("}")
                break
        return MessageNode(self.node_number(), brace[2], (start, self.end()), entries, name)

    def index_of(self, node: Node, bracket: Token, start: int) -> Node:
        is_optional = self.has_optionals and self.accept("?") is not None
        index = self.expression()
        self.need("]")
        return self.call(bracket[2], start, "_[?_]" if is_optional else "_[_]", [node, index])

    def arguments(self) -> list[Node]:
        args: list[Node] = []
        if self.accept(")"):
            return args
        while True:
            args.append(self.expression())
            if not self.accept(","):
                self.need(")")
                return args

    def primary(self, negative_from: int | None) -> Node:
        token = self.token
        kind, value, start, end = token
        self.index += 1
        if kind in ("string", "bytes"):
            return Literal(self.node_number(), start, (start, end), value)
        if kind in NUMBERS:
            return self.number(token, negative_from)
        if kind == "ident":
            return self.name(token, start)
        if kind == "op":
            if value == "(":
                node = self.expression()
                self.need(")")
                return node
            if value == "[":
                return self.list(start)
            if value == "{":
                return self.map(start)
            if value == "." and self.token[0] == "ident":
                name = self.token
                if name[1] in _CONSTANTS or name[1] == "in":
                    text = f"Syntax error: mismatched input '{self.text(name)}' expecting IDENTIFIER"
                    self.fail(name[2], text)
                self.index += 1
                return self.name(name, start, dot=".")
        self.index -= 1
        expected = operands(self.tokens[: self.index])
        following = self.tokens[min(self.index + 1, len(self.tokens) - 1)]
        is_extra = self.starts_operand(self.index + 1) or f"'{following[1]!s}'" in expected
        what = "extraneous" if is_extra else "mismatched"
        self.fail(start, f"Syntax error: {what} input '{self.text(token)}' expecting {expected}")

    def starts_operand(self, index: int) -> bool:
        """Whether the token at `index` could begin an expression: then the one before it is called
        extraneous, else mismatched, as the reference's parser recovers."""
        kind, value, *_ = self.tokens[min(index, len(self.tokens) - 1)]
        return kind != "end" and (kind != "op" or value in ("(", "[", "{", ".", "-", "!"))

    def name(self, token: Token, start: int, dot: str = "") -> Node:
        """A name, a call or a constant. The dot before a name stays with it: it is told in errors, and no
        macro has one."""
        name = str(token[1])
        if name in _CONSTANTS:
            return Literal(self.node_number(), token[2], (token[2], token[3]), _CONSTANTS[name])
        if name == "in":
            expected = operands(self.tokens[: self.index - 1])
            self.fail(token[2], f"Syntax error: extraneous input 'in' expecting {expected}")
        is_reserved = name in _RESERVED
        if is_reserved:
            self.issues.append((start, f"reserved identifier: {name}"))
        opening = self.accept("(")
        name = dot + name
        if opening is None:
            if is_reserved:
                return Literal(self.node_number(), start, (start, token[3]), None)
            return Ident(self.node_number(), token[2], (start, token[3]), name)
        args = self.arguments()
        span = (start, self.end())
        expanded = self.expander.function(opening[2], span, name, args)
        return expanded or Call(self.node_number(), opening[2], span, name, args)

    def number(self, token: Token, negative_from: int | None) -> Literal:
        kind, text, start, end = token
        position = start if negative_from is None else negative_from
        sign = "" if negative_from is None else "-"
        try:
            value = NUMBERS[kind](sign + str(text))
        except ValueError:
            self.issues.append((position, f"invalid {kind} literal"))
            value = 0
        return Literal(self.node_number(), position, (position, end), value)

    def list(self, start: int) -> ListNode:
        items: list[Node] = []
        optional: list[int] = []
        while not self.accept("]"):
            if self.accept(","):
                self.need("]")
                break
            if self.has_optionals and self.accept("?"):
                optional.append(len(items))
            items.append(self.expression())
            if not self.continues("]"):
                break
        indices = frozenset(optional) if optional else ALL_THERE
        return ListNode(self.node_number(), start, (start, self.end()), items, indices)

    def map(self, start: int) -> MapNode:
        entries: list[tuple[Node, Node, bool]] = []
        while not self.accept("}"):
            if self.accept(","):
                self.need("}")
                break
            is_optional = self.has_optionals and self.accept("?") is not None
            key = self.expression()
            self.need(":")
            entries.append((key, self.expression(), is_optional))
            if not self.continues("}"):
                break
        return MapNode(self.node_number(), start, (start, self.end()), entries)

    def continues(self, closing: str) -> bool:
        """Past an element of a list or map: whether there is another one, or else past its end."""
        if not self.accept(","):
            self.close(closing)
            return False
        if self.starts_operand(self.index) or (self.has_optionals and self.at("?")):
            return True
        self.need(closing)
        return False
