"""What a pod asks of a node's allocatable resources, as whole numbers.

CPU is counted in thousandths, everything else in whole units, both rounded up as Kubernetes does. Devices
can stand for a node's own cpu or memory; what a pod got that way is in its status and counts as well.
Source: component-helpers resource.PodRequests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from drakit.model.podresources import add, is_pod_level, peak
from drakit.model.quantity import Quantity
from drakit.transport import Document

Amounts = dict[str, int]

SCORED: Mapping[str, int] = {"cpu": 100, "memory": 200 << 20}
"""What a container without requests counts for when nodes are compared."""
_NOTHING: Mapping[str, int] = {}


@lru_cache(maxsize=4096)
def amount(resource: str, value: str | int | float) -> int:
    """`value` of `resource` as a whole number; what cannot be read counts as nothing."""
    try:
        quantity = Quantity.of(value)
    except ValueError:
        return 0
    return quantity.milli_value() if resource == "cpu" else quantity.value()


def amounts(values: Mapping[str, Any] | None) -> Amounts:
    """A ResourceList as whole numbers."""
    return {resource: amount(resource, value) for resource, value in (values or {}).items()}


def pod_requests(spec: Document, held: Iterable[Document] = ()) -> Amounts:
    """What the pod needs at its most demanding moment: its containers and sidecars together, or one init
    container beside the sidecars started before it, plus overhead. Requests of the pod as a whole take
    the place of the containers' (cpu, memory and hugepages). `held` are the rows of
    `status.nodeAllocatableResourceClaimStatuses`."""
    total = _with_pod_level(spec, container_requests(spec, held))
    for resource, number in amounts(spec.get("overhead")).items():
        total[resource] = total.get(resource, 0) + number
    return total


def scored_requests(spec: Document, requests: Amounts) -> tuple[int, int]:
    """CPU and memory that the pod counts for when nodes are compared; `requests` are its `pod_requests`."""
    if not any(_lacks(c) for kind in ("containers", "initContainers") for c in spec.get(kind) or ()):
        return requests.get("cpu", 0), requests.get("memory", 0)
    total = _with_pod_level(spec, _peak(spec, SCORED, {}))
    overhead = amounts(spec.get("overhead"))
    return total["cpu"] + overhead.get("cpu", 0), total["memory"] + overhead.get("memory", 0)


def container_requests(spec: Document, held: Iterable[Document] = ()) -> Amounts:
    """What the containers need together, without what is said for the pod as a whole."""
    fixed: Amounts = {}
    each: dict[str, Amounts] = {}
    for row in held:
        _add_held(spec, row, fixed, each)
    total = _peak(spec, _NOTHING, each)
    add(total, fixed)
    return total


def container_held(name: str, held: Iterable[Document]) -> Amounts:
    """What the devices of the container `name` stand for."""
    total: Amounts = {}
    each: dict[str, Amounts] = {}
    for row in held:
        if name in (row.get("containers") or ()):
            _add_held({"containers": [{"name": name}]}, {**row, "containers": [name]}, total, each)
    add(total, each.get(name, {}))
    return total


def _add_held(spec: Document, row: Document, fixed: Amounts, each: dict[str, Amounts]) -> None:
    """Count one claim: what it stands for as long as the pod lives, and for each container that uses it."""
    add(fixed, amounts(row.get("resources")))
    for mapped in row.get("mapping") or ():
        if mapped.get("quantity") is not None:
            add(fixed, {mapped["name"]: amount(mapped["name"], mapped["quantity"])})
    users = set(row.get("containers") or ())
    names = [c.get("name") for kind in ("initContainers", "containers") for c in spec.get(kind) or ()]
    for overhead in row.get("overhead") or ():
        resource = overhead["name"]
        if overhead.get("perPod") is not None:
            add(fixed, {resource: amount(resource, overhead["perPod"])})
        if overhead.get("perContainer") is not None:
            number = amount(resource, overhead["perContainer"])
            for user in users:
                add(each.setdefault(user, {}) if user in names else fixed, {resource: number})


def _with_pod_level(spec: Document, total: Amounts) -> Amounts:
    whole = (spec.get("resources") or {}).get("requests") or {}
    return total | {name: amount(name, value) for name, value in whole.items() if is_pod_level(name)}


def _peak(spec: Document, missing: Mapping[str, int], more: Mapping[str, Amounts]) -> Amounts:
    """The containers' needs at the most demanding moment: `missing` stands in for resources that a
    container does not ask for, `more` comes on top by container."""

    def need(container: Document) -> Amounts:
        wanted = amounts((container.get("resources") or {}).get("requests"))
        if missing:
            wanted = {**missing, **wanted}
        if extra := more.get(container.get("name", "")):
            add(wanted, extra)
        return wanted

    return peak(spec, need)


def _lacks(container: Document) -> bool:
    requests = (container.get("resources") or {}).get("requests") or {}
    return "cpu" not in requests or "memory" not in requests
