"""Lists: Kubernetes' own functions, cel-go's extension, sets."""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key
from typing import Any

from drakit.cel.arithmetic import MIN_TIMESTAMP, add, compare, unfit
from drakit.cel.equality import contains, equal
from drakit.cel.lookup import shown
from drakit.cel.meter import CostExceeded, Meter
from drakit.cel.signatures import COMPARABLE, full_name
from drakit.cel.value import NONE, Duration, Fault, NoOverload, Optional, Timestamp, Uint, kind_of

MAX_RANGE = 1_000_000
"""Elements of lists.range: one more costs more than an expression may."""


def _is_above(a: Any, b: Any) -> bool:
    """a > b, with what cannot be compared counting as not."""
    try:
        return compare("_>_", a, b) > 0
    except Fault:
        compare("_>_", b, b) if b.__class__ is not float else None
        return False


def is_sorted(items: list[Any]) -> bool:
    for index, item in enumerate(items):
        _check_comparable(item)
        if index and _is_above(items[index - 1], item):
            return False
    return True


def _check_comparable(item: Any) -> None:
    try:
        compare("", item, item)
    except NoOverload:
        raise NoOverload from None
    except Fault:
        return


def maximum(items: list[Any]) -> Any:
    return _best(items, "max", 1)


def minimum(items: list[Any]) -> Any:
    return _best(items, "min", -1)


def _best(items: list[Any], name: str, sign: int) -> Any:
    if not items:
        raise Fault(f"{name} called on empty list")
    best = items[0]
    _check_comparable(best)
    for item in items[1:]:
        _check_comparable(item)
        try:
            if compare("", best, item) * sign < 0:
                best = item
        except Fault:
            continue
    return best


def _sum_from(zero: Any) -> Any:
    def total(items: list[Any]) -> Any:
        result = zero
        for item in items:
            result = add(result, item)
        return result

    return total


def index_of(items: list[Any], value: Any, meter: Meter) -> int:
    for index, item in enumerate(items):
        if contains((value,), item, meter):
            return index
    return -1


def last_index_of(items: list[Any], value: Any, meter: Meter) -> int:
    for index in range(len(items) - 1, -1, -1):
        if contains((value,), items[index], meter):
            return index
    return -1


def sets_contains(items: list[Any], part: list[Any], meter: Meter) -> bool:
    return all(contains(items, item, meter) for item in part)


def sets_equivalent(a: list[Any], b: list[Any], meter: Meter) -> bool:
    return sets_contains(a, b, meter) and sets_contains(b, a, meter)


def sets_intersects(a: list[Any], b: list[Any], meter: Meter) -> bool:
    return any(contains(b, item, meter) for item in a)


