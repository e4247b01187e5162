"""What the functions do, by overload id. Arguments have the declared types when a function is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.cel import operate
from drakit.cel.library import (
    convert,
    lists,
    moment,
    named_format,
    network,
    printf,
    quantities,
    regex,
    strings,
    url,
)  # fmt: skip

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **convert.FUNCTIONS,
    **lists.FUNCTIONS,
    **moment.FUNCTIONS,
    **named_format.FUNCTIONS,
    **network.FUNCTIONS,
    **printf.FUNCTIONS,
    **quantities.FUNCTIONS,
    **regex.FUNCTIONS,
    **strings.FUNCTIONS,
    **url.FUNCTIONS,
}
"""Strict functions: they get values and return one, or raise Fault."""

OPERATORS: dict[str, Callable[..., Any]] = {
    "!_": operate.logical_not, "-_": operate.negate, "_+_": operate.add, "_-_": operate.subtract,
    "_*_": operate.multiply, "_/_": operate.divide, "_%_": operate.modulo, "_<_": operate.less,
    "_<=_": operate.less_equal, "_>_": operate.greater, "_>=_": operate.greater_equal,
    "_==_": operate.equal, "@in": operate.is_in, "size": operate.size, "type": operate.type_value,
}  # fmt: skip
"""What works by the values alone, whatever overload the checker found."""

PLAIN_REFUSAL = frozenset(("contains", "startsWith", "endsWith"))
"""Functions whose error for wrong types names neither function nor types."""
