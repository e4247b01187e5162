"""From text to tokens.

A token is (kind, text, start, end); `text` of a string or bytes token is its value. Kinds: ident, int, uint,
double, string, bytes, escaped, op, end. Positions count code points.
"""

from __future__ import annotations

import re

from drakit.cel.source import Issue

Token = tuple[str, "str | bytes", int, int]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<quote>(?:[bB]?[rR]?)(?:'''|\"\"\"|'|"))
    |(?P<ident>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<escaped>`[A-Za-z0-9_./\ -]+`)
    |(?P<double>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<uint>(?:0x[0-9a-fA-F]+|[0-9]+)[uU])
    |(?P<int>0x[0-9a-fA-F]+|[0-9]+)
    |(?P<op>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPED = re.compile(r"[A-Za-z0-9_./\ -]*", re.ASCII)
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
_BEGINNING = {
    quote: re.compile(
        rf"""(?:[^\\{quote}\n\r]|\\(?:[abfnrtv"'\\?`]|[xX][0-9a-fA-F]{{2}}|[0-3][0-7]{{2}}"""
        r"""|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))*+"""
        r"""(?:\\(?:[xX][0-9a-fA-F]?|[0-3][0-7]?|u[0-9a-fA-F]{0,3}|U[0-9a-fA-F]{0,7})?)?""",
        re.ASCII,
    )
    for quote in ("'", '"')
}  # fmt: skip
"""What a text in quotes can begin with: the character after it is wrong."""
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def tokenize(source: str, issues: list[Issue]) -> list[Token]:
    """All tokens of `source` and a last one of kind end. What is none is noted in `issues` and left out."""
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
            token = _string(source, position, match.group(), issues)
            if token is None:
                position = _broken(source, position, match.group(), tokens, issues)
                continue
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
    if source[position] == "`":
        match = _ESCAPED.match(source, position + 1)
        assert match is not None
        end = min(match.end() + 1, len(source))
    else:
        end = position + 1 + (source[position] in "=&|")
    text = source[position:end].replace("\n", "\\n")
    issues.append((position, f"Syntax error: token recognition error at: '{text}'"))
    return end


def _string(source: str, start: int, opening: str, issues: list[Issue]) -> Token | None:
    """The text in quotes, or None where it does not end or has an escape that is none."""
    quote = opening.lstrip("bBrR")
    prefix = opening[: -len(quote)].lower()
    bodies = _RAW_BODY if "r" in prefix else _BODY
    match = bodies[quote].match(source, start + len(opening))
    if match is None:
        return None
    body = match.group()[: -len(quote)]
    if "\\" in body and "r" not in prefix:
        return _unescape(start, body, "b" in prefix, match.end(), issues)
    if "b" in prefix:
        return ("bytes", body.encode("utf-8", "surrogatepass"), start, match.end())
    return ("string", body, start, match.end())


def _broken(source: str, start: int, opening: str, tokens: list[Token], issues: list[Issue]) -> int:
    """Where to go on after a quote that begins no text: after what can be made of its beginning."""
    quote = opening.lstrip("bBrR")
    prefix = opening[: -len(quote)]
    if len(quote) == 3:
        # The first two quotes are a text of their own, an empty one.
        end = start + len(prefix) + 2
        tokens.append(("bytes", b"", start, end) if "b" in prefix.lower() else ("string", "", start, end))
        return end
    if prefix:
        tokens.append(("ident", prefix, start, start + len(prefix)))
        return start + len(prefix)
    match = _BEGINNING[quote].match(source, start + 1)
    assert match is not None
    end = min(match.end() + 1, len(source))
    text = source[start:end].replace("\n", "\\n").replace("\r", "\\r")
    issues.append((start, f"Syntax error: token recognition error at: '{text}'"))
    return end


def _unescape(start: int, body: str, is_bytes: bool, end: int, issues: list[Issue]) -> Token | None:
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
            return None
        if is_bytes and is_code_point:
            issues.append((start, "unable to unescape string"))
            break
        if value > 0x10FFFF or 0xD800 <= value < 0xE000:
            issues.append((start, "invalid unicode code point"))
            break
        if is_bytes:
            parts += (plain.encode("utf-8", "surrogatepass"), bytes((value,)))
        else:
            text += (plain, chr(value))
        position = match.end()
    if is_bytes:
        return ("bytes", b"".join(parts) + body[position:].encode("utf-8", "surrogatepass"), start, end)
    return ("string", "".join(text) + body[position:], start, end)
