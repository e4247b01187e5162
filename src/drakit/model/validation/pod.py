"""Rules for pods and pod templates: the everyday ones, in Kubernetes' words.

Source: pkg/apis/core/validation/validation.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drakit.model.validation import names
from drakit.model.validation.container import containers_of
from drakit.model.validation.field import (
    Errors,
    duplicate,
    forbidden,
    invalid,
    listed,
    mapped,
    messages,
    not_supported,
    required,
    same,
)

Document = dict[str, Any]

_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_TAINT_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")


def pod_spec(spec: Document, path: str = "spec", pod_name: str = "") -> Errors:
    """The rules for the spec of a new pod (then with its name) or of a template."""
    errors: Errors = []
    volumes, volume_errors = _volumes(listed(spec.get("volumes")), f"{path}.volumes")
    errors += volume_errors
    claims, claim_errors = _resource_claims(
        listed(spec.get("resourceClaims")), f"{path}.resourceClaims", pod_name
    )
    errors += claim_errors
    errors += containers_of(spec, path, volumes, claims)
    restart = spec.get("restartPolicy")
    if restart not in _RESTART:
        at = f"{path}.restartPolicy"
        errors.append(not_supported(at, restart, _RESTART) if restart else required(at))
    dns = spec.get("dnsPolicy")
    if dns not in _DNS:
        errors.append(not_supported(f"{path}.dnsPolicy", dns, _DNS) if dns else required(f"{path}.dnsPolicy"))
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        text = "must be greater than or equal to 0"
        errors.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, text))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline < 1 << 31:
        text = "must be between 1 and 2147483647, inclusive"
        errors.append(invalid(f"{path}.activeDeadlineSeconds", deadline, text))
    for field in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        value = spec.get(field)
        if value:
            errors += messages(f"{path}.{field}", value, names.dns_subdomain(value))
    if spec.get("hostname"):
        errors += messages(f"{path}.hostname", spec["hostname"], names.dns_label(spec["hostname"]))
    if spec.get("subdomain"):
        errors += messages(f"{path}.subdomain", spec["subdomain"], names.dns_label(spec["subdomain"]))
    errors += _node_labels(mapped(spec.get("nodeSelector")), f"{path}.nodeSelector")
    for index, toleration in enumerate(listed(spec.get("tolerations"))):
        errors += _toleration(toleration, f"{path}.tolerations[{index}]")
    return errors


def _node_labels(labels: Document, path: str) -> Errors:
    errors: Errors = []
    for key, value in sorted(labels.items()):
        errors += messages(path, key, names.qualified_name(key))
        errors += messages(path, value, names.label_value(value))
    return errors


def _toleration(toleration: Document, path: str) -> Errors:
    errors: Errors = []
    key, operator = toleration.get("key") or "", toleration.get("operator") or "Equal"
    if key:
        errors += messages(f"{path}.key", key, names.qualified_name(key))
    elif operator != "Exists":
        text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(invalid(f"{path}.operator", toleration.get("operator") or "", text))
    effect = toleration.get("effect") or ""
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(invalid(f"{path}.effect", effect, text))
    value = toleration.get("value") or ""
    if operator == "Equal":
        errors += messages(f"{path}.operator", value, names.label_value(value))
    elif operator == "Exists":
        if value:
            text = "value must be empty when `operator` is 'Exists'"
            errors.append(invalid(f"{path}.operator", toleration, text))
    else:
        errors.append(not_supported(f"{path}.operator", operator, ("Equal", "Exists")))
    if effect and effect not in _TAINT_EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, _TAINT_EFFECTS))
    return errors


def _volumes(volumes: list[Document], path: str) -> tuple[set[str], Errors]:
    errors: Errors = []
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        place, name = f"{path}[{index}]", volume.get("name") or ""
        if not name:
            errors.append(required(f"{place}.name"))
        elif wrong := names.dns_label(name):
            errors += messages(f"{place}.name", name, wrong)
        elif name in seen:
            errors.append(duplicate(f"{place}.name", name))
        sources = [key for key in volume if key != "name"]
        if not sources:
            errors.append(required(place, "must specify a volume type"))
        for extra in sources[1:]:
            errors.append(forbidden(f"{place}.{extra}", "may not specify more than 1 volume type"))
        if "hostPath" in volume and not mapped(volume["hostPath"]).get("path"):
            errors.append(required(f"{place}.hostPath.path"))
        if "secret" in volume and not mapped(volume["secret"]).get("secretName"):
            errors.append(required(f"{place}.secret.secretName"))
        if "configMap" in volume and not mapped(volume["configMap"]).get("name"):
            errors.append(required(f"{place}.configMap.name"))
        if "persistentVolumeClaim" in volume and not mapped(volume["persistentVolumeClaim"]).get("claimName"):
            errors.append(required(f"{place}.persistentVolumeClaim.claimName"))
        seen.add(name)
    return seen, errors


def _resource_claims(claims: list[Document], path: str, pod_name: str) -> tuple[set[str], Errors]:
    errors: Errors = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        place, name = f"{path}[{index}]", claim.get("name") or ""
        if not name:
            errors.append(required(f"{place}.name"))
        elif name in seen:
            errors.append(duplicate(f"{place}.name", name))
        else:
            wrong = names.dns_label(name)
            errors += messages(f"{place}.name", name, wrong)
            if not wrong and pod_name and claim.get("resourceClaimTemplateName") is not None:
                final = f"{pod_name}-{name}"
                texts = [f"final ResourceClaim name: {text}" for text in names.dns_subdomain(final)]
                errors += messages(f"{place}.name", final, texts)
            seen.add(name)
        given = [field for field in ("resourceClaimName", "resourceClaimTemplateName") if field in claim]
        if len(given) > 1:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid(place, _pod_claim_struct(claim), text))
        elif not given:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid(place, _pod_claim_struct(claim), text))
        for field in given:
            errors += messages(f"{place}.{field}", claim[field], names.dns_subdomain(claim[field]))
    return seen, errors


def _pod_claim_struct(claim: Document) -> Document:
    """The entry as Go prints its internal form."""
    return {
        "Name": claim.get("name") or "",
        "ResourceClaimName": claim.get("resourceClaimName"),
        "ResourceClaimTemplateName": claim.get("resourceClaimTemplateName"),
    }


_MUTABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates")


def pod_spec_update(spec: Document, old: Document, path: str = "spec") -> Errors:
    """What may change in a pod's spec: images, deadlines, added tolerations, removed scheduling gates."""
    errors: Errors = []
    deadline, before = spec.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    at = f"{path}.activeDeadlineSeconds"
    if before is not None and deadline is None:
        errors.append(invalid(at, None, "must not update from a positive integer to nil value"))
    elif before is not None and deadline is not None and deadline > before:
        errors.append(invalid(at, deadline, "must be less than or equal to previous value"))
    kept = [_bare(toleration) for toleration in listed(spec.get("tolerations"))]
    if any(_bare(toleration) not in kept for toleration in listed(old.get("tolerations"))):
        text = "existing toleration can not be modified except its tolerationSeconds"
        errors.append(forbidden(f"{path}.tolerations", text))
    gates = [gate.get("name") for gate in listed(old.get("schedulingGates"))]
    added = [g.get("name") for g in listed(spec.get("schedulingGates")) if g.get("name") not in gates]
    if added:
        text = "only deletion is allowed, but found new scheduling gates"
        errors.append(forbidden(f"{path}.schedulingGates", text))
    if not same(_fixed(spec), _fixed(old)):
        text = (
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
            "`spec.tolerations` (only additions to existing tolerations),"
            "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
        )
        changed = ", ".join(_changed(_fixed(spec), _fixed(old)))
        errors.append(forbidden(path, f"{text}\nchanged here: {changed}"))
    return errors


def _bare(toleration: Document) -> Document:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds" and value}


def _fixed(spec: Document) -> Document:
    """The part of a spec that no update may change."""
    fixed = {key: value for key, value in spec.items() if key not in _MUTABLE}
    for field in ("containers", "initContainers"):
        fixed[field] = [{k: v for k, v in c.items() if k != "image"} for c in listed(spec.get(field))]
    return fixed


def _changed(spec: Document, old: Document) -> Iterator[str]:
    for key in sorted(spec.keys() | old.keys()):
        if not same(spec.get(key), old.get(key)):
            yield f"spec.{key}"
