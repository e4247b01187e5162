"""From text to tokens.

A token is (kind, text, start, end); `text` of a string or bytes token is its value. Kinds: ident, int, uint,
double, string, bytes, op, end. Positions count code points.
"""

from __future__ import annotations

import re

from drakit.cel.source import Issue, compile_error

Token = tuple[str, "str | bytes", int, int]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<quote>(?:[bB]?[rR]?)(?:'''|\"\"\"|'|"))
    |(?P<ident>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<double>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<uint>(?:0x[0-9a-fA-F]+|[0-9]+)[uU])
    |(?P<int>0x[0-9a-fA-F]+|[0-9]+)
    |(?P<op>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.ASCII,
)
_BODY = {quote: re.compile(rf"(?:[^\\{quote}\n\r]|\\.)*+{quote}", re.ASCII) for quote in ("'", '"')} | {
    quote: re.compile(rf"(?s:(?:[^\\]|\\.)*?){quote}", re.ASCII) for quote in ("'''", '"""')
}
_RAW_BODY = {quote: re.compile(rf"[^{quote}\n\r]*+{quote}", re.ASCII) for quote in ("'", '"')} | {
    quote: re.compile(rf"(?s:.*?){quote}", re.ASCII) for quote in ("'''", '"""')
}
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\"'\\?`])|[xX]([0-9a-fA-F]{2})|([0-3][0-7]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|)",
    re.ASCII,
)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def tokenize(source: str, issues: list[Issue]) -> list[Token]:
    """All tokens of `source` and a last one of kind end. What is no token is noted in `issues` and left out.
    Raises CELError for text in quotes that is wrong."""
    tokens: list[Token] = []
    position, length = 0, len(source)
    match_token = _TOKEN.match
    while position < length:
        match = match_token(source, position)
        if match is None:
            position = _unknown(source, position, issues)
            continue
        kind, end = match.lastgroup, match.end()
        if kind == "quote":
            token = _string(source, position, match.group())
            tokens.append(token)
            end = token[3]
        elif kind != "space":
            assert kind is not None
            tokens.append((kind, match.group(), position, end))
        position = end
    tokens.append(("end", "<EOF>", length, length))
    return tokens


def _unknown(source: str, position: int, issues: list[Issue]) -> int:
    """Where to go on after what is no token: half an operator is noted with what follows it, and as an error
    of its own."""
    end = position + 1 + (source[position] in "=&|")
    text = source[position:end].replace("\n", "\\n")
    issues.append((position, f"Syntax error: token recognition error at: '{text}'"))
    return end


def _string(source: str, start: int, opening: str) -> Token:
    quote = opening.lstrip("bBrR")
    prefix = opening[: -len(quote)].lower()
    bodies = _RAW_BODY if "r" in prefix else _BODY
    match = bodies[quote].match(source, start + len(opening))
    if match is None:
        line_end = source.find("\n", start)
        text = source[start : line_end if line_end >= 0 else len(source)]
        raise compile_error(source, [(start, f"Syntax error: token recognition error at: '{text}'")])
    body = match.group()[: -len(quote)]
    if "\\" in body and "r" not in prefix:
        return _unescape(source, start, body, "b" in prefix, match.end())
    if "b" in prefix:
        return ("bytes", body.encode("utf-8", "surrogatepass"), start, match.end())
    return ("string", body, start, match.end())


def _unescape(source: str, start: int, body: str, is_bytes: bool, end: int) -> Token:
    parts: list[bytes] = []
    text: list[str] = []
    position = 0
    for match in _ESCAPE.finditer(body):
        if match.start() < position:
            continue
        plain = body[position : match.start()]
        simple, hexadecimal, octal, short, long = match.groups()
        if simple is not None:
            value, is_code_point = ord(_SIMPLE.get(simple, simple)), False
        elif hexadecimal is not None or octal is not None:
            value, is_code_point = int(hexadecimal, 16) if hexadecimal else int(octal, 8), False
        elif short is not None or long is not None:
            value, is_code_point = int(short or long, 16), True
        else:
            raise compile_error(source, [(start, "Syntax error: token recognition error: unknown escape")])
        if value > 0x10FFFF or 0xD800 <= value < 0xE000 or (is_bytes and is_code_point):
            raise compile_error(source, [(start, "invalid string literal: invalid unicode code point")])
        if is_bytes:
            parts += (plain.encode("utf-8", "surrogatepass"), bytes((value,)))
        else:
            text += (plain, chr(value))
        position = match.end()
    if is_bytes:
        return ("bytes", b"".join(parts) + body[position:].encode("utf-8", "surrogatepass"), start, end)
    return ("string", "".join(text) + body[position:], start, end)
