"""What Go's JSON decoder says about text that is no JSON. Source: encoding/json, scanner.go.

The scanner goes byte by byte through states; a state is a method that takes a byte and sets the next one.
"""

from __future__ import annotations

from collections.abc import Callable

from drakit.model.validation.field import quoted

_SPACE = b" \t\r\n"
_HEX = b"0123456789abcdefABCDEF"
_DIGITS = b"0123456789"
_END = "unexpected end of JSON input"
_MAX_DEPTH = 10_000


class _Syntax(Exception):
    """The text ends being JSON here."""


def json_problem(body: bytes) -> str:
    """The error for `body`; "" if Go takes it."""
    scanner = _Scanner()
    try:
        for byte in body:
            scanner.step(byte)
        if not scanner.is_done:
            scanner.step(0x20)
    except _Syntax as error:
        return str(error)
    return "" if scanner.is_done else _END


class _Scanner:
    def __init__(self) -> None:
        self.step: Callable[[int], None] = self._value
        self._stack: list[str] = []
        self._rest = b""
        self._word = ""

    @property
    def is_done(self) -> bool:
        return self.step == self._end and not self._stack

    def _refuse(self, byte: int, context: str) -> None:
        char = chr(byte)
        shown = "\\'" if char == "'" else '"' if char == '"' else quoted(char)[1:-1]
        raise _Syntax(f"invalid character '{shown}' {context}")

    def _push(self, where: str) -> None:
        self._stack.append(where)
        if len(self._stack) > _MAX_DEPTH:
            raise _Syntax("exceeded max depth")

    def _value(self, byte: int) -> None:
        if byte in _SPACE:
            return
        if byte == 0x7B:
            self._push("object key")
            self.step = self._key_or_end
        elif byte == 0x5B:
            self._push("array element")
            self.step = self._value_or_end
        elif byte == 0x22:
            self.step = self._string
        elif byte == 0x2D:
            self.step = self._minus
        elif byte == 0x30:
            self.step = self._whole
        elif byte in _DIGITS:
            self.step = self._digits
        elif byte in b"tfn":
            self._word = {0x74: "true", 0x66: "false", 0x6E: "null"}[byte]
            self._rest = self._word[1:].encode()
            self.step = self._literal
        else:
            self._refuse(byte, "looking for beginning of value")

    def _value_or_end(self, byte: int) -> None:
        if byte in _SPACE:
            return
        if byte == 0x5D:
            self._end(byte)
        else:
            self.step = self._value
            self._value(byte)

    def _key_or_end(self, byte: int) -> None:
        if byte in _SPACE:
            return
        if byte == 0x7D:
            self._stack[-1] = "object key:value pair"
            self._end(byte)
        else:
            self.step = self._key
            self._key(byte)

    def _key(self, byte: int) -> None:
        if byte in _SPACE:
            return
        if byte != 0x22:
            self._refuse(byte, "looking for beginning of object key string")
        self.step = self._string

    def _end(self, byte: int) -> None:
        """Behind a value."""
        self.step = self._end
        if byte in _SPACE:
            return
        where = self._stack[-1] if self._stack else "top-level value"
        if where == "object key" and byte == 0x3A:
            self._stack[-1] = "object key:value pair"
            self.step = self._value
        elif where == "object key:value pair" and byte == 0x2C:
            self._stack[-1] = "object key"
            self.step = self._key
        elif where == "array element" and byte == 0x2C:
            self.step = self._value
        elif (where, byte) in (("object key:value pair", 0x7D), ("array element", 0x5D)):
            self._stack.pop()
        else:
            self._refuse(byte, f"after {where}")

    def _string(self, byte: int) -> None:
        if byte == 0x22:
            self.step = self._end
        elif byte == 0x5C:
            self.step = self._escape
        elif byte < 0x20:
            self._refuse(byte, "in string literal")

    def _escape(self, byte: int) -> None:
        if byte == 0x75:
            self._rest = b"1234"
            self.step = self._hexadecimal
        elif byte in b'bfnrt\\/"':
            self.step = self._string
        else:
            self._refuse(byte, "in string escape code")

    def _hexadecimal(self, byte: int) -> None:
        if byte not in _HEX:
            self._refuse(byte, "in \\u hexadecimal character escape")
        self._rest = self._rest[1:]
        if not self._rest:
            self.step = self._string

    def _literal(self, byte: int) -> None:
        if byte != self._rest[0]:
            self._refuse(byte, f"in literal {self._word} (expecting '{chr(self._rest[0])}')")
        self._rest = self._rest[1:]
        if not self._rest:
            self.step = self._end

    def _minus(self, byte: int) -> None:
        if byte not in _DIGITS:
            self._refuse(byte, "in numeric literal")
        self.step = self._whole if byte == 0x30 else self._digits

    def _digits(self, byte: int) -> None:
        if byte not in _DIGITS:
            self._whole(byte)

    def _whole(self, byte: int) -> None:
        """Behind the digits before the point."""
        if byte == 0x2E:
            self.step = self._point
        else:
            self._fraction_end(byte)

    def _point(self, byte: int) -> None:
        if byte not in _DIGITS:
            self._refuse(byte, "after decimal point in numeric literal")
        self.step = self._fraction

    def _fraction(self, byte: int) -> None:
        if byte not in _DIGITS:
            self._fraction_end(byte)

    def _fraction_end(self, byte: int) -> None:
        if byte in b"eE":
            self.step = self._exponent
        else:
            self._end(byte)

    def _exponent(self, byte: int) -> None:
        self.step = self._exponent_start
        if byte not in b"+-":
            self._exponent_start(byte)

    def _exponent_start(self, byte: int) -> None:
        if byte not in _DIGITS:
            self._refuse(byte, "in exponent of numeric literal")
        self.step = self._exponent_digits

    def _exponent_digits(self, byte: int) -> None:
        if byte not in _DIGITS:
            self._end(byte)


def summary(body: bytes) -> str:
    """A broken body as errors quote it: its beginning, in hexadecimal unless it looks like JSON."""
    if not body:
        return "<empty>"
    start = body[:30]
    shown = start.decode("utf-8", "replace") if body[:1] == b"{" else start.hex()
    return f"{shown} ..." if len(body) > len(start) else shown
