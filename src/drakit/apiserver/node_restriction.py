"""What the objects must be that the credentials of a node write: its own.

Also for the tokens of a DaemonSet's pods: they do not write the ResourceSlices of other nodes. Kubernetes
leaves that to a ValidatingAdmissionPolicy that a driver brings along; without one it would be open.
Source: kubernetes plugin/pkg/admission/noderestriction/admission.go.
"""

from __future__ import annotations

from collections.abc import Callable

from drakit.apiserver.auth import User
from drakit.apiserver.node_authorizer import LEASES
from drakit.apiserver.route import Target
from drakit.errors import Forbidden
from drakit.transport import Document

Find = Callable[[str, str, str], Document | None]
"""An object by kind, namespace and name."""

_MIRROR = "kubernetes.io/config.mirror"
_RESTRICTED = "node-restriction.kubernetes.io"
_KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    }
)
_KUBELET_LABEL_GROUPS = ("kubelet.kubernetes.io", "node.kubernetes.io")


def check_node(find: Find, user: User, target: Target, new: Document | None, old: Document | None) -> None:
    """Raises Forbidden if `user` is a node that may not bring the object from `old` (None: create) to
    `new` (None: delete)."""
    node = user.node_credentials
    kind = target.kind
    if kind.group == "resource.k8s.io" and kind.kind == "ResourceSlice" and user.node:
        problem = _slice(find, user, new, old)
    elif not node:
        return
    elif (kind.group, kind.kind) == ("", "Pod"):
        problem = _pod(find, node, target, new, old)
    elif (kind.group, kind.kind) == ("", "Node"):
        problem = _node(node, target, new, old)
    elif (kind.group, kind.kind) == ("coordination.k8s.io", "Lease"):
        problem = _lease(node, target)
    else:
        return
    if problem:
        raise refused(target, problem)


def check_token(find: Find, user: User, target: Target, bound: Document | None) -> None:
    """Raises Forbidden if `user` is a node that may not have a token of a service account bound to
    `bound`, the boundObjectRef of a TokenRequest."""
    node = user.node_credentials
    if not node:
        return
    bound = bound or {}
    if bound.get("apiVersion") != "v1" or bound.get("kind") != "Pod" or not bound.get("name"):
        raise refused(target, "node requested token not bound to a pod")
    if not bound.get("uid"):
        raise refused(target, "node requested token with a pod binding without a uid")
    pod = find("Pod", target.namespace, str(bound["name"])) or {}
    if (pod.get("spec") or {}).get("nodeName") != node:
        raise refused(target, "node requested token bound to a pod scheduled on a different node")


def refused(target: Target, problem: str) -> Forbidden:
    """The error of an admission plugin that refuses."""
    kind = target.kind
    name = f' "{target.name}"' if target.name else ""
    details = {"name": target.name, "group": kind.group, "kind": kind.plural}
    return Forbidden(
        f"{kind.resource}{name} is forbidden: {problem}",
        details={key: value for key, value in details.items() if value},
    )


def _node_of(document: Document | None) -> str | None:
    return None if document is None else str((document.get("spec") or {}).get("nodeName") or "")


def _slice(find: Find, user: User, new: Document | None, old: Document | None) -> str:
    if not user.node_credentials and not _is_of_daemon_set(find, user):
        return ""
    allowed = {user.node} if user.node_credentials else {user.node, ""}
    verb = "create" if old is None else "delete" if new is None else "update"
    for node in (_node_of(old), _node_of(new)):
        if node is not None and node not in allowed:
            return f"can only {verb} ResourceSlice with the same NodeName as the requesting node"
    return ""


def _is_of_daemon_set(find: Find, user: User) -> bool:
    name = next(iter(user.extra.get("authentication.kubernetes.io/pod-name", ())), "")
    pod = find("Pod", user.name.split(":")[2], name) if name and user.name.count(":") > 2 else None
    owners = (pod or {}).get("metadata", {}).get("ownerReferences") or ()
    return any(owner.get("controller") and owner.get("kind") == "DaemonSet" for owner in owners)


