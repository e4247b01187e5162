"""Rules for the small kinds of the core group and the groups around it.

Source: pkg/apis/{core,rbac,scheduling,coordination}/validation/validation.go.
"""

from __future__ import annotations

from typing import Any

from drakit.model.validation import names
from drakit.model.validation.field import (
    Errors,
    duplicate,
    forbidden,
    immutable,
    invalid,
    listed,
    mapped,
    messages,
    not_supported,
    required,
    same,
    too_long,
)

Document = dict[str, Any]

MAX_DATA = 1024 * 1024
_TAINTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")


def config_map(document: Document, old: Document | None) -> Errors:
    errors: Errors = []
    data, binary = mapped(document.get("data")), mapped(document.get("binaryData"))
    for key in sorted(data):
        errors += messages(f"data[{key}]", key, names.config_key(key))
    for key in sorted(binary):
        errors += messages(f"binaryData[{key}]", key, names.config_key(key))
        if key in data:
            errors.append(invalid(f"binaryData[{key}]", key, "duplicate of key present in data"))
    if sum(len(str(value)) for value in [*data.values(), *binary.values()]) > MAX_DATA:
        errors.append(too_long("", MAX_DATA))
    return errors + _unchanged(document, old, ("data", "binaryData"))


def secret(document: Document, old: Document | None) -> Errors:
    errors: Errors = []
    data = mapped(document.get("data"))
    for key in sorted(data):
        errors += messages(f"data[{key}]", key, names.config_key(key))
    if sum(len(str(value)) for value in data.values()) > MAX_DATA * 4 // 3:
        errors.append(too_long("data", MAX_DATA))
    if old is not None:
        errors += immutable("type", document.get("type"), old.get("type"))
    elif document.get("type") == "kubernetes.io/dockerconfigjson" and ".dockerconfigjson" not in data:
        errors.append(required("data[.dockerconfigjson]"))
    elif document.get("type") == "kubernetes.io/tls":
        errors += [required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data]
    return errors + _unchanged(document, old, ("data",))


def _unchanged(document: Document, old: Document | None, fields: tuple[str, ...]) -> Errors:
    """What `immutable: true` forbids."""
    if old is None or not old.get("immutable"):
        return []
    text = "field is immutable when `immutable` is set"
    errors = [] if document.get("immutable") else [forbidden("immutable", text)]
    return errors + [forbidden(f, text) for f in fields if not same(document.get(f), old.get(f))]


def node(document: Document, old: Document | None) -> Errors:
    errors: Errors = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(listed(mapped(document.get("spec")).get("taints"))):
        place, key = f"spec.taints[{index}]", taint.get("key") or ""
        errors += messages(f"{place}.key", key, names.qualified_name(key))
        errors += messages(
            f"{place}.value", taint.get("value") or "", names.label_value(taint.get("value") or "")
        )
        effect = taint.get("effect") or ""
        if not effect:
            errors.append(required(f"{place}.effect"))
        elif effect not in _TAINTS:
            errors.append(not_supported(f"{place}.effect", effect, _TAINTS))
        if (key, effect) in seen:
            errors.append(duplicate(place, taint))
        seen.add((key, effect))
    if old is not None:
        before = mapped(old.get("spec")).get("providerID")
        if before:
            errors += immutable("spec.providerID", mapped(document.get("spec")).get("providerID"), before)
    return errors


def service(document: Document, old: Document | None) -> Errors:
    spec = document["spec"]
    errors: Errors = []
    ports = listed(spec.get("ports"))
    kind = spec.get("type")
    if kind not in ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"):
        errors.append(
            not_supported("spec.type", kind, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
        )
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        errors.append(required("spec.ports"))
    taken: set[str] = set()
    for index, port in enumerate(ports):
        place, name, number = f"spec.ports[{index}]", port.get("name") or "", port.get("port") or 0
        if not name and len(ports) > 1:
            errors.append(required(f"{place}.name"))
        elif name:
            errors += messages(f"{place}.name", name, names.dns_label(name))
            if name in taken:
                errors.append(duplicate(f"{place}.name", name))
            taken.add(name)
        if not 0 < number < 65536:
            errors.append(invalid(f"{place}.port", number, "must be between 1 and 65535, inclusive"))
        if port.get("protocol") not in ("SCTP", "TCP", "UDP"):
            errors.append(not_supported(f"{place}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP")))
    for key, value in sorted(mapped(spec.get("selector")).items()):
        errors += messages("spec.selector", key, names.qualified_name(key))
        errors += messages("spec.selector", value, names.label_value(value))
    if kind == "ExternalName" and not spec.get("externalName"):
        errors.append(required("spec.externalName"))
    if old is not None and mapped(old.get("spec")).get("clusterIP") and kind != "ExternalName":
        before = old["spec"]["clusterIP"]
        if spec.get("clusterIP") != before:
            errors.append(invalid("spec.clusterIPs[0]", [spec.get("clusterIP")], "may not change once set"))
    return errors


