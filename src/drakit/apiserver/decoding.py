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

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from drakit.apiserver import compiled, custom
from drakit.apiserver.body import NO_KIND, unrecognized
from drakit.apiserver.checker import Checker, count_keys, json_name
from drakit.apiserver.defaults import set_defaults
from drakit.apiserver.kinds import Kind
from drakit.apiserver.repeats import as_warnings, has_repeats, in_order
from drakit.apiserver.schema import Type, definition, type_for
from drakit.errors import BadRequest
from drakit.model.conversion import convert
from drakit.profile import Profile
from drakit.transport import Document

_FIND_KIND = (
    r'Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; '
    r'Kind string "json:\"kind,omitempty\"" }'
)


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
    said: Sequence[str] = (),
    now: str = "",
    hints: list[str] | None = None,
) -> Decoded:
    """The object that `document` means, checked, defaulted and in the storage version of `kind`.

    `document` is the decoded body (or the outcome of a patch) in `version`; it belongs to this function
    afterwards. `raw` is the JSON text it came from, where repeated fields are to be found; `said` what has
    been found strange before. `now` (RFC 3339) is what new taints are stamped with. `field_validation` is
    Strict, Warn or Ignore. How to write what was written wrongly is added to `hints`, also on refusal.
    Raises BadRequest for another kind, a value of a wrong type and, if strict, unknown or repeated fields.
    """
    _must_be_object(document, raw)
    refused = (
        f'{document.get("kind") or kind.kind} in version "{version}" cannot be handled as a {kind.kind}: '
    )
    api_version = kind.api_version(version)
    _check_kind(document, kind, version, refused)
    added = ("kind" not in document) + ("apiVersion" not in document)
    document["kind"], document["apiVersion"] = kind.kind, api_version
    warnings: list[str] = []
    is_disowned = _is_disowned(document.get("metadata"))
    found = type_for(api_version, kind.kind, profile.version)
    if found is not None:
        document, keys, stray = _checked(document, found, refused, has_text=raw is not None)
        if raw is None:
            stray = [*said, *sorted(stray)]
        elif field_validation != "Ignore" and (stray or has_repeats(raw, keys - added)):
            stray = in_order(raw, stray, found)
        if hints is not None:
            hints += _advice(stray, kind.group)
        if stray and field_validation == "Strict":
            raise BadRequest(f"{refused}strict decoding error: {', '.join(stray)}")
        if field_validation == "Warn":
            warnings = as_warnings(stray)
    metadata = document.setdefault("metadata", {})
    if not kind.is_namespaced and isinstance(metadata, dict):
        metadata.pop("namespace", None)
    if is_disowned:
        metadata["managedFields"] = []
    set_defaults(document, kind.group, version, now)
    return Decoded(convert(document, kind.storage_version), warnings)


def _is_disowned(metadata: Any) -> bool:
    """Whether a client takes all fields from their managers: the one empty list that means something."""
    return isinstance(metadata, dict) and metadata.get("managedFields") == []


def _checked(
    document: Document, type_: Type, refused: str, *, has_text: bool
) -> tuple[Document, int, list[str]]:
    """The document as it is kept, how many keys it has (needed if `has_text`), what is strange in it."""
    try:
        return compiled.check(document, type_), count_keys(document) if has_text else 0, []
    except compiled.Odd:
        checker = Checker(refused)
        checked = checker.check(document, type_)
        return checked, checker.keys, checker.stray


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
    said: Sequence[str] = (),
) -> Decoded:
    """As `decode`, for a custom resource with the given openAPIV3Schema: pruned and defaulted. Wrong types
    are the strategy's business, as upstream. All versions are stored alike (conversion strategy None)."""
    _must_be_object(document, raw)
    refused = f'{kind.kind} in version "{version}" cannot be handled as a {kind.kind}: '
    _check_kind(document, kind, version, refused)
    metadata = document.get("metadata")
    document = msgspec.json.decode(
        msgspec.json.encode({k: v for k, v in document.items() if k != "metadata"})
    )
    checker = Checker(refused)
    checked = checker.check({"metadata": metadata or {}}, definition("io.k8s.api.core.v1.ConfigMap"))
    stray = checker.stray + sorted(custom.prune(document, schema))
    if raw is not None and field_validation != "Ignore":
        stray = in_order(raw) + stray
    stray = [*said, *stray]
    if stray and field_validation == "Strict":
        raise BadRequest(f"{refused}strict decoding error: {', '.join(stray)}")
    custom.default(document, schema)
    if _is_disowned(metadata):
        checked["metadata"]["managedFields"] = []
    head = {"apiVersion": kind.api_version(kind.storage_version), "kind": kind.kind}
    result = {**document, **head, "metadata": checked.get("metadata", {})}
    return Decoded(result, as_warnings(stray) if field_validation == "Warn" else [])


def encode(document: Document, kind: Kind, version: str) -> Document:
    """The stored `document` in `version`; itself if that is how it is stored, and never changed."""
    return document if version == kind.storage_version else convert(document, version)


def _must_be_object(document: Any, raw: bytes | None) -> None:
    if not isinstance(document, dict):
        raise unrecognized(
            f"{NO_KIND}json: cannot unmarshal {json_name(document)} into {_FIND_KIND}", raw or b""
        )


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
    """The text of the `Warning` header for using a version of resource.k8s.io that is on its way out, or a
    custom version that is."""
    if kind.custom is not None:
        return kind.custom.deprecation
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
