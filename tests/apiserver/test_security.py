"""Who may do what: the identities of a cluster against its bootstrap roles, in Kubernetes' words."""

# ruff: noqa: E501
from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from drakit.apiserver.app import User
from drakit.transport import Document
from tests.apiserver.served import ADMIN, Served

pytestmark = pytest.mark.anyio

MERGE = "application/merge-patch+json"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
PODS = "/api/v1/namespaces/default/pods"
NODES = "/api/v1/nodes"
SECRETS = "/api/v1/namespaces/default/secrets"
MAPS = "/api/v1/namespaces/default/configmaps"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
RBAC = "/apis/rbac.authorization.k8s.io/v1"

NODE_A = User("system:node:a", ("system:nodes",))
SCHEDULER = User("system:kube-scheduler")
MANAGER = User("system:kube-controller-manager")
VIEWER, EDITOR, OWNER = User("viewer"), User("editor"), User("owner")
SOMEBODY = User("somebody")
USERS = {
    "node": NODE_A,
    "impostor": User("system:node:a"),
    "scheduler": SCHEDULER,
    "manager": MANAGER,
    "viewer": VIEWER,
    "editor": EDITOR,
    "owner": OWNER,
    "somebody": SOMEBODY,
    "fake": User("system:serviceaccount:kube-system:fake-nodes"),
}


def pod(name: str, node: str = "", **spec: Any) -> Document:
    containers = [{"name": "c", "image": "i"}]
    spec = {"containers": containers, **({"nodeName": node} if node else {}), **spec}
    return {"metadata": {"name": name}, "spec": spec}


def device_slice(node: str, **parts: Any) -> Document:
    spec = {"driver": "d.example.com", "pool": {"name": node, "resourceSliceCount": 1}, "nodeName": node}
    return {"metadata": {"name": f"of-{node}"}, "spec": spec | parts}


def claim(name: str) -> Document:
    request = {"name": "r", "exactly": {"deviceClassName": "c"}}
    return {"metadata": {"name": name}, "spec": {"devices": {"requests": [request]}}}


def allocation(node: str) -> Document:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    result = {"request": "r", "driver": "d.example.com", "pool": node, "device": "x"}
    return {"devices": {"results": [result]}, "nodeSelector": {"nodeSelectorTerms": [term]}}


def bound(namespace_role: str, user: str) -> Document:
    return {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace_role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }


DEVICES = {"status": {"devices": [{"driver": "d.example.com", "pool": "a", "device": "x", "data": {"k": 1}}]}}
LABELS = {"metadata": {"labels": {"x": "y"}}}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with Served() as server:
        for name in ("a", "b"):
            await server.ok("POST", NODES, {"metadata": {"name": name}})
            await server.ok("POST", SLICES, device_slice(name))
        account = {"metadata": {"name": "default"}}
        await server.ok("POST", ACCOUNTS, account)
        await server.ok("POST", ACCOUNTS, {"metadata": {"name": "other"}})
        for name in ("used", "unused"):
            await server.ok("POST", SECRETS, {"metadata": {"name": name}})
            await server.ok("POST", MAPS, {"metadata": {"name": name}})
            await server.ok("POST", CLAIMS, claim(name))
            status = {"status": {"allocation": allocation("a")}}
            await server.ok("PATCH", f"{CLAIMS}/{name}/status", status, content_type=MERGE)
        volumes = [
            {"name": "s", "secret": {"secretName": "used"}},
            {"name": "m", "configMap": {"name": "used"}},
        ]
        claims = [{"name": "x", "resourceClaimName": "used"}]
        await server.ok("POST", PODS, pod("on-a", "a", volumes=volumes, resourceClaims=claims))
        await server.ok("POST", PODS, pod("on-b", "b"))
        for user in ("viewer", "editor", "owner"):
            role = {"viewer": "view", "editor": "edit", "owner": "admin"}[user]
            await server.ok("POST", f"{RBAC}/namespaces/default/rolebindings", bound(role, user))
        yield server


# --- verbs ----------------------------------------------------------------------------------------

