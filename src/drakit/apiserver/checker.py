"""A document held against its type: Go's own error texts, unknown and repeated fields.

The walk builds the document anew, without nulls, unknown fields and empty values that Go's encoder would
drop, with canonical quantities. Source: sigs.k8s.io/json (decode.go), encoding/json.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from drakit.apiserver.go_fields import fresh, go_name, kept_empty, unwritten, zero_of
from drakit.apiserver.go_text import base64_problem, read_time
from drakit.apiserver.schema import Type
from drakit.errors import BadRequest
from drakit.model.quantity import Quantity
from drakit.model.validation.field import quoted
from drakit.transport import Document

MAX_DEPTH = 200
_PYTHON: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "bytes": (str,),
    "bool": (bool,),
    "double": (int, float),
}
INTEGERS = {"int32": 1 << 31, "int64": 1 << 63}


def is_kept_empty(type_: Type, key: str, field: Type) -> bool:
    """Whether Go's encoder writes the field `key` of `type_` also where it is empty."""
    if key in type_.required:
        return field.shape in ("object", "any") or key not in unwritten(type_)
    return field.shape in ("object", "any") or key in kept_empty(type_)


def json_name(value: Any) -> str:
    """What Go calls the JSON kind of `value`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    for kind, name in ((str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return name
    return "number"


class _Place(tuple[Any, Any, str]):
    """Where the walk is: the place above, the step from there, the Go struct whose field the step is ("" for
    the item of a list or a map). Texts are made of it only when there is something to say."""

    __slots__ = ()

    def path(self) -> str:
        """`spec.devices[0].name`."""
        above, step, _ = self
        before = above.path() if above is not None else ""
        if isinstance(step, int):
            return f"{before}[{step}]"
        return f"{before}.{step}" if before else str(step)

    def go_path(self) -> str:
        """`Device.spec.devices.name`: the innermost struct, then fields alone."""
        fields: list[str] = []
        struct = ""
        place: _Place | None = self
        while place is not None:
            above, step, owner = place
            if owner:
                struct = struct or owner
                fields.append(str(step))
            place = above
        return ".".join([struct, *reversed(fields)])


_ZEROES: dict[str, Any] = {"quantity": "0", "int32": 0, "int64": 0, "double": 0, "bool": False}


def _zero(type_: Type) -> Any:
    """What Go makes of a null among the items of a list or map."""
    if type_.shape == "scalar":
        return None if type_.scalar in ("time", "microtime") else _ZEROES.get(type_.scalar, "")
    return {"list": [], "any": None}.get(type_.shape, fresh(zero_of(type_)))


def count_keys(value: Any) -> int:
    """How many keys all objects in `value` have."""
    count, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            count += len(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return count


class Checker:
    """One walk over a document along its type.

    `check` returns the document with nulls, unknown fields and empty values gone and quantities
    canonical; `stray` then holds a text for every unknown field, `keys` how many keys the document had.
    Raises BadRequest, beginning with `refused`, for the first value of a wrong type, but at once where a type
    decodes itself (times, quantities, numbers that may be text): that is told rather than what came before.
    """

    def __init__(self, refused: str) -> None:
        self.refused = refused
        self.stray: list[str] = []
        self.keys = 0
        self._first: BadRequest | None = None

    def check(self, document: Document, type_: Type) -> Document:
        result: Document = self._object(document, type_, None, 0)
        if self._first is not None:
            raise self._first
        return result

    def _wrong(self, value: Any, go_name: str, place: _Place, literal: str = "") -> None:
        what = json_name(value) + (f" {literal}" if literal else "")
        where = f"Go struct field {place.go_path()}"
        self._note(f"json: cannot unmarshal {what} into {where} of type {go_name}")

    def _note(self, problem: str) -> None:
        self._first = self._first or BadRequest(self.refused + problem)

    def _object(self, value: dict[str, Any], type_: Type, place: _Place | None, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise BadRequest(f"{self.refused}the object is nested too deeply")
        fields = type_.fields
        if not fields:
            return self._free(value)
        self.keys += len(value)
        result = {}
        for key, item in value.items():
            field = fields.get(key)
            if field is None:
                if type_.is_preserving or type_.is_embedded:
                    result[key] = self._free(item)
                else:
                    self.stray.append(f"unknown field {quoted(_Place((place, key, type_.name)).path())}")
                    self._free(item)
                continue
            if item is None:
                continue
            checked = self._value(
                item, field, _Place((place, key, type_.name)), depth + 1, go_name(type_, key)
            )
            if checked or is_kept_empty(type_, key, field):
                result[key] = checked
        for key, zero in zero_of(type_).items():
            if key not in result:
                result[key] = fresh(zero)
        return result

    def _value(self, value: Any, type_: Type, place: _Place, depth: int, go_type: str) -> Any:
        """`go_type` is what Go calls the type of the value."""
        shape = type_.shape
        if shape == "scalar":
            if type_.scalar == "string" and isinstance(value, str):
                return value
            return self._scalar(value, type_, place, go_type)
        if shape == "any":
            return self._free(value)
        if shape == "list":
            if not isinstance(value, list):
                return self._wrong(value, go_type, place)
            items = type_.items
            inner = go_type.removeprefix("[]")
            return [
                _zero(items)
                if item is None
                else self._value(item, items, _Place((place, index, "")), depth + 1, inner)
                for index, item in enumerate(value)
            ]
        if not isinstance(value, dict):
            return self._wrong(value, go_type, place)
        if shape == "object":
            return self._object(value, type_, place, depth)
        self.keys += len(value)
        items = type_.items
        inner = go_type.partition("]")[2]
        return {
            key: _zero(items)
            if item is None
            else self._value(item, items, _Place((place, key, "")), depth + 1, inner)
            for key, item in value.items()
        }

    def _free(self, value: Any) -> Any:
        """Count the keys of a value no type describes."""
        self.keys += count_keys(value)
        return value

    def _scalar(self, value: Any, type_: Type, place: _Place, go_type: str) -> Any:
        scalar = type_.scalar
        if scalar == "quantity":
            return self._quantity(value)
        if scalar in ("time", "microtime"):
            return self._time(value, type_)
        if scalar == "intstr":
            is_number = isinstance(value, int) and not isinstance(value, bool)
            if not isinstance(value, str) and not (
                is_number and -INTEGERS["int32"] <= value < INTEGERS["int32"]
            ):
                raise self._bare(value, "int32")
            return value
        if scalar in INTEGERS:
            return self._integer(value, INTEGERS[scalar], place, go_type)
        if scalar == "bytes" and isinstance(value, list):
            return self._bytes(value, place)
        wanted: tuple[type, ...] = _PYTHON[scalar]
        if not isinstance(value, wanted) or (isinstance(value, bool) and scalar != "bool"):
            return self._wrong(value, go_type, place)
        if scalar == "bytes" and (problem := base64_problem(str(value))):
            self._note(problem)
        return value

    def _integer(self, value: Any, limit: int, place: _Place, go_type: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self._wrong(value, go_type, place)
        if isinstance(value, float) or not -limit <= value < limit:
            return self._wrong(value, go_type, place, json.dumps(value))
        return value

    def _bytes(self, value: list[Any], place: _Place) -> str:
        """Bytes may be a list of numbers, too."""
        kept = [0 if item is None else item for item in value]
        for item in kept:
            if isinstance(item, bool) or not isinstance(item, int | float):
                self._wrong(item, "uint8", place)
            elif isinstance(item, float) or not 0 <= item < 256:
                self._wrong(item, "uint8", place, json.dumps(item))
        return "" if self._first is not None else base64.b64encode(bytes(kept)).decode()

    def _quantity(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            value = ""
        try:
            return canonical(value)
        except ValueError as error:
            raise BadRequest(f"{self.refused}{error}") from None

    def _time(self, value: Any, type_: Type) -> str | None:
        if not isinstance(value, str):
            raise self._bare(value, "string")
        try:
            return read_time(value, is_micro=type_.scalar == "microtime")
        except ValueError as error:
            raise BadRequest(f"{self.refused}{error}") from None

    def _bare(self, value: Any, go_type: str) -> BadRequest:
        """The error of a type that decodes itself: it does not know where it stands."""
        literal = f" {json.dumps(value)}" if go_type == "int32" and json_name(value) == "number" else ""
        text = f"json: cannot unmarshal {json_name(value)}{literal} into Go value of type {go_type}"
        return BadRequest(self.refused + text)


@lru_cache(maxsize=4096)
def canonical(value: str | int | float) -> str:
    return str(Quantity.of(value))
