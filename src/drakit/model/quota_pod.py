"""What a pod counts for against a ResourceQuota, and which quotas look at it.

Source: pkg/quota/v1/evaluator/core/pods.go.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from drakit.model.podresources import add, is_pod_level, peak
from drakit.model.quantity import Quantity
from drakit.model.resource import IMPLICIT_PREFIX

Usage = dict[str, Quantity]
Object = Mapping[str, Any]

_MASKED = ("cpu", "memory", "ephemeral-storage")
_REQUIRED = {f"{prefix}{name}" for name in ("cpu", "memory") for prefix in ("", "requests.", "limits.")}
_AFFINITIES = ("podAffinity", "podAntiAffinity")


def is_counted(pod: Object, now: float) -> bool:
    """Whether the pod is there for a quota: not when it has ended, or should be gone by `now`."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return False
    meta = pod["metadata"]
    deleted = meta.get("deletionTimestamp")
    if not deleted or meta.get("deletionGracePeriodSeconds") is None:
        return True
    when = datetime.datetime.fromisoformat(deleted.replace("Z", "+00:00")).timestamp()
    return now <= when + float(meta["deletionGracePeriodSeconds"])


def pod_usage(pod: Object) -> Usage:
    """What the pod counts for beside being an object."""
    spec = pod.get("spec") or {}
    return {"pods": Quantity.of(1)} | _named(_total(spec, "requests"), _total(spec, "limits"))


def _named(requests: Usage, limits: Usage) -> Usage:
    """Amounts by the names that quotas have for them."""
    used: Usage = {}
    for name, quantity in requests.items():
        if name in _MASKED or name.startswith("hugepages-"):
            used[name] = used[f"requests.{name}"] = quantity
        elif is_extended(name):
            used[f"requests.{name}"] = quantity
    used |= {f"limits.{name}": quantity for name, quantity in limits.items() if name in _MASKED}
    return used


def is_extended(resource: str) -> bool:
    """Whether the name is one of an extended resource."""
    if resource.startswith(IMPLICIT_PREFIX):
        return True
    domain, slash, _ = resource.partition("/")
    return bool(slash) and not f".{domain}".endswith(".kubernetes.io")


def _total(spec: Object, field: str) -> Usage:
    """Requests or limits of the pod."""
    total = peak(spec, lambda container: _amounts((container.get("resources") or {}).get(field)))
    whole = _amounts((spec.get("resources") or {}).get(field))
    total |= {name: quantity for name, quantity in whole.items() if is_pod_level(name)}
    overhead = _amounts(spec.get("overhead"))
    if field == "limits":
        overhead = {n: q for n, q in overhead.items() if n in total and not total[n].is_zero}
    add(total, overhead)
    return total


def _amounts(values: Object | None) -> Usage:
    return {name: Quantity.of(value) for name, value in (values or {}).items()}


def unset(pod: Object, names: set[str]) -> str:
    """What the pod's containers must say of themselves for limits on `names` and do not, as
    `limits.cpu for: a,b; requests.memory for: a`; "" when nothing is missing."""
    wanted = names & _REQUIRED
    spec = pod.get("spec") or {}
    if not wanted or spec.get("resources"):
        return ""
    missing: dict[str, set[str]] = {}
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            resources = container.get("resources") or {}
            said = _named(_amounts(resources.get("requests")), _amounts(resources.get("limits")))
            for name in wanted - said.keys():
                missing.setdefault(name, set()).add(container.get("name", ""))
    return "; ".join(f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing))


def in_scope(spec: Object, pod: Object) -> bool:
    """Whether a quota with `spec` looks at the pod."""
    rows = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    rows += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(_matches(row, pod) for row in rows)


def has_scope(spec: Object) -> bool:
    """Whether a quota with `spec` looks at some pods only, and at nothing else."""
    return bool(spec.get("scopes") or (spec.get("scopeSelector") or {}).get("matchExpressions"))


def _matches(row: Object, pod: Object) -> bool:
    spec: Object = pod.get("spec") or {}
    scope: str = row.get("scopeName") or ""
    is_best_effort: bool = (pod.get("status") or {}).get("qosClass") == "BestEffort"
    if scope in ("Terminating", "NotTerminating"):
        has_deadline = spec.get("activeDeadlineSeconds") is not None
        return has_deadline == (scope == "Terminating")
    if scope in ("BestEffort", "NotBestEffort"):
        return is_best_effort == (scope == "BestEffort")
    if scope == "CrossNamespacePodAffinity":
        return _crosses_namespaces(spec)
    if scope != "PriorityClass":
        return False
    name: str = spec.get("priorityClassName") or ""
    values: list[str] = row.get("values") or []
    match row.get("operator"):
        case "In":
            return name in values
        case "NotIn":
            return name not in values
        case "DoesNotExist":
            return not name
    return bool(name)


def _crosses_namespaces(spec: Object) -> bool:
    for kind in _AFFINITIES:
        rules = (spec.get("affinity") or {}).get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        for row in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            terms.append(row.get("podAffinityTerm") or {})
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