ALLOWED: list[tuple[str, str, str, Any, dict[str, str]]] = [
    ("node", "GET", f"{NODES}/a", None, {}),
    ("node", "PATCH", f"{NODES}/a/status", {"status": {"phase": "Running"}}, {}),
    ("node", "GET", PODS, None, {"fieldSelector": "spec.nodeName=a"}),
    ("node", "GET", "/api/v1/pods", None, {"fieldSelector": "spec.nodeName=a"}),
    ("node", "GET", f"{PODS}/on-a", None, {}),
    ("node", "PATCH", f"{PODS}/on-a/status", {"status": {"phase": "Running"}}, {}),
    ("node", "DELETE", f"{PODS}/on-a", None, {}),
    ("node", "GET", f"{SECRETS}/used", None, {}),
    ("node", "GET", f"{MAPS}/used", None, {}),
    ("node", "GET", f"{CLAIMS}/used", None, {}),
    ("node", "PATCH", f"{CLAIMS}/used/status", DEVICES, {}),
    ("node", "GET", SLICES, None, {"fieldSelector": "spec.nodeName=a"}),
    ("node", "GET", SLICES, None, {"fieldSelector": "spec.driver=d.example.com,spec.nodeName=a"}),
    ("node", "GET", f"{SLICES}/of-a", None, {}),
    ("node", "PATCH", f"{SLICES}/of-a", LABELS, {}),
    ("node", "DELETE", f"{SLICES}/of-a", None, {}),
    ("node", "DELETE", SLICES, None, {"fieldSelector": "spec.nodeName=a"}),
    ("node", "POST", LEASES, {"metadata": {"name": "a"}, "spec": {}}, {}),
    (
        "node",
        "POST",
        "/api/v1/namespaces/default/events",
        {"metadata": {"name": "e", "namespace": "default"}},
        {},
    ),
    ("scheduler", "GET", "/api/v1/pods", None, {}),
    ("scheduler", "GET", SLICES, None, {}),
    ("scheduler", "GET", CLASSES, None, {}),
    (
        "scheduler",
        "PATCH",
        f"{CLAIMS}/used/status",
        {"status": {"reservedFor": [{"resource": "pods", "name": "on-a", "uid": "u"}]}},
        {},
    ),
    ("scheduler", "PATCH", f"{PODS}/on-a/status", {"status": {"nominatedNodeName": "a"}}, {}),
    ("manager", "GET", SECRETS, None, {}),
    ("manager", "POST", CLAIMS, claim("new"), {}),
    ("manager", "DELETE", f"{PODS}/on-b", None, {}),
    ("manager", "PATCH", f"{CLAIMS}/used/status", {"status": {"allocation": None}}, {}),
    ("viewer", "GET", CLAIMS, None, {}),
    ("viewer", "GET", f"{PODS}/on-a", None, {}),
    ("editor", "POST", CLAIMS, claim("new"), {}),
    ("editor", "GET", f"{SECRETS}/unused", None, {}),
    ("owner", "POST", CLAIMS, claim("new"), {}),
    ("owner", "POST", f"{RBAC}/namespaces/default/rolebindings", bound("view", "x"), {}),
    ("fake", "GET", "/api/v1/pods", None, {}),
    ("fake", "PATCH", f"{PODS}/on-b/status", {"status": {"phase": "Running"}}, {}),
]


def _title(case: tuple[Any, ...]) -> str:
    query = "?" + case[4]["fieldSelector"] if case[4] else ""
    return f"{case[0]}-{case[1]}-{case[2].rpartition('/v1')[2]}{query}"


@pytest.mark.parametrize(("who", "method", "path", "body", "query"), ALLOWED, ids=map(_title, ALLOWED))
async def test_allowed(
    served: Served, who: str, method: str, path: str, body: Any, query: dict[str, str]
) -> None:
    type_ = MERGE if method == "PATCH" else "application/json"
    answer = await served.send(method, path, body, user=USERS[who], content_type=type_, **query)
    assert answer.status < 300, answer.document["message"]