def event(document: Document, old: Document | None) -> Errors:
    errors: Errors = []
    namespace = document["metadata"].get("namespace") or ""
    involved = mapped(document.get("involvedObject")).get("namespace") or ""
    if involved != namespace and (involved or namespace != "default"):
        errors.append(invalid("involvedObject.namespace", involved, "does not match event.namespace"))
    return errors


def lease(document: Document, old: Document | None) -> Errors:
    spec = mapped(document.get("spec"))
    errors: Errors = []
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        errors.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    return errors


def priority_class(document: Document, old: Document | None) -> Errors:
    value = document.get("value") or 0
    errors: Errors = []
    if value > 1_000_000_000 and not document["metadata"].get("name", "").startswith("system-"):
        text = "maximum allowed value of a user defined priority is 1000000000"
        errors.append(forbidden("value", text))
    if old is not None:
        errors += immutable("value", value, old.get("value") or 0)
        errors += immutable("preemptionPolicy", document.get("preemptionPolicy"), old.get("preemptionPolicy"))
    return errors


def role(document: Document, old: Document | None, is_cluster: bool) -> Errors:
    errors: Errors = []
    for index, rule in enumerate(listed(document.get("rules"))):
        place = f"rules[{index}]"
        if not listed(rule.get("verbs")):
            errors.append(required(f"{place}.verbs", "verbs must contain at least one value"))
        if listed(rule.get("nonResourceURLs")):
            if not is_cluster:
                text = "namespaced rules cannot apply to non-resource URLs"
                errors.append(invalid(f"{place}.nonResourceURLs", rule["nonResourceURLs"], text))
            if any(listed(rule.get(field)) for field in ("apiGroups", "resources", "resourceNames")):
                text = "rules cannot apply to both regular resources and non-resource URLs"
                errors.append(invalid(f"{place}.nonResourceURLs", rule["nonResourceURLs"], text))
            continue
        if not listed(rule.get("apiGroups")):
            text = "resource rules must supply at least one api group"
            errors.append(required(f"{place}.apiGroups", text))
        if not listed(rule.get("resources")):
            text = "resource rules must supply at least one resource"
            errors.append(required(f"{place}.resources", text))
    return errors


def role_binding(document: Document, old: Document | None, is_cluster: bool) -> Errors:
    errors: Errors = []
    reference = mapped(document.get("roleRef"))
    if reference.get("apiGroup") != "rbac.authorization.k8s.io":
        group = reference.get("apiGroup") or ""
        errors.append(not_supported("roleRef.apiGroup", group, ("rbac.authorization.k8s.io",)))
    kinds = ("ClusterRole",) if is_cluster else ("Role", "ClusterRole")
    if reference.get("kind") not in kinds:
        errors.append(not_supported("roleRef.kind", reference.get("kind") or "", kinds))
    if not reference.get("name"):
        errors.append(required("roleRef.name"))
    for index, subject in enumerate(listed(document.get("subjects"))):
        place = f"subjects[{index}]"
        if not subject.get("name"):
            errors.append(required(f"{place}.name"))
        if subject.get("kind") not in ("ServiceAccount", "User", "Group"):
            choices = ("ServiceAccount", "User", "Group")
            errors.append(not_supported(f"{place}.kind", subject.get("kind") or "", choices))
        elif subject["kind"] == "ServiceAccount" and is_cluster and not subject.get("namespace"):
            errors.append(required(f"{place}.namespace"))
    if old is not None and not same(reference, old.get("roleRef")):
        errors.append(invalid("roleRef", reference, "cannot change roleRef"))
    return errors
