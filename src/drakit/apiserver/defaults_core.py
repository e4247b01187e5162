"""Defaults of the core group and the small groups around it.

Source: pkg/apis/{core,rbac,networking,storage,scheduling,admissionregistration}/v1/defaults.go and
staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1/defaults.go.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from drakit.apiserver.defaults_pod import fill, objects, pod_defaults, template_defaults
from drakit.transport import Document

_RBAC = "rbac.authorization.k8s.io"


def _secret(secret: Document) -> None:
    fill(secret, type="Opaque")
    plain = secret.pop("stringData", None)
    if plain:
        data = secret.setdefault("data", {})
        for key, value in plain.items():
            data[key] = base64.b64encode(str(value).encode()).decode()


def _namespace(namespace: Document) -> None:
    namespace.setdefault("spec", {})
    fill(namespace.setdefault("status", {}), phase="Active")
    metadata = namespace.setdefault("metadata", {})
    if metadata.get("name"):
        metadata["labels"] = {
            **(metadata.get("labels") or {}),
            "kubernetes.io/metadata.name": metadata["name"],
        }


def _node(node: Document) -> None:
    node.setdefault("spec", {})
    status = node.setdefault("status", {})
    if status.get("capacity"):
        fill(status, allocatable=dict(status["capacity"]))
    fill(status, daemonEndpoints={"kubeletEndpoint": {"Port": 0}}, nodeInfo={})
    names = (
        "machineID systemUUID bootID kernelVersion osImage containerRuntimeVersion kubeletVersion "
        "kubeProxyVersion operatingSystem architecture"
    )
    fill(status["nodeInfo"], **dict.fromkeys(names.split(), ""))


def _service(service: Document) -> None:
    spec = service.setdefault("spec", {})
    fill(spec, sessionAffinity="None", type="ClusterIP")
    if spec["sessionAffinity"] == "ClientIP":
        fill(spec, sessionAffinityConfig={"clientIP": {"timeoutSeconds": 10800}})
    for port in objects(spec.get("ports")):
        fill(port, protocol="TCP")
        if not port.get("targetPort") and "port" in port:
            port["targetPort"] = port["port"]
    if spec["type"] != "ExternalName":
        fill(spec, internalTrafficPolicy="Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        fill(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        fill(spec, allocateLoadBalancerNodePorts=True)
    fill(service, status={})
    fill(service["status"], loadBalancer={})


def _event(event: Document) -> None:
    fill(event, source={}, eventTime=None, reportingComponent="", reportingInstance="", involvedObject={})


def _volume(volume: Document) -> None:
    fill(volume.setdefault("status", {}), phase="Pending")
    fill(volume.setdefault("spec", {}), persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")


def _volume_claim(claim: Document) -> None:
    fill(claim.setdefault("status", {}), phase="Pending")
    fill(claim.setdefault("spec", {}), volumeMode="Filesystem", resources={})


def _pod_template(template: Document) -> None:
    template_defaults(template.setdefault("template", {}))


def _binding(binding: Document) -> None:
    fill(binding.setdefault("roleRef", {}), apiGroup=_RBAC)
    for subject in objects(binding.get("subjects")):
        if subject.get("kind") in ("User", "Group"):
            fill(subject, apiGroup=_RBAC)


def _role(role: Document) -> None:
    fill(role, rules=None)


def _network_policy(policy: Document) -> None:
    spec = policy.setdefault("spec", {})
    fill(spec, podSelector={})
    for rule in [*objects(spec.get("ingress")), *objects(spec.get("egress"))]:
        for port in objects(rule.get("ports")):
            fill(port, protocol="TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def _storage_class(storage_class: Document) -> None:
    fill(storage_class, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _csi_driver(driver: Document) -> None:
    fill(
        driver.setdefault("spec", {}),
        attachRequired=True,
        podInfoOnMount=False,
        storageCapacity=False,
        fsGroupPolicy="ReadWriteOnceWithFSType",
        requiresRepublish=False,
        seLinuxMount=False,
    )
    if not driver["spec"].get("volumeLifecycleModes"):
        driver["spec"]["volumeLifecycleModes"] = ["Persistent"]


def _priority_class(priority_class: Document) -> None:
    fill(priority_class, preemptionPolicy="PreemptLowerPriority", value=0)


def _match_resources(match: Document) -> None:
    fill(match, matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
    for rule in [*objects(match.get("resourceRules")), *objects(match.get("excludeResourceRules"))]:
        fill(rule, scope="*")


def _admission_policy(policy: Document) -> None:
    spec = policy.setdefault("spec", {})
    fill(spec, failurePolicy="Fail")
    if isinstance(spec.get("matchConstraints"), dict):
        _match_resources(spec["matchConstraints"])
    if policy.get("kind") == "MutatingAdmissionPolicy":
        fill(spec, reinvocationPolicy="Never")
    else:
        policy.setdefault("status", {})


def _admission_binding(binding: Document) -> None:
    match = binding.setdefault("spec", {}).get("matchResources")
    if isinstance(match, dict):
        _match_resources(match)


def _webhooks(configuration: Document) -> None:
    for webhook in objects(configuration.get("webhooks")):
        fill(
            webhook,
            failurePolicy="Fail",
            matchPolicy="Equivalent",
            namespaceSelector={},
            objectSelector={},
            timeoutSeconds=10,
        )
        if configuration.get("kind") == "MutatingWebhookConfiguration":
            fill(webhook, reinvocationPolicy="Never")
        for rule in objects(webhook.get("rules")):
            fill(rule, scope="*")
        service = (webhook.get("clientConfig") or {}).get("service")
        if isinstance(service, dict):
            fill(service, port=443)


def _custom_resource_definition(crd: Document) -> None:
    spec = crd.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if names.get("kind"):
        fill(names, singular=str(names["kind"]).lower(), listKind=f"{names['kind']}List")
    fill(spec, conversion={"strategy": "None"})
    fill(spec["conversion"], strategy="None")


CORE_DEFAULTS: dict[tuple[str, str], Callable[[Document], None]] = {
    ("", "Event"): _event,
    ("", "Namespace"): _namespace,
    ("", "Node"): _node,
    ("", "PersistentVolume"): _volume,
    ("", "PersistentVolumeClaim"): _volume_claim,
    ("", "Pod"): pod_defaults,
    ("", "PodTemplate"): _pod_template,
    ("", "Secret"): _secret,
    ("", "Service"): _service,
    (_RBAC, "ClusterRole"): _role,
    (_RBAC, "ClusterRoleBinding"): _binding,
    (_RBAC, "Role"): _role,
    (_RBAC, "RoleBinding"): _binding,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): _admission_policy,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): _admission_binding,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _webhooks,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): _admission_policy,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): _admission_binding,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _webhooks,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _custom_resource_definition,
    ("networking.k8s.io", "NetworkPolicy"): _network_policy,
    ("scheduling.k8s.io", "PriorityClass"): _priority_class,
    ("storage.k8s.io", "CSIDriver"): _csi_driver,
    ("storage.k8s.io", "StorageClass"): _storage_class,
}