_OF_CLAIM = (
    'cannot {verb} resource "resourceclaims{sub}" in API group "resource.k8s.io" in the namespace "default"'
)
_UNRELATED = "no relationship found between node 'a' and this object"
DENIED: list[tuple[str, str, str, Any, dict[str, str], str]] = [
    (
        "somebody",
        "GET",
        PODS,
        None,
        {},
        'pods is forbidden: User "somebody" cannot list resource "pods" in API group "" in the namespace "default"',
    ),
    (
        "somebody",
        "GET",
        f"{NODES}/a",
        None,
        {},
        'nodes "a" is forbidden: User "somebody" cannot get resource "nodes" in API group "" at the cluster scope',
    ),
    (
        "impostor",
        "GET",
        f"{NODES}/a",
        None,
        {},
        'nodes "a" is forbidden: User "system:node:a" cannot get resource "nodes" in API group "" at the cluster scope',
    ),
    (
        "somebody",
        "PATCH",
        f"{CLAIMS}/used/status",
        {},
        {},
        'resourceclaims.resource.k8s.io "used" is forbidden: User "somebody" '
        + _OF_CLAIM.format(verb="patch", sub="/status"),
    ),
    (
        "node",
        "GET",
        PODS,
        None,
        {},
        'pods is forbidden: User "system:node:a" cannot list resource "pods" in API group "" in the namespace "default": can only list/watch pods with spec.nodeName field selector',
    ),
    (
        "node",
        "GET",
        PODS,
        None,
        {"fieldSelector": "spec.nodeName=b"},
        "can only list/watch pods with spec.nodeName field selector",
    ),
    (
        "node",
        "GET",
        PODS,
        None,
        {"fieldSelector": "spec.nodeName!=a"},
        "can only list/watch pods with spec.nodeName field selector",
    ),
    ("node", "GET", f"{PODS}/on-b", None, {}, _UNRELATED),
    (
        "node",
        "PATCH",
        f"{PODS}/on-b/status",
        {"status": {"phase": "Running"}},
        {},
        'pods "on-b" is forbidden: node "a" can only update pod status for pods with spec.nodeName set to itself',
    ),
    (
        "node",
        "PATCH",
        f"{PODS}/on-a/status",
        {"status": {"resourceClaimStatuses": [{"name": "x", "resourceClaimName": "unused"}]}},
        {},
        'pods "on-a" is forbidden: node "a" cannot update resource claim statues',
    ),
    (
        "node",
        "DELETE",
        f"{PODS}/on-b",
        None,
        {},
        'pods "on-b" is forbidden: node "a" can only delete pods with spec.nodeName set to itself',
    ),
    (
        "node",
        "POST",
        f"{PODS}/on-b/eviction",
        {"metadata": {"name": "on-b"}},
        {},
        "can only evict pods with spec.nodeName set to itself",
    ),
    (
        "node",
        "POST",
        PODS,
        pod("new", "a"),
        {},
        'pods "new" is forbidden: pod does not have "kubernetes.io/config.mirror" annotation, node "a" can only create mirror pods',
    ),
    ("node", "PATCH", f"{PODS}/on-a", LABELS, {}, 'cannot patch resource "pods"'),
    ("node", "GET", NODES, None, {}, "node 'a' cannot read all nodes, only its own Node object"),
    ("node", "GET", f"{NODES}/b", None, {}, "node 'a' cannot read 'b', only its own Node object"),
    (
        "node",
        "PATCH",
        f"{NODES}/b/status",
        {"status": {}},
        {},
        'nodes "b" is forbidden: node "a" is not allowed to modify node "b"',
    ),
    (
        "node",
        "PATCH",
        f"{NODES}/a",
        {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}},
        {},
        'node "a" is not allowed to modify taints',
    ),
    (
        "node",
        "PATCH",
        f"{NODES}/a",
        {"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}},
        {},
        "is not allowed to modify labels: node-restriction.kubernetes.io/x",
    ),
    (
        "node",
        "POST",
        NODES,
        {"metadata": {"name": "c"}},
        {},
        'nodes "c" is forbidden: node "a" is not allowed to modify node "c"',
    ),
    ("node", "DELETE", f"{NODES}/a", None, {}, 'cannot delete resource "nodes"'),
    ("node", "GET", f"{SECRETS}/unused", None, {}, _UNRELATED),
    ("node", "GET", SECRETS, None, {}, "No Object name found"),
    ("node", "GET", f"{MAPS}/unused", None, {}, _UNRELATED),
    ("node", "PATCH", f"{MAPS}/used", LABELS, {}, "can only read resources of this type"),
    ("node", "GET", f"{CLAIMS}/unused", None, {}, _UNRELATED),
    ("node", "GET", CLAIMS, None, {}, "can only get individual resources of this type"),
    ("node", "PATCH", f"{CLAIMS}/unused/status", DEVICES, {}, _UNRELATED),
    ("node", "PATCH", f"{CLAIMS}/used", LABELS, {}, "can only get individual resources of this type"),
    (
        "node",
        "GET",
        SLICES,
        None,
        {},
        "can only list/watch/deletecollection resourceslices with nodeName field selector",
    ),
    (
        "node",
        "DELETE",
        SLICES,
        None,
        {},
        "can only list/watch/deletecollection resourceslices with nodeName field selector",
    ),
    (
        "node",
        "POST",
        SLICES,
        device_slice("b") | {"metadata": {"name": "new"}},
        {},
        'resourceslices.resource.k8s.io "new" is forbidden: can only create ResourceSlice with the same NodeName as the requesting node',
    ),
    (
        "node",
        "POST",
        SLICES,
        device_slice("", allNodes=True),
        {},
        "can only create ResourceSlice with the same NodeName as the requesting node",
    ),
    ("node", "PATCH", f"{SLICES}/of-b", LABELS, {}, _UNRELATED),
    ("node", "DELETE", f"{SLICES}/of-b", None, {}, _UNRELATED),
    (
        "node",
        "PATCH",
        f"{SLICES}/of-a",
        {"spec": {"nodeName": "b"}},
        {},
        "can only update ResourceSlice with the same NodeName as the requesting node",
    ),
    (
        "node",
        "POST",
        LEASES,
        {"metadata": {"name": "b"}, "spec": {}},
        {},
        'leases.coordination.k8s.io "b" is forbidden: can only access node lease with the same name as the requesting node',
    ),
    (
        "node",
        "GET",
        "/apis/coordination.k8s.io/v1/namespaces/default/leases/a",
        None,
        {},
        'can only access leases in the "kube-node-lease" system namespace',
    ),
    (
        "node",
        "POST",
        f"{ACCOUNTS}/default/token",
        {"spec": {}},
        {},
        'serviceaccounts "default" is forbidden: node requested token not bound to a pod',
    ),
    ("node", "POST", f"{ACCOUNTS}/other/token", {"spec": {}}, {}, _UNRELATED),
    ("node", "GET", f"{RBAC}/clusterroles", None, {}, 'cannot list resource "clusterroles"'),
    (
        "scheduler",
        "GET",
        SECRETS,
        None,
        {},
        'secrets is forbidden: User "system:kube-scheduler" cannot list resource "secrets" in API group "" in the namespace "default"',
    ),
    ("scheduler", "DELETE", f"{SLICES}/of-a", None, {}, 'cannot delete resource "resourceslices"'),
    ("manager", "POST", SLICES, device_slice("c"), {}, 'cannot create resource "resourceslices"'),
    (
        "manager",
        "POST",
        f"{RBAC}/clusterroles",
        {"metadata": {"name": "x"}},
        {},
        'cannot create resource "clusterroles"',
    ),
    (
        "viewer",
        "POST",
        CLAIMS,
        claim("new"),
        {},
        'resourceclaims.resource.k8s.io is forbidden: User "viewer" '
        + _OF_CLAIM.format(verb="create", sub=""),
    ),
    (
        "viewer",
        "GET",
        f"{SECRETS}/used",
        None,
        {},
        'secrets "used" is forbidden: User "viewer" cannot get resource "secrets" in API group "" in the namespace "default"',
    ),
    ("viewer", "GET", "/api/v1/namespaces/kube-system/pods", None, {}, 'in the namespace "kube-system"'),
    ("editor", "PATCH", f"{CLAIMS}/used/status", {}, {}, _OF_CLAIM.format(verb="patch", sub="/status")),
    (
        "editor",
        "POST",
        CLASSES,
        {"metadata": {"name": "c"}, "spec": {}},
        {},
        'cannot create resource "deviceclasses"',
    ),
    (
        "editor",
        "POST",
        f"{RBAC}/namespaces/default/rolebindings",
        bound("view", "x"),
        {},
        'cannot create resource "rolebindings"',
    ),
]


