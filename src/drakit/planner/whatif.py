"""The smallest changes that would make claims fit, each tried with the same allocator before it is said."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from drakit.allocator.trace import Check
from drakit.model.meta import Node
from drakit.model.resource import (
    Device,
    DeviceAttribute,
    DeviceRequest,
    DeviceToleration,
    ResourceClaim,
)
from drakit.planner.evidence import Demand, DeviceID, Evidence, Findings, try_all
from drakit.planner.situation import Situation

_RELEASES_TRIED = 50
"""Claims whose release is tried, those that hold the most first."""
_NODES_COUNTED = 5
_EQUALS = re.compile(r"""\[["']([^"']+)["']\]\.(\w+)\s*==\s*(?:"([^"]*)"|'([^']*)')""")


def changes(
    situation: Situation,
    claims: Sequence[ResourceClaim],
    nodes: Sequence[Node],
    demand: Demand,
    evidence: Evidence,
) -> list[str]:
    """What would help, for the request `demand`, in words; the least intrusive first."""
    findings = evidence.places.get(demand.place, Findings())

    def fits(changed: Sequence[ResourceClaim]) -> str:
        found = try_all(changed, situation.state, nodes, _NODES_COUNTED)
        if not found:
            return ""
        number = f"{_NODES_COUNTED} or more nodes" if len(found) == _NODES_COUNTED else f"{len(found)} nodes"
        return found[0] if len(found) == 1 else number

    found = [*_fewer(claims, demand, fits), *_tolerating(claims, demand, findings, fits)]
    found += _unconstrained(claims, demand, fits)
    return [*found, *_released(situation, claims, nodes, findings)]


def _fewer(
    claims: Sequence[ResourceClaim], demand: Demand, fits: Callable[[Sequence[ResourceClaim]], str]
) -> Iterator[str]:
    if demand.is_all:
        return
    for count in range(demand.count - 1, 0, -1):
        if where := fits(_changed(claims, demand, partial(_set, count=count))):
            yield f"with count {count} (on {where})"
            return


def _tolerating(
    claims: Sequence[ResourceClaim],
    demand: Demand,
    findings: Findings,
    fits: Callable[[Sequence[ResourceClaim]], str],
) -> Iterator[str]:
    keys = Counter(r.taint.key for r in findings.away.values() if r.check is Check.TAINT and r.taint)
    for key, _ in keys.most_common():
        toleration = DeviceToleration(key=key, operator="Exists")
        changed = _changed(claims, demand, partial(_tolerate, toleration=toleration))
        if where := fits(changed):
            yield f"with a toleration for {key} (on {where})"


def _unconstrained(
    claims: Sequence[ResourceClaim], demand: Demand, fits: Callable[[Sequence[ResourceClaim]], str]
) -> Iterator[str]:
    for claim in claims:
        if claim.metadata.key != demand.place[0]:
            continue
        constraints = claim.spec.devices.constraints
        for index, constraint in enumerate(constraints):
            rest = [*constraints[:index], *constraints[index + 1 :]]
            changed = _with_devices(claim, constraints=rest)
            if where := fits([changed if c is claim else c for c in claims]):
                name = constraint.match_attribute or constraint.distinct_attribute
                yield f"without the constraint on {name} (on {where})"


def _released(
    situation: Situation, claims: Sequence[ResourceClaim], nodes: Sequence[Node], findings: Findings
) -> Iterator[str]:
    holders = Counter(h for refusal in findings.away.values() for h in refusal.holders)
    for key, _ in holders.most_common(_RELEASES_TRIED):
        held = situation.claims.get(key)
        if held is None or held.status.allocation is None:
            continue
        situation.state.release(held.metadata.uid)
        try:
            found = try_all(claims, situation.state, nodes)
        finally:
            situation.state.take(held.metadata.uid, held.status.allocation, key)
        if found:
            names = ", ".join(result.device for result in held.status.allocation.devices.results[:3])
            yield f"if claim {key} released {names} (on {found[0]})"
            return


def near_values(findings: Findings, devices: Mapping[DeviceID, Device]) -> Iterator[str]:
    """Values that selectors ask for by `==` and nobody publishes, with the nearest ones that exist."""
    said: set[str] = set()
    for expression in {r.expression for r in findings.away.values() if r.check is Check.SELECTOR}:
        for domain, name, double, single in _EQUALS.findall(expression):
            wanted = double or single
            values = Counter(
                value
                for (driver, _, _), device in devices.items()
                if (value := _text(_attribute(device, driver, domain, name))) is not None
            )
            if not values or wanted in values or f"{name}={wanted}" in said:
                continue
            said.add(f"{name}={wanted}")
            best = max(values, key=partial(_likeness, wanted))
            yield f"{name} '{wanted}' is published nowhere; {values[best]} devices have '{best}'"


def _likeness(wanted: str, value: str) -> tuple[bool, float]:
    return wanted in value, difflib.SequenceMatcher(None, wanted.lower(), value.lower()).ratio()


def _attribute(device: Device, driver: str, domain: str, name: str) -> DeviceAttribute | None:
    qualified = device.attributes.get(f"{domain}/{name}")
    return qualified or (device.attributes.get(name) if domain == driver else None)


def _text(attribute: DeviceAttribute | None) -> str | None:
    return None if attribute is None else attribute.string or attribute.version


def _changed(
    claims: Sequence[ResourceClaim], demand: Demand, change: Callable[[Any], Any]
) -> list[ResourceClaim]:
    """`claims` with `change` made to the one request or alternative that is `demand`."""
    key, name = demand.place
    main, _, sub = name.partition("/")

    def request(row: DeviceRequest) -> DeviceRequest:
        if row.name != main:
            return row
        if not sub:
            return replace(row, exactly=change(row.exactly))
        return replace(row, first_available=[change(s) if s.name == sub else s for s in row.first_available])

    return [
        _with_devices(claim, requests=[request(row) for row in claim.spec.devices.requests or ()])
        if claim.metadata.key == key
        else claim
        for claim in claims
    ]


def _set(exact: Any, count: int) -> Any:
    return replace(exact, count=count)


def _tolerate(exact: Any, toleration: DeviceToleration) -> Any:
    return replace(exact, tolerations=[*exact.tolerations, toleration])


def _with_devices(claim: ResourceClaim, **changes: Any) -> ResourceClaim:
    devices = msgspec.structs.replace(claim.spec.devices, **changes)
    return replace(claim, spec=replace(claim.spec, devices=devices))
