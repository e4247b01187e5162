"""What a pod asks of a node's allocatable resources, as whole numbers.

CPU is counted in thousandths, everything else in whole units, both rounded up as Kubernetes does. Source:
component-helpers resource.PodRequests.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from drakit.model.quantity import Quantity
from drakit.transport import Document

Amounts = dict[str, int]

SCORED_CPU = 100
SCORED_MEMORY = 200 << 20
"""What a pod without requests counts for when nodes are compared (upstream's non-zero requests)."""


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


def pod_requests(spec: Document) -> Amounts:
    """What the pod needs at its most demanding moment: its containers and sidecars together, or one init
    container beside the sidecars started before it, plus overhead. Requests of the pod as a whole take
    the place of the containers' (cpu, memory and hugepages)."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _requests(container))
    inits = spec.get("initContainers")
    if inits:
        sidecars: Amounts = {}
        peak: Amounts = {}
        for container in inits:
            if container.get("restartPolicy") == "Always":
                _add(total, _requests(container))
                _add(sidecars, _requests(container))
                _raise(peak, sidecars)
            else:
                need = dict(sidecars)
                _add(need, _requests(container))
                _raise(peak, need)
        _raise(total, peak)
    whole = (spec.get("resources") or {}).get("requests")
    if whole:
        total |= amounts(whole)
    overhead = spec.get("overhead")
    if overhead:
        _add(total, amounts(overhead))
    return total


def _requests(container: Document) -> Amounts:
    return amounts((container.get("resources") or {}).get("requests"))


def _add(total: Amounts, more: Amounts) -> None:
    for resource, number in more.items():
        total[resource] = total.get(resource, 0) + number


def _raise(total: Amounts, floor: Amounts) -> None:
    for resource, number in floor.items():
        if number > total.get(resource, 0):
            total[resource] = number