@pytest.mark.parametrize(
    ("who", "method", "path", "body", "query", "message"), DENIED, ids=map(_title, DENIED)
)
async def test_denied(
    served: Served, who: str, method: str, path: str, body: Any, query: dict[str, str], message: str
) -> None:
    type_ = MERGE if method == "PATCH" else "application/json"
    answer = await served.send(method, path, body, user=USERS[who], content_type=type_, **query)
    assert (answer.status, answer.document["reason"]) == (403, "Forbidden"), answer.document
    assert message in answer.document["message"]


# --- claim statuses, part by part -----------------------------------------------------------------


async def _driver(served: Served, role: list[Document], node: str) -> User:
    """A service account with `role`, by a token that is bound to a pod on `node`."""
    await served.ok("POST", f"{RBAC}/clusterroles", {"metadata": {"name": "driver"}, "rules": role})
    binding = bound("driver", "driver")
    binding["subjects"] = [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]
    await served.ok("POST", f"{RBAC}/clusterrolebindings", binding)
    return await _account(served, f"on-{node}")


async def _account(served: Served, pod_name: str) -> User:
    uid = (await served.ok("GET", f"{PODS}/{pod_name}"))["metadata"]["uid"]
    reference = {"kind": "Pod", "apiVersion": "v1", "name": pod_name, "uid": uid}
    answer = await served.ok("POST", f"{ACCOUNTS}/default/token", {"spec": {"boundObjectRef": reference}})
    return served.api.user_of(answer["status"]["token"])


