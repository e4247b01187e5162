"""Whether the object of a write is the one its path names, and what of it no client may change.

Source: apiserver/pkg/endpoints/handlers (checkName), registry/rest/{create,update,meta}.go,
registry/generic/registry/store.go.
"""

from __future__ import annotations

from drakit.apiserver.registry import Registry
from drakit.apiserver.route import Target
from drakit.errors import BadRequest, Invalid
from drakit.model.validation.field import invalid, quoted
from drakit.store import Entry
from drakit.transport import Document

_OTHER_NAMESPACE = "the namespace of the provided object does not match the namespace sent on the request"
_CONDITIONAL = frozenset(
    {
        "CSIDriver",
        "CSINode",
        "CSIStorageCapacity",
        "CustomResourceDefinition",
        "Lease",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "MutatingWebhookConfiguration",
        "PodDisruptionBudget",
        "ResourcePoolStatusRequest",
        "RuntimeClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttachment",
    }
)
"""Kinds of which a PUT must say the resourceVersion it replaces (AllowUnconditionalUpdate)."""


def place(target: Target, metadata: Document) -> None:
    """Give the object the namespace of the request, which must be its own if it names one."""
    if not target.kind.is_namespaced:
        metadata.pop("namespace", None)
        return
    if metadata.get("namespace", target.namespace) != target.namespace:
        raise BadRequest(_OTHER_NAMESPACE)
    if not target.namespace:
        raise BadRequest("an empty namespace may not be set during creation")
    metadata["namespace"] = target.namespace


def check_name(target: Target, document: Document) -> None:
    """Raises BadRequest unless the object has the name and namespace of its path; an empty namespace is
    filled in."""
    metadata = document["metadata"]
    if target.kind.is_namespaced:
        if (metadata.get("namespace") or target.namespace) != target.namespace:
            raise BadRequest(_OTHER_NAMESPACE)
        metadata["namespace"] = target.namespace
    name = metadata.get("name")
    if not name:
        raise BadRequest(
            f"the name of the object ({target.name} based on URL) was undeterminable: name must be provided"
        )
    if name != target.name:
        raise BadRequest(
            f"the name of the object ({name}) does not match the name on the URL ({target.name})"
        )


def check_identity(registry: Registry, target: Target, entry: Entry, old: Document, new: Document) -> None:
    """Raises Conflict if `new` was made for another state or another object of that name, BadRequest or
    Invalid if what it says about that cannot be."""
    metadata = new["metadata"]
    version = metadata.get("resourceVersion")
    if version and version != "0" and version != str(entry.revision):
        if not (str(version).isascii() and str(version).isdigit()):
            raise BadRequest(f"strconv.ParseUint: parsing {quoted(str(version))}: invalid syntax")
        raise registry.changed(target)
    if version in (None, "", "0") and _is_conditional(target):
        error = invalid("metadata.resourceVersion", 0, "must be specified for an update")
        raise Invalid.of(target.kind.group, target.kind.plural, target.name, [error])
    uid, current = metadata.get("uid"), old["metadata"].get("uid", "")
    if uid and uid != current:
        raise registry.changed(
            target,
            f"StorageError: invalid object, Code: 4, Key: {_registry_key(target)}, ResourceVersion: 0, "
            f"AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: "
            f"{current}",
        )


def _is_conditional(target: Target) -> bool:
    kind = target.kind
    return kind.custom is not None or kind.kind in _CONDITIONAL or _is_new_taint_rule(target)


def _is_new_taint_rule(target: Target) -> bool:
    """DeviceTaintRules became strict when they became stable."""
    return (target.kind.kind, target.version) == ("DeviceTaintRule", "v1")


def _registry_key(target: Target) -> str:
    """Where upstream would keep the object, as its errors name it."""
    kind = target.kind
    names = {"nodes": "minions", "services": "services/specs", "endpoints": "services/endpoints"}
    plural = f"{kind.group}/{kind.plural}" if kind.custom else names.get(kind.plural, kind.plural)
    return f"/registry/{plural}/{target.key}"


def keep_system_fields(entry: Entry, old: Document, new: Document) -> None:
    """What no client may change."""
    metadata, before = new["metadata"], old["metadata"]
    metadata["resourceVersion"] = str(entry.revision)
    metadata.pop("selfLink", None)
    for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if field in before:
            metadata[field] = before[field]
        else:
            metadata.pop(field, None)
