"""Subresources that are more than a part of the object: binding, eviction, scale, finalize, token.

`status` and its like need nothing here: they are updates whose strategy knows the subresource.
Source: kubernetes pkg/registry/core/pod/storage, pkg/registry/apps/*/storage, core/namespace/storage.
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from drakit.apiserver.auth import Tokens
from drakit.apiserver.delete import options_of, remove
from drakit.apiserver.patch import apply_patch
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.route import Target
from drakit.apiserver.schema import type_for
from drakit.apiserver.view import Answer, One, Plain, stored_document
from drakit.apiserver.write import change, check_dry_run, is_finished
from drakit.errors import BadRequest, Conflict, FieldError, Invalid
from drakit.model.selector import read_labels
from drakit.transport import APPLY_PATCH, Document

_SCALE = "autoscaling/v1"
_SHORTEST_TOKEN, _LONGEST_TOKEN = 600, 1 << 32
_DEFAULT_TOKEN = 3600
_AUDIENCE = "https://kubernetes.default.svc"


def _object(call: Call) -> Document:
    if not isinstance(call.document, dict):
        raise BadRequest("the request has no body: an object was expected")
    return call.document


def _part(document: Document, name: str) -> Document:
    """An object inside `document`; {} if it is missing. Raises BadRequest if it is something else."""
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"json: cannot unmarshal {type(value).__name__} into field {name}")
    return value


def _success(status: int = 201) -> Plain:
    document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": status}
    return Plain(document=document, status=status)


# --- binding --------------------------------------------------------------------------------------


async def bind(registry: Registry, call: Call) -> Answer:
    """POST pods/NAME/binding (or bindings): give the pod its node."""
    check_dry_run(call.query)
    binding, pods = _object(call), registry.kinds.resource("", "pods")
    metadata, node = _part(binding, "metadata"), _part(binding, "target")
    assert pods is not None
    name = call.target.name or str(metadata.get("name") or "")
    target = Target(pods, "v1", call.target.namespace, name)
    node_name = node.get("name")
    if not node_name or not isinstance(node_name, str):
        error = FieldError("FieldValueRequired", "target.name", "Required value")
        raise Invalid.of("", "Binding", name, [error])
    if node.get("kind") not in (None, "", "Node"):
        text = f'Unsupported value: "{node.get("kind")}": supported values: "Node", ""'
        error = FieldError("FieldValueNotSupported", "target.kind", text)
        raise Invalid.of("", "Binding", name, [error])
    entry = registry.head(target)
    pod = stored_document(entry)
    problem = _not_bindable(pod, metadata)
    if problem:
        raise Conflict(
            f'Operation cannot be fulfilled on pods/binding "{name}": {problem}',
            details={"name": name, "kind": "pods/binding"},
        )
    _assign(pod, node_name, _part(metadata, "annotations"), registry.now())
    await registry.write(target, entry, pod, is_dry_run=call.is_dry_run)
    return _success()


def _not_bindable(pod: Document, wanted: Document) -> str:
    metadata, name = pod["metadata"], pod["metadata"].get("name")
    uid = wanted.get("uid")
    if uid and uid != metadata.get("uid"):
        return f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata.get('uid')}"
    if metadata.get("deletionTimestamp"):
        return f"pod {name} is being deleted, cannot be assigned to a host"
    if pod["spec"].get("nodeName"):
        return f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
    if pod["spec"].get("schedulingGates"):
        return f"pod {name} has non-empty .spec.schedulingGates"
    return ""


def _assign(pod: Document, node_name: str, annotations: Document, now: str) -> None:
    pod["spec"]["nodeName"] = node_name
    if annotations:
        pod["metadata"]["annotations"] = {**(pod["metadata"].get("annotations") or {}), **annotations}
    status = pod.setdefault("status", {})
    conditions = [row for row in status.get("conditions") or () if row.get("type") != "PodScheduled"]
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": now,
    }
    if generation := pod["metadata"].get("generation"):
        scheduled["observedGeneration"] = generation
    status["conditions"] = [*conditions, scheduled]


async def evict(registry: Registry, call: Call) -> Answer:
    """POST pods/NAME/eviction: delete the pod as its deleteOptions say."""
    options = _object(call).get("deleteOptions")
    deletion = msgspec.structs.replace(call, document=options)
    target = msgspec.structs.replace(call.target, subresource="")
    registry.head(target)
    await remove(registry, target, options_of(deletion))
    return _success()


# --- scale ----------------------------------------------------------------------------------------


async def scale(registry: Registry, call: Call) -> Answer:
    """GET, PUT and PATCH of NAME/scale: an object's replicas on their own."""
    owner = msgspec.structs.replace(call.target, subresource="")
    entry = registry.head(owner)
    current = _scale_of(stored_document(entry))
    if call.verb == "get":
        return Plain(document=current)
    check_dry_run(call.query)
    if call.verb == "update":
        wanted = _object(call)
    else:
        type_ = type_for(_SCALE, "Scale", registry.profile.version)
        content_type = (
            "application/merge-patch+json" if call.content_type == APPLY_PATCH else call.content_type
        )
        wanted = apply_patch(current, call.document, content_type, type_)
    replicas = _part(wanted, "spec").get("replicas", 0)
    version = _part(wanted, "metadata").get("resourceVersion")
    if isinstance(replicas, bool) or not isinstance(replicas, int) or not 0 <= replicas < 1 << 31:
        text = f"Invalid value: {msgspec.json.encode(replicas).decode()}: must be greater than or equal to 0"
        raise Invalid.of(
            "autoscaling", "Scale", owner.name, [FieldError("FieldValueInvalid", "spec.replicas", text)]
        )

    def scaled(old: Document) -> Document:
        metadata = dict(old["metadata"])
        if version:
            metadata["resourceVersion"] = version
        head = {"kind": owner.kind.kind, "apiVersion": owner.kind.storage_api_version}
        return {**head, **old, "metadata": metadata, "spec": {**old.get("spec", {}), "replicas": replicas}}

    changed = await change(registry, msgspec.structs.replace(call, target=owner), scaled)
    return Plain(document=_scale_of(stored_document(changed.entry)))