def _rule(verbs: str, resource: str, *names: str) -> Document:
    rule: Document = {"apiGroups": ["resource.k8s.io"], "resources": [resource], "verbs": verbs.split()}
    return rule | ({"resourceNames": list(names)} if names else {})


_STATUS = _rule("patch", "resourceclaims/status")
GRANULAR = [
    ("own node", [_rule("associated-node:patch", "resourceclaims/driver", "d.example.com")], "a", ""),
    ("any node", [_rule("arbitrary-node:patch", "resourceclaims/driver", "d.example.com")], "b", ""),
    ("all drivers", [_rule("arbitrary-node:patch", "resourceclaims/driver")], "b", ""),
    (
        "no verb",
        [],
        "a",
        'verb="[associated-node:patch arbitrary-node:patch]" permission: resourceclaims.resource.k8s.io '
        '"d.example.com" is forbidden: User "system:serviceaccount:default:default" cannot '
        'associated-node:patch resource "resourceclaims/driver" in API group "resource.k8s.io" in the '
        'namespace "default"',
    ),
    (
        "other node",
        [_rule("associated-node:patch", "resourceclaims/driver")],
        "b",
        'verb="[arbitrary-node:patch]" permission: resourceclaims.resource.k8s.io "d.example.com" is forbidden',
    ),
    (
        "other driver",
        [_rule("associated-node:patch", "resourceclaims/driver", "e.example.com")],
        "a",
        'permission: resourceclaims.resource.k8s.io "d.example.com" is forbidden',
    ),
]


@pytest.mark.parametrize(
    ("rules", "node", "message"), [row[1:] for row in GRANULAR], ids=[row[0] for row in GRANULAR]
)
async def test_device_status_of_a_driver(
    served: Served, rules: list[Document], node: str, message: str
) -> None:
    user = await _driver(served, [_STATUS, *rules], node)
    answer = await served.send("PATCH", f"{CLAIMS}/used/status", DEVICES, user=user, content_type=MERGE)
    assert message in answer.document.get("message", "") if message else answer.status == 200


async def test_allocation_needs_binding(served: Served) -> None:
    user = await _driver(served, [_STATUS, _rule("arbitrary-node:patch", "resourceclaims/driver")], "a")
    answer = await served.send(
        "PATCH",
        f"{CLAIMS}/used/status",
        {"status": {"allocation": None}},
        user=user,
        content_type=MERGE,
    )
    assert 'resource="resourceclaims/binding", verb="patch" permission' in answer.document["message"]


async def test_deallocation_takes_device_statuses_along(served: Served) -> None:
    await served.ok("PATCH", f"{CLAIMS}/used/status", DEVICES, content_type=MERGE)
    body = {"status": {"allocation": None, "devices": None}}
    claim_ = await served.ok("PATCH", f"{CLAIMS}/used/status", body, user=SCHEDULER, content_type=MERGE)
    assert claim_["status"] == {}
    await served.ok("PATCH", f"{CLAIMS}/unused/status", DEVICES, content_type=MERGE)
    body = {"status": {"devices": None}}
    code, _, text = await served.refused(
        "PATCH", f"{CLAIMS}/unused/status", body, user=SCHEDULER, content_type=MERGE
    )
    assert (code, "changing status.devices requires" in text) == (422, True)


