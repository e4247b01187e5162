"""The core group and the small groups around it.

Source: pkg/registry/{core,rbac,scheduling,coordination,admissionregistration,...}/*/strategy.go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from drakit.apiserver.definition_rules import definition_rules, not_done
from drakit.apiserver.policy_rules import (
    binding_rules,
    mutating_binding_rules,
    mutating_policy_rules,
    policy_rules,
)
from drakit.apiserver.strategy_rules import Context, Rules
from drakit.apiserver.webhook_rules import webhook_rules
from drakit.model.validation import core, names
from drakit.model.validation.field import Errors, listed, mapped
from drakit.transport import Document

_FIRST_NODE_PORT, _NODE_PORTS = 30000, 2768
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"


def _checked(
    check: Callable[[Document, Document | None], Errors],
) -> Callable[[Document, Document | None, Context], Errors]:
    return lambda document, old, context: check(document, old)


def _prepare_namespace(namespace: Document, context: Context) -> None:
    spec = namespace.setdefault("spec", {})
    finalizers = listed(spec.get("finalizers"))
    if "kubernetes" not in finalizers:
        spec["finalizers"] = ["kubernetes", *finalizers]


def _change_namespace(new: Document, old: Document, subresource: str, context: Context) -> None:
    if subresource == "finalize":
        new["status"] = old.get("status", {})
        return
    new["spec"] = {**mapped(new.get("spec")), "finalizers": mapped(old.get("spec")).get("finalizers") or []}


def _prepare_service(service: Document, context: Context) -> None:
    """A cluster address for the service: nothing routes it here, but clients expect one.

    It is derived from the name, so that the same service always gets the same one.
    """
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return
    if not spec.get("clusterIP"):
        name = f"{service['metadata'].get('namespace')}/{service['metadata'].get('name')}"
        digest = hashlib.sha256(name.encode()).digest()
        spec["clusterIP"] = f"10.{96 + digest[0] % 16}.{digest[1]}.{1 + digest[2] % 254}"
    spec["clusterIPs"] = [spec["clusterIP"]]
    _give_node_ports(service, {})
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")


def _give_node_ports(service: Document, before: Document) -> None:
    """Node ports for the ports that want one: those they had before, else derived from the name."""
    spec, known = service["spec"], {p.get("port"): p.get("nodePort") for p in listed(before.get("ports"))}
    if spec.get("type") not in ("NodePort", "LoadBalancer"):
        return
    for port in listed(spec.get("ports")):
        if port.get("nodePort"):
            continue
        name = f"{service['metadata'].get('namespace')}/{service['metadata'].get('name')}/{port.get('port')}"
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        port["nodePort"] = known.get(port.get("port")) or _FIRST_NODE_PORT + number % _NODE_PORTS


def _change_service(new: Document, old: Document, subresource: str, context: Context) -> None:
    spec, before = new["spec"], mapped(old.get("spec"))
    if spec.get("type") == "ExternalName":
        return
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if not spec.get(field) and before.get(field):
            spec[field] = before[field]
    if subresource == "":
        _give_node_ports(new, before)


def _prepare_definition(definition: Document, context: Context) -> None:
    versions = listed(mapped(definition.get("spec")).get("versions"))
    stored = [str(version.get("name")) for version in versions if version.get("storage")]
    definition["status"] = {"storedVersions": stored} if stored else {}


def _change_definition(new: Document, old: Document, subresource: str, context: Context) -> None:
    if subresource == "status":
        return
    status = {**mapped(old.get("status"))}
    stored = listed(status.get("storedVersions"))
    for version in listed(mapped(new.get("spec")).get("versions")):
        if version.get("storage") and version.get("name") not in stored:
            stored = [*stored, version.get("name")]
    new["status"] = {**status, "storedVersions": stored}


_SPEC_COUNTED = Rules(counts_generation=True)
_WEBHOOKS = Rules(
    counts_generation=True,
    is_namespaced=False,
    check=lambda document, old, context: webhook_rules(document, old, context.profile),
)

CORE_RULES: dict[tuple[str, str], Rules] = {
    ("", "ConfigMap"): Rules(check=_checked(core.config_map)),
    ("", "Event"): Rules(check=_checked(core.event)),
    ("events.k8s.io", "Event"): Rules(check=_checked(core.event)),
    ("", "Namespace"): Rules(
        name=names.dns_label,
        is_namespaced=False,
        has_status=True,
        kept_metadata=(),
        status={"phase": "Active"},
        prepare=_prepare_namespace,
        change=_change_namespace,
    ),
    ("", "Node"): Rules(
        is_namespaced=False,
        has_status=True,
        resets_status=False,
        kept_metadata=(),
        check=_checked(core.node),
    ),
    ("", "PersistentVolume"): Rules(
        is_namespaced=False, has_status=True, kept_metadata=(), status={"phase": "Pending"}
    ),
    ("", "PersistentVolumeClaim"): Rules(has_status=True, kept_metadata=(), status={"phase": "Pending"}),
    ("", "ResourceQuota"): Rules(has_status=True, kept_metadata=(), status={}),
    ("", "Secret"): Rules(check=_checked(core.secret)),
    ("", "Service"): Rules(
        name=names.dns_1035_label,
        has_status=True,
        kept_metadata=(),
        status={"loadBalancer": {}},
        prepare=_prepare_service,
        change=_change_service,
        check=_checked(core.service),
    ),
    ("coordination.k8s.io", "Lease"): Rules(check=_checked(core.lease)),
    ("discovery.k8s.io", "EndpointSlice"): _SPEC_COUNTED,
    ("networking.k8s.io", "Ingress"): Rules(
        has_status=True, kept_metadata=(), status={"loadBalancer": {}}, counts_generation=True
    ),
    ("networking.k8s.io", "NetworkPolicy"): _SPEC_COUNTED,
    ("node.k8s.io", "RuntimeClass"): Rules(is_namespaced=False),
    ("policy", "PodDisruptionBudget"): Rules(
        has_status=True,
        kept_metadata=(),
        status={"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
        counts_generation=True,
    ),
    (_RBAC, "ClusterRole"): Rules(
        name=names.path_segment,
        is_namespaced=False,
        check=lambda document, old, context: core.role(document, old, True),
    ),
    (_RBAC, "ClusterRoleBinding"): Rules(
        name=names.path_segment,
        is_namespaced=False,
        check=lambda document, old, context: core.role_binding(document, old, True),
    ),
    (_RBAC, "Role"): Rules(
        name=names.path_segment, check=lambda document, old, context: core.role(document, old, False)
    ),
    (_RBAC, "RoleBinding"): Rules(
        name=names.path_segment, check=lambda document, old, context: core.role_binding(document, old, False)
    ),
    ("scheduling.k8s.io", "PriorityClass"): Rules(
        is_namespaced=False, counts_generation=True, check=_checked(core.priority_class)
    ),
    ("storage.k8s.io", "CSIDriver"): Rules(is_namespaced=False),
    ("storage.k8s.io", "CSINode"): Rules(is_namespaced=False),
    ("storage.k8s.io", "StorageClass"): Rules(is_namespaced=False),
    ("storage.k8s.io", "VolumeAttachment"): Rules(is_namespaced=False, has_status=True, kept_metadata=()),
    (_ADMISSION, "MutatingWebhookConfiguration"): _WEBHOOKS,
    (_ADMISSION, "ValidatingWebhookConfiguration"): _WEBHOOKS,
    (_ADMISSION, "ValidatingAdmissionPolicy"): Rules(
        is_namespaced=False,
        has_status=True,
        status={},
        counts_generation=True,
        check=lambda policy, old, context: policy_rules(policy, old, context.profile),
    ),
    (_ADMISSION, "ValidatingAdmissionPolicyBinding"): Rules(
        counts_generation=True,
        is_namespaced=False,
        check=lambda binding, old, context: binding_rules(binding),
    ),
    (_ADMISSION, "MutatingAdmissionPolicy"): Rules(
        is_namespaced=False,
        counts_generation=True,
        check=lambda policy, old, context: mutating_policy_rules(policy, old, context.profile),
    ),
    (_ADMISSION, "MutatingAdmissionPolicyBinding"): Rules(
        counts_generation=True,
        is_namespaced=False,
        check=lambda binding, old, context: mutating_binding_rules(binding),
    ),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): Rules(
        is_namespaced=False,
        has_status=True,
        kept_metadata=(),
        counts_generation=True,
        prepare=_prepare_definition,
        change=_change_definition,
        check=lambda document, old, context: definition_rules(document, old, context.profile),
        warn=lambda document, old, context: not_done(document),
    ),
}
