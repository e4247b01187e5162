"""What an object counts for against a ResourceQuota: cpu and memory of pods, devices, numbers of objects.

Names of what is counted: for pods `pods`, `cpu`, `requests.cpu`, `limits.cpu` and their like, and
`requests.NAME` for extended resources; for claims `CLASS.deviceclass.resource.k8s.io/devices`, and the
extended resources that the class stands behind; `count/PLURAL[.GROUP]` for every kind, and the plain plural
for the kinds of the core group that have had it from the start.
Source: pkg/quota/v1/evaluator/core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from drakit.model.quantity import Quantity
from drakit.model.quota_pod import is_counted, pod_usage
from drakit.model.resource import EXTENDED_CLAIM_ANNOTATION, GROUP, IMPLICIT_PREFIX, MAX_RESULTS

DEVICES_SUFFIX = f".deviceclass.{GROUP}/devices"
REQUESTS = "requests."
ONE = Quantity.of(1)
_PLAIN = {
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
}

Usage = dict[str, Quantity]
Object = Mapping[str, Any]


class Around(Protocol):
    """What else of the cluster decides what a claim counts for."""

    def extended_resource(self, class_name: str) -> str:
        """`spec.extendedResourceName` of the DeviceClass, "" without."""
        ...

    def pod(self, namespace: str, name: str) -> Object | None: ...

    def special_claims(self, namespace: str, pod_uid: str) -> Iterable[Object]:
        """The claims that were made for the extended resources of a pod."""
        ...


def usage_of(document: Object, plural: str, group: str, around: Around, *, now: float = 0.0) -> Usage:
    """What one object of a kind uses. A pod that has ended, or should have by `now`, counts as an object
    only."""
    used = {count_name(plural, group): ONE}
    if not group and plural in _PLAIN:
        used[plural] = ONE
    if not group and plural == "pods" and is_counted(document, now):
        used |= pod_usage(document)
    if (group, plural) == (GROUP, "resourceclaims"):
        devices = devices_of(document)
        used |= {f"{name}{DEVICES_SUFFIX}": Quantity.of(count) for name, count in devices.items()}
        used |= _as_extended(document, devices, around)
    return used


def count_name(plural: str, group: str) -> str:
    """The name under which objects of a kind are counted."""
    return f"count/{plural}.{group}" if group else f"count/{plural}"


def devices_of(claim: Object) -> dict[str, int]:
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


def _as_extended(claim: Object, devices: Mapping[str, int], around: Around) -> Usage:
    """The devices as extended resources, without those that the claim's own pod already counts for."""
    used: Usage = {}
    for name, count in devices.items():
        used[f"{REQUESTS}{IMPLICIT_PREFIX}{name}"] = Quantity.of(count)
        if resource := around.extended_resource(name):
            used[REQUESTS + resource] = Quantity.of(count)
    pod = _owner(claim, around) if used else None
    for name, quantity in (pod_usage(pod) if pod is not None else {}).items():
        if name in used:
            used[name] = used[name] - quantity
    return {name: quantity for name, quantity in used.items() if quantity.sign > 0}


def _owner(claim: Object, around: Around) -> Object | None:
    """The pod for whose extended resources the claim was made; None if that is another claim's part."""
    meta = claim["metadata"]
    if (meta.get("annotations") or {}).get(EXTENDED_CLAIM_ANNOTATION) != "true":
        return None
    owner = next((row for row in meta.get("ownerReferences") or () if row.get("controller")), None)
    if owner is None or (owner.get("apiVersion"), owner.get("kind")) != ("v1", "Pod"):
        return None
    pod = around.pod(meta.get("namespace", ""), owner["name"])
    if pod is None or pod["metadata"]["uid"] != owner["uid"]:
        return None
    status = (pod.get("status") or {}).get("extendedResourceClaimStatus")
    if status is not None:
        return pod if status.get("resourceClaimName") == meta.get("name") else None
    age = (meta.get("creationTimestamp") or "", meta.get("name") or "")
    others = (other["metadata"] for other in around.special_claims(meta["namespace"], owner["uid"]))
    is_first = all((other.get("creationTimestamp") or "", other["name"]) >= age for other in others)
    return pod if is_first else None


def is_same_kind(name: str, plural: str, group: str) -> bool:
    """Whether objects of a kind can count for the limit `name`."""
    if name == count_name(plural, group) or (not group and plural in _PLAIN and name == plural):
        return True
    if (group, plural) == (GROUP, "resourceclaims"):
        return name.endswith(DEVICES_SUFFIX) or (name.startswith(REQUESTS) and "/" in name)
    if not group and plural == "pods":
        return name == "pods" or is_compute(name)
    return False


def is_compute(name: str) -> bool:
    """Whether pods count for the limit `name` by what they ask for."""
    bare = name.removeprefix(REQUESTS).removeprefix("limits.")
    if bare in ("cpu", "memory", "ephemeral-storage") or bare.startswith("hugepages-"):
        return True
    return name.startswith(REQUESTS) and "/" in name
