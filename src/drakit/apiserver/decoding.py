"""From what a client sent to what the server keeps, and back.

A request names a version of its kind; the server keeps objects in the kind's storage version. In between,
types are checked with Go's own error texts, unknown and repeated fields found, nulls and empty values
dropped as Go's encoder drops them, quantities made canonical, defaults set in the version of the request,
and the document converted.

Repeated fields cannot be seen in a decoded document. Looking for them means parsing the text a second
time, so that is done only if the text seems to have more keys than the document.
Source: apimachinery/pkg/runtime/serializer/json, sigs.k8s.io/json (decode.go).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from drakit.apiserver import custom
from drakit.apiserver.defaults import set_defaults
from drakit.apiserver.kinds import Kind
from drakit.apiserver.schema import Type, definition, type_for
from drakit.errors import BadRequest
from drakit.model.conversion import convert
from drakit.model.quantity import Quantity
from drakit.profile import Profile
from drakit.transport import Document

_KEY = re.compile(rb'(?<!\\)"\s*:')
_MAX_DEPTH = 200
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}([.,]\d+)?(Z|[+-]\d{2}:\d{2})$")
_RANGE = {"int32": 1 << 31, "int64": 1 << 63}
_KEPT_EMPTY = frozenset(
    {
        ("ResourceSliceSpec", "nodeName"),
        ("Device", "nodeName"),
        ("PersistentVolumeClaimSpec", "storageClassName"),
        ("DeviceClassSpec", "extendedResourceName"),
        ("PodSpec", "priorityClassName"),
        ("LeaseSpec", "holderIdentity"),
        ("EnvVar", "value"),
    }
)
"""Optional fields that are pointers in Go: there, empty is not the same as absent."""


class Decoded(Struct, frozen=True):
    """`document` in the storage version and the texts for `Warning` headers."""

    document: Document
    warnings: list[str]


def decode(
    document: Any,
    kind: Kind,
    version: str,
    profile: Profile,
    *,
    field_validation: str = "Warn",
    raw: bytes | None = None,
    type_: Type | None = None,
    now: str = "",
    hints: list[str] | None = None,
) -> Decoded:
    """The object that `document` means, checked, defaulted and in the storage version of `kind`.

    `document` is the decoded body (or the outcome of a patch) in `version`; it belongs to this function
    afterwards. `raw` is the JSON text it came from, where repeated fields are to be found. `type_` is
    given for custom resources, `now` (RFC 3339) is what new taints are stamped with. `field_validation`
    is Strict, Warn or Ignore. How to write what was written wrongly is added to `hints`, also when the
    object is refused. Raises BadRequest for another kind, for a value of a wrong type and, if strict, for
    unknown or repeated fields.
    """
    if not isinstance(document, dict):
        raise BadRequest(
            f"json: cannot unmarshal {json_name(document)} into Go value of type {version}.{kind.kind}"
        )
    refused = (
        f'{document.get("kind") or kind.kind} in version "{version}" cannot be handled as a {kind.kind}: '
    )
    api_version = kind.api_version(version)
    _check_kind(document, kind, version, refused)
    added = ("kind" not in document) + ("apiVersion" not in document)
    document["kind"], document["apiVersion"] = kind.kind, api_version
    found = type_ or type_for(api_version, kind.kind, profile.version)
    warnings: list[str] = []
    if found is not None:
        checker = Checker(refused)
        document = checker.check(document, found)
        stray = checker.stray
        keys = checker.keys - added
        if raw is not None and field_validation != "Ignore" and len(_KEY.findall(raw)) != keys:
            stray = list(_repeated(raw)) + stray
        if hints is not None:
            hints += _advice(stray, kind.group)
        if stray and field_validation == "Strict":
            raise BadRequest(f"{refused}strict decoding error: {', '.join(stray)}")
        if field_validation == "Warn":
            warnings = stray
    metadata = document.setdefault("metadata", {})
    if not kind.is_namespaced and isinstance(metadata, dict):
        metadata.pop("namespace", None)
    set_defaults(document, kind.group, version, now)
    return Decoded(convert(document, kind.storage_version), warnings)


_MISPLACED = re.compile(r'unknown field "(\S+requests\[\d+\])\.(\w+)"')
_UNDER_EXACTLY = frozenset(
    {"deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity"}
)


def _advice(stray: list[str], group: str) -> list[str]:
    """For fields of an exact request that stand beside `exactly`, as they did in v1beta1."""
    if group != "resource.k8s.io":
        return []
    found = [_MISPLACED.match(text) for text in stray]
    return [
        f"{match[1]}: move {match[2]} under exactly ({match[1]}.exactly.{match[2]})"
        for match in found
        if match is not None and match[2] in _UNDER_EXACTLY
    ]


def decode_custom(
    document: Any,
    kind: Kind,
    version: str,
    schema: Mapping[str, Any],
    *,
    field_validation: str = "Warn",
    raw: bytes | None = None,
) -> Decoded:
    """As `decode`, for a custom resource with the given openAPIV3Schema: pruned and defaulted. Wrong types
    are the strategy's business, as upstream. All versions are stored alike (conversion strategy None)."""
    if not isinstance(document, dict):
        raise BadRequest(f"json: cannot unmarshal {json_name(document)} into Go value of type unstructured")
    refused = f'{kind.kind} in version "{version}" cannot be handled as a {kind.kind}: '
    _check_kind(document, kind, version, refused)
    metadata = document.get("metadata")
    document = msgspec.json.decode(
        msgspec.json.encode({k: v for k, v in document.items() if k != "metadata"})
    )
    checker = Checker(refused)
    checked = checker.check({"metadata": metadata or {}}, definition("io.k8s.api.core.v1.ConfigMap"))
    stray = checker.stray + custom.prune(document, schema)
    if raw is not None and field_validation != "Ignore":
        stray = list(_repeated(raw)) + stray
    if stray and field_validation == "Strict":
        raise BadRequest(f"{refused}strict decoding error: {', '.join(stray)}")
    custom.default(document, schema)
    head = {"apiVersion": kind.api_version(kind.storage_version), "kind": kind.kind}
    result = {**document, **head, "metadata": checked.get("metadata", {})}
    return Decoded(result, stray if field_validation == "Warn" else [])


