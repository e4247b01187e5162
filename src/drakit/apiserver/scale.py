"""The scale subresource: an object's replicas on their own.

Built-in kinds keep them in `spec.replicas` and `status.replicas`; a custom resource says where.
Source: kubernetes pkg/registry/apps/*/storage, apiextensions-apiserver/pkg/registry/customresource/etcd.go.
"""

from __future__ import annotations

from typing import Any

import msgspec

from drakit.apiserver.body import object_of, part
from drakit.apiserver.options import check_dry_run
from drakit.apiserver.patch import apply_patch
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.route import Target
from drakit.apiserver.schema import type_for
from drakit.apiserver.view import Answer, Plain, stored_document
from drakit.apiserver.write import change
from drakit.errors import FieldError, InternalError, Invalid
from drakit.model.selector import read_labels
from drakit.transport import APPLY_PATCH, MERGE_PATCH, Document

_API_VERSION = "autoscaling/v1"
_KEPT = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


async def scale(registry: Registry, call: Call) -> Answer:
    """GET, PUT and PATCH of NAME/scale."""
    owner = msgspec.structs.replace(call.target, subresource="")
    document = stored_document(registry.head(owner))
    current = _scale_of(document, owner)
    if call.verb == "get":
        return Plain(document=current)
    check_dry_run(call.query)
    replicas, version = _wanted(registry, call, current, owner.name)
    path = _path(owner, "specReplicasPath", ".spec.replicas")

    def scaled(old: Document) -> Document:
        metadata = dict(old["metadata"])
        if version:
            metadata["resourceVersion"] = version
        head = {"kind": owner.kind.kind, "apiVersion": owner.kind.storage_api_version}
        return _with_value({**head, **old, "metadata": metadata}, path, replicas)

    review = registry.review(call, call.target, "UPDATE", None, None)
    if review is not None:
        review.given, review.given_old = {**current, "spec": {"replicas": replicas}}, current
        await registry.admission.validate(review)
    owned = msgspec.structs.replace(call, target=owner)
    changed = await change(registry, owned, scaled, is_admitted=True)
    return Plain(document=_scale_of(stored_document(changed.entry), owner))


def _wanted(registry: Registry, call: Call, current: Document, name: str) -> tuple[int, str]:
    """The replicas and the resourceVersion that the request asks for."""
    if call.verb == "update":
        wanted = object_of(call.document)
    else:
        type_ = type_for(_API_VERSION, "Scale", registry.profile.version)
        is_apply = call.content_type == APPLY_PATCH
        wanted = apply_patch(current, call.document, MERGE_PATCH if is_apply else call.content_type, type_)
    replicas = part(wanted, "spec").get("replicas", 0)
    if isinstance(replicas, bool) or not isinstance(replicas, int) or not 0 <= replicas < 1 << 31:
        text = f"Invalid value: {msgspec.json.encode(replicas).decode()}: must be greater than or equal to 0"
        error = FieldError("FieldValueInvalid", "spec.replicas", text)
        raise Invalid.of("autoscaling", "Scale", name, [error])
    return replicas, part(wanted, "metadata").get("resourceVersion") or ""


# --- where the numbers are ------------------------------------------------------------------------


def _path(owner: Target, field: str, default: str) -> list[str]:
    """The steps to what `field` of a custom resource's scale says, or to the `default`."""
    custom = owner.kind.custom
    text = str((custom.scale or {}).get(field, "")) if custom else default
    return [step for step in text.split(".") if step]


def _value(document: Document, path: list[str]) -> Any:
    value: Any = document
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value if path else None


def _with_value(document: Document, path: list[str], value: Any) -> Document:
    """`document` with `value` at `path`; the argument stays as it is."""
    step, *rest = path
    below = document.get(step)
    inner = _with_value(below if isinstance(below, dict) else {}, rest, value) if rest else value
    return {**document, step: inner}


def _scale_of(document: Document, owner: Target) -> Document:
    metadata, spec = document["metadata"], document.get("spec") or {}
    path = _path(owner, "specReplicasPath", ".spec.replicas")
    replicas = _value(document, path)
    if owner.kind.custom is None:
        replicas = 1 if replicas is None else replicas
        selector = spec.get("selector")
        is_plain = isinstance(selector, dict) and not {"matchLabels", "matchExpressions"} & set(selector)
        shown = str(read_labels({"matchLabels": selector} if is_plain else selector) or "")
    else:
        shown = str(_value(document, _path(owner, "labelSelectorPath", "")) or "")
    if replicas is None:
        text = f'the spec replicas field ".{".".join(path)}" does not exist'
        raise InternalError(f"Internal error occurred: {text}", details={"causes": [{"message": text}]})
    status: Document = {
        "replicas": _value(document, _path(owner, "statusReplicasPath", ".status.replicas")) or 0
    }
    if shown or owner.kind.custom is None:
        status["selector"] = shown
    return {
        "kind": "Scale",
        "apiVersion": _API_VERSION,
        "metadata": {key: metadata[key] for key in _KEPT if key in metadata},
        "spec": {"replicas": replicas},
        "status": status,
    }
