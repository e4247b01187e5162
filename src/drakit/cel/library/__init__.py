"""What the functions do, by overload id. Arguments have the declared types when a function is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.cel import arithmetic, equality, lookup
from drakit.cel.library import (
    authz,
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
    **authz.FUNCTIONS,
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
    "!_": arithmetic.logical_not, "-_": arithmetic.negate, "_+_": arithmetic.add, "_-_": arithmetic.subtract,
    "_*_": arithmetic.multiply, "_/_": arithmetic.divide, "_%_": arithmetic.modulo, "_<_": arithmetic.less,
    "_<=_": arithmetic.less_equal, "_>_": arithmetic.greater, "_>=_": arithmetic.greater_equal,
    "_==_": equality.equal, "@in": equality.is_in, "size": lookup.size, "type": lookup.type_value,
}  # fmt: skip
"""What works by the values alone, whatever overload the checker found."""

METERED = lists.METERED
"""Functions that compare values, as much as the meter they are given lets them."""

PLAIN_REFUSAL = frozenset(("contains", "startsWith", "endsWith"))
"""Functions whose error for wrong types names neither function nor types."""

UNGUARDED = frozenset(("flatten", "sort", "@sortByAssociatedKeys"))
"""Functions that look at the kinds of their arguments themselves."""
