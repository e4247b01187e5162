"""ResourcePoolStatusRequests: answered once with the state of a driver's pools, deleted an hour later.

The answer for each pool counts the devices of its newest generation: allocated (admin access aside),
unavailable (not allocated, with a taint that keeps pods away) and the rest. Pools with shared counters
say for each partition type how many more would fit, pools with shareable devices how much capacity is
left. A pool whose newest generation is not complete yet has only its error; it is asked again a few
times before that becomes the answer.

Source: KEP-5677, pkg/controller/resourcepoolstatusrequest.
"""

from __future__ import annotations

from collections.abc import Iterable

from drakit.client.api import RESOURCE_CLAIMS, RESOURCE_SLICES, Resource
from drakit.client.clock import parse_timestamp, timestamp
from drakit.client.informer import key_of
from drakit.controllers.context import Context
from drakit.controllers.workload import write_status
from drakit.errors import NotFound
from drakit.model.quantity import Quantity
from drakit.transport import Document

POOL_STATUS_REQUESTS = Resource(
    "resource.k8s.io", "v1alpha3", "resourcepoolstatusrequests", "ResourcePoolStatusRequest", False
)
KEPT_SECONDS = 3600.0
DEFAULT_LIMIT = 100
MOST_ITEMS = 32
_PATIENCE_SECONDS, _LOOK_AGAIN_SECONDS = 10.0, 1.0
_Counters = dict[tuple[str, str], Quantity]


class PoolStatus:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._queue = context.queue()
        self._requests = context.informer(POOL_STATUS_REQUESTS)
        self._slices = context.informer(RESOURCE_SLICES)
        self._claims = context.informer(RESOURCE_CLAIMS)
        self._requests.add_handler(lambda old, new: self._queue.add(key_of(new)) if new else None)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=1, name="pool status")

    async def _sync(self, key: str) -> None:
        request = self._requests.get(key)
        if request is None:
            return
        conditions = (request.get("status") or {}).get("conditions")
        if conditions:
            await self._expire(request, conditions[0])
            return
        spec = request["spec"]
        pools = self._pools(spec["driver"], spec.get("poolName"))
        rows = [self._describe(pool, spec) for pool in pools[: spec.get("limit") or DEFAULT_LIMIT]]
        age = self._clock.now() - parse_timestamp(request["metadata"]["creationTimestamp"])
        if age < _PATIENCE_SECONDS and any(
            "PoolIncomplete" in row.get("validationError", "") for row in rows
        ):
            self._queue.add_after(key, _LOOK_AGAIN_SECONDS)
            return
        done = {
            "type": "Complete",
            "status": "True",
            "reason": "CalculationComplete",
            "message": f"Successfully calculated status for {len(rows)} pools",
            "lastTransitionTime": timestamp(self._clock.now()),
        }
        status = {"poolCount": len(pools), "pools": rows, "conditions": [done]}
        try:
            await write_status(self._client, POOL_STATUS_REQUESTS, request, status)
        except NotFound:
            return

    async def _expire(self, request: Document, condition: Document) -> None:
        left = parse_timestamp(condition["lastTransitionTime"]) + KEPT_SECONDS - self._clock.now()
        if left > 0:
            self._queue.add_after(key_of(request), left)
            return
        meta = request["metadata"]
        try:
            await self._client.delete(POOL_STATUS_REQUESTS, meta["name"], uid=meta["uid"])
        except NotFound:
            return

    def _pools(self, driver: str, name: str | None) -> list[_Pool]:
        """The driver's pools by name, each with the slices of its newest generation."""
        found: dict[str, list[Document]] = {}
        for document in self._slices.items():
            spec = document["spec"]
            if spec["driver"] == driver and name in (None, spec["pool"]["name"]):
                found.setdefault(spec["pool"]["name"], []).append(spec)
        return [_Pool(driver, pool, found[pool]) for pool in sorted(found)]

    def _describe(self, pool: _Pool, spec: Document) -> Document:
        row: Document = {"driver": pool.driver, "poolName": pool.name, "generation": pool.generation}
        node = pool.slices[0].get("nodeName")
        if node:
            row["nodeName"] = node
        if len(pool.slices) != pool.expected:
            row["validationError"] = (
                f"PoolIncomplete: {len(pool.slices)} of {pool.expected} slices "
                f"of generation {pool.generation} are published"
            )
            return row
        results = [r for claim in self._claims.items() for r in _results(claim) if pool.has(r)]
        used = {result["device"] for result in results}
        allocated = [device for device in pool.devices if device["name"] in used]
        blocked = [d for d in pool.devices if d["name"] not in used and _is_tainted(d)]
        row |= {
            "resourceSliceCount": len(pool.slices),
            "totalDevices": len(pool.devices),
            "allocatedDevices": len(allocated),
            "unavailableDevices": len(blocked),
            "availableDevices": len(pool.devices) - len(allocated) - len(blocked),
        }
        for field, part in (
            ("partitionSummary", partitions(pool, used, spec.get("defaultPartitionTypeAttribute"))),
            ("shareableSummary", shares(pool, results)),
        ):
            if isinstance(part, str):
                row.setdefault("validationError", part)
            elif part:
                row[field] = part
        return row