def slice_of(items: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise Fault(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise Fault(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if len(items) < end:
        raise Fault(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def flatten(items: Any, depth: Any = None) -> list[Any]:
    """Takes anything: its arguments are not looked at beforehand."""
    if items.__class__ is not list or depth.__class__ not in (int, type(None)):
        shown_depth = "" if depth is None else _WITH_PARAMETERS.get(kind_of(depth), kind_of(depth))
        kind = _WITH_PARAMETERS.get(kind_of(items), kind_of(items))
        raise NoOverload(f"{kind}.flatten({shown_depth})")
    return _flattened(items, 1 if depth is None else depth)


def _flattened(items: list[Any], depth: int) -> list[Any]:
    if depth < 0:
        raise Fault("level must be non-negative")
    for _ in range(depth):
        if not any(item.__class__ is list for item in items):
            break
        if sum(len(item) for item in items if item.__class__ is list) > MAX_RANGE:
            raise CostExceeded
        flat: list[Any] = []
        for item in items:
            flat.extend(item) if item.__class__ is list else flat.append(item)
        items = flat
    return items


def range_of(count: int) -> list[int]:
    if count < 0:
        raise Fault(f"lists.range: size must be non-negative, got {count}")
    if count > MAX_RANGE:
        raise CostExceeded
    return list(range(count))


def distinct(items: list[Any], meter: Meter) -> list[Any]:
    unique: list[Any] = []
    for item in items:
        if not contains(unique, item, meter):
            unique.append(item)
    return unique


def sort(items: Any) -> list[Any]:
    if items.__class__ is not list:
        raise unfit("sort", items)
    return sort_by_keys(items, items)


def sort_by_keys(items: Any, keys: Any) -> list[Any]:
    if items.__class__ is not list:
        raise unfit("@sortByAssociatedKeys", items)
    if len(items) != len(keys):
        raise Fault(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, "
            f"but got {len(items)} and {len(keys)} elements respectively"
        )
    if not keys:
        return items
    try:
        _check_comparable(keys[0])
    except NoOverload:
        raise Fault("list elements must be comparable") from None
    if len(keys) > 1 and any(key.__class__ is not keys[0].__class__ for key in keys):
        raise Fault("list elements must have the same type")

    def order(a: int, b: int) -> int:
        return _is_above(keys[a], keys[b]) - _is_above(keys[b], keys[a])

    return [items[index] for index in sorted(range(len(items)), key=cmp_to_key(order))]


def includes(target: Any, value: Any, meter: Meter | None = None) -> bool:
    """DRA's `target.includes(value)` for an attribute that is one value or a list of at most 48."""
    if target.__class__ is not list:
        return _equals(target, value, meter)
    for index, item in enumerate(target):
        if index >= 48:
            raise Fault("'includes' function cannot be applied to lists longer than 48 values")
        if _equals(item, value, meter):
            return True
    return False


def _equals(a: Any, b: Any, meter: Meter | None) -> bool:
    try:
        return equal(a, b, meter)
    except NoOverload:
        return False


def optional_of_non_zero(value: Any) -> Optional:
    if value.__class__ is Timestamp:
        is_zero = value == MIN_TIMESTAMP
    else:
        is_zero = value is None or (value.__class__ is not Optional and not value and value == value)
    return NONE if is_zero else Optional(value)


def optional_value(value: Optional) -> Any:
    if not value.has_value:
        raise Fault("optional.none() dereference")
    return value.value


def unwrapped(items: list[Any]) -> list[Any]:
    """The values of those that have one."""
    for item in items:
        if item.__class__ is not Optional:
            raise Fault(f"value {shown(item)} is not optional")
    return [item.value for item in items if item.has_value]


_WITH_PARAMETERS = {
    "list": "list(dyn)", "map": "map(dyn, dyn)", "optional_type": "optional_type(dyn)",
}  # fmt: skip
_SUMS = {
    "int": _sum_from(0),
    "uint": _sum_from(Uint(0)),
    "double": _sum_from(0.0),
    "duration": _sum_from(Duration(0)),
}

METERED = frozenset((
    "list_a_index_of_int", "list_a_last_index_of_int", "list_sets_contains_list", "list_sets_equivalent_list",
    "list_sets_intersects_list", "list_distinct", "dra_includes_dyn_dyn",
))  # fmt: skip

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"list_{full_name(t)}_is_sorted_bool": is_sorted for t in COMPARABLE},
    **{f"list_{full_name(t)}_max_{full_name(t)}": maximum for t in COMPARABLE},
    **{f"list_{full_name(t)}_min_{full_name(t)}": minimum for t in COMPARABLE},
    **{f"list_{full_name(t)}_sort": sort for t in COMPARABLE},
    **{f"list_{full_name(t)}_sortByAssociatedKeys": sort_by_keys for t in COMPARABLE},
    **{f"list_{full_name(t)}_sum_{full_name(t)}": function for t, function in _SUMS.items()},
    "list_a_index_of_int": index_of, "list_a_last_index_of_int": last_index_of,
    "list_sets_contains_list": sets_contains, "list_sets_equivalent_list": sets_equivalent,
    "list_sets_intersects_list": sets_intersects, "list_slice": slice_of, "list_flatten": flatten,
    "list_flatten_int": flatten, "lists_range": range_of, "list_reverse": lambda items: items[::-1],
    "list_distinct": distinct, "dra_includes_dyn_dyn": includes, "optional_of": Optional,
    "optional_ofNonZeroValue": optional_of_non_zero, "optional_none": lambda: NONE,
    "list_first": lambda items: Optional(items[0]) if items else NONE,
    "list_last": lambda items: Optional(items[-1]) if items else NONE,
    "optional_unwrap": unwrapped, "optional_unwrapOpt": unwrapped,
    "optional_value": optional_value, "optional_hasValue": lambda value: value.has_value,
}  # fmt: skip
