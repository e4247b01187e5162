"""Devices that stand for a node's own cpu, memory or hugepages.

A device can say that who has it has some of the node's allocatable resources with it (`mapping`), or that
it costs some beside itself (`overhead`). What a pod gets that way is worked out for each node that is
looked at, counts there like a request of the pod, and is written to the pod's status. Devices with a mapping
cannot be shared between pods. Source: KEP-5517,
pkg/scheduler/framework/plugins/dynamicresources/nodeallocatabledynamicresources.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from drakit.model.podresources import is_pod_level
from drakit.model.quantity import Quantity
from drakit.scheduler.node import NodeInfo
from drakit.scheduler.pod import PodInfo
from drakit.scheduler.reason import Rejection, Wake
from drakit.scheduler.request import Amounts, amount, container_held, container_requests
from drakit.transport import Document

DeviceID = tuple[str, str, str]
"""Driver, pool, device."""

_CHANGES = Wake.NODE | Wake.DEVICES | Wake.CLAIM
_POD_LEVEL = "pod level {what} for {resource} is insufficient to cover {need}"


class ClaimShare(Struct, frozen=True):
    """What the devices of the claim `uid` stand for; `status` is the row for the pod's status."""

    uid: str
    status: Document
    is_mapped: bool


class NodeShares:
    """Which devices stand for what: none where the feature is off. `is_split`: the form of 1.37, with
    mapping and overhead apart."""

    def __init__(self, *, is_on: bool, is_split: bool = True) -> None:
        self._is_on = is_on
        self._is_split = is_split
        self._by_slice: dict[str, list[DeviceID]] = {}
        self._devices: dict[DeviceID, Mapping[str, Document]] = {}

    def __bool__(self) -> bool:
        """Whether there is any such device."""
        return bool(self._devices)

    def put_slice(self, document: Document) -> None:
        """The slice was published, or changed."""
        name, spec = document["metadata"]["name"], document["spec"]
        self.remove_slice(name)
        if not self._is_on:
            return
        for device in spec.get("devices") or ():
            if rows := self._read(device):
                where = (spec["driver"], spec["pool"]["name"], device["name"])
                self._by_slice.setdefault(name, []).append(where)
                self._devices[where] = rows

    def remove_slice(self, name: str) -> None:
        for where in self._by_slice.pop(name, ()):
            self._devices.pop(where, None)

    def _read(self, device: Document) -> dict[str, Document]:
        """By resource, in the form of 1.37."""
        if self._is_split:
            return dict(device.get("nodeAllocatableResources") or {})
        rows: dict[str, Document] = {}
        for resource, old in (device.get("nodeAllocatableResourceMappings") or {}).items():
            times = old.get("allocationMultiplier") or "1"
            key = old.get("capacityKey")
            mapping = (
                {"capacityKey": key, "capacityMultiplier": times} if key else {"deviceMultiplier": times}
            )
            rows[resource] = {"mapping": mapping}
        return rows

    # --- what a claim stands for ------------------------------------------------------------------

    def of_claim(
        self, uid: str, name: str, results: Iterable[Document], containers: list[str]
    ) -> ClaimShare | None:
        """What an allocated claim stands for; None for nothing. `containers` use it. A device
        with admin access stands for nothing: it counts with the claim that works with it."""
        mapped: dict[str, Quantity] = {}
        overhead: dict[str, dict[str, Quantity]] = {}
        is_mapped = False
        for result in results:
            if result.get("adminAccess"):
                continue
            rows = self._devices.get((result["driver"], result["pool"], result["device"])) or {}
            for resource, row in rows.items():
                if row.get("mapping"):
                    is_mapped = True
                    _map(mapped, resource, row["mapping"], result)
                for field, number in (row.get("overhead") or {}).items():
                    known = overhead.setdefault(resource, {})
                    known[field] = known.get(field, Quantity.of(0)) + Quantity.of(number)
        if not mapped and not overhead:
            return None
        return ClaimShare(uid, self._status(name, containers, mapped, overhead), is_mapped)

    def _status(
        self,
        name: str,
        containers: list[str],
        mapped: dict[str, Quantity],
        overhead: dict[str, dict[str, Quantity]],
    ) -> Document:
        status: Document = {"resourceClaimName": name}
        if containers:
            status["containers"] = containers
        if not self._is_split:
            return status | {"resources": {key: str(mapped[key]) for key in sorted(mapped)}}
        if mapped:
            status["mapping"] = [{"name": key, "quantity": str(mapped[key])} for key in sorted(mapped)]
        if overhead:
            status["overhead"] = [
                {"name": key, **{field: str(number) for field, number in overhead[key].items()}}
                for key in sorted(overhead)
            ]
        return status