def _scale_of(document: Document) -> Document:
    metadata, spec, status = document["metadata"], document.get("spec") or {}, document.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = spec.get("selector")
    is_plain = isinstance(selector, dict) and not {"matchLabels", "matchExpressions"} & set(selector)
    labels = read_labels({"matchLabels": selector} if is_plain else selector)
    return {
        "kind": "Scale",
        "apiVersion": _SCALE,
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": {"replicas": status.get("replicas", 0), "selector": str(labels or "")},
    }


# --- namespaces -----------------------------------------------------------------------------------


async def finalize(registry: Registry, call: Call) -> Answer:
    """PUT namespaces/NAME/finalize: the namespace controller takes its finalizer away."""
    wanted = _part(_object(call), "spec").get("finalizers") or []
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise BadRequest("spec.finalizers must be a list of strings")
    target = msgspec.structs.replace(call.target, subresource="")
    entry = registry.head(target)
    namespace = stored_document(entry)
    spec: dict[str, Any] = {**(namespace.get("spec") or {}), "finalizers": wanted}
    if not wanted:
        del spec["finalizers"]
    namespace["spec"] = spec
    if is_finished({**namespace, "kind": "Namespace"}):
        await registry.commit(target, entry, None)
        return One(target=target, entry=entry)
    written = await registry.write(target, entry, namespace, is_dry_run=call.is_dry_run)
    return One(target=target, entry=written)


# --- tokens ---------------------------------------------------------------------------------------


def token(registry: Registry, call: Call, tokens: Tokens) -> Answer:
    """POST serviceaccounts/NAME/token: a token for the account."""
    request = _object(call)
    spec = _part(request, "spec")
    account = stored_document(registry.head(msgspec.structs.replace(call.target, subresource="")))
    seconds = spec.get("expirationSeconds", _DEFAULT_TOKEN)
    audiences = spec.get("audiences") or [_AUDIENCE]
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise BadRequest("spec.expirationSeconds must be a number of seconds")
    if not _SHORTEST_TOKEN <= seconds <= _LONGEST_TOKEN:
        bound = "less than 10 minutes" if seconds < _SHORTEST_TOKEN else "larger than 1<<32 seconds"
        error = FieldError(
            "FieldValueInvalid",
            "spec.expirationSeconds",
            f"Invalid value: {seconds}: may not specify a duration {bound}",
        )
        raise Invalid.of("authentication.k8s.io", "TokenRequest", "", [error])
    if not isinstance(audiences, list) or not all(isinstance(name, str) for name in audiences):
        raise BadRequest("spec.audiences must be a list of strings")
    namespace, name = call.target.namespace, call.target.name
    signed = tokens.issue(namespace, name, account["metadata"]["uid"], seconds, audiences)
    until = registry.time() + datetime.timedelta(seconds=seconds)
    return Plain(
        document={
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": registry.now()},
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": None},
            "status": {"token": signed, "expirationTimestamp": until.strftime("%Y-%m-%dT%H:%M:%SZ")},
        },
        status=201,
    )


HANDLERS: Mapping[tuple[str, str], Callable[[Registry, Call], Awaitable[Answer]]] = {
    ("pods", "binding"): bind,
    ("bindings", ""): bind,
    ("pods", "eviction"): evict,
    ("namespaces", "finalize"): finalize,
    ("*", "scale"): scale,
}
"""By plural and subresource; "*" stands for every plural."""
