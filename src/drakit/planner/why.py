"""Why a pod or a claim waits: the scheduler's own checks, run again over a snapshot and told in order."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from drakit.model.resource import ResourceClaim
from drakit.planner.evidence import Demand, Evidence, demands, gather
from drakit.planner.report import Section, World, section
from drakit.planner.sentence import sentence
from drakit.planner.situation import Situation, Wanted
from drakit.planner.whatif import Change, WhatIf, near_values


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
    world = World(devices, situation.profile, users)
    near = [hint for row in rows for hint in near_values(evidence.at(row.place), devices)]
    sections = [
        section(row, _constraints(wanted.claims, row), evidence.places[row.place], len(wanted.nodes), world)
        for row in rows
        if (findings := evidence.places.get(row.place)) and (findings.devices or findings.pools)
    ]
    return Report(
        wanted.subject,
        f"{wanted.subject} is pending: {sentence(rows, evidence, len(wanted.nodes), near)}",
        True,
        sections,
        wanted.excluded,
        WhatIf(situation, wanted.claims, wanted.nodes, rows, evidence).changes(),
        hints=list(dict.fromkeys([*near, *wanted.notes])),
    )


def _constraints(claims: Sequence[ResourceClaim], demand: Demand) -> str:
    key, name = demand.place
    texts = [
        f", matchAttribute {c.match_attribute}"
        if c.match_attribute
        else f", distinctAttribute {c.distinct_attribute}"
        for claim in claims
        if claim.metadata.key == key
        for c in claim.spec.devices.constraints
        if not c.requests or name in c.requests or name.split("/")[0] in c.requests
    ]
    return "".join(texts)


def _several(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