async def test_node_leaves_allocations_alone(served: Served) -> None:
    answer = await served.send(
        "PATCH",
        f"{CLAIMS}/used/status",
        {"status": {"allocation": None}},
        user=NODE_A,
        content_type=MERGE,
    )
    assert 'resource="resourceclaims/binding", verb="patch" permission' in answer.document["message"]


# --- service accounts on nodes --------------------------------------------------------------------


async def test_token_says_where_its_pod_is(served: Served) -> None:
    user = await _account(served, "on-a")
    assert (user.name, user.node) == ("system:serviceaccount:default:default", "a")
    assert user.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    )
    assert user.extra["authentication.kubernetes.io/pod-name"] == ["on-a"]
    assert user.extra["authentication.kubernetes.io/node-name"] == ["a"]


async def test_token_ends_with_its_pod(served: Served) -> None:
    uid = (await served.ok("GET", f"{PODS}/on-a"))["metadata"]["uid"]
    spec = {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "on-a", "uid": uid}}
    token = (await served.ok("POST", f"{ACCOUNTS}/default/token", {"spec": spec}))["status"]["token"]
    headers = f"Bearer {token}"
    assert served.api.authenticate(headers).name == "system:serviceaccount:default:default"
    await served.send("DELETE", f"{PODS}/on-a", gracePeriodSeconds="0")
    with pytest.raises(Exception, match="Unauthorized"):
        served.api.authenticate(headers)


async def test_token_for_others_is_no_token_for_this_server(served: Served) -> None:
    body = {"spec": {"audiences": ["vault"]}}
    token = (await served.ok("POST", f"{ACCOUNTS}/default/token", body))["status"]["token"]
    with pytest.raises(Exception, match="Unauthorized"):
        served.api.user_of(token)
    review = {"spec": {"token": token, "audiences": ["vault"]}}
    answer = await served.ok("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert answer["status"]["authenticated"] is True


async def test_node_gets_tokens_of_its_own_pods(served: Served) -> None:
    for name, status in (("on-a", 201), ("on-b", 403)):
        uid = (await served.ok("GET", f"{PODS}/{name}"))["metadata"]["uid"]
        reference = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}
        body = {"spec": {"boundObjectRef": reference}}
        answer = await served.send("POST", f"{ACCOUNTS}/default/token", body, user=NODE_A)
        assert answer.status == status, answer.document


@pytest.mark.parametrize(
    ("owner", "node", "status"),
    [("DaemonSet", "a", 201), ("DaemonSet", "b", 403), ("ReplicaSet", "b", 201)],
)
async def test_slices_of_daemon_sets(served: Served, owner: str, node: str, status: int) -> None:
    owners = [{"apiVersion": "apps/v1", "kind": owner, "name": "o", "uid": "1", "controller": True}]
    owned = pod("owned", "a")
    owned["metadata"]["ownerReferences"] = owners
    await served.ok("POST", PODS, owned)
    await _driver(served, [_rule("create", "resourceslices")], "a")
    user = await _account(served, "owned")
    document = device_slice(node) | {"metadata": {"name": "new"}}
    answer = await served.send("POST", SLICES, document, user=user)
    assert answer.status == status, answer.document


# --- nobody gives what he does not have -----------------------------------------------------------


def _role(*rules: Document, name: str = "r") -> Document:
    return {"metadata": {"name": name}, "rules": list(rules)}


ROLES, BINDINGS = f"{RBAC}/namespaces/default/roles", f"{RBAC}/namespaces/default/rolebindings"


async def test_roles_beyond_ones_own(served: Served) -> None:
    taken = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}
    answer = await served.send("POST", ROLES, _role(taken), user=OWNER)
    assert answer.document["message"] == (
        'roles.rbac.authorization.k8s.io "r" is forbidden: user "owner" (groups=["system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["nodes"], Verbs:["get" "list"]}'
    )
    own = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
    assert (await served.send("POST", ROLES, _role(own), user=OWNER)).status == 201
    grown = {"rules": [own, taken]}
    answer = await served.send("PATCH", f"{ROLES}/r", grown, user=OWNER, content_type=MERGE)
    assert answer.status == 403


