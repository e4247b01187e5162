"""Quantities as Kubernetes has them: `1536Mi`, `0.5`, `2e3`, exact to the nano.

A quantity is an integer times a power of ten together with the notation it was written in. Kubernetes
keeps it in one of two forms, a 64-bit integer with a scale or a big decimal, and some answers depend on
the form and not on the number alone: `1.0`, `1000m` and `1Pi` are no integers to it, `1` and `1Ti` are.
So the form is kept here as well. Comparison, equality and hash go by the number only.

Source: k8s.io/apimachinery/pkg/api/resource (quantity.go, amount.go, suffix.go). Two deliberate
differences: a number of more than 4,000 digits or an exponent above 4,000 is refused, where Kubernetes
would write it out in memory; and a value outside int64 saturates where Kubernetes may wrap.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache, total_ordering
from typing import Literal, Self

Format = Literal["BinarySI", "DecimalSI", "DecimalExponent"]

_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_MAX_DIGITS = 4000
_NANO = -9
_MALFORMED = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_BAD_NUMBER = "unable to parse numeric part of quantity"
_BAD_SUFFIX = "unable to parse quantity's suffix"

_PARTS = re.compile(r"([+-]?)0*+([0-9]*+)(\.([0-9]*+))?([eEinumkKMGTP]*+[-+]?[0-9]*+)", re.ASCII)
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = {exponent: suffix for suffix, exponent in _BINARY.items()}


@total_ordering
class Quantity:
    """An immutable quantity. `nano` is the exact number in units of 10^-9, `format` its notation.

    Its form is `unscaled` x 10^`scale`, `is_decimal` the big one. `str()` gives the text that Kubernetes
    gives. That text reads back as the same number wherever the canonical exponent has a suffix (below 10^21
    and always for the exponent notation).
    """

    __slots__ = ("_text", "format", "is_decimal", "nano", "scale", "unscaled")

    nano: int
    format: Format

    def __init__(
        self,
        unscaled: int,
        scale: int = 0,
        format: Format = "DecimalSI",
        *,
        is_decimal: bool | None = None,
        text: str | None = None,
    ) -> None:
        """The number `unscaled` x 10^`scale`, scale at least -9. `is_decimal` is the big form."""
        self.nano = unscaled * 10 ** (scale - _NANO)
        self.format = format
        self.unscaled = unscaled
        self.scale = scale
        self.is_decimal = not _fits(unscaled) if is_decimal is None else is_decimal
        self._text = text

    @classmethod
    def parse(cls, text: str) -> Self:
        """The quantity `text` stands for. Raises ValueError with Kubernetes' text."""
        if not text:
            raise ValueError(_MALFORMED)
        match = _PARTS.fullmatch(text)
        if match is None:
            raise ValueError(_MALFORMED)
        sign, whole, _, fraction, suffix = match.groups()
        whole, fraction = whole or "0", fraction or ""
        exponent, format = _interpret(suffix)
        if len(whole) + len(fraction) > _MAX_DIGITS or exponent > _MAX_DIGITS:
            raise ValueError("quantity out of range: at most 4000 digits, exponent at most 4000")
        digits = whole + fraction
        if _is_short(format, exponent, whole, fraction):
            unscaled, scale = int(digits), -len(fraction)
            if unscaled > _INT64_MAX:
                raise ValueError(_BAD_NUMBER)
            if format == "BinarySI":
                unscaled <<= exponent
                is_canonical = bool(int(digits) & 7)
            else:
                scale += exponent
                is_canonical = scale % 3 == 0 and digits[-3:] != "000" and digits[0] != "0"
            if unscaled <= _INT64_MAX:
                unscaled = -unscaled if sign == "-" else unscaled
                return cls(unscaled, scale, format, is_decimal=False, text=text if is_canonical else None)
        if not any("0" <= c <= "9" for c in text[: match.start(5)]):
            raise ValueError(_BAD_NUMBER)
        return cls._parse_long(sign == "-", digits, len(fraction), exponent, format)

    @classmethod
    def _parse_long(cls, is_negative: bool, digits: str, places: int, exponent: int, format: Format) -> Self:
        """The big form: rounded up to a nano, binary numbers capped at the largest int64."""
        number = int(digits)
        if not number:
            return cls(0, 0, format, is_decimal=True)
        if format == "BinarySI":
            number, shift = number << exponent, -places - _NANO
        else:
            shift = exponent - places - _NANO
        if shift >= 0:
            number *= 10**shift
        elif -shift > len(digits) + 30:
            number = 1
        else:
            number = -(-number // 10**-shift)
        scale = _NANO
        if format == "BinarySI":
            if number > _INT64_MAX * 10**9:
                number, scale = _INT64_MAX, 0
            elif number < 10**9:
                format = "DecimalSI"
        return cls(-number if is_negative else number, scale, format, is_decimal=True)

    @classmethod
    def of(cls, value: str | int | float | Quantity) -> Quantity:
        """The quantity of an API field, whose JSON may be a string or a number. Raises ValueError."""
        if isinstance(value, str):
            return parse_field(value)
        if isinstance(value, Quantity):
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise ValueError(_MALFORMED)
            text = repr(value)
            return parse_field(repr(int(value)) if value == int(value) and "e" not in text else text)
        return parse_field(str(int(value)))

    def __str__(self) -> str:
        if self._text is None:
            self._text = self._canonical()
        return self._text

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self.nano == other.nano if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: Quantity) -> bool:
        return self.nano < other.nano

    def __gt__(self, other: Quantity) -> bool:
        return self.nano > other.nano

    def __hash__(self) -> int:
        return hash(self.nano)

    def __add__(self, other: Quantity) -> Quantity:
        """The sum, in the notation of `self` unless that is zero."""
        return self._plus(other.unscaled, other, other.is_decimal)

    def __sub__(self, other: Quantity) -> Quantity:
        # The smallest int64 has no negative in the short form.
        return self._plus(-other.unscaled, other, other.is_decimal or other.unscaled == _INT64_MIN)

    def _plus(self, unscaled: int, other: Quantity, is_decimal: bool) -> Quantity:
        format = self.format if self.nano else other.format
        if not self.is_decimal and not is_decimal:
            if not unscaled:
                return Quantity(self.unscaled, self.scale, format)
            if not self.unscaled:
                return Quantity(unscaled, other.scale, format)
        scale = min(self.scale, other.scale)
        mine = self.unscaled * 10 ** (self.scale - scale)
        theirs = unscaled * 10 ** (other.scale - scale)
        is_short = not self.is_decimal and not is_decimal
        is_short = is_short and _fits(mine) and _fits(theirs) and _fits(mine + theirs)
        return Quantity(mine + theirs, scale, format, is_decimal=not is_short)

    @property
    def sign(self) -> int:
        return (self.nano > 0) - (self.nano < 0)

    @property
    def is_zero(self) -> bool:
        return not self.nano

    def value(self) -> int:
        """The number rounded away from zero to an integer, saturated to int64."""
        return self.scaled(0)

    def milli_value(self) -> int:
        """Thousandths, rounded away from zero, saturated to int64."""
        return self.scaled(-3)

    def scaled(self, scale: int) -> int:
        """The number in units of 10^`scale`, rounded away from zero, saturated to int64."""
        magnitude, unit = abs(self.nano), scale - _NANO
        amount: int = -(-magnitude // 10**unit) if unit >= 0 else magnitude * 10**-unit
        return max(_INT64_MIN, min(_INT64_MAX, amount if self.nano >= 0 else -amount))

    def as_int64(self) -> int | None:
        """The integer it is, or None: what has decimal places or the big form is none to Kubernetes."""
        if self.is_decimal or self.scale < 0:
            return None
        value = self.unscaled * 10**self.scale
        return value if _fits(value) else None

    def as_approximate_float(self) -> float:
        """As a double; beyond its range an infinity."""
        try:
            base = float(self.unscaled)
        except OverflowError:
            base = math.copysign(math.inf, self.unscaled)
        if not self.scale:
            return base
        return base * (float(f"1e{self.scale}") if self.scale <= 308 else math.inf)

    def _canonical(self) -> str:
        if not self.nano:
            return "0"
        format = self.format
        if format == "BinarySI" and (abs(self.nano) < 1024 * 10**9 or self.nano % 10**9):
            format = "DecimalSI"
        if format == "BinarySI":
            number, power = self.nano // 10**9, 0
            while number % 1024 == 0:
                number, power = number // 1024, power + 10
            return f"{number}{_BINARY_SUFFIX.get(power, '')}"
        number, exponent = self.nano, _NANO
        while number % 1000 == 0:
            number, exponent = number // 1000, exponent + 3
        if format == "DecimalExponent":
            return f"{number}e{exponent}" if exponent else str(number)
        return f"{number}{_DECIMAL_SUFFIX.get(exponent, '')}"


def _fits(number: int) -> bool:
    return _INT64_MIN <= number <= _INT64_MAX


def _interpret(suffix: str) -> tuple[int, Format]:
    """Exponent and notation of a suffix; the exponent is one of two for the binary notation."""
    if suffix in _DECIMAL:
        return _DECIMAL[suffix], "DecimalSI"
    if suffix in _BINARY:
        return _BINARY[suffix], "BinarySI"
    match = _EXPONENT.fullmatch(suffix)
    if match is None or len(match[1]) > 20 or not _fits(int(match[1])):
        raise ValueError(_BAD_SUFFIX)
    exponent = int(match[1]) & 0xFFFFFFFF
    return exponent - (1 << 32) if exponent >> 31 else exponent, "DecimalExponent"


def _is_short(format: Format, exponent: int, whole: str, fraction: str) -> bool:
    """Whether Kubernetes reads it straight into an int64: its estimate of the digits needed."""
    if format == "BinarySI":
        return not fraction and 14 - len(whole) - exponent * 3 // 10 >= 0
    return len(whole) + len(fraction) <= 18 and exponent - len(fraction) >= _NANO


@lru_cache(maxsize=8192)
def parse_field(text: str) -> Quantity:
    """`Quantity.of` for text, remembered."""
    return Quantity.parse(text.strip(" "))
