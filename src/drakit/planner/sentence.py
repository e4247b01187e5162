"""The one sentence that says why: of all that is known the part that a person needs first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from drakit.allocator.trace import Check, FellShort, Refusal
from drakit.planner.evidence import Demand, Evidence, Findings
from drakit.planner.extended import called
from drakit.planner.report import most_left


def sentence(rows: Sequence[Demand], evidence: Evidence, nodes: int, hints: Sequence[str]) -> str:
    """Why the demands `rows` are not met on any of `nodes` nodes."""
    if evidence.fatal:
        return f"{evidence.fatal} (this stops it on every node)"
    demand = _guilty(rows, evidence, nodes)
    findings = evidence.places.get(demand.place, Findings())
    if not findings.devices:
        return _nothing_published(demand, findings, evidence)
    others = [row for row in rows if row != demand and _request(row) == _request(demand)]
    if others:
        return _alternatives([row for row in rows if _request(row) == _request(demand)], evidence)
    if not findings.free:
        return _nothing_free(demand, findings, hints)
    return _too_few(demand, findings)


def _request(demand: Demand) -> tuple[str, str]:
    claim, request = demand.place
    return claim, request.split("/")[0]


def _guilty(rows: Sequence[Demand], evidence: Evidence, nodes: int) -> Demand:
    """The request to speak of: the one that falls short on the most nodes, the first of equals."""

    def blame(demand: Demand) -> int:
        findings = evidence.places.get(demand.place)
        if findings is None:
            return 0
        enough = sum(count >= demand.count for count in findings.free_on.values())
        return max(len(findings.short), nodes - enough)

    return max(rows, key=blame)


def _nothing_published(demand: Demand, findings: Findings, evidence: Evidence) -> str:
    claim, request = demand.place
    if findings.pools:
        (driver, pool, _), refusal = next(iter(findings.pools.items()))
        more = f" (and {len(findings.pools) - 1} more pools)" if len(findings.pools) > 1 else ""
        return f"pool {driver}/{pool}{more} is {refusal.reason}, and there are no other devices for it"
    if evidence.errors:
        return max(evidence.errors, key=lambda error: len(evidence.errors[error]))
    return f"no node it may use has any device at all for request {request} of {called(claim)}"


def _nothing_free(demand: Demand, findings: Findings, hints: Sequence[str]) -> str:
    """No device passed every check: what most of those that came furthest lack."""
    request = demand.place[1]
    checks = {refusal.check for refusal in findings.away.values()}
    away = list(findings.away.values())
    if checks == {Check.SELECTOR}:
        whose = f"class {demand.device_class}" if all(r.is_class for r in away) else f"request {request}"
        why = f": {hints[0]}" if hints else ""
        return f"no device matches the selectors of {whose} ({demand.wanted}){why}"
    last = [refusal for refusal in away if refusal.check is not Check.SELECTOR]
    if len({(refusal.check, refusal.name) for refusal in last}) == 1:
        return _one_cause(demand, findings, last)
    return f"no node has a free device for request {request} ({demand.wanted})"


def _one_cause(demand: Demand, findings: Findings, last: Sequence[Refusal]) -> str:
    """What all devices that the selectors leave have against them."""
    what = f"request {demand.place[1]} ({demand.wanted})"
    match last[0].check:
        case Check.CAPACITY | Check.COUNTER if all(refusal.left for refusal in last):
            best = max(last, key=most_left)
            return f"no device has {best.needed} of {best.name} left for {what}: the most is {best.left}"
        case Check.CAPACITY:
            return f"no device can serve {what}: {last[0].name}: {last[0].reason}"
        case Check.TAINT:
            return f"every device that {what} could have is tainted"
        case Check.IN_USE if demand.count > (most := _most_in_use(findings)):
            return f"no node has more than {most} devices that match {what}, and all are allocated"
        case Check.IN_USE:
            return f"every device that matches {what} is allocated"
        case Check.GATE:
            return f"{what} could have only devices that need {last[0].reason}, which is off"
        case _:
            return f"no node has a free device for {what}"


def _most_in_use(findings: Findings) -> int:
    """How many devices that somebody has there are on one node, at most."""
    on = Counter(findings.node_of[d] for d, refusal in findings.away.items() if refusal.check is Check.IN_USE)
    return max(on.values())


def _too_few(demand: Demand, findings: Findings) -> str:
    request = demand.place[1]
    node, short = findings.closest
    if short is not None and short.check is Check.COMPETITION:
        if short.possible < short.wanted:
            together = f"{short.wanted} devices, and no node has more than {short.possible} for them"
            return f"its requests together want {together} (closest: {node})"
        return f"on no node can all requests have their devices at once (closest: {node})"
    possible = _possible(findings, node, short)
    if demand.is_all:
        wants = f"request {request} wants all {demand.device_class} of a node"
        return f"{wants}, and not all of them can be had (closest: {node} with {possible})"
    devices = "free device" if demand.count == 1 else "free devices"
    what = f"{demand.count} {devices} for request {request} ({demand.device_class})"
    if short is not None and short.check is Check.CONSTRAINT:
        what += f" with one {short.name}"
    if possible >= demand.count:
        return f"on no node can all requests have their devices at once (closest: {node})"
    return f"no node has {what} (closest: {node} with {possible})"


def _possible(findings: Findings, node: str, short: FellShort | None) -> int:
    return short.possible if short is not None else findings.free_on.get(node, 0)


def _alternatives(rows: Sequence[Demand], evidence: Evidence) -> str:
    """A prioritized list none of whose alternatives can be had."""
    texts = []
    for row in rows:
        findings = evidence.places.get(row.place, Findings())
        node, short = findings.closest
        best = f"closest {node} with {_possible(findings, node, short)}" if node else "no device is free"
        texts.append(f"{row.place[1].split('/')[1]} wants {row.wanted}, {best}")
    return f"no alternative of request {_request(rows[0])[1]} can be had: {'; '.join(texts)}"
