"""kubectl's way from client-side to server-side apply: the annotation with the configuration applied last.

What that configuration says and the object still has, kubectl may change whoever owns it; and where the
annotation is there, server-side apply by kubectl keeps it up to date.
Source: apimachinery/pkg/util/managedfields/internal (lastappliedmanager.go, lastappliedupdater.go).
"""

from __future__ import annotations

from typing import Any

import msgspec

from drakit.apiserver.apply_check import check_fits
from drakit.apiserver.apply_fields import Fields, compare, fields_of
from drakit.apiserver.schema import Type
from drakit.errors import BadRequest
from drakit.transport import Document

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def _annotations(document: Document) -> Any:
    metadata = document.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def allowed_by_last_applied(live: Document, type_: Type | None, api_version: str) -> Fields:
    """The fields that are as kubectl applied them last."""
    try:
        last = msgspec.json.decode(_annotations(live).get(LAST_APPLIED) or "null")
    except (msgspec.DecodeError, UnicodeEncodeError):
        return frozenset()
    if not isinstance(last, dict) or last.get("apiVersion") != api_version:
        return frozenset()
    try:
        check_fits(live, type_)
        check_fits(last, type_)
    except BadRequest:
        return frozenset()
    difference = compare(last, live, type_)
    return fields_of(last, type_) - difference.changed - difference.removed


def with_last_applied(result: Document, applied: Document) -> Document:
    """`result` with the annotation brought up to date, if it has one."""
    if not _annotations(result).get(LAST_APPLIED):
        return result
    metadata = dict(applied.get("metadata") or {})
    if _annotations(applied):
        left = {name: text for name, text in metadata["annotations"].items() if name != LAST_APPLIED}
        metadata["annotations"] = left
        if not left:
            del metadata["annotations"]
    text = msgspec.json.encode({**applied, "metadata": metadata}, order="deterministic").decode() + "\n"
    annotations = {**_annotations(result), LAST_APPLIED: text}
    return {**result, "metadata": {**result["metadata"], "annotations": annotations}}
