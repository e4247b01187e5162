"""The table of kinds: what the API server serves under which names, for a Kubernetes version.

A `Kind` is data. Its objects are stored in one version (`storage_version`) and converted on the way in
and out. What a kind *does* (defaults, rules, status handling) is its strategy's business, found by
`drakit.apiserver.strategy.strategy_for(kind)`.

Source: discovery of a default kube-apiserver; served versions of resource.k8s.io by release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from drakit.profile import Profile

if TYPE_CHECKING:
    from drakit.apiserver.custom_version import CustomVersion

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
RESOURCE_GROUP = "resource.k8s.io"


class Subresource(Struct, frozen=True):
    """`verbs` as discovery lists them; `group`/`version` are set where it speaks another group's kind."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


class Kind(Struct, frozen=True, kw_only=True):
    """One kind of object. `versions` are the served ones, the preferred first; `verbs` in discovery's
    order. `is_stored` is False for kinds that are only answered (reviews, bindings). A custom resource has
    one row for each version it is served in, and `custom` says what is special about that version."""

    group: str
    plural: str
    kind: str
    versions: tuple[str, ...]
    storage_version: str
    is_namespaced: bool
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    is_stored: bool = True
    collection: str = ""
    list_kind: str = ""
    custom: CustomVersion | None = None

    @property
    def resource(self) -> str:
        """`plural.group` as in error texts."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def group_kind(self) -> str:
        """`Kind.group` as in error texts."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def list_name(self) -> str:
        """The kind of a list of these."""
        return self.list_kind or f"{self.kind}List"

    @property
    def storage_api_version(self) -> str:
        return self.api_version(self.storage_version)

    def api_version(self, version: str) -> str:
        return f"{self.group}/{version}" if self.group else version

    def subresource(self, name: str) -> Subresource | None:
        return next((row for row in self.subresources if row.name == name), None)


class Kinds:
    """The kinds of one server, found by the names of a request path."""

    def __init__(self, rows: Iterable[Kind]) -> None:
        self.rows = tuple(rows)
        self._by_path = {(row.group, v, row.plural): row for row in self.rows for v in row.versions}
        self._by_resource = {(row.group, row.plural): row for row in self.rows}

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._by_path.get((group, version, plural))

    def resource(self, group: str, plural: str) -> Kind | None:
        """The kind whatever its served versions."""
        return self._by_resource.get((group, plural))

    def group_versions(self) -> dict[str, list[str]]:
        """The served versions of every group, in the order of preference."""
        groups: dict[str, list[str]] = {}
        for row in self.rows:
            versions = groups.setdefault(row.group, [])
            versions += [version for version in row.versions if version not in versions]
        return groups

    def in_version(self, group: str, version: str) -> list[Kind]:
        rows = [row for row in self.rows if row.group == group and version in row.versions]
        return sorted(rows, key=lambda row: row.plural)


_EDIT = ("get", "patch", "update")
_STREAM = ("create", "get")


def _subresource(name: str, kind: str) -> Subresource:
    known: Mapping[str, Subresource] = {
        "scale": Subresource("scale", "Scale", _EDIT, "autoscaling", "v1"),
        "finalize": Subresource("finalize", kind, ("update",)),
        "binding": Subresource("binding", "Binding", ("create",)),
        "eviction": Subresource("eviction", "Eviction", ("create",), "policy", "v1"),
        "attach": Subresource("attach", "PodAttachOptions", _STREAM),
        "exec": Subresource("exec", "PodExecOptions", _STREAM),
        "log": Subresource("log", kind, ("get",)),
        "portforward": Subresource("portforward", "PodPortForwardOptions", _STREAM),
        "token": Subresource("token", "TokenRequest", ("create",), "authentication.k8s.io", "v1"),
    }
    return known.get(name) or Subresource(name, kind, _EDIT)


