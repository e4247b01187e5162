"""What calls cost at run time.

Source: cel-go interpreter/runtimecost.go, ext/{lists,sets}.go, k8s.io/apiserver/pkg/cel/library/cost.go.
Sizes are characters, bytes, elements or entries; everything else has size 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from drakit.cel.equality import Sum
from drakit.cel.meter import Meter
from drakit.cel.value import DeviceMap, Optional
from drakit.model.quantity import Quantity
from drakit.model.semver import Version

_SIZED: dict[type, Callable[[Any], int]] = {str: len, bytes: len, list: len, dict: len, DeviceMap: len}
_UNIT_EQUALITY: set[type] = {Quantity, Sum, Version}


def register_size(cls: type, size: Callable[[Any], int]) -> None:
    """Says how big the values of a class are."""
    _SIZED[cls] = size


def register_unit_equality(cls: type) -> None:
    """Says that comparing values of a class costs 1."""
    _UNIT_EQUALITY.add(cls)


def size_of(value: Any) -> int:
    """As Kubernetes' cost model sees it."""
    measure = _SIZED.get(value.__class__)
    return 1 if measure is None else int(measure(value))


def _held(value: Any) -> int:
    """As cel-go's own does: an optional is as big as what it holds."""
    while value.__class__ is Optional and value.has_value:
        value = value.value
    return size_of(value)


def tenth(size: float) -> int:
    """What scanning `size` characters costs."""
    return math.ceil(size * 0.1)


def _regex(text: Any, pattern: Any) -> int:
    return _regex_cost(size_of(text), size_of(pattern))


def _regex_cost(text_size: int, pattern_size: int) -> int:
    return math.ceil((1.0 + text_size) * 0.1) * math.ceil(pattern_size * 0.25)


def traversal(value: Any, meter: Meter) -> int:
    """The cost of walking through a value, which may share parts to no end: the meter stops that."""
    total = 0
    stack = [value]
    while stack:
        value = stack.pop()
        kind = value.__class__
        meter.spend(3)
        if kind is str:
            total += int(len(value.encode("utf-8", "surrogatepass")) * 0.1)
        elif kind is bytes:
            total += int(len(value) * 0.1)
        elif kind is list:
            stack.extend(value)
        elif kind is dict or kind is DeviceMap:
            stack.extend(value)
            stack.extend(value.values())
        else:
            total += 1
    return total


def _contains_ip(args: Sequence[Any], id_: str) -> int:
    cost = tenth(2 * size_of(args[0]))
    return cost + (tenth(size_of(args[1])) if id_ == "cidr_contains_ip_string" else 0)


def _contains_cidr(args: Sequence[Any], id_: str) -> int:
    cost = tenth(2 * size_of(args[0])) + tenth(size_of(args[0])) + 1
    return cost + (tenth(size_of(args[1])) if id_ == "cidr_contains_cidr_string" else 0)