def encode(document: Document, kind: Kind, version: str) -> Document:
    """The stored `document` in `version`; itself if that is how it is stored, and never changed."""
    return document if version == kind.storage_version else convert(document, version)


def _check_kind(document: Document, kind: Kind, version: str, refused: str) -> None:
    for name in ("kind", "apiVersion"):
        if not isinstance(document.get(name, ""), str | None):
            raise BadRequest(
                "couldn't get version/kind; json parse error: json: cannot unmarshal "
                f"{json_name(document[name])} into Go struct field .{name} of type string"
            )
    given_version, given_kind = document.get("apiVersion") or "", document.get("kind") or ""
    expected = kind.api_version(version)
    if given_version and given_version != expected:
        group, _, bare = given_version.rpartition("/")
        if (group, bare) != (kind.group, version) and given_kind in ("", kind.kind):
            raise BadRequest(
                f"the API version in the data ({given_version}) does not match the expected API version "
                f"({expected})"
            )
    if given_kind and given_kind != kind.kind:
        given = given_version.rpartition("/")[2] or version
        target = f"{_internal(kind)}.{kind.kind}"
        raise BadRequest(f"{refused}converting ({given}.{given_kind}) to ({target}): unknown conversion")


def _internal(kind: Kind) -> str:
    return kind.group.partition(".")[0] or "core"


def deprecation(kind: Kind, version: str, profile: Profile) -> str | None:
    """The text of the `Warning` header for using a version of resource.k8s.io that is on its way out."""
    since = _DEPRECATED.get((kind.group, version))
    if since is None or (kind.kind, version) in _YOUNGER:
        return None
    deprecated, removed = since
    if not profile.at_least(deprecated) or "v1" not in profile.served:
        return None
    return f"{kind.group}/{version} {kind.kind} is deprecated in v{deprecated}+, unavailable in v{removed}+"


_YOUNGER = {("ResourcePoolStatusRequest", "v1alpha3"), ("DeviceTaintRule", "v1beta2")}
"""Kinds that came to a version later than the others and are not deprecated with it."""
_DEPRECATED = {
    ("resource.k8s.io", "v1beta1"): ("1.35", "1.38"),
    ("resource.k8s.io", "v1beta2"): ("1.36", "1.39"),
    ("resource.k8s.io", "v1alpha3"): ("1.36", "1.39"),
}


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
        return _ZEROES.get(type_.scalar, "")
    return {"list": [], "any": None}.get(type_.shape, {})


