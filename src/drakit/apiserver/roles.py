"""The ClusterRoles and bindings that every cluster has, as far as somebody here needs them.

A rule is one line, `verbs : groups : resources [: names]`, or `verbs : URLs` for paths that are no
resources; the group without a name is written `core`. Rules of a disabled gate stay out.
Source: kubernetes plugin/pkg/auth/authorizer/rbac/bootstrappolicy/{policy,controller_policy}.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from drakit.profile import Gate, Profile
from drakit.transport import Document

GROUP = "rbac.authorization.k8s.io"
AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
FAKE_NODES = "system:serviceaccount:kube-system:fake-nodes"
"""Who plays the nodes that are not there; not a part of Kubernetes, so it has a role of its own."""
_READ, _WRITE = "get list watch", "create update patch delete deletecollection"
_AUTHENTICATED, _UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"
_EVENTS = "create update patch : core events.k8s.io : events"
_REVIEWS = (
    "create : authentication.k8s.io : tokenreviews",
    "create : authorization.k8s.io : subjectaccessreviews",
)
_INFO = "/livez /readyz /healthz /version /version/"

_PLAIN: Mapping[str, tuple[str, ...]] = {
    "cluster-admin": ("* : * : *", "* : *"),
    "system:discovery": (f"get : {_INFO} /openapi /openapi/* /api /api/* /apis /apis/*",),
    "system:monitoring": (
        "get : /metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*",
        "get : core : nodes/metrics",
    ),
    "system:basic-user": (
        "create : authorization.k8s.io : selfsubjectaccessreviews selfsubjectrulesreviews",
        "create : authentication.k8s.io : selfsubjectreviews",
    ),
    "system:public-info-viewer": (f"get : {_INFO}",),
    "system:auth-delegator": _REVIEWS,
    "drakit:fake-nodes": (
        "get list watch create patch : core : nodes",
        "patch : core : nodes/status",
        "list watch delete : core : pods",
        "patch : core : pods/status",
        "create patch : coordination.k8s.io : leases",
        "get list watch create update delete : resource.k8s.io : resourceslices",
    ),
}
_WORKLOADS = (
    "statefulsets statefulsets/scale daemonsets deployments deployments/scale replicasets replicasets/scale"
)
_VIEW = (
    f"{_READ} : core : pods replicationcontrollers replicationcontrollers/scale serviceaccounts services "
    "services/status endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps",
    f"{_READ} : core : limitranges resourcequotas bindings pods/status resourcequotas/status "
    "namespaces/status replicationcontrollers/status pods/log",
    f"{_READ} : core : namespaces",
    f"{_READ} : core events.k8s.io : events",
    f"{_READ} : discovery.k8s.io : endpointslices",
    f"{_READ} : apps : controllerrevisions {_WORKLOADS} statefulsets/status daemonsets/status "
    "deployments/status replicasets/status",
    f"{_READ} : autoscaling : horizontalpodautoscalers horizontalpodautoscalers/status",
    f"{_READ} : batch : jobs cronjobs cronjobs/status jobs/status",
    f"{_READ} : policy : poddisruptionbudgets poddisruptionbudgets/status",
    f"{_READ} : networking.k8s.io : networkpolicies ingresses ingresses/status",
    f"{_READ} : resource.k8s.io : resourceclaims resourceclaims/status resourceclaimtemplates",
)
_EDIT = (
    f"{_READ} : core : pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy",
    "impersonate : core : serviceaccounts",
    f"{_WRITE} : core : pods pods/attach pods/proxy pods/exec pods/portforward",
    "create : core : pods/eviction",
    f"{_WRITE} : core : replicationcontrollers replicationcontrollers/scale serviceaccounts services "
    "services/proxy persistentvolumeclaims configmaps secrets",
    "create : core : serviceaccounts/token",
    f"{_WRITE} : core events.k8s.io : events",
    f"{_WRITE} : apps : {_WORKLOADS} deployments/rollback",
    f"{_WRITE} : autoscaling : horizontalpodautoscalers",
    f"{_WRITE} : batch : jobs cronjobs",
    f"{_WRITE} : policy : poddisruptionbudgets",
    f"{_WRITE} : networking.k8s.io : networkpolicies ingresses",
    f"{_READ} {_WRITE} : coordination.k8s.io : leases",
    f"{_WRITE} : resource.k8s.io : resourceclaims resourceclaimtemplates",
)
_ADMIN = (
    "create : authorization.k8s.io : localsubjectaccessreviews",
    f"{_READ} {_WRITE} : {GROUP} : roles rolebindings",
)
_AGGREGATED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "view": ("edit", _VIEW),
    "edit": ("admin", _EDIT),
    "admin": ("", _ADMIN),
}
"""By name: the role that takes it in, and the rules it has itself (as system:aggregate-to-NAME)."""

_NODE = (
    *_REVIEWS,
    "create : authorization.k8s.io : localsubjectaccessreviews",
    f"{_READ} : core : services",
    "create get list watch : core : nodes",
    "update patch : core : nodes/status",
    "update patch : core : nodes",
    _EVENTS,
    f"{_READ} : core : pods",
    "create delete : core : pods",
    "update patch : core : pods/status",
    "create : core : pods/eviction",
    f"{_READ} : core : secrets configmaps",
    "get : core : persistentvolumeclaims persistentvolumes",
    "get : core : endpoints",
    "get create update patch delete : coordination.k8s.io : leases",
    "create : core : serviceaccounts/token",
    "get : core : serviceaccounts",
    f"{_READ} : node.k8s.io : runtimeclasses",
    "get : resource.k8s.io : resourceclaims",
    "deletecollection : resource.k8s.io : resourceslices",
)
_SCHEDULER = (
    _EVENTS,
    "create : coordination.k8s.io : leases",
    "get update list watch : coordination.k8s.io : leases : kube-scheduler",
    f"{_READ} : core : nodes",
    "get list watch delete : core : pods",
    "create : core : pods/binding bindings",
    "patch update : core : pods/status",
    f"{_READ} : core : services replicationcontrollers",
    f"{_READ} : apps : replicasets",
    f"{_READ} : apps : statefulsets",
    f"{_READ} : policy : poddisruptionbudgets",
    f"{_READ} : core : persistentvolumeclaims persistentvolumes",
    *_REVIEWS,
    f"{_READ} : core : namespaces",
    f"{_READ} : resource.k8s.io : deviceclasses",
    "get list watch update patch : resource.k8s.io : resourceclaims",
    "get list watch update patch : resource.k8s.io : resourceclaims/status",
    "update : core : pods/finalizers",
    f"{_READ} : resource.k8s.io : resourceslices",
)
_MANAGER = (
    _EVENTS,
    "create : coordination.k8s.io : leases",
    "get update : coordination.k8s.io : leases : kube-controller-manager",
    "create : core : secrets serviceaccounts",
    "delete : core : secrets",
    "get : core : namespaces secrets serviceaccounts configmaps",
    "update : core : secrets serviceaccounts",
    *_REVIEWS,
    "list watch : * : *",
    "create : core : serviceaccounts/token",
)
_CONTROLLERS: Mapping[str, tuple[str, ...]] = {
    "clusterrole-aggregation-controller": (f"escalate get list watch update patch : {GROUP} : clusterroles",),
    "daemon-set-controller": (
        f"{_READ} : apps : daemonsets",
        "update patch : apps : daemonsets/status",
        "update : apps : daemonsets/finalizers",
        "list watch : core : nodes",
        "list watch create delete patch : core : pods",
        "create : core : pods/binding",
        "create delete get list patch update watch : apps : controllerrevisions",
        _EVENTS,
    ),
    "statefulset-controller": (
        f"{_READ} : apps : statefulsets",
        "update patch : apps : statefulsets/status",
        "update : apps : statefulsets/finalizers",
        "get list watch create delete update patch : core : pods",
        "create delete get list patch update watch : apps : controllerrevisions",
        _EVENTS,
    ),
    "cronjob-controller": (
        "get list watch update : batch : cronjobs",
        "get list watch create update delete patch : batch : jobs",
        "update patch : batch : cronjobs/status",
        "update : batch : cronjobs/finalizers",
        _EVENTS,
    ),
    "deployment-controller": (
        "get list watch update patch : apps : deployments",
        "update patch : apps : deployments/status",
        "update : apps : deployments/finalizers",
        "get list watch create update patch delete : apps : replicasets",
        "get list watch update : core : pods",
        _EVENTS,
    ),
    "replicaset-controller": (
        "get list watch update : apps : replicasets",
        "update patch : apps : replicasets/status",
        "update : apps : replicasets/finalizers",
        "list watch patch create delete : core : pods",
        _EVENTS,
    ),
    "job-controller": (
        "get list watch update patch : batch : jobs",
        "update patch : batch : jobs/status",
        "update : batch : jobs/finalizers",
        "list watch create delete patch : core : pods",
        _EVENTS,
    ),
    "ttl-after-finished-controller": ("get list watch delete : batch : jobs", _EVENTS),
    "generic-garbage-collector": ("get list watch patch update delete : * : *", _EVENTS),
    "namespace-controller": (
        "get list watch delete : core : namespaces",
        "update patch : core : namespaces/finalize namespaces/status",
        "get list watch delete deletecollection : * : *",
    ),
    "node-controller": (
        "get list watch update delete patch : core : nodes",
        "patch update : core : nodes/status",
        "patch update : core : pods/status",
        "list watch get delete : core : pods",
        f"{_READ} : coordination.k8s.io : leases",
        _EVENTS,
    ),
    "pod-garbage-collector": (
        "list watch delete : core : pods",
        f"{_READ} : core : nodes",
        "patch : core : pods/status",
    ),
    "resourcequota-controller": (
        "list watch : * : *",
        "update patch : core : resourcequotas/status",
        _EVENTS,
    ),
    "root-ca-cert-publisher": ("create update patch : core : configmaps", _EVENTS),
    "service-account-controller": ("create : core : serviceaccounts", _EVENTS),
    "resource-claim-controller": (
        f"{_READ} : core : pods",
        "update : core : pods/finalizers",
        "get list watch create delete : resource.k8s.io : resourceclaims",
        "update patch : resource.k8s.io : resourceclaims resourceclaims/status",
        "update patch : core : pods/status",
        _EVENTS,
    ),
}
_BINDING = "update patch : resource.k8s.io : resourceclaims/binding"


def rules(lines: Iterable[str]) -> list[Document]:
    """The PolicyRules that `lines` write down."""
    found: list[Document] = []
    for line in lines:
        verbs, *rest = (part.split() for part in line.split(" : "))
        if len(rest) == 1:
            found.append({"verbs": verbs, "nonResourceURLs": rest[0]})
            continue
        groups = ["" if name == "core" else name for name in rest[0]]
        rule: Document = {"verbs": verbs, "apiGroups": groups, "resources": rest[1]}
        if len(rest) > 2:
            rule["resourceNames"] = rest[2]
        found.append(rule)
    return found


def node_rules() -> list[Document]:
    """What the node authorizer lets every node do where it does not look closer."""
    return rules(_NODE)


def _scheduler(profile: Profile) -> tuple[str, ...]:
    lines: tuple[str, ...] = _SCHEDULER
    if profile.is_on(Gate.EXTENDED_RESOURCE):
        lines += ("create delete : resource.k8s.io : resourceclaims",)
    if profile.is_on(Gate.DEVICE_TAINT_RULES):
        lines += (f"{_READ} : resource.k8s.io : devicetaintrules",)
    if profile.is_on(Gate.GRANULAR_STATUS_AUTHORIZATION):
        lines += (_BINDING,)
    return lines


def _controllers(profile: Profile) -> dict[str, tuple[str, ...]]:
    found = dict(_CONTROLLERS)
    if profile.is_on(Gate.GRANULAR_STATUS_AUTHORIZATION):
        found["resource-claim-controller"] += (_BINDING,)
    if profile.is_on(Gate.DEVICE_TAINTS):
        found["device-taint-eviction-controller"] = (
            "get list watch delete : core : pods",
            "update patch : core : pods/status",
            f"{_READ} : resource.k8s.io : resourceclaims resourceslices deviceclasses",
            _EVENTS,
        )
        if profile.is_on(Gate.DEVICE_TAINT_RULES):
            found["device-taint-eviction-controller"] += (
                "update patch : resource.k8s.io : devicetaintrules/status",
                f"{_READ} : resource.k8s.io : devicetaintrules",
            )
    if profile.is_on(Gate.POOL_STATUS):
        found["resourcepoolstatusrequest-controller"] = (
            "get list watch delete : resource.k8s.io : resourcepoolstatusrequests",
            "update patch : resource.k8s.io : resourcepoolstatusrequests/status",
            f"{_READ} : resource.k8s.io : resourceslices resourceclaims devicetaintrules",
            _EVENTS,
        )
    return found


def cluster_roles(profile: Profile) -> Iterator[Document]:
    """Every ClusterRole, those that are aggregated with the rules they take in."""
    plain = {**_PLAIN, "system:node": _NODE, "system:kube-controller-manager": _MANAGER}
    plain["system:kube-scheduler"] = _scheduler(profile)
    plain |= {f"system:controller:{name}": lines for name, lines in _controllers(profile).items()}
    for name, lines in plain.items():
        yield _named(name, {"rules": rules(lines)})
    taken: list[Document] = []
    for name, (into, lines) in _AGGREGATED.items():
        label = f"{GROUP}/aggregate-to-"
        yield _named(f"system:aggregate-to-{name}", {"rules": rules(lines)}, {label + name: "true"})
        taken = rules(lines) + taken
        aggregation = {"clusterRoleSelectors": [{"matchLabels": {label + name: "true"}}]}
        labels = {label + into: "true"} if into else {}
        yield _named(name, {"aggregationRule": aggregation, "rules": taken}, labels)


def cluster_role_bindings(profile: Profile) -> Iterator[Document]:
    """Every ClusterRoleBinding. The controllers here share one identity, which so has all their roles;
    their own service accounts have them as well."""
    groups: dict[str, tuple[str, ...]] = {
        "cluster-admin": ("system:masters",),
        "system:monitoring": ("system:monitoring",),
        "system:discovery": (_AUTHENTICATED,),
        "system:basic-user": (_AUTHENTICATED,),
        "system:public-info-viewer": (_AUTHENTICATED, _UNAUTHENTICATED),
        "system:node": (),
    }
    for name, members in groups.items():
        yield _binding(name, [_subject("Group", member) for member in members])
    for name in ("system:kube-controller-manager", "system:kube-scheduler"):
        yield _binding(name, [_subject("User", name)])
    manager = _subject("User", "system:kube-controller-manager")
    for name in _controllers(profile):
        yield _binding(f"system:controller:{name}", [_account(name), manager])
    yield _binding("drakit:fake-nodes", [_account("fake-nodes")])


def _named(name: str, parts: Document, labels: Mapping[str, str] | None = None) -> Document:
    metadata = {
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults", **(labels or {})},
        "annotations": {AUTO_UPDATE: "true"},
    }
    return {"metadata": metadata, **parts}


def _binding(name: str, subjects: list[Document]) -> Document:
    reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}
    return _named(name, {"roleRef": reference, "subjects": subjects})


def _subject(kind: str, name: str) -> Document:
    return {"apiGroup": GROUP, "kind": kind, "name": name}


def _account(name: str) -> Document:
    return {"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}