async def test_bindings_beyond_ones_own(served: Served) -> None:
    answer = await served.send("POST", BINDINGS, bound("cluster-admin", "x"), user=OWNER)
    assert "is attempting to grant RBAC permissions not currently held" in answer.document["message"]
    answer = await served.send("POST", BINDINGS, bound("missing", "x"), user=OWNER)
    assert answer.document["message"] == 'clusterroles.rbac.authorization.k8s.io "missing" not found'


@pytest.mark.parametrize(("verb", "is_role"), [("escalate", True), ("bind", False)])
async def test_escalate_and_bind(served: Served, verb: str, is_role: bool) -> None:
    group = "rbac.authorization.k8s.io"
    resource = "roles" if is_role else "clusterroles"
    rule = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
    await served.ok("POST", ROLES, _role(rule, name="more"))
    binding = bound("more", "owner") | {"metadata": {"name": "more"}}
    binding["roleRef"] = {"apiGroup": group, "kind": "Role", "name": "more"}
    await served.ok("POST", BINDINGS, binding)
    taken = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
    path, body = (ROLES, _role(taken)) if is_role else (BINDINGS, bound("cluster-admin", "x"))
    assert (await served.send("POST", path, body, user=OWNER)).status == 201


async def test_aggregated_roles_take_in_others(served: Served) -> None:
    rule = {"apiGroups": ["vendor.example.com"], "resources": ["things"], "verbs": ["get"]}
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    await served.ok(
        "POST", f"{RBAC}/clusterroles", {"metadata": {"name": "more", "labels": labels}, "rules": [rule]}
    )
    wanted = {"verb": "get", "group": "vendor.example.com", "resource": "things", "namespace": "default"}
    for user in (VIEWER, EDITOR, OWNER):
        answer = await _may(served, user, wanted)
        assert answer["allowed"], user.name


# --- reviews --------------------------------------------------------------------------------------


async def _may(served: Served, user: User, wanted: Document) -> Document:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = await served.send("POST", path, {"spec": {"resourceAttributes": wanted}}, user=user)
    assert answer.status == 201, answer.document
    status: Document = answer.document["status"]
    return status


async def test_access_reviews_say_why(served: Served) -> None:
    wanted = {"verb": "list", "resource": "pods", "namespace": "default"}
    assert await _may(served, VIEWER, wanted) == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "viewer/default" of ClusterRole "view" to User "viewer"',
    }
    assert await _may(served, SOMEBODY, wanted) == {"allowed": False}
    text = "can only list/watch pods with spec.nodeName field selector"
    assert await _may(served, NODE_A, wanted) == {"allowed": False, "reason": text}


async def test_rules_reviews(served: Served) -> None:
    path, body = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {"namespace": "default"}}
    status = (await served.send("POST", path, body, user=VIEWER)).document["status"]
    claims = {
        "verbs": ["get", "list", "watch"],
        "apiGroups": ["resource.k8s.io"],
        "resources": ["resourceclaims", "resourceclaims/status", "resourceclaimtemplates"],
    }
    assert claims in status["resourceRules"]
    assert status["incomplete"] is False
    assert any("/healthz" in rule["nonResourceURLs"] for rule in status["nonResourceRules"])
    status = (await served.send("POST", path, body, user=ADMIN)).document["status"]
    assert status["resourceRules"][0] == {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    assert (await served.send("POST", path, body, user=NODE_A)).document["status"]["incomplete"] is True
    assert (await served.send("POST", path, {"spec": {}}, user=VIEWER)).status == 400


async def test_a_node_reads_the_ca_that_its_pods_get(served: Served) -> None:
    path, body = (
        f"{MAPS}/kube-root-ca.crt",
        {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "x"}},
    )
    await served.ok("POST", MAPS, body)
    node = User("system:node:c", ("system:nodes",))
    await served.ok("POST", PODS, pod("without", "c", automountServiceAccountToken=False))
    assert (await served.send("GET", path, user=node)).status == 403
    await served.ok("POST", PODS, pod("with", "c"))
    assert (await served.send("GET", path, user=node)).status == 200
