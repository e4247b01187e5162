"""Subresources that are more than a part of the object: binding, eviction, finalize (and see `scale`).

`status` and its like need nothing here: they are updates whose strategy knows the subresource.
Source: kubernetes pkg/registry/core/pod/storage, core/namespace/storage.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from drakit.apiserver.body import object_of, part
from drakit.apiserver.budget import spend
from drakit.apiserver.certificate import approve
from drakit.apiserver.delete import options_of, remove
from drakit.apiserver.options import check_dry_run
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.route import Target
from drakit.apiserver.scale import scale
from drakit.apiserver.view import Answer, One, Plain, stored_document
from drakit.apiserver.write import is_finished
from drakit.errors import BadRequest, Conflict, FieldError, Invalid
from drakit.transport import Document


def _success(status: int = 201) -> Plain:
    document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": status}
    return Plain(document=document, status=status)


# --- binding --------------------------------------------------------------------------------------


async def bind(registry: Registry, call: Call) -> Answer:
    """POST pods/NAME/binding (or bindings): give the pod its node."""
    check_dry_run(call.query)
    binding, pods = object_of(call.document), registry.kinds.resource("", "pods")
    metadata, node = part(binding, "metadata"), part(binding, "target")
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
    await _admit(registry, call)
    problem = _not_bindable(pod, metadata)
    if problem:
        raise Conflict(
            f'Operation cannot be fulfilled on pods/binding "{name}": {problem}',
            details={"name": name, "kind": "pods/binding"},
        )
    _assign(pod, node_name, part(metadata, "annotations"), registry.now())
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


async def _admit(registry: Registry, call: Call) -> None:
    """Ask admission about an object that is not stored: a Binding, an Eviction."""
    review = registry.review(call, call.target, "CREATE", None, None)
    if review is not None:
        review.given = call.document
        await registry.admission.validate(review)


async def evict(registry: Registry, call: Call) -> Answer:
    """POST pods/NAME/eviction: delete the pod as its deleteOptions say, if its budget allows it."""
    eviction = object_of(call.document)
    deletion = msgspec.structs.replace(call, document=eviction.get("deleteOptions"))
    target = msgspec.structs.replace(call.target, subresource="")
    name = part(eviction, "metadata").get("name")
    if name and name != target.name:
        raise BadRequest("name in URL does not match name in Eviction object")
    pod = stored_document(registry.head(target))
    registry.admit(call.user, call.target, None, pod)
    await _admit(registry, call)
    options = options_of(deletion)
    await spend(registry, pod, is_dry_run=bool(options.dry_run))
    await remove(registry, target, options, call)
    return _success()


# --- namespaces -----------------------------------------------------------------------------------


async def finalize(registry: Registry, call: Call) -> Answer:
    """PUT namespaces/NAME/finalize: the namespace controller takes its finalizer away."""
    wanted = part(object_of(call.document), "spec").get("finalizers") or []
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


HANDLERS: Mapping[tuple[str, str], Callable[[Registry, Call], Awaitable[Answer]]] = {
    ("pods", "binding"): bind,
    ("bindings", ""): bind,
    ("pods", "eviction"): evict,
    ("namespaces", "finalize"): finalize,
    ("certificatesigningrequests", "approval"): approve,
    ("*", "scale"): scale,
}
"""By plural and subresource; "*" stands for every plural."""
