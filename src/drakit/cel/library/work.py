"""About how long functions take here, in steps of at most 80 ns or so.

The numbers are measured and rounded up. They matter only to the meter, which stops an evaluation at
`MAX_WORK` steps. Operators on lists and maps tell the meter themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from drakit.cel.library.moment import is_found_quickly
from drakit.cel.library.regex import program_size
from drakit.cel.meter import Meter

Work = Callable[[Sequence[Any], Meter], None]

_LIGHT_CALL, _CALL = 14, 22
_CHARACTERS = 32
"""Characters scanned, copied or allocated in one step."""
_LIGHT = frozenset((
    "_-_", "_*_", "_/_", "_%_", "_<_", "_<=_", "_>_", "_>=_", "_==_", "_!=_", "!_", "-_", "size", "@in",
    "type", "dyn", "hasValue", "value", "optional.of",
))  # fmt: skip
_FIXED = {
    "add": 55, "sub": 55, "asApproximateFloat": 10, "quantity": 60, "isQuantity": 60, "semver": 80,
    "isSemver": 80, "url": 250, "isURL": 250, "getQuery": 50, "ip": 60, "isIP": 80, "cidr": 90, "isCIDR": 100,
    "ip.isCanonical": 100, "containsIP": 80, "containsCIDR": 120, "masked": 40, "timestamp": 60,
    "duration": 50, "double": 15, "validate": 100,
}  # fmt: skip
_PER_CHARACTER = frozenset(("getQuery", "url", "isURL", "validate", "strings.quote", "ip", "cidr"))
_CASES = frozenset(("lowerAscii", "upperAscii"))
_PER_ITEM = {"min": 10, "max": 10, "sum": 8, "isSorted": 12, "indexOf": 6, "lastIndexOf": 6, "join": 1,
             "includes": 10, "reverse": 1, "flatten": 2}  # fmt: skip
_CLOCKS = frozenset((
    "getFullYear", "getMonth", "getDayOfYear", "getDate", "getDayOfMonth", "getDayOfWeek", "getHours",
    "getMinutes", "getSeconds", "getMilliseconds",
))  # fmt: skip
_CLOCK, _LOOK_UP = 40, 1000
_PATTERN, _MATCH, _FIND = 50, 40, 55
_PRIMITIVES = frozenset((str, int, float, bytes))


def work_of(function: str) -> int | Work:
    """The work of a call, or what notes it by the arguments, and raises CostExceeded where it is too much."""
    if function in _LIGHT:
        return _LIGHT_CALL
    special = _SPECIAL.get(function)
    if special is not None:
        return special
    if function in _PER_ITEM:
        return _per_item(_PER_ITEM[function])
    characters = 1 if function in _PER_CHARACTER else 2 if function in _CASES else _CHARACTERS
    return _by_size(_FIXED.get(function, _CALL), characters)


def _per_item(steps: int) -> Work:
    def work(args: Sequence[Any], meter: Meter) -> None:
        meter.spend(_CALL + steps * _length(args[0]))

    return work


def _by_size(fixed: int, characters: int) -> Work:
    def work(args: Sequence[Any], meter: Meter) -> None:
        meter.spend(fixed + sum(map(_length, args)) // characters)

    return work


def _length(value: Any) -> int:
    return len(value) if value.__class__ in (str, bytes, list, dict) else 0


def _regex(args: Sequence[Any], meter: Meter) -> None:
    """A pattern is compiled once, as long as not too many come by. RE2 may have to try every instruction of
    the program at every character."""
    text, pattern = args[0], args[1]
    if text.__class__ is not str or pattern.__class__ is not str:
        return
    if pattern not in meter.patterns:
        meter.spend(_PATTERN * len(pattern))
        meter.patterns[pattern] = program_size(pattern)
        meter.spend(meter.patterns[pattern] * 10)
    meter.spend(_MATCH + len(text) * meter.patterns[pattern] // 14)


def _find_all(args: Sequence[Any], meter: Meter) -> None:
    """Every result takes its time, and there may be one for each character."""
    _regex(args, meter)
    meter.spend(len(args[0]) * _FIND if args[0].__class__ is str else 0)


def _replace(args: Sequence[Any], meter: Meter) -> None:
    text, old, new = args[:3]
    size = _length(text)
    if text.__class__ is str and old.__class__ is str and new.__class__ is str:
        size += text.count(old) * len(new)
    meter.spend(_CALL + size // _CHARACTERS)


def _clock(args: Sequence[Any], meter: Meter) -> None:
    """A zone that was not used before is read from a file."""
    meter.spend(_CLOCK if len(args) < 2 or is_found_quickly(args[1]) else _LOOK_UP)


def _string(args: Sequence[Any], meter: Meter) -> None:
    value = args[0]
    meter.spend(150 if value.__class__ is float else 30 + _length(value) // _CHARACTERS)


def _format(args: Sequence[Any], meter: Meter) -> None:
    """Walks through what is to be written out; shared parts are written out each time."""
    meter.spend(30 + 8 * _length(args[0]))
    stack = [args[1]]
    while stack:
        value = stack.pop()
        meter.spend(60 if value.__class__ is float else 8 + _length(value) // 8)
        if value.__class__ is list:
            stack.extend(value)
        elif value.__class__ is dict:
            stack.extend(value)
            stack.extend(value.values())


def _pairs(args: Sequence[Any], meter: Meter) -> None:
    """Comparing each with each; texts and numbers are compared quickly."""
    first, second = args[0], args[-1]
    if first.__class__ is not list or second.__class__ is not list:
        return
    is_plain = all(item.__class__ in _PRIMITIVES for item in first)
    meter.spend(_CALL + len(first) * (10 + len(second) // 3 if is_plain else 10 + 5 * len(second)))


def _sort(args: Sequence[Any], meter: Meter) -> None:
    size = _length(args[-1])
    meter.spend(_CALL + 15 * size * size.bit_length())


_SPECIAL: dict[str, Work] = {
    "matches": _regex, "find": _regex, "findAll": _find_all, "replace": _replace, "distinct": _pairs,
    "sets.contains": _pairs, "sets.intersects": _pairs, "sets.equivalent": _pairs, "string": _string,
    **dict.fromkeys(_CLOCKS, _clock), "format": _format, "sort": _sort, "@sortByAssociatedKeys": _sort,
}  # fmt: skip