class Checker:
    """One walk over a document along its type.

    `check` returns the document with nulls, unknown fields and empty values gone and quantities
    canonical; `stray` then holds a text for every unknown field, `keys` how many keys the document had.
    Raises BadRequest, beginning with `refused`, at the first value of a wrong type.
    """

    def __init__(self, refused: str) -> None:
        self.refused = refused
        self.stray: list[str] = []
        self.keys = 0

    def check(self, document: Document, type_: Type) -> Document:
        result: Document = self._object(document, type_, None, 0)
        return result

    def _wrong(self, value: Any, type_: Type, place: _Place | None, literal: str = "") -> BadRequest:
        what = json_name(value) + (f" {literal}" if literal else "")
        where = f"Go struct field {place.go_path()}" if place is not None else "Go value"
        return BadRequest(f"{self.refused}json: cannot unmarshal {what} into {where} of type {type_.go_name}")

    def _object(self, value: dict[str, Any], type_: Type, place: _Place | None, depth: int) -> Any:
        if depth > _MAX_DEPTH:
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
                    self.stray.append(f'unknown field "{_Place((place, key, type_.name)).path()}"')
                    self._free(item)
                continue
            if item is None:
                continue
            checked = self._value(item, field, _Place((place, key, type_.name)), depth + 1)
            if (
                not checked
                and (checked == "" or checked == [] or checked == {})
                and key not in type_.required
                and field.shape not in ("object", "any")
                and type_.name != "DeviceAttribute"
                and (type_.name, key) not in _KEPT_EMPTY
            ):
                continue
            result[key] = checked
        return result

    def _value(self, value: Any, type_: Type, place: _Place, depth: int) -> Any:
        shape = type_.shape
        if shape == "scalar":
            if type_.scalar == "string" and isinstance(value, str):
                return value
            return self._scalar(value, type_, place)
        if shape == "any":
            return self._free(value)
        if shape == "list":
            if not isinstance(value, list):
                raise self._wrong(value, type_, place)
            items = type_.items
            zero = _zero(items)
            return [
                zero if item is None else self._value(item, items, _Place((place, index, "")), depth + 1)
                for index, item in enumerate(value)
            ]
        if not isinstance(value, dict):
            raise self._wrong(value, type_, place)
        if shape == "object":
            return self._object(value, type_, place, depth)
        self.keys += len(value)
        items = type_.items
        zero = _zero(items)
        return {
            key: zero if item is None else self._value(item, items, _Place((place, key, "")), depth + 1)
            for key, item in value.items()
        }

    def _free(self, value: Any) -> Any:
        """Count the keys of a value no type describes."""
        stack = [value]
        while stack:
            item = stack.pop()
            if isinstance(item, dict):
                self.keys += len(item)
                stack.extend(item.values())
            elif isinstance(item, list):
                stack.extend(item)
        return value

    def _scalar(self, value: Any, type_: Type, place: _Place) -> Any:
        scalar = type_.scalar
        if scalar == "string" or scalar == "bytes":
            if not isinstance(value, str):
                raise self._wrong(value, type_, place)
            return value
        if scalar == "bool":
            if not isinstance(value, bool):
                raise self._wrong(value, type_, place)
            return value
        if scalar == "quantity":
            return self._quantity(value)
        if isinstance(value, bool):
            raise self._wrong(value, type_, place)
        if scalar in _RANGE:
            return self._integer(value, type_, place)
        if scalar == "double":
            if not isinstance(value, int | float):
                raise self._wrong(value, type_, place)
            return value
        if scalar == "intstr":
            if not isinstance(value, int | str):
                raise self._wrong(value, type_, place)
            return value
        return self._time(value, type_, place)

    def _integer(self, value: Any, type_: Type, place: _Place) -> int:
        limit = _RANGE[type_.scalar]
        if not isinstance(value, int | float):
            raise self._wrong(value, type_, place)
        if isinstance(value, float) or not -limit <= value < limit:
            raise self._wrong(value, type_, place, json.dumps(value))
        return value

    def _quantity(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            value = ""
        try:
            return _canonical(value)
        except ValueError as error:
            raise BadRequest(f"{self.refused}{error}") from None

    def _time(self, value: Any, type_: Type, place: _Place) -> str:
        if not isinstance(value, str):
            raise self._wrong(value, type_, place)
        layout = "2006-01-02T15:04:05Z07:00" if type_.scalar == "time" else "2006-01-02T15:04:05.000000Z07:00"
        if not _DATE.match(value):
            raise BadRequest(
                f'{self.refused}parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"'
            )
        return value


@lru_cache(maxsize=4096)
def _canonical(value: str | int | float) -> str:
    return str(Quantity.of(value))


class _Pairs(dict[str, Any]):
    """An object with the keys that came more than once."""

    repeated: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> _Pairs:
    result = _Pairs(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice: dict[str, None] = {}
        for key, _ in pairs:
            if key in seen:
                twice[key] = None
            seen.add(key)
        result.repeated = tuple(twice)
    return result


def _repeated(raw: bytes) -> Iterator[str]:
    try:
        document = json.loads(raw, object_pairs_hook=_pairs)
    except (ValueError, RecursionError):
        return
    stack: list[tuple[Any, str]] = [(document, "")]
    while stack:
        value, path = stack.pop()
        if isinstance(value, _Pairs):
            dotted = f"{path}." if path else ""
            for key in value.repeated:
                yield f'duplicate field "{dotted}{key}"'
            stack.extend((item, f"{dotted}{key}") for key, item in reversed(value.items()))
        elif isinstance(value, list):
            stack.extend((item, f"{path}[{index}]") for index, item in reversed(list(enumerate(value))))