def _kind(
    group: str, plural: str, kind: str, scope: str, extra: str = "", versions: tuple[str, ...] = ("v1",)
) -> Kind:
    """`extra` is words: a short name, `@category` or `/subresource`; `scope` is "ns" or "cluster"."""
    words = extra.split()
    subresources = sorted(word[1:] for word in words if word.startswith("/"))
    verbs = tuple(verb for verb in ALL_VERBS if not (plural == "namespaces" and verb == "deletecollection"))
    is_core_event = kind == "Event"
    return Kind(
        group=group,
        plural=plural,
        kind=kind,
        versions=versions,
        storage_version=versions[0] if versions == ("v1alpha3",) or group != RESOURCE_GROUP else "v1",
        is_namespaced=scope == "ns",
        singular=kind.lower(),
        short_names=tuple(word for word in words if word[0] not in "@/"),
        categories=tuple(word[1:] for word in words if word.startswith("@")),
        subresources=tuple(_subresource(name, kind) for name in subresources),
        verbs=verbs,
        collection="events" if is_core_event else f"{plural}.{group}" if group else plural,
    )


def _review(group: str, plural: str, kind: str, scope: str = "cluster") -> Kind:
    """A kind that is answered at once and never stored."""
    return Kind(
        group=group,
        plural=plural,
        kind=kind,
        versions=("v1",),
        storage_version="v1",
        is_namespaced=scope == "ns",
        singular=kind.lower(),
        verbs=("create",),
        is_stored=False,
    )


_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"
_STORAGE = "storage.k8s.io"
_FLOW = "flowcontrol.apiserver.k8s.io"

_BUILT_IN: tuple[Kind, ...] = (
    _review("", "bindings", "Binding", "ns"),
    _kind("", "configmaps", "ConfigMap", "ns", "cm"),
    _kind("", "endpoints", "Endpoints", "ns", "ep"),
    _kind("", "events", "Event", "ns", "ev"),
    _kind("", "limitranges", "LimitRange", "ns", "limits"),
    _kind("", "namespaces", "Namespace", "cluster", "ns /finalize /status"),
    _kind("", "nodes", "Node", "cluster", "no /status"),
    _kind("", "persistentvolumeclaims", "PersistentVolumeClaim", "ns", "pvc /status"),
    _kind("", "persistentvolumes", "PersistentVolume", "cluster", "pv /status"),
    _kind(
        "",
        "pods",
        "Pod",
        "ns",
        "po @all /attach /binding /ephemeralcontainers /eviction /exec /log /portforward /resize /status",
    ),
    _kind("", "podtemplates", "PodTemplate", "ns"),
    _kind("", "replicationcontrollers", "ReplicationController", "ns", "rc @all /scale /status"),
    _kind("", "resourcequotas", "ResourceQuota", "ns", "quota /status"),
    _kind("", "secrets", "Secret", "ns"),
    _kind("", "serviceaccounts", "ServiceAccount", "ns", "sa /token"),
    _kind("", "services", "Service", "ns", "svc @all /status"),
    _kind("apiregistration.k8s.io", "apiservices", "APIService", "cluster", "@api-extensions /status"),
    _kind("apps", "controllerrevisions", "ControllerRevision", "ns"),
    _kind("apps", "daemonsets", "DaemonSet", "ns", "ds @all /status"),
    _kind("apps", "deployments", "Deployment", "ns", "deploy @all /scale /status"),
    _kind("apps", "replicasets", "ReplicaSet", "ns", "rs @all /scale /status"),
    _kind("apps", "statefulsets", "StatefulSet", "ns", "sts @all /scale /status"),
    _kind("events.k8s.io", "events", "Event", "ns", "ev"),
    _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    _review("authentication.k8s.io", "tokenreviews", "TokenReview"),
    _review("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", "ns"),
    _review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
    _kind(
        "autoscaling",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        "ns",
        "hpa @all /status",
        ("v2",),
    ),
    _kind("batch", "cronjobs", "CronJob", "ns", "cj @all /status"),
    _kind("batch", "jobs", "Job", "ns", "@all /status"),
    _kind(
        "certificates.k8s.io",
        "certificatesigningrequests",
        "CertificateSigningRequest",
        "cluster",
        "csr /approval /status",
    ),
    _kind("networking.k8s.io", "ingressclasses", "IngressClass", "cluster"),
    _kind("networking.k8s.io", "ingresses", "Ingress", "ns", "ing /status"),
    _kind("networking.k8s.io", "networkpolicies", "NetworkPolicy", "ns", "netpol"),
    _kind("policy", "poddisruptionbudgets", "PodDisruptionBudget", "ns", "pdb /status"),
    _kind(_RBAC, "clusterrolebindings", "ClusterRoleBinding", "cluster"),
    _kind(_RBAC, "clusterroles", "ClusterRole", "cluster"),
    _kind(_RBAC, "rolebindings", "RoleBinding", "ns"),
    _kind(_RBAC, "roles", "Role", "ns"),
    _kind(_STORAGE, "csidrivers", "CSIDriver", "cluster"),
    _kind(_STORAGE, "csinodes", "CSINode", "cluster"),
    _kind(_STORAGE, "csistoragecapacities", "CSIStorageCapacity", "ns"),
    _kind(_STORAGE, "storageclasses", "StorageClass", "cluster", "sc"),
    _kind(_STORAGE, "volumeattachments", "VolumeAttachment", "cluster", "/status"),
    _kind(
        _ADMISSION,
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        "cluster",
        "@api-extensions /status",
    ),
    _kind(
        _ADMISSION,
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        "cluster",
        "@api-extensions",
    ),
    _kind(
        _ADMISSION,
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        "cluster",
        "@api-extensions",
    ),
    _kind(
        _ADMISSION,
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        "cluster",
        "@api-extensions",
    ),
    _kind(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "cluster",
        "crd crds @api-extensions /status",
    ),
    _kind("scheduling.k8s.io", "priorityclasses", "PriorityClass", "cluster", "pc"),
    _kind("coordination.k8s.io", "leases", "Lease", "ns"),
    _kind("node.k8s.io", "runtimeclasses", "RuntimeClass", "cluster"),
    _kind("discovery.k8s.io", "endpointslices", "EndpointSlice", "ns"),
)


