"""What the credentials of a node (system:node:NAME in system:nodes) may do.

A node reads its own Node, its pods and what they use, and its slices; lists and watches need the field
selector that names it. Requests that create or change something are let through here as far as a node may
make such requests at all: `node_restriction` looks at the objects.

One thing goes beyond Kubernetes, where drivers have service accounts for it: drivers that run with the
credentials of their node may write `status.devices` of the claims of that node.
Source: kubernetes plugin/pkg/auth/authorizer/node/node_authorizer.go.
"""

from __future__ import annotations

from drakit.apiserver.auth import Attributes, User
from drakit.apiserver.node_graph import NodeGraph
from drakit.apiserver.rbac import any_covers
from drakit.apiserver.roles import node_rules
from drakit.apiserver.view import stored_document
from drakit.errors import BadRequest
from drakit.model.selector import parse_fields
from drakit.store import Store

LEASES = "kube-node-lease"
_SLICES = "resourceslices.resource.k8s.io"
_READ = ("get", "list", "watch")
_NO_RELATION = "no relationship found between node '{node}' and this object"


class NodeAuthorizer:
    """Answers for the nodes of the cluster in `store`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._graph = NodeGraph(store)
        self._rules = node_rules()

    def refusal(self, user: User, wanted: Attributes) -> str | None:
        """None if the node that `user` is may do that; otherwise why not, as far as there is a reason."""
        node, what = user.node_credentials, (wanted.group, wanted.resource)
        if wanted.path:
            return "" if not any_covers(self._rules, wanted) else None
        if what in (("", "secrets"), ("", "configmaps")):
            return self._read(node, wanted)
        if what in (("", "persistentvolumeclaims"), ("resource.k8s.io", "resourceclaims")):
            return self._claim(node, wanted)
        if what == ("", "serviceaccounts"):
            return self._account(node, wanted)
        if what == ("coordination.k8s.io", "leases"):
            return _lease(node, wanted)
        if what == ("resource.k8s.io", "resourceslices"):
            return self._slice(node, wanted)
        if what == ("", "nodes"):
            return _node(node, wanted)
        if what == ("", "pods"):
            return self._pod(node, wanted)
        return None if any_covers(self._rules, wanted) else ""

    def _related(self, node: str, wanted: Attributes) -> str | None:
        if not wanted.name:
            return "No Object name found"
        key = f"{wanted.namespace}/{wanted.name}"
        is_used = self._graph.is_used(node, wanted.resource, key)
        return None if is_used else _NO_RELATION.format(node=node)

    def _read(self, node: str, wanted: Attributes) -> str | None:
        if wanted.verb not in _READ:
            return "can only read resources of this type"
        if wanted.subresource:
            return "cannot read subresource"
        if not wanted.namespace:
            return "can only read namespaced object of this type"
        return self._related(node, wanted)

    def _claim(self, node: str, wanted: Attributes) -> str | None:
        is_device_claim = wanted.resource == "resourceclaims"
        if is_device_claim and wanted.subresource == "driver":
            return None if wanted.verb in ("associated-node:update", "associated-node:patch") else ""
        if is_device_claim and wanted.subresource == "status" and wanted.verb in ("update", "patch"):
            return self._related(node, wanted)
        if wanted.verb != "get":
            return "can only get individual resources of this type"
        return "cannot get subresource" if wanted.subresource else self._related(node, wanted)

    def _account(self, node: str, wanted: Attributes) -> str | None:
        if wanted.verb == "get" and not wanted.subresource:
            return self._related(node, wanted)
        if wanted.verb != "create" or not wanted.name:
            return "can only create tokens for individual service accounts"
        if wanted.subresource != "token":
            return "can only create token subresource of serviceaccount"
        return self._related(node, wanted)

    def _slice(self, node: str, wanted: Attributes) -> str | None:
        if wanted.subresource:
            return "cannot authorize ResourceSlice subresources"
        if wanted.verb == "create":
            return None
        if wanted.verb in ("get", "update", "patch", "delete"):
            entry = self._store.get(_SLICES, wanted.name)
            owner = (stored_document(entry).get("spec") or {}).get("nodeName") if entry else node
            return None if owner == node else _NO_RELATION.format(node=node)
        if wanted.verb in ("list", "watch", "deletecollection"):
            if _selects(wanted, "spec.nodeName", node):
                return None
            return "can only list/watch/deletecollection resourceslices with nodeName field selector"
        return (
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, "
            "patch, delete, deletecollection"
        )

    def _pod(self, node: str, wanted: Attributes) -> str | None:
        allowed = {
            "": ("create", "delete"),
            "status": ("update", "patch"),
            "eviction": ("create",),
        }
        if wanted.verb in allowed.get(wanted.subresource, ()):
            return None
        if wanted.subresource or wanted.verb not in _READ:
            return ""
        if wanted.verb == "get":
            return self._related(node, wanted)
        if _selects(wanted, "spec.nodeName", node):
            return None
        if wanted.name:
            return self._related(node, wanted)
        return "can only list/watch pods with spec.nodeName field selector"


def _selects(wanted: Attributes, field: str, value: str) -> bool:
    try:
        terms = parse_fields(wanted.field_selector).terms if wanted.field_selector else ()
    except BadRequest:
        return False
    return any(term.field == field and term.is_equal and term.value == value for term in terms)


def _lease(node: str, wanted: Attributes) -> str | None:
    if wanted.verb not in ("get", "create", "update", "patch", "delete"):
        return "can only get, create, update, patch, or delete a node lease"
    if wanted.namespace != LEASES:
        return f'can only access leases in the "{LEASES}" system namespace'
    if wanted.verb != "create" and wanted.name != node:
        return "can only access node lease with the same name as the requesting node"
    return None


def _node(node: str, wanted: Attributes) -> str | None:
    if wanted.subresource:
        return None if wanted.subresource == "status" and wanted.verb in ("update", "patch") else ""
    if wanted.verb in ("create", "update", "patch"):
        return None
    if wanted.verb not in _READ:
        return ""
    if not wanted.name:
        return f"node '{node}' cannot read all nodes, only its own Node object"
    if wanted.name != node:
        return f"node '{node}' cannot read '{wanted.name}', only its own Node object"
    return None
