"""Types compiled into functions that check a document in which nothing is wrong.

Nearly every document is one: no unknown field, no value of a wrong type. For it a compiled type does what
`checker.Checker` does, without keeping track of where it is. Whatever is out of the ordinary raises `Odd`,
and the Checker, which has the words for it, looks at the document again: it alone decides what is wrong.
A field is compiled when a document first has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.apiserver.checker import INTEGERS, MAX_DEPTH, canonical, is_kept_empty
from drakit.apiserver.go_fields import fresh, zero_of
from drakit.apiserver.go_text import base64_problem, read_time
from drakit.apiserver.schema import Type
from drakit.transport import Document

Check = Callable[[Any, int], Any]
"""From a value and its depth to the value as it is kept. Raises Odd."""


class Odd(Exception):
    """The document needs the Checker."""


_compiled: dict[Type, Check] = {}


def check(document: Document, type_: Type) -> Document:
    """What `Checker.check` makes of `document`. Raises Odd unless it finds nothing to say about it.

    `type_` is a published one: they are shared, and compiled for good.
    """
    result: Document = _check_of(type_)(document, 0)
    return result


def _check_of(type_: Type) -> Check:
    found = _compiled.get(type_)
    if found is None:
        makers = {"object": _object, "map": _map, "list": _list, "scalar": _scalar, "any": _any}
        found = _compiled[type_] = makers[type_.shape](type_)
    return found


def _object(type_: Type) -> Check:
    fields = type_.fields
    rows: dict[str, tuple[Check | None, bool]] = {}
    zeroes = tuple(zero_of(type_).items())

    def row_of(key: str) -> tuple[Check | None, bool]:
        field = fields.get(key)
        if field is None:
            raise Odd
        own = None if field.scalar == "string" else _check_of(field)
        row = rows[key] = own, is_kept_empty(type_, key, field)
        return row

    def check_object(value: Any, depth: int) -> Any:
        if value.__class__ is not dict or depth > MAX_DEPTH:
            raise Odd
        if not fields:
            return value
        depth += 1
        result = {}
        for key, item in value.items():
            own, is_kept = rows.get(key) or row_of(key)
            if item is None:
                continue
            if own is not None:
                item = own(item, depth)
            elif item.__class__ is not str:
                raise Odd
            if item or is_kept:
                result[key] = item
        for key, zero in zeroes:
            if key not in result:
                result[key] = fresh(zero)
        return result

    return check_object


def _map(type_: Type) -> Check:
    own = None if type_.items.scalar == "string" else _check_of(type_.items)

    def check_map(value: Any, depth: int) -> Any:
        if value.__class__ is not dict:
            raise Odd
        if own is not None:
            return {key: own(item, depth + 1) for key, item in value.items()}
        for item in value.values():
            if item.__class__ is not str:
                raise Odd
        return value.copy()

    return check_map


def _list(type_: Type) -> Check:
    own = None if type_.items.scalar == "string" else _check_of(type_.items)

    def check_list(value: Any, depth: int) -> Any:
        if value.__class__ is not list:
            raise Odd
        if own is not None:
            return [own(item, depth + 1) for item in value]
        for item in value:
            if item.__class__ is not str:
                raise Odd
        return value.copy()

    return check_list


def _any(type_: Type) -> Check:
    return lambda value, depth: value


def _scalar(type_: Type) -> Check:
    if type_.scalar in INTEGERS:
        return _integer(INTEGERS[type_.scalar])
    if type_.scalar == "quantity":
        return _quantity
    if type_.scalar in ("time", "microtime"):
        return _time(is_micro=type_.scalar == "microtime")
    if type_.scalar == "intstr":
        integer = _integer(INTEGERS["int32"])
        return lambda value, depth: value if value.__class__ is str else integer(value, depth)
    classes = _CLASSES[type_.scalar]
    problem = _PROBLEMS.get(type_.scalar)

    def check_scalar(value: Any, depth: int) -> Any:
        kind: type = value.__class__
        if kind in classes and (problem is None or not problem(value)):
            return value
        raise Odd

    return check_scalar


_CLASSES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "bool": (bool,),
    "double": (int, float),
    "bytes": (str,),
}
_PROBLEMS: dict[str, Callable[[str], str]] = {
    "bytes": base64_problem,
}


def _integer(limit: int) -> Check:
    def check_integer(value: Any, depth: int) -> Any:
        if value.__class__ is not int or not -limit <= value < limit:
            raise Odd
        return value

    return check_integer


def _time(*, is_micro: bool) -> Check:
    def check_time(value: Any, depth: int) -> Any:
        if value.__class__ is not str:
            raise Odd
        try:
            return read_time(value, is_micro=is_micro)
        except ValueError:
            raise Odd from None

    return check_time


def _quantity(value: Any, depth: int) -> Any:
    if value.__class__ is not str:
        raise Odd
    try:
        return canonical(value)
    except ValueError:
        raise Odd from None