def _map(total: dict[str, Quantity], resource: str, mapping: Document, result: Document) -> None:
    """Count what `result` stands for of `resource`."""
    key = mapping.get("capacityKey")
    if key:
        consumed: Mapping[str, Any] = result.get("consumedCapacity") or {}
        prefix = f"{result['driver']}/"
        number = consumed.get(key, consumed.get(key.removeprefix(prefix), consumed.get(prefix + key)))
        if number is None:
            return
        more = _times(Quantity.of(number), mapping.get("capacityMultiplier") or "1")
    elif mapping.get("deviceMultiplier") is not None:
        more = Quantity.of(mapping["deviceMultiplier"])
    else:
        return
    total[resource] = total.get(resource, Quantity.of(0)) + more


def _times(quantity: Quantity, factor: str | int | float) -> Quantity:
    """The product, rounded up to the nano."""
    nano = -(-quantity.nano * Quantity.of(factor).nano // 10**9)
    return Quantity(nano, -9, quantity.format)


# --- whether it fits ------------------------------------------------------------------------------


def reject_shares(pod: PodInfo, claims: Mapping[str, Document], shares: list[ClaimShare]) -> Rejection | None:
    """Why `pod` may not have what its claims stand for, wherever it is."""
    for share in shares:
        claim = claims.get(share.uid)
        reserved = ((claim or {}).get("status") or {}).get("reservedFor") or ()
        if share.is_mapped and reserved and all(row.get("uid") != pod.uid for row in reserved):
            name = share.status["resourceClaimName"]
            text = (
                f"node allocatable resource claim {name} has a mapped device and cannot be shared across pods"
            )
            return Rejection(text, _CHANGES)
    held = [share.status for share in shares]
    return _pod_level(pod.spec, held)


def _pod_level(spec: Document, held: list[Document]) -> Rejection | None:
    """What is asked for the pod as a whole must cover its containers and its devices."""
    whole = spec.get("resources") or {}
    needs = container_requests(spec, held)
    for resource, value in (whole.get("requests") or {}).items():
        if is_pod_level(resource) and needs.get(resource, 0) > amount(resource, value):
            need = "the aggregated container and node-allocatable DRA requests"
            return Rejection(_POD_LEVEL.format(what="request", resource=resource, need=need), _CHANGES)
    limits = whole.get("limits") or {}
    for container in spec.get("containers") or ():
        extra: Amounts = container_held(container.get("name", ""), held)
        for resource, value in ((container.get("resources") or {}).get("limits") or {}).items():
            if resource.startswith("hugepages-") or resource not in limits:
                continue
            if amount(resource, value) + extra.get(resource, 0) > amount(resource, limits[resource]):
                need = f"the limit and DRA overhead for container {container.get('name')}"
                return Rejection(_POD_LEVEL.format(what="limit", resource=resource, need=need), _CHANGES)
    return None


def reject_amounts(pod: PodInfo, requests: Amounts, node: NodeInfo) -> Rejection | None:
    """Why `node` has too little of its own for `requests`, what devices stand for included."""
    wanted = {
        resource: number
        for resource, number in requests.items()
        if is_pod_level(resource) or resource == "ephemeral-storage"
    }
    found = node.lacks(pod, wanted)
    return found[0] if found else None
