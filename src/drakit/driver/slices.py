"""Pools to ResourceSlices: what should be on the API server, and the fewest writes that make it so.

Consumers of a pool look at the slices of its highest generation alone, and only if there are as many as
each of them says (`resourceSliceCount`). So:

- One slice may be written in place, or missing ones added, with the generation unchanged: the pool is
  right before and after, and incomplete at most in between.
- Slices are tried in the order of their names, so a name begins with the slice's place in the pool, as
  Go's helper writes it (five hexadecimal digits): what is preferred comes first, and a driver may be
  replaced by one in another language without new slices.
- Any other change moves the whole pool to the next generation: it is incomplete, and used by nobody, from
  the first write to the last. Slices of older generations are deleted at the end.

Source: k8s.io/dynamic-resource-allocation/resourceslice; limits of resource.k8s.io/v1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import count
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from drakit.driver.device import Pool
from drakit.driver.pool_check import check_pool
from drakit.errors import DRAError
from drakit.model.quantity import Quantity
from drakit.model.resource import Device, DeviceTaint, ResourcePool, ResourceSlice, ResourceSliceSpec
from drakit.transport import Document

MAX_DEVICES = 128
MAX_DETAILED_DEVICES = 64
"""Devices a slice may have when one of them has taints, counters or list attributes."""
MAX_COUNTER_SETS = 8
_MAX_NAME = 253
_PLACE = re.compile(r"[0-9a-f]{5}")
_NODE_QUANTITIES = {"capacityMultiplier", "deviceMultiplier", "perPod", "perContainer"}

T = TypeVar("T")


def slice_specs(driver: str, node_name: str, pool: Pool) -> list[ResourceSliceSpec]:
    """The slices of `pool`, in order, at generation 0. Raises DRAError where they could not be used."""
    check_pool(driver, pool)
    limit = MAX_DETAILED_DEVICES if any(map(_is_detailed, pool.devices)) else MAX_DEVICES
    counters = [{"shared_counters": part} for part in _chunks(pool.shared_counters, MAX_COUNTER_SETS)]
    devices = [{"devices": part} for part in _chunks(pool.devices, limit)]
    parts: list[dict[str, Any]] = [*counters, *(devices or [{}] * (not counters))]
    resource_pool = ResourcePool(name=pool.name, generation=0, resource_slice_count=len(parts))
    common = _where(driver, node_name, pool)
    if pool.partition_type_attribute:
        common["partition_type_attribute"] = pool.partition_type_attribute
    if pool.skip_node_operations:
        common["skip_node_operations"] = list(pool.skip_node_operations)
    return [ResourceSliceSpec(driver=driver, pool=resource_pool, **common, **part) for part in parts]


def _where(driver: str, node_name: str, pool: Pool) -> dict[str, Any]:
    """The one field of a slice that says on which nodes its devices are. Raises DRAError for several."""
    each = [any((d.node_name, d.node_selector, d.all_nodes)) for d in pool.devices]
    if any(each) and not all(each):
        name = pool.devices[each.index(False)].name
        raise DRAError(
            f"driver {driver}, pool {pool.name}: device {name} does not say where it is, others do"
        )
    given: dict[str, Any] = {}
    if any(each):
        given["per_device_node_selection"] = True
    if pool.node_selector is not None:
        given["node_selector"] = pool.node_selector
    if pool.all_nodes:
        given["all_nodes"] = True
    if len(given) > 1:
        raise DRAError(f"driver {driver}, pool {pool.name}: {' and '.join(sorted(given))} exclude each other")
    return given or {"node_name": node_name}


def _is_detailed(device: Device) -> bool:
    return bool(device.taints or device.consumes_counters) or any(
        value is not None
        for attribute in device.attributes.values()
        for value in (attribute.ints, attribute.bools, attribute.strings, attribute.versions)
    )


def _chunks(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def encode(spec: ResourceSliceSpec) -> Document:
    """`spec` as it goes over the wire, with the fields of the pool that the API requires."""
    document: Document = msgspec.to_builtins(spec)
    pool = spec.pool
    document["pool"] = {
        "name": pool.name,
        "generation": pool.generation,
        "resourceSliceCount": pool.resource_slice_count,
    }
    return document


# --- the plan -------------------------------------------------------------------------------------


class Plan(Struct, frozen=True):
    """Writes to carry out in this order: `updates` (slices with their new spec), `creates` (names with
    specs), `deletes`."""

    updates: list[tuple[Document, ResourceSliceSpec]]
    creates: list[tuple[str, ResourceSliceSpec]]
    deletes: list[Document]

    @property
    def is_empty(self) -> bool:
        return not (self.updates or self.creates or self.deletes)


def spec_of(document: Document) -> ResourceSliceSpec:
    """The spec of a slice as the server has it."""
    return msgspec.convert(document, ResourceSlice).spec


def plan(
    desired: Sequence[ResourceSliceSpec],
    existing: Iterable[Document],
    accepted: Iterable[Document] = (),
    decode: Callable[[Document], ResourceSliceSpec] = spec_of,
) -> Plan:
    """What to write so that a pool has exactly the slices `desired` (of `slice_specs`; none to drop it).

    `existing` are all its slices of this driver on this node. Those in `accepted` count as right although
    they differ: the server changed what was written to them. `decode` is `spec_of`, perhaps with a memory.
    Nothing handed in is changed.
    """
    decoded = [(document, decode(document)) for document in existing]
    latest = max((spec.pool.generation for _, spec in decoded), default=0)
    current = {
        document["metadata"]["name"]: (document, spec)
        for document, spec in decoded
        if spec.pool.generation == latest
    }
    old = [document for document, spec in decoded if spec.pool.generation < latest]
    pairs = _match(desired, current)
    matched = {document["metadata"]["name"] for _, found in pairs if found for document in (found[0],)}
    surplus = [document for name, (document, _) in current.items() if name not in matched]
    changed = [
        (found[0], _with_taint_times(spec, found[1]))
        for spec, found in pairs
        if found and not is_same(spec, found[1]) and found[0] not in accepted
    ]
    missing = [(index, spec) for index, (spec, found) in enumerate(pairs) if found is None]
    is_same_count = all(found[1].pool.resource_slice_count == len(desired) for _, found in pairs if found)
    taken = {document["metadata"]["name"] for document, _ in decoded}
    if surplus or not is_same_count or len(changed) > 1:
        generation = latest + 1
        changed = [(found[0], _with_taint_times(spec, found[1])) for spec, found in pairs if found]
    else:
        generation = max(latest, 1)
    return Plan(
        updates=[(document, _at(spec, generation)) for document, spec in changed],
        creates=[(_name(spec, index, taken), _at(spec, generation)) for index, spec in missing],
        deletes=surplus + old,
    )


def _match(
    desired: Sequence[ResourceSliceSpec], current: dict[str, tuple[Document, ResourceSliceSpec]]
) -> list[tuple[ResourceSliceSpec, tuple[Document, ResourceSliceSpec] | None]]:
    """Each of `desired` with the slice that has its place in the pool, if there is one: of several, one that
    is right already."""
    places: dict[int | None, list[tuple[Document, ResourceSliceSpec]]] = {}
    for name, found in sorted(current.items()):
        places.setdefault(_place(name), []).append(found)
    pairs = []
    for index, spec in enumerate(desired):
        there = places.get(index, [])
        right = [found for found in there if is_same(spec, found[1])] if len(there) > 1 else []
        pairs.append((spec, next(iter(right or there), None)))
    return pairs


def _place(name: str) -> int | None:
    """The place in its pool that the name of a slice tells."""
    digits, dash, _ = name.partition("-")
    return int(digits, 16) if dash and _PLACE.fullmatch(digits) else None


def _at(spec: ResourceSliceSpec, generation: int) -> ResourceSliceSpec:
    return structs.replace(spec, pool=structs.replace(spec.pool, generation=generation))


def _name(spec: ResourceSliceSpec, index: int, taken: set[str]) -> str:
    """A name that sorts at its place in the pool and is the same again after a crash; `taken` grows by it."""
    place = f"-{spec.node_name}" if spec.node_name else ""
    stem = f"{index:05x}-{spec.driver}{place}"[: _MAX_NAME - 9].rstrip("-.")
    for salt in count():
        text = f"{spec.driver}/{spec.node_name}/{spec.pool.name}/{salt}"
        name = f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        if name not in taken:
            break
    taken.add(name)
    return name


# --- comparing ------------------------------------------------------------------------------------


def is_same(spec: ResourceSliceSpec, other: ResourceSliceSpec) -> bool:
    """Whether `other` says the same of the same devices as `spec`, whatever generation it is at. The times of
    taints count as far as `spec` says them, to a second: the server keeps no more, and sets the others."""
    if structs.replace(spec, pool=other.pool) == other:
        return True
    return comparable(spec) == comparable(other) and _has_times(spec, other)


def _has_times(spec: ResourceSliceSpec, other: ResourceSliceSpec) -> bool:
    said = {key: time for key, time in _taint_times(spec).items() if time}
    kept = _taint_times(other) if said else {}
    return all(_is_near(time, kept.get(key)) for key, time in said.items())


def _taint_times(spec: ResourceSliceSpec) -> dict[tuple[str, str, str, str], str | None]:
    return {
        (device.name, taint.key, taint.value, taint.effect): taint.time_added
        for device in spec.devices
        for taint in device.taints
    }


def _is_near(time: str, other: str | None) -> bool:
    try:
        apart = datetime.fromisoformat(time) - datetime.fromisoformat(other or "")
    except (ValueError, TypeError):
        return time == other
    return abs(apart.total_seconds()) <= 1


def comparable(spec: ResourceSliceSpec) -> Document:
    """What must be equal in equal slices: `spec` with canonical quantities, without pool and taint times."""
    document: Document = msgspec.to_builtins(spec)
    del document["pool"]
    for device in document.get("devices", ()):
        for capacity in device.get("capacity", {}).values():
            _canonical(capacity)
        for consumption in device.get("consumesCounters", ()):
            for counter in consumption.get("counters", {}).values():
                _canonical(counter)
        for share in device.get("nodeAllocatableResources", {}).values():
            for part in ("mapping", "overhead"):
                for key in _NODE_QUANTITIES & share.get(part, {}).keys():
                    share[part][key] = _quantity(share[part][key])
        for taint in device.get("taints", ()):
            taint.pop("timeAdded", None)
    for counter_set in document.get("sharedCounters", ()):
        for counter in counter_set.get("counters", {}).values():
            _canonical(counter)
    return document


def _canonical(holder: Document) -> None:
    """Write the quantities of a capacity or counter the way the API server does."""
    holder["value"] = _quantity(holder.get("value", "0"))
    policy = holder.get("requestPolicy", {})
    if "default" in policy:
        policy["default"] = _quantity(policy["default"])
    if "validValues" in policy:
        policy["validValues"] = [_quantity(value) for value in policy["validValues"]]
    for key, value in policy.get("validRange", {}).items():
        policy["validRange"][key] = _quantity(value)


def _quantity(value: Any) -> str:
    try:
        return str(Quantity.of(value))
    except ValueError:
        return str(value)


def _with_taint_times(spec: ResourceSliceSpec, existing: ResourceSliceSpec) -> ResourceSliceSpec:
    """`spec` with the times of taints that are there already, which the server would otherwise set anew."""
    times = _taint_times(existing)
    if not times:
        return spec

    def timed(device: Device, taint: DeviceTaint) -> DeviceTaint:
        added = times.get((device.name, taint.key, taint.value, taint.effect))
        return taint if taint.time_added or not added else structs.replace(taint, time_added=added)

    return structs.replace(
        spec,
        devices=[
            structs.replace(device, taints=[timed(device, taint) for taint in device.taints])
            if device.taints
            else device
            for device in spec.devices
        ],
    )
