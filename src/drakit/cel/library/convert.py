"""Conversions between the standard types."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from drakit.cel.arithmetic import INT_MAX, INT_MIN, UINT_MAX, to_timestamp
from drakit.cel.double import string_of_double
from drakit.cel.library.moment import format_duration, format_timestamp, parse_duration, parse_timestamp
from drakit.cel.value import Duration, Fault, Timestamp, Uint

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_HEXADECIMAL = re.compile(
    r"[+-]?0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)p[+-]?[0-9]+", re.ASCII | re.IGNORECASE
)
_SEPARATOR = re.compile(r"(?<=[0-9a-fA-FxX])_(?=[0-9a-fA-F])")
_SPECIAL = re.compile(r"[+-]?(?:inf|infinity|nan)", re.ASCII | re.IGNORECASE)
_BOOLS = {text: True for text in ("1", "t", "T", "TRUE", "true", "True")} | {
    text: False for text in ("0", "f", "F", "FALSE", "false", "False")
}


def _refuse(target: str) -> Fault:
    return Fault(f"type conversion error from 'string' to '{target}'")


def int_of_string(text: str) -> int:
    if len(text) > 5000 or not _INTEGER.fullmatch(text) or not INT_MIN <= _parsed(text) <= INT_MAX:
        raise _refuse("int")
    return int(text)


def _parsed(text: str) -> int:
    digits = text.lstrip("+-").lstrip("0")
    return int(text) if len(digits) < 25 else UINT_MAX + 1


def int_of_double(value: float) -> int:
    if not math.isfinite(value) or value <= INT_MIN or value >= INT_MAX:
        raise Fault("integer overflow")
    return int(value)


def int_of_uint(value: Uint) -> int:
    if value > INT_MAX:
        raise Fault("integer overflow")
    return int(value)


def int_of_timestamp(value: Timestamp) -> int:
    return int(value) // 10**9


def int_of_duration(value: Duration) -> int:
    return int(value)


def uint_of_string(text: str) -> Uint:
    if len(text) > 5000 or not _DIGITS.fullmatch(text) or _parsed(text) > UINT_MAX:
        raise _refuse("uint")
    return Uint(text)


def uint_of_double(value: float) -> Uint:
    if not math.isfinite(value) or value < 0 or value >= 2.0**64:
        raise Fault("unsigned integer overflow")
    return Uint(value)


def uint_of_int(value: int) -> Uint:
    if value < 0:
        raise Fault("unsigned integer overflow")
    return Uint(value)


def double_of_string(text: str) -> float:
    if _SPECIAL.fullmatch(text):
        return float(text)
    if "_" in text:
        text = _SEPARATOR.sub("", text)
    try:
        if _HEXADECIMAL.fullmatch(text):
            return float.fromhex(text)
        value = float(text) if _DECIMAL.fullmatch(text) else math.inf
    except OverflowError:
        value = math.inf
    if math.isinf(value):
        raise _refuse("double")
    return value


def double_of_number(value: int) -> float:
    return float(value)


def bool_of_string(text: str) -> bool:
    try:
        return _BOOLS[text]
    except KeyError:
        raise _refuse("bool") from None


def bytes_of_string(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def string_of_bytes(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault("invalid UTF-8 in bytes, cannot convert to string") from None


def string_of_bool(value: bool) -> str:
    return "true" if value else "false"


def string_of_number(value: int) -> str:
    return str(int(value))


def _no_duration(value: int) -> Duration:
    """The overload is declared, and nothing is behind it."""
    raise Fault("type conversion error from 'int' to 'google.protobuf.Duration'")


def same(value: Any) -> Any:
    return value


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int64_to_int64": same, "double_to_int64": int_of_double, "string_to_int64": int_of_string,
    "uint64_to_int64": int_of_uint, "timestamp_to_int64": int_of_timestamp,
    "duration_to_int64": int_of_duration, "uint64_to_uint64": same, "double_to_uint64": uint_of_double,
    "int64_to_uint64": uint_of_int, "string_to_uint64": uint_of_string, "double_to_double": same,
    "int64_to_double": double_of_number, "uint64_to_double": double_of_number,
    "string_to_double": double_of_string, "bool_to_bool": same, "string_to_bool": bool_of_string,
    "bytes_to_bytes": same, "string_to_bytes": bytes_of_string, "string_to_string": same,
    "bool_to_string": string_of_bool, "bytes_to_string": string_of_bytes,
    "double_to_string": string_of_double, "int64_to_string": string_of_number,
    "uint64_to_string": string_of_number, "duration_to_string": format_duration,
    "timestamp_to_string": format_timestamp, "timestamp_to_timestamp": same,
    "int64_to_timestamp": lambda seconds: to_timestamp(seconds * 10**9),
    "string_to_timestamp": parse_timestamp, "duration_to_duration": same,
    "int64_to_duration": _no_duration, "string_to_duration": parse_duration, "to_dyn": same,
}  # fmt: skip
