"""`text.format([...])`: %s %d %f %e %b %o %x %X and %%, with a precision for %f.

As in cel-go the locale is American English: %f groups thousands, %e writes a power of ten.

Source: cel-go ext/formatting.go, which strings versions up to 3 use.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from drakit.cel.double import string_of_double
from drakit.cel.library.moment import format_duration, format_timestamp
from drakit.cel.value import DeviceMap, Duration, Fault, Timestamp, TypeValue, Uint, keys_of, kind_of
from drakit.model.quote import quoted

_CLAUSE = re.compile(r"%(?:%|(\.([0-9]*))?(.)?)", re.ASCII | re.DOTALL)
_MAX_PRECISION = 1000
_MAX_DEPTH = 100
_MAX_RESULT = 10_000_000
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_WANTED = {
    "s": "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, "
    "durations, and timestamps",
    "d": "decimal clause can only be used on integers",
    "f": "fixed-point clause can only be used on doubles",
    "e": "scientific clause can only be used on doubles",
    "b": "only integers and bools can be formatted as binary",
    "o": "octal clause can only be used on integers",
    "x": "only integers, byte buffers, and strings can be formatted as hex",
}


def clauses_of(text: str, count: int) -> Iterator[str]:
    """The verbs of the clauses of a format for `count` values, in order. Raises Fault as `format` would."""
    used = 0
    for match in _CLAUSE.finditer(text):
        if match.group() == "%%":
            continue
        if match.group() == "%":
            raise Fault("unexpected end of string")
        if used >= count:
            raise Fault(f"index {used} out of range")
        used += 1
        yield _verb(match)


def format(text: str, values: list[Any]) -> str:
    """Raises Fault for a clause that is none, or a value that does not suit it."""
    parts: list[str] = []
    position = used = length = 0
    for match in _CLAUSE.finditer(text):
        parts.append(text[position : match.start()])
        position = match.end()
        if match.group() == "%%":
            parts.append("%")
            continue
        if used >= len(values):
            raise Fault(f"index {used} out of range")
        parts.append(_clause(match, values[used]))
        used += 1
        length += len(parts[-1])
        if length > _MAX_RESULT:
            raise Fault("operation cancelled: the result of format is too long")
    return "".join(parts) + text[position:]


def _unparsed(reason: str) -> Fault:
    return Fault(f"could not parse formatting clause: {reason}")


def _verb(match: re.Match[str]) -> str:
    """The verb of a clause that is well-formed."""
    precision, digits, verb = match.groups()
    if precision is not None:
        if verb is None:
            raise _unparsed("error while parsing precision: could not find end of precision specifier")
        if not digits or len(digits) > 4 or int(digits) > _MAX_PRECISION:
            reason = "invalid syntax" if not digits else "value out of range"
            raise _unparsed(
                "error while parsing precision: error while converting precision to integer: "
                f'strconv.Atoi: parsing "{digits}": {reason}'
            )
    if verb not in _VERBS:
        first = chr(str(verb).encode("utf-8", "surrogatepass")[0])
        raise _unparsed(f'unrecognized formatting clause "{first}"')
    return str(verb)


def _clause(match: re.Match[str], value: Any) -> str:
    if match.group() == "%":
        raise Fault("unexpected end of string")
    return _VERBS[_verb(match)](value, int(match[2]) if match[2] else 6)


def _wrong(verb: str, value: Any) -> Fault:
    return refusal(verb, kind_of(value))


def refusal(verb: str, kind: str) -> Fault:
    """The error for a value of the type `kind`, which the clause of `verb` is not made for."""
    return Fault(f"error during formatting: {_WANTED[verb.lower()]}, was given {kind}")


def _text(value: Any, precision: int) -> str:
    if value.__class__ in (list, dict, DeviceMap):
        return _nested(value, _MAX_DEPTH)
    return _plain(value)


def _plain(value: Any) -> str:
    """A value that is no list or map, as its conversion to a string."""
    if value is None:
        return "null"
    kind = value.__class__
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is float:
        return string_of_double(value)
    if kind is bytes:
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError:
            reason = "invalid UTF-8 in bytes, cannot convert to string"
            raise Fault(f'error during formatting: could not convert argument "{reason}" to string') from None
    if kind is Timestamp:
        return format_timestamp(value)
    if kind is Duration:
        return format_duration(value)
    if kind in (int, Uint):
        return str(int(value))
    if kind is TypeValue:
        return str(value.name)
    raise _wrong("s", value)


def _nested(value: Any, depth: int) -> str:
    """A value inside a list or map, as a CEL literal."""
    if depth <= 0:
        raise Fault("error during formatting: the value is nested too deeply")
    kind = value.__class__
    if kind is list:
        return f"[{', '.join(_nested(item, depth - 1) for item in value)}]"
    if kind in (dict, DeviceMap):
        pairs = zip(keys_of(value), value.values(), strict=True)
        texts = sorted(
            ((_key(key), _nested(item, depth - 1)) for key, item in pairs), key=lambda pair: pair[0]
        )
        return f"{{{', '.join(f'{key}:{item}' for key, item in texts)}}}"
    if kind is float:
        if math.isfinite(value):
            return f"{value:.6f}"
        return '"NaN"' if value != value else ('"+Inf"' if value > 0 else '"-Inf"')
    if kind is str:
        return quoted(value)
    if kind is bytes:
        return f"b{quoted(_plain(value))}"
    if kind is Timestamp or kind is Duration:
        return f"{'timestamp' if kind is Timestamp else 'duration'}({quoted(_plain(value))})"
    if value is None or kind in (bool, int, Uint, TypeValue):
        return _plain(value)
    raise Fault(f"error during formatting: no formatting function for {kind_of(value)}")


def _key(key: Any) -> str:
    return quoted(key) if key.__class__ is str else _plain(key)


def _decimal(value: Any, precision: int) -> str:
    if value.__class__ in (int, Uint):
        return str(int(value))
    raise _wrong("d", value)


def _number(value: Any, verb: str) -> float | str:
    """The double, or how one that is not finite is written."""
    if value.__class__ is str and value in ("NaN", "Infinity", "-Infinity"):
        value = float(value)
    if value.__class__ is not float:
        raise _wrong(verb, value)
    if math.isfinite(value):
        return float(value)
    return "NaN" if value != value else ("∞" if value > 0 else "-∞")


def _fixed(value: Any, precision: int) -> str:
    number = _number(value, "f")
    return number if isinstance(number, str) else f"{number or 0.0:,.{precision}f}"


def _scientific(value: Any, precision: int) -> str:
    number = _number(value, "e")
    if isinstance(number, str):
        return number
    mantissa, exponent = f"{number or 0.0:.6e}".split("e")
    power = exponent.removeprefix("+").translate(_SUPERSCRIPT)
    # What should be the precision is taken for the width.
    return f"{mantissa}\u202f×\u202f10{power}".rjust(precision)


def _binary(value: Any, precision: int) -> str:
    if value.__class__ not in (bool, int, Uint):
        raise _wrong("b", value)
    return f"{int(value):b}"


def _octal(value: Any, precision: int) -> str:
    if value.__class__ not in (int, Uint):
        raise _wrong("o", value)
    return f"{int(value):o}"


def _hex(value: Any, precision: int) -> str:
    if value.__class__ in (int, Uint):
        return f"{int(value):x}"
    if value.__class__ is str:
        value = value.encode("utf-8", "surrogatepass")
    if value.__class__ is not bytes:
        raise _wrong("x", value)
    return str(value.hex())


_VERBS: dict[str, Callable[[Any, int], str]] = {
    "s": _text, "d": _decimal, "f": _fixed, "e": _scientific, "b": _binary, "o": _octal, "x": _hex,
    "X": lambda value, precision: _hex(value, precision).upper(),
}  # fmt: skip

FUNCTIONS: dict[str, Callable[..., Any]] = {"string_format": format}
