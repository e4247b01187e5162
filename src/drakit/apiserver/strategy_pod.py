"""Pods: what upstream's strategy and its built-in admission plugins do.

Admission here is ServiceAccount (the account's name; nothing is mounted), Priority and
DefaultTolerationSeconds. Source: pkg/registry/core/pod/strategy.go, plugin/pkg/admission/{serviceaccount,
priority,defaulttolerationseconds}, pkg/apis/core/helper/qos.
"""

from __future__ import annotations

from drakit.apiserver.strategy_rules import Context, Rules
from drakit.errors import Forbidden
from drakit.model.quantity import Quantity
from drakit.model.validation.field import Errors, forbidden, listed, mapped, same
from drakit.model.validation.pod import pod_spec, pod_spec_update
from drakit.transport import Document

_SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_UNREACHABLE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_GRACE_SECONDS = 300


def _refused(pod: Document, why: str) -> Forbidden:
    name = pod["metadata"].get("name") or pod["metadata"].get("generateName") or ""
    return Forbidden(f'pods "{name}" is forbidden: {why}', details={"name": name, "kind": "pods"})


def _prepare(pod: Document, context: Context) -> None:
    spec = pod.setdefault("spec", {})
    spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = spec["serviceAccountName"]
    _set_priority(pod, spec, context)
    _tolerate_short_outages(spec)
    spec.pop("ephemeralContainers", None)
    pod["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
    if listed(spec.get("schedulingGates")):
        pod["status"]["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
        ]


def _set_priority(pod: Document, spec: Document, context: Context) -> None:
    name, policy = spec.get("priorityClassName") or "", "PreemptLowerPriority"
    value = 0
    if name in _SYSTEM_PRIORITIES:
        value = _SYSTEM_PRIORITIES[name]
    elif name:
        found = context.find("PriorityClass", "", name)
        if found is None:
            raise _refused(pod, f"no PriorityClass with name {name} was found")
        value = found.get("value") or 0
        policy = found.get("preemptionPolicy") or policy
    else:
        spec.pop("priorityClassName", None)
    given = spec.get("priority")
    if given is not None and given != value:
        text = "the integer value of priority ({}) must not be provided in pod spec; priority admission"
        raise _refused(
            pod, f"{text.format(given)} controller computed {value} from the given PriorityClass name"
        )
    spec["priority"] = value
    spec.setdefault("preemptionPolicy", policy)


def _tolerate_short_outages(spec: Document) -> None:
    tolerations = listed(spec.get("tolerations"))
    for key in _UNREACHABLE:
        is_tolerated = any(
            (not t.get("key") or t.get("key") == key) and t.get("effect") in (None, "", "NoExecute")
            for t in tolerations
        )
        if not is_tolerated:
            outage = {"key": key, "operator": "Exists", "effect": "NoExecute"}
            tolerations = [*tolerations, {**outage, "tolerationSeconds": _GRACE_SECONDS}]
    spec["tolerations"] = tolerations


def qos_class(spec: Document) -> str:
    """Guaranteed, Burstable or BestEffort, by the cpu and memory of all containers."""
    is_guaranteed, is_best_effort = True, True
    for container in listed(spec.get("containers")) + listed(spec.get("initContainers")):
        resources = mapped(container.get("resources"))
        limits, requests = mapped(resources.get("limits")), mapped(resources.get("requests"))
        for name in ("cpu", "memory"):
            limit, request = limits.get(name), requests.get(name)
            amounts = [Quantity.of(amount) for amount in (limit, request) if amount is not None]
            if any(not amount.is_zero for amount in amounts):
                is_best_effort = False
            if limit is None or (request is not None and Quantity.of(request) != Quantity.of(limit)):
                is_guaranteed = False
    if is_best_effort:
        return "BestEffort"
    return "Guaranteed" if is_guaranteed else "Burstable"


def _change(new: Document, old: Document, subresource: str, context: Context) -> None:
    status, before = new.setdefault("status", {}), old.get("status") or {}
    if before.get("qosClass"):
        status["qosClass"] = before["qosClass"]
    if subresource == "" and "ephemeralContainers" in (old.get("spec") or {}):
        new["spec"]["ephemeralContainers"] = old["spec"]["ephemeralContainers"]
    elif subresource == "resize":
        new["spec"] = _resized(old["spec"], mapped(new.get("spec")))
    elif subresource == "ephemeralcontainers":
        containers = listed(mapped(new.get("spec")).get("ephemeralContainers"))
        new["spec"] = {**old["spec"], "ephemeralContainers": containers}


def _resized(spec: Document, wanted: Document) -> Document:
    """`spec` with the resources that `wanted` gives its containers."""
    resources = {c.get("name"): c.get("resources") or {} for c in listed(wanted.get("containers"))}
    containers = [
        {**c, "resources": resources.get(c.get("name"), c.get("resources") or {})}
        for c in listed(spec.get("containers"))
    ]
    return {**spec, "containers": containers}


def _check(pod: Document, old: Document | None, context: Context) -> Errors:
    spec = pod["spec"]
    errors = pod_spec(spec, pod_name=pod["metadata"].get("name") or "")
    if listed(spec.get("schedulingGates")) and spec.get("nodeName"):
        errors.append(forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return errors


def _check_update(pod: Document, old: Document, context: Context) -> Errors:
    if context.subresource == "resize":
        return _check(pod, old, context)
    if not same(
        mapped(pod["spec"]).get("ephemeralContainers"), mapped(old["spec"]).get("ephemeralContainers")
    ):
        return []
    return pod_spec_update(pod["spec"], old["spec"])


POD_RULES: dict[tuple[str, str], Rules] = {
    ("", "Pod"): Rules(
        has_status=True,
        counts_generation=True,
        kept_metadata=("ownerReferences",),
        prepare=_prepare,
        change=_change,
        check=_check,
        check_update=_check_update,
    )
}
