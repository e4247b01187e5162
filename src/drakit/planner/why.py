"""Why a pod or a claim waits: the scheduler's own checks, run again over a snapshot and told in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from drakit.allocator.trace import Check
from drakit.model.resource import Device, ResourceClaim
from drakit.planner.evidence import Demand, DeviceID, Evidence, Findings, demands, gather
from drakit.planner.report import Section, closest, section
from drakit.planner.situation import Situation, Wanted
from drakit.planner.whatif import changes, near_values


class Report(Struct, frozen=True):
    """`sentence` is the answer; the rest is its ground. `would_fit` was tried, `hints` were
    not. `fits_on` are nodes where nothing is in the way."""

    subject: str
    sentence: str
    sections: list[Section] = field(default_factory=list)
    excluded: dict[str, int] = field(default_factory=dict)
    would_fit: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    fits_on: list[str] = field(default_factory=list)


def why(situation: Situation, wanted: Wanted) -> Report:
    """The report on what `wanted` waits for."""
    subject = wanted.subject
    if wanted.settled:
        return Report(subject, wanted.settled)
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
        return Report(subject, text, fits_on=evidence.fits, excluded=wanted.excluded)
    return _explained(situation, wanted, evidence)


def _explained(situation: Situation, wanted: Wanted, evidence: Evidence) -> Report:
    devices = {
        (published.spec.driver, published.spec.pool.name, device.name): device
        for published in situation.slices
        for device in published.spec.devices
    }
    rows = demands(wanted.claims)
    guilty = _guilty(rows, evidence, len(wanted.nodes))
    findings = evidence.places.get(guilty.place, Findings())
    return Report(
        wanted.subject,
        f"{wanted.subject} is pending: {_sentence(guilty, findings, evidence)}",
        _sections(rows, wanted.claims, evidence, len(wanted.nodes), devices, situation),
        wanted.excluded,
        changes(situation, wanted.claims, wanted.nodes, guilty, evidence),
        hints=list(near_values(findings, devices)),
    )


def _sections(
    rows: Sequence[Demand],
    claims: Sequence[ResourceClaim],
    evidence: Evidence,
    nodes: int,
    devices: Mapping[DeviceID, Device],
    situation: Situation,
) -> list[Section]:
    found = []
    for demand in rows:
        if findings := evidence.places.get(demand.place):
            extra = _constraints(claims, demand)
            found.append(section(demand, extra, findings, nodes, devices, situation.profile))
    return found


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


def _guilty(rows: Sequence[Demand], evidence: Evidence, nodes: int) -> Demand:
    """The request to speak of: the one that falls short on the most nodes, the first of equals."""

    def blame(demand: Demand) -> int:
        findings = evidence.places.get(demand.place)
        if findings is None:
            return 0
        lacking = sum(count >= demand.count for count in findings.free_on.values())
        return max(len(findings.short), nodes - lacking)

    return max(rows, key=blame)


def _sentence(demand: Demand, findings: Findings, evidence: Evidence) -> str:
    if evidence.fatal:
        return f"{evidence.fatal} (this stops it on every node)"
    claim, request = demand.place
    if not findings.devices:
        if evidence.errors:
            return max(evidence.errors, key=lambda error: len(evidence.errors[error]))
        return f"no node it may use has any device at all for request {request} of claim {claim}"
    node, short = closest(findings)
    if not findings.free:
        checks = {refusal.check for refusal in findings.away.values()}
        if checks == {Check.SELECTOR}:
            return f"no device matches the selectors of request {request} ({demand.device_class})"
        return f"no node has a free device for request {request} ({demand.wanted})"
    number = "all" if demand.is_all else str(demand.count)
    what = f"{number} free devices for request {request} ({demand.device_class})"
    if short is not None and short.check is Check.CONSTRAINT:
        what += f" with one {short.name}"
    possible = short.possible if short is not None else findings.free_on.get(node, 0)
    if short is not None and short.check is Check.COMPETITION:
        if short.possible < short.wanted:
            together = f"{short.wanted} devices, and no node has more than {short.possible} for them"
            return f"its requests together want {together} (closest: {node})"
        return f"on no node can all requests have their devices at once (closest: {node})"
    return f"no node has {what} (closest: {node} with {possible})"


def _several(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