def _pod(find: Find, node: str, target: Target, new: Document | None, old: Document | None) -> str:
    if target.subresource == "eviction":
        if _node_of(old) != node:
            return f"node {node} can only evict pods with spec.nodeName set to itself"
        return ""
    if target.subresource == "status":
        return _pod_status(node, new or {}, old or {})
    if target.subresource:
        text = f'unexpected pod subresource "{target.subresource}"'
        return f"{text}, only 'status' and 'eviction' are allowed"
    if new is None:
        if _node_of(old) != node:
            return f'node "{node}" can only delete pods with spec.nodeName set to itself'
        return ""
    if old is not None:
        return f'unexpected operation "UPDATE", node "{node}" can only create and delete mirror pods'
    return _mirror_pod(find, node, new)


def _pod_status(node: str, new: Document, old: Document) -> str:
    if _node_of(old) != node:
        return f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
    if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        return f'node "{node}" cannot update labels through pod status'
    if _claim_names(new) != _claim_names(old):
        return f'node "{node}" cannot update resource claim statues'
    return ""


def _claim_names(pod: Document) -> list[tuple[object, object]]:
    entries = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    return [(entry.get("name"), entry.get("resourceClaimName")) for entry in entries]


def _mirror_pod(find: Find, node: str, pod: Document) -> str:
    spec, metadata = pod.get("spec") or {}, pod["metadata"]
    if _MIRROR not in (metadata.get("annotations") or {}):
        return f'pod does not have "{_MIRROR}" annotation, node "{node}" can only create mirror pods'
    if spec.get("nodeName") != node:
        return f'node "{node}" can only create pods with spec.nodeName set to itself'
    owners = metadata.get("ownerReferences") or []
    if len(owners) != 1:
        how = "a single owner" if owners else "an owner"
        return f'node "{node}" can only create pods with {how} reference set to itself'
    owner = owners[0]
    if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
        return f'node "{node}" can only create pods with an owner reference set to itself'
    if not owner.get("controller"):
        return f'node "{node}" can only create pods with a controller owner reference set to itself'
    if owner.get("blockOwnerDeletion"):
        return f'node "{node}" must not set blockOwnerDeletion on an owner reference'
    uid = (find("Node", "", node) or {}).get("metadata", {}).get("uid", "")
    if owner.get("uid") != uid:
        return f"node {node} UID mismatch: expected {uid} got {owner.get('uid')}"
    for field, what in (("serviceAccountName", "a service account"), ("resourceClaims", "resourceclaims")):
        if spec.get(field):
            return f'node "{node}" can not create pods that reference {what}'
    return ""


def _node(node: str, target: Target, new: Document | None, old: Document | None) -> str:
    name = target.name or (new or {}).get("metadata", {}).get("name", "")
    if name != node:
        return f'node "{node}" is not allowed to modify node "{name}"'
    if new is None:
        return ""
    before = (old or {}).get("metadata", {}).get("labels") or {}
    labels = new["metadata"].get("labels") or {}
    if old is not None and (new.get("spec") or {}).get("taints") != (old.get("spec") or {}).get("taints"):
        return f'node "{node}" is not allowed to modify taints'
    changed = [key for key in {*labels, *before} if labels.get(key) != before.get(key)]
    wrong = ", ".join(sorted(key for key in changed if _is_forbidden_label(key)))
    if not wrong:
        return ""
    if old is None:
        return f'node "{node}" is not allowed to set the following labels: {wrong}'
    return f"is not allowed to modify labels: {wrong}"


def _is_forbidden_label(key: str) -> bool:
    group = key.rpartition("/")[0]
    if _is_in(group, _RESTRICTED):
        return True
    if not _is_in(group, "kubernetes.io") and not _is_in(group, "k8s.io"):
        return False
    return key not in _KUBELET_LABELS and not any(_is_in(group, known) for known in _KUBELET_LABEL_GROUPS)


def _is_in(group: str, parent: str) -> bool:
    return group == parent or group.endswith(f".{parent}")


def _lease(node: str, target: Target) -> str:
    if target.namespace != LEASES:
        return f'can only access leases in the "{LEASES}" system namespace'
    if target.name != node:
        return "can only access node lease with the same name as the requesting node"
    return ""
