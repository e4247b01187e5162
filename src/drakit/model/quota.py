"""What an object counts for against a ResourceQuota: devices of claims, and numbers of objects.

Names of what is counted: `CLASS.deviceclass.resource.k8s.io/devices`, `count/PLURAL[.GROUP]` for every
kind, and the plain plural for the kinds of the core group that have had it from the start.
Source: pkg/quota/v1/evaluator/core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drakit.model.resource import GROUP, MAX_RESULTS

DEVICES_SUFFIX = f".deviceclass.{GROUP}/devices"
_PLAIN = {
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
}


def usage_of(document: Mapping[str, Any], plural: str, group: str) -> dict[str, int]:
    """What one object of a kind uses. A pod that has ended counts as an object, not as a pod."""
    used = {f"count/{plural}.{group}" if group else f"count/{plural}": 1}
    if not group and plural in _PLAIN:
        phase = (document.get("status") or {}).get("phase")
        if plural != "pods" or phase not in ("Succeeded", "Failed"):
            used[plural] = 1
    if (group, plural) == (GROUP, "resourceclaims"):
        used |= {f"{name}{DEVICES_SUFFIX}": count for name, count in devices_of(document).items()}
    return used


def devices_of(claim: Mapping[str, Any]) -> dict[str, int]:
    """How many devices of each class a claim could get at most."""
    found: dict[str, int] = {}
    for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        options = [request["exactly"]] if request.get("exactly") else request.get("firstAvailable") or ()
        most: dict[str, int] = {}
        for option in options:
            is_all = option.get("allocationMode") == "All"
            count = MAX_RESULTS if is_all else int(option.get("count") or 1)
            name = option.get("deviceClassName", "")
            most[name] = max(most.get(name, 0), count)
        for name, count in most.items():
            found[name] = found.get(name, 0) + count
    return found