class _Pool:
    def __init__(self, driver: str, name: str, slices: list[Document]) -> None:
        self.driver = driver
        self.name = name
        self.generation = max(spec["pool"].get("generation", 0) for spec in slices)
        self.slices = [s for s in slices if s["pool"].get("generation", 0) == self.generation]
        self.expected = self.slices[0]["pool"].get("resourceSliceCount", 1)
        self.devices = [device for spec in self.slices for device in spec.get("devices") or ()]

    def has(self, result: Document) -> bool:
        return bool(result["driver"] == self.driver and result["pool"] == self.name)


def partitions(pool: _Pool, used: set[str], default: str | None) -> list[Document] | str:
    """For each partition type how many devices there are and how many more fit; a text if it cannot be
    told. Each type is measured alone against what the counters have left."""
    counters: _Counters = {}
    for spec in pool.slices:
        for row in spec.get("sharedCounters") or ():
            for name, counter in (row.get("counters") or {}).items():
                counters[row["name"], name] = Quantity.of(counter["value"])
    if not counters:
        return []
    groups = _by_partition(pool, default)
    if isinstance(groups, str):
        return groups
    for device in pool.devices:
        if device["name"] in used:
            _consume(counters, device)
    rows = []
    for (attribute, value), devices in sorted(groups.items()):
        if len({tuple(sorted(_cost(device).items())) for device in devices}) > 1:
            return (
                f"PartitionCostMismatch: devices of partition type {value} in pool "
                f"{pool.driver}/{pool.name} consume different counters"
            )
        left, fitting = dict(counters), 0
        for device in devices:
            if device["name"] not in used and _fits(left, device):
                _consume(left, device)
                fitting += 1
        rows.append({"attribute": attribute, "type": value, "total": len(devices), "allocatable": fitting})
    if len(rows) > MOST_ITEMS:
        return f"PartitionSummaryOverCap: {len(rows)} partition types, {MOST_ITEMS} can be shown"
    return rows


def _by_partition(pool: _Pool, default: str | None) -> dict[tuple[str, str], list[Document]] | str:
    """Devices by attribute and type; those for which nobody names an attribute are left out."""
    groups: dict[tuple[str, str], list[Document]] = {}
    for spec in pool.slices:
        attribute: str | None = spec.get("partitionTypeAttribute") or default
        if attribute is None:
            continue
        for device in spec.get("devices") or ():
            value = _text_attribute(pool.driver, device, attribute)
            if value is None:
                return (
                    f"PartitionTypeMissing: device {device['name']} of pool {pool.driver}/{pool.name} "
                    f"has no text attribute {attribute}"
                )
            groups.setdefault((attribute, value), []).append(device)
    return groups


def shares(pool: _Pool, results: Iterable[Document]) -> Document | str | None:
    """What is left of the devices that several claims may share; None if there are none."""
    devices = [device for device in pool.devices if device.get("allowMultipleAllocations")]
    if not devices:
        return None
    names = {device["name"] for device in devices}
    total: dict[str, Quantity] = {}
    consumed: dict[str, Quantity] = {}
    for device in devices:
        for name, capacity in (device.get("capacity") or {}).items():
            total[name] = total.get(name, Quantity.of(0)) + Quantity.of(capacity["value"])
    used: set[str] = set()
    for result in results:
        if result["device"] in names:
            used.add(result["device"])
            for name, amount in (result.get("consumedCapacity") or {}).items():
                consumed[name] = consumed.get(name, Quantity.of(0)) + Quantity.of(amount)
    if len(total) > MOST_ITEMS:
        return f"ShareableSummaryOverCap: {len(total)} capacities, {MOST_ITEMS} can be shown"
    rows = []
    for name, amount in sorted(total.items()):
        taken = consumed.get(name, Quantity.of(0))
        left = amount - taken if taken < amount else Quantity.of(0)
        rows.append({"name": name, "total": str(amount), "consumed": str(taken), "available": str(left)})
    return {
        "fullyAvailableDevices": len(devices) - len(used),
        "partiallyAvailableDevices": len(used),
        "capacity": rows,
    }


def _results(claim: Document) -> list[Document]:
    """The devices a claim holds; looking with admin access holds nothing."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    rows = (allocation.get("devices") or {}).get("results") or ()
    return [row for row in rows if not row.get("adminAccess")]


def _is_tainted(device: Document) -> bool:
    return any(taint.get("effect") in ("NoSchedule", "NoExecute") for taint in device.get("taints") or ())


def _text_attribute(driver: str, device: Document, attribute: str) -> str | None:
    attributes = device.get("attributes") or {}
    found = attributes.get(attribute) or attributes.get(attribute.removeprefix(f"{driver}/")) or {}
    value = found.get("string")
    return value if isinstance(value, str) else None


def _cost(device: Document) -> dict[tuple[str, str], Quantity]:
    return {
        (row["counterSet"], name): Quantity.of(counter["value"])
        for row in device.get("consumesCounters") or ()
        for name, counter in (row.get("counters") or {}).items()
    }


def _fits(counters: _Counters, device: Document) -> bool:
    return all(key in counters and not counters[key] < need for key, need in _cost(device).items())


def _consume(counters: _Counters, device: Document) -> None:
    for key, need in _cost(device).items():
        if key in counters:
            counters[key] = counters[key] - need
