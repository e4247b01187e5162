"""What a parser of this grammar expects at a place: for errors, in the words of the reference's parser.

It is told from the tokens before the place, so that parsing what is right keeps no account of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from drakit.cel.token import Token

_REST = "'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER"
_BINARY = frozenset(("==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "&&", "||", "?", ".", "["))
_CONSTANTS = frozenset(("true", "false", "null"))


def _ends_operand(token: Token) -> bool:
    kind, text = token[:2]
    return text in (")", "]", "}") if kind == "op" else text != "in"


def _enclosing(before: Sequence[Token]) -> list[str]:
    """What is open, outermost first: `(` a group, `f(` arguments, `[` a list, `x[` an index, `{` a map at a
    key, `{:` one at a value, `?` a choice before its colon."""
    stack: list[str] = []
    previous: Token | None = None
    for token in before:
        text = token[1] if token[0] == "op" else ""
        if text in ("(", "["):
            is_suffix = previous is not None and _ends_operand(previous)
            if text == "(" and previous is not None:
                is_suffix = previous[0] == "ident" and previous[1] not in _CONSTANTS | {"in"}
            stack.append({"(": "f(", "[": "x["}[text] if is_suffix else text)
        elif text == "{":
            stack.append("{")
        elif text == "?" and previous is not None and _ends_operand(previous):
            stack.append("?")
        elif text == ":" and stack and stack[-1] in ("?", "{"):
            if stack.pop() == "{":
                stack.append("{:")
        elif text == "," and stack and stack[-1] == "{:":
            stack[-1] = "{"
        elif text in (")", "]", "}") and stack:
            stack.pop()
        previous = token
    return stack


_AFTER = {
    "(": (")",), "f(": (")", ","), "[": ("]", ","), "x[": ("]",), "{": (":",), "{:": ("}", ","), "?": (":",),
}  # fmt: skip


def may_follow(token: Token, before: Sequence[Token], closing: str) -> bool:
    """Whether `token` could come after the missing `closing` of what is open."""
    stack = _enclosing(before)
    if closing == ":":
        return token[0] != "end" and (token[0] != "op" or token[1] in ("(", "[", "{", ".", "-", "!"))
    if stack:
        stack.pop()
    if (token[0] == "op" and token[1] in _BINARY) or (token[0] == "ident" and token[1] == "in"):
        return True
    if not stack:
        return token[0] == "end"
    return token[0] == "op" and token[1] in _AFTER[stack[-1]]


def operands(before: Sequence[Token]) -> str:
    """What may begin an operand after these tokens, with what else may be there."""
    wanted = {"'['", "'{'", "'('", "'.'", "'-'", "'!'"}
    order = ["'['", "']'", "'{'", "'}'", "'('", "')'", "'.'", "','", "'-'", "'!'", "'?'"]
    if before:
        stack, last = _enclosing(before), before[-1]
        if last[0] == "op" and stack:
            if last[1] == "(" and stack[-1] == "f(":
                wanted.add("')'")
            elif last[1] == "[":
                wanted |= {"'?'"} if stack[-1] == "x[" else {"']'", "','", "'?'"}
            elif last[1] == "{":
                wanted |= {"'}'", "','", "'?'"}
    return f"{{{', '.join(name for name in order if name in wanted)}, {_REST}}}"
