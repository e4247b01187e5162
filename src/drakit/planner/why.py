"""Why a pod or a claim waits: the scheduler's own checks, run again over a snapshot and told in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

from msgspec import Struct, field

from drakit import cel
from drakit.allocator.trace import Check
from drakit.cel.survey import Candidate, survey
from drakit.errors import CELError
from drakit.model.resource import Device, ResourceClaim
from drakit.planner.decision import Decisions
from drakit.planner.evidence import Demand, DeviceID, Evidence, Findings, demands, gather
from drakit.planner.report import Section, World, constraint_text, section
from drakit.planner.sentence import sentence
from drakit.planner.situation import Situation, Wanted
from drakit.planner.whatif import Change, WhatIf, near_values

_CLASSES = 5
"""So many classes are named in place of one that is not there."""


class Report(Struct, frozen=True):
    """`sentence` is the answer; the rest is its ground. `is_pending` is false where nothing has to change.
    `would_fit` was tried, `hints` were not. `fits_on` are nodes where nothing is in the way, `excluded`
    counts those that the pod cannot use whatever devices they have, by the reason."""

    subject: str
    sentence: str
    is_pending: bool = True
    sections: list[Section] = field(default_factory=list)
    excluded: dict[str, int] = field(default_factory=dict)
    would_fit: list[Change] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    fits_on: list[str] = field(default_factory=list)


def why(situation: Situation, wanted: Wanted) -> Report:
    """The report on what `wanted` waits for."""
    subject = wanted.subject
    if wanted.settled:
        return Report(subject, wanted.settled, False)
    if wanted.missing:
        return Report(subject, f"{subject} waits: {'; '.join(wanted.missing)}")
    if not wanted.nodes:
        why_not = "; ".join(f"{count} {reason}" for reason, count in wanted.excluded.items())
        return Report(
            subject, f"{subject} is pending: no node is left to look at ({why_not or 'there are none'})"
        )
    evidence = gather(wanted.claims, situation.state, wanted.nodes)
    if evidence.fits and not evidence.fatal:
        where = _several(evidence.fits)
        text = f"{subject} fits now, on {where}: its scheduler has yet to take it"
        return Report(subject, text, False, [], wanted.excluded, hints=wanted.notes, fits_on=evidence.fits)
    return _explained(situation, wanted, evidence)


def _explained(situation: Situation, wanted: Wanted, evidence: Evidence) -> Report:
    devices = {
        (published.spec.driver, published.spec.pool.name, device.name): device
        for published in situation.slices
        for device in published.spec.devices
    }
    rows = demands(wanted.claims)
    users = {
        key: [user.name for user in claim.status.reserved_for] for key, claim in situation.claims.items()
    }
    world = World(devices, situation.profile, Decisions(situation.profile), users)
    near = [hint for row in rows for hint in near_values(evidence.at(row.place), devices)]
    notes = [hint for row in rows for hint in _other_classes(row, situation)]
    notes += _other_attributes(wanted.claims, devices)
    notes += [hint for row in rows for hint in _errors(evidence.at(row.place), world)]
    nodes = [node.metadata.name for node in wanted.nodes]
    sections = [
        section(row, _constraints(wanted.claims, row), evidence, nodes, world)
        for row in rows
        if (findings := evidence.places.get(row.place)) and (findings.devices or findings.pools)
    ]
    reason = sentence(rows, evidence, nodes, near).removeprefix(f"{wanted.subject}: ")
    return Report(
        wanted.subject,
        f"{wanted.subject} is pending: {reason}",
        True,
        sections,
        wanted.excluded,
        WhatIf(situation, wanted, rows, evidence).changes(),
        hints=list(dict.fromkeys([*near, *notes, *wanted.notes])),
    )


def _other_classes(demand: Demand, situation: Situation) -> Iterator[str]:
    """The classes that are there, the nearest first, in place of one that is not."""
    names = sorted(situation.state.classes)
    if demand.device_class and demand.device_class not in names:
        near = get_close_matches(demand.device_class, names, _CLASSES)
        shown = list(dict.fromkeys([*near, *names]))
        more = ", ..." if len(shown) > _CLASSES else ""
        there = f"there {'is' if len(shown) == 1 else 'are'} {', '.join(shown[:_CLASSES]) or 'none'}{more}"
        yield f"no deviceclass is called {demand.device_class}: {there}"


def _other_attributes(claims: Sequence[ResourceClaim], devices: Mapping[DeviceID, Device]) -> Iterator[str]:
    """Attributes of constraints that no device has, with the nearest that some have."""
    constraints = [c for claim in claims for c in claim.spec.devices.constraints]
    derived = {
        attribute.name
        for claim in claims
        for request in claim.spec.devices.requests or ()
        for asked in (request.exactly, *request.first_available)
        if asked is not None
        for attribute in asked.derived_attributes
    }
    wanted = {name for c in constraints if (name := c.match_attribute or c.distinct_attribute)} - derived
    there: set[str] = set()
    for (driver, _, _), device in devices.items() if wanted else ():
        there.update(name if "/" in name else f"{driver}/{name}" for name in device.attributes)
    for name in sorted(wanted - there) if there else ():
        near = get_close_matches(name, sorted(there), 1)
        yield f"no device has attribute {name}" + (f"; did you mean {near[0]}?" if near else "")


def _errors(findings: Findings, world: World) -> Iterator[str]:
    """What to write instead in selectors of the request that failed on a device."""
    failed = [row for row in findings.away.values() if row.check is Check.SELECTOR and row.reason]
    asked = [key for key, row in findings.away.items() if row.check is not Check.SELECTOR or not row.is_class]
    candidates = [Candidate("/".join(key), key[0], world.devices[key]) for key in [*asked, *findings.free]]
    for expression in dict.fromkeys(row.expression for row in failed if not row.is_class):
        try:
            result = survey(cel.compile(expression, profile=world.profile), candidates)
        except CELError:
            continue
        for row in result.rows:
            yield from result.guards(row)
        yield from result.notes(is_missing=True)


def _constraints(claims: Sequence[ResourceClaim], demand: Demand) -> str:
    key, name = demand.place
    texts = [
        f", {constraint_text(c)}"
        for claim in claims
        if claim.metadata.key == key
        for c in claim.spec.devices.constraints
        if not c.requests or name in c.requests or name.split("/")[0] in c.requests
    ]
    return "".join(texts)


def _several(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
