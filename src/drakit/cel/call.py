"""Calls whose arguments are evaluated before them: which implementation, what it costs, how it fails.

Two numbers are kept for a call. Its cost is cel-go's, charged to the frame. Its work is ours: about how
long it takes here, in steps of at most 80 ns or so, counted by the frame's meter. Costs know nothing of a
time zone that must be loaded or of a replacement that makes a text a thousand times longer; the meter does,
and stops an evaluation that would take too long whatever it costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.cel.charge import call_cost, cost_before, is_charged_before, is_unit
from drakit.cel.declare import Overload
from drakit.cel.equality import equal
from drakit.cel.frame import FAULT_WORK, Failure, Frame
from drakit.cel.library import FUNCTIONS, METERED, OPERATORS, PLAIN_REFUSAL, UNGUARDED
from drakit.cel.library.work import Work, work_of
from drakit.cel.lookup import shown
from drakit.cel.meter import CostExceeded, Meter
from drakit.cel.syntax import Call, Node
from drakit.cel.types import Type
from drakit.cel.value import DeviceMap, Duration, Fault, NoOverload, Timestamp, kind_of, to_key

REGEX = frozenset(("matches", "find", "findAll"))
"""Functions that take a regular expression; one that is constant is compiled beforehand."""
Functions = dict[str, tuple[Overload, ...]]
_Invoke = Callable[[list[Any], Meter], Any]


class Operation:
    """What a function or operator does with its arguments, and what that costs. `overloads` are those that
    the checker left, `has_pattern` says that its regular expression is constant."""

    __slots__ = (
        "_function", "_id", "_invoke", "_is_expensive", "_light_work", "_work", "fixed_cost", "is_open",
    )  # fmt: skip

    def __init__(
        self, function: str, overloads: tuple[str, ...], functions: Functions, *, has_pattern: bool = False
    ) -> None:
        self._function = function
        id_ = overloads[0] if len(overloads) == 1 else ""
        self._id = id_ = {"_==_": "equals", "_!=_": "not_equals"}.get(function, id_)
        self._invoke = _invoker(function, overloads, functions, has_pattern)
        self.is_open = len(overloads) != 1 and function not in _BY_VALUE and len(functions[function]) > 1
        self._is_expensive = is_charged_before(id_)
        has_unit_cost = not self._is_expensive and is_unit(function, id_)
        self.fixed_cost = 1 if has_unit_cost else None
        work = work_of(function)
        self._light_work = work if isinstance(work, int) else 0
        self._work: Work | None = None if isinstance(work, int) else work

    def apply(self, frame: Frame, args: list[Any], node: Node) -> Any:
        """The value for `args`, charged. An error among them is the value; one that arises is at `node`."""
        if self.fixed_cost is not None:
            frame.charge(self.fixed_cost)
            return self.compute(frame, args, node)
        if self._is_expensive:
            frame.charge(cost_before(self._id, args) or 0)
            return self.compute(frame, args, node)
        result = self.compute(frame, args, node)
        frame.charge(call_cost(self._function, self._id, args, result, frame.meter))
        return result

    def compute(self, frame: Frame, args: list[Any], node: Node) -> Any:
        """The value for `args`, free of charge."""
        for value in args:
            if value.__class__ is Failure:
                return value
        meter = frame.meter
        if self._work is not None:
            self._work(args, meter)
        else:
            meter.left -= self._light_work
            if meter.left < 0:
                raise CostExceeded
        try:
            return self._invoke(args, meter)
        except Fault as fault:
            meter.spend(FAULT_WORK)
            return Failure(fault.message, node)


_BY_VALUE = frozenset((
    *OPERATORS, "matches", "contains", "startsWith", "endsWith", "cel.@mapInsert", "sort",
    "@sortByAssociatedKeys",
))  # fmt: skip
"""Functions with one implementation for all overloads."""


def constant_value(node: Call, functions: Functions, args: list[Any]) -> Any:
    """What a call of constants gives. Raises Fault."""
    return _invoker(node.function, node.overloads, functions, False)(args, Meter())


def _invoker(function: str, overloads: tuple[str, ...], functions: Functions, has_pattern: bool) -> _Invoke:
    """What the function does with its arguments. Raises Fault."""
    if function == "_!=_":
        return _not_equal
    if function in ("_==_", "@in", "_+_"):
        operator = OPERATORS[function]
        return lambda args, meter: operator(args[0], args[1], meter)
    if function in OPERATORS:
        operator = OPERATORS[function]
        return lambda args, meter: operator(*args)
    if function == "cel.@mapInsert":
        return _map_insert
    return _dispatcher(function, overloads, functions, has_pattern)


def _dispatcher(
    function: str, overloads: tuple[str, ...], functions: Functions, has_pattern: bool
) -> _Invoke:
    """The overload is chosen by the values when the checker left several."""
    is_plain = function in PLAIN_REFUSAL or has_pattern
    is_unguarded = function in UNGUARDED
    candidates = [
        (overload.args, FUNCTIONS[overload.id], overload.id in METERED)
        for overload in functions[function]
        if len(overloads) != 1 or overload.id == overloads[0]
    ]

    def invoke(args: list[Any], meter: Meter) -> Any:
        for wanted, implementation, is_metered in candidates:
            if len(wanted) == len(args) and (is_unguarded or all(map(fits, wanted, args))):
                return implementation(*args, meter=meter) if is_metered else implementation(*args)
        if is_plain:
            raise NoOverload
        if function == "matches":
            raise NoOverload("" if args[0].__class__ in (str, Timestamp, Duration) else "matches")
        raise NoOverload(f"{function}({', '.join(map(kind_of, args))})")

    return invoke


def _not_equal(args: list[Any], meter: Meter) -> bool:
    """A refusal to compare makes values unequal."""
    try:
        return not equal(args[0], args[1], meter)
    except NoOverload:
        return True


def _map_insert(args: list[Any], meter: Meter) -> Any:
    """Adds to the map in place: only macros call it, on their own accumulator."""
    target = args[0]
    if target.__class__ is not dict:
        raise NoOverload
    entries = {to_key(args[1]): args[2]} if len(args) == 3 else args[1]
    if entries.__class__ not in (dict, DeviceMap):
        raise NoOverload
    for key, value in entries.items():
        if key in target:
            raise Fault(f"insert failed: key {shown(key)} already exists")
        target[key] = value
    return target


def fits(wanted: Type, value: Any) -> bool:
    """Whether a value has a declared type, as far as cel-go looks: the first element of a container."""
    kind = wanted.kind
    if kind in ("param", "dyn", "any"):
        return True
    if kind == "list":
        return value.__class__ is list and (not value or fits(wanted.params[0], value[0]))
    if kind == "map":
        if value.__class__ not in (dict, DeviceMap):
            return False
        return all(
            fits(wanted.params[0], key) and fits(wanted.params[1], item)
            for key, item in list(value.items())[:1]
        )
    return kind_of(value) == _RUNTIME_NAMES.get(wanted.name, wanted.name)


_RUNTIME_NAMES = {
    "duration": "google.protobuf.Duration",
    "timestamp": "google.protobuf.Timestamp",
    "null": "null_type",
}