_LAST: tuple[Kind, ...] = (
    _kind(_FLOW, "flowschemas", "FlowSchema", "cluster", "/status"),
    _kind(_FLOW, "prioritylevelconfigurations", "PriorityLevelConfiguration", "cluster", "/status"),
)
"""Kinds that discovery lists behind resource.k8s.io. They are kept, and nothing follows from them."""

_SINCE: tuple[tuple[str, Kind], ...] = (
    ("1.33", _kind("networking.k8s.io", "ipaddresses", "IPAddress", "cluster", "ip")),
    ("1.33", _kind("networking.k8s.io", "servicecidrs", "ServiceCIDR", "cluster", "/status")),
    ("1.34", _kind(_STORAGE, "volumeattributesclasses", "VolumeAttributesClass", "cluster", "vac")),
    (
        "1.36",
        _kind(
            _ADMISSION, "mutatingadmissionpolicies", "MutatingAdmissionPolicy", "cluster", "@api-extensions"
        ),
    ),
    (
        "1.36",
        _kind(
            _ADMISSION,
            "mutatingadmissionpolicybindings",
            "MutatingAdmissionPolicyBinding",
            "cluster",
            "@api-extensions",
        ),
    ),
)
"""Kinds and the Kubernetes version that first serves them as v1."""


def kinds_for(profile: Profile) -> Kinds:
    """Every kind a server of `profile` serves."""
    beta_or_better = tuple(version for version in profile.served if "alpha" not in version)
    taint_rules = [
        version
        for version, since in (("v1", "1.37"), ("v1beta2", "1.36"), ("v1alpha3", "1.33"))
        if profile.at_least(since) and version in profile.served
    ]
    rows = [
        _kind(RESOURCE_GROUP, "deviceclasses", "DeviceClass", "cluster", versions=beta_or_better),
        _kind(RESOURCE_GROUP, "resourceclaims", "ResourceClaim", "ns", "/status", beta_or_better),
        _kind(
            RESOURCE_GROUP, "resourceclaimtemplates", "ResourceClaimTemplate", "ns", versions=beta_or_better
        ),
        _kind(RESOURCE_GROUP, "resourceslices", "ResourceSlice", "cluster", versions=beta_or_better),
    ]
    if taint_rules:
        name = "DeviceTaintRule"
        rows.append(_kind(RESOURCE_GROUP, "devicetaintrules", name, "cluster", "/status", tuple(taint_rules)))
    if profile.at_least("1.36"):
        name = "ResourcePoolStatusRequest"
        rows.append(
            _kind(RESOURCE_GROUP, "resourcepoolstatusrequests", name, "cluster", "/status", ("v1alpha3",))
        )
    newer = [row for since, row in _SINCE if profile.at_least(since)]
    return Kinds((*_BUILT_IN, *newer, *rows, *_LAST))