UNIT = frozenset((
    "masked", "prefixLength", "family", "isUnspecified", "isLoopback", "isLinkLocalMulticast",
    "isLinkLocalUnicast", "isGlobalUnicast", "format.named", "sign", "asInteger", "isInteger",
    "asApproximateFloat", "isGreaterThan", "isLessThan", "compareTo", "add", "sub", "major", "minor",
    "patch", "getScheme", "getHostname", "getHost", "getPort", "getEscapedPath", "getQuery",
    "path", "group", "serviceAccount", "resource", "subresource", "namespace", "name", "allowed", "reason",
    "errored", "error", "fieldSelector", "labelSelector",
))  # fmt: skip
CHECK = 350_000
"""What asking the authorizer costs: an evaluation may do so twice."""
_TRAVERSAL = frozenset(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"))
_TENTH_OF_FIRST = frozenset((
    "url", "lowerAscii", "upperAscii", "substring", "trim", "cidr", "isIP", "isCIDR", "quantity",
    "isQuantity", "semver", "isSemver",
))  # fmt: skip
_FIFTH_OF_FIRST = frozenset(("replace", "split", "ip.isCanonical"))


def _kubernetes(function: str, id_: str, args: Sequence[Any], result: Any, meter: Meter) -> int | None:
    if function in UNIT:
        return 1
    if function == "check":
        return CHECK
    if function in _TRAVERSAL:
        return traversal(args[0], meter)
    if function in _TENTH_OF_FIRST:
        return tenth(size_of(args[0]))
    if function in _FIFTH_OF_FIRST:
        return math.ceil(size_of(args[0]) * 2 * 0.1)
    if function == "_==_":
        return 1 if args[0].__class__ in _UNIT_EQUALITY else None
    if function == "join":
        return math.ceil(size_of(result) * 2 * 0.1)
    if function in ("find", "findAll"):
        return _regex(args[0], args[1])
    if function == "ip":
        return 1 if id_ == "cidr_ip" else tenth(size_of(args[0]))
    if function == "validate":
        pattern_size = getattr(args[0], "pattern_size", None)
        return None if pattern_size is None else _regex_cost(size_of(args[1]), pattern_size)
    if function == "containsIP":
        return _contains_ip(args, id_)
    return _contains_cidr(args, id_) if function == "containsCIDR" else None


_ORDERS = ("less", "less_equals", "greater", "greater_equals")
COMPARED_BY_SIZE = frozenset(f"{name}_{type_}" for name in _ORDERS for type_ in ("string", "bytes")) | {
    "equals",
    "not_equals",
}


_TENTH_BY_ID = frozenset((
    "starts_with_string", "ends_with_string", "string_to_bytes", "bytes_to_string", "strings_quote",
    "string_format",
))  # fmt: skip


def _standard(id_: str, args: Sequence[Any], result: Any) -> int:
    if id_ in COMPARED_BY_SIZE:
        return tenth(min(_held(args[0]), _held(args[1])))
    if id_ in _TENTH_BY_ID:
        return tenth(_held(args[0]))
    if id_ == "in_list":
        return _held(args[1])
    if id_ in ("add_string", "add_bytes"):
        return tenth(_held(args[0]) + _held(args[1]))
    if id_ == "matches_string":
        return _regex(args[0], args[1])
    if id_ == "contains_string":
        return tenth(_held(args[0])) * tenth(_held(args[1]))
    return 1


_ALLOCATION = 11
"""Dispatching a call and making a list."""


def _self_compare(items: Any) -> int:
    size = size_of(items)
    factor = 2.0
    if items.__class__ is list and items and items[0].__class__ in (str, bytes):
        factor += 0.1
    return int(size * size * factor) + _ALLOCATION


_BY_ID: dict[str, Callable[[Sequence[Any]], int]] = {
    "list_sets_contains_list": lambda args: 1 + size_of(args[0]) * size_of(args[1]),
    "list_sets_intersects_list": lambda args: 1 + size_of(args[0]) * size_of(args[1]),
    "list_sets_equivalent_list": lambda args: 1 + 2 * size_of(args[0]) * size_of(args[1]),
    "list_flatten": lambda args: size_of(args[0]) + _ALLOCATION,
    "list_distinct": lambda args: _self_compare(args[0]),
}
"""Calls whose cost the arguments decide: it is charged before they run, for they are more than linear."""


def is_charged_before(id_: str) -> bool:
    """Whether `cost_before` knows the cost of the overload."""
    return id_ in _BY_ID or id_ == "list_flatten_int" or id_.endswith(("_sort", "_sortByAssociatedKeys"))


def is_unit(function: str, id_: str) -> bool:
    """Whether a call costs 1 whatever its arguments."""
    return function in UNIT or (function not in _BY_ARGUMENTS and id_ not in _BY_SIZE)


def cost_before(id_: str, args: Sequence[Any]) -> int | None:
    """The cost of a call that may be expensive, known from its arguments; None for all others."""
    known = _BY_ID.get(id_)
    if known is not None:
        return known(args)
    if id_ == "list_flatten_int":
        depth = args[1] if args[1].__class__ is int else 1
        return max(0, int(size_of(args[0]) * depth)) + _ALLOCATION
    if id_.endswith("_sort"):
        return _self_compare(args[0])
    return _self_compare(args[1]) if id_.endswith("_sortByAssociatedKeys") else None


_BY_ARGUMENTS = _TRAVERSAL | _TENTH_OF_FIRST | _FIFTH_OF_FIRST | {
    "_==_", "join", "find", "findAll", "ip", "containsIP", "containsCIDR", "check", "validate",
}  # fmt: skip
_BY_SIZE = COMPARED_BY_SIZE | _TENTH_BY_ID | {
    "in_list", "add_string", "add_bytes", "matches_string", "contains_string", "list_slice", "lists_range",
    "list_reverse",
}  # fmt: skip


def call_cost(function: str, id_: str, args: Sequence[Any], result: Any, meter: Meter) -> int:
    """The cost of a call. `id_` is "" where several overloads were possible."""
    if id_ in ("list_slice", "lists_range", "list_reverse"):
        return size_of(result) + _ALLOCATION
    cost = _kubernetes(function, id_, args, result, meter)
    return _standard(id_, args, result) if cost is None else cost
