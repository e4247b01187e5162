"""`text.format([...])`: %s %d %f %e %b %o %x %X and %%, with a precision for %f and %e."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from drakit.cel.library.convert import string_of_double
from drakit.cel.library.moment import format_duration, format_timestamp
from drakit.cel.value import DeviceMap, Duration, Fault, Timestamp, TypeValue, Uint, keys_of, kind_of

_CLAUSE = re.compile(r"%(?:%|(\.([0-9]*))?([A-Za-z])?)", re.ASCII)
_MAX_PRECISION = 1000
_MAX_DEPTH = 100
_MAX_RESULT = 10_000_000


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


def _clause(match: re.Match[str], value: Any) -> str:
    verb = match[3]
    if verb is None:
        raise Fault("could not parse formatting clause: unexpected end of string")
    if match[1] is not None and (not match[2] or len(match[2]) > 4 or int(match[2]) > _MAX_PRECISION):
        raise Fault(f"could not parse formatting clause: error while parsing precision: {match[2]!r}")
    precision = int(match[2]) if match[1] else 6
    if verb == "s":
        return _string(value, False, _MAX_DEPTH)
    if verb == "d":
        return _decimal(value)
    if verb in ("f", "e"):
        return _float(value, precision, verb)
    if verb == "b":
        return _integer(value, "b", "binary", (bool, int, Uint))
    if verb == "o":
        return _integer(value, "o", "octal", (int, Uint))
    if verb in ("x", "X"):
        return _hex(value, verb)
    raise Fault(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')


def _wrong(clause: str, wanted: str, value: Any) -> Fault:
    return Fault(
        f"error during formatting: {clause} clause can only be used on {wanted}, was given {kind_of(value)}"
    )


def _decimal(value: Any) -> str:
    if value.__class__ in (int, Uint):
        return str(int(value))
    raise _wrong("decimal", "integers", value)


def _integer(value: Any, code: str, name: str, kinds: tuple[Any, ...]) -> str:
    if value.__class__ not in kinds:
        raise _wrong(name, "integers" + (" and bools" if bool in kinds else ""), value)
    return f"{int(value):{code}}"


def _hex(value: Any, verb: str) -> str:
    if value.__class__ in (int, Uint):
        return f"{int(value):{verb}}"
    if value.__class__ is str:
        value = value.encode("utf-8", "surrogatepass")
    if value.__class__ is not bytes:
        raise _wrong("hex", "integers, byte buffers, and strings", value)
    text: str = value.hex()
    return text.upper() if verb == "X" else text


def _float(value: Any, precision: int, verb: str) -> str:
    if value.__class__ not in (float, int, Uint):
        raise _wrong("fixed-point" if verb == "f" else "scientific", "doubles", value)
    number = float(value)
    if not math.isfinite(number):
        return "NaN" if number != number else ("Infinity" if number > 0 else "-Infinity")
    return f"{number:.{precision}{verb}}"


def _string(value: Any, is_nested: bool, depth: int) -> str:
    if depth <= 0:
        raise Fault("error during formatting: the value is nested too deeply")
    if value is None:
        return "null"
    kind = value.__class__
    if kind is str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if is_nested else str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is float:
        return string_of_double(value)
    if kind is bytes:
        return str(value, "utf-8", "replace")
    if kind is Timestamp:
        return format_timestamp(value)
    if kind is Duration:
        return format_duration(value)
    if isinstance(value, int):
        return str(int(value))
    if kind is TypeValue:
        return str(value.name)
    if kind is list:
        return f"[{', '.join(_string(item, True, depth - 1) for item in value)}]"
    if kind in (dict, DeviceMap):
        pairs = zip(keys_of(value), value.values(), strict=True)
        texts = (f"{_string(k, True, depth - 1)}: {_string(v, True, depth - 1)}" for k, v in pairs)
        return f"{{{', '.join(sorted(texts))}}}"
    raise _wrong(
        "string", "strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps", value
    )


FUNCTIONS: dict[str, Callable[..., Any]] = {"string_format": format}
