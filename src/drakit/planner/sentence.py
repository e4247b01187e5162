"""The one sentence that says why: of all that is known the part that a person needs first.

Where no node can serve some request, that request is spoken of. Otherwise each request can be served
somewhere, but no node can serve all: then it is about the node that comes closest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from drakit.allocator.trace import Check, FellShort, Refusal
from drakit.planner.evidence import Demand, Evidence, Findings, Request
from drakit.planner.extended import called, requested
from drakit.planner.report import amount_of, most_left, taint_text

_LACKS = {
    Check.IN_USE: "allocated",
    Check.TAINT: "tainted",
    Check.CAPACITY: "short of capacity",
    Check.COUNTER: "short of a counter",
    Check.CONSTRAINT: "without an attribute that a constraint needs",
    Check.GROUP: "not compatible with what is allocated",
    Check.GATE: "in need of a feature that is off",
    Check.FEATURE: "on nodes that lack a feature",
    Check.NODE: "usable only on other nodes",
}


def sentence(rows: Sequence[Demand], evidence: Evidence, nodes: Sequence[str], hints: Sequence[str]) -> str:
    """Why the demands `rows` are not met on any of `nodes`."""
    if evidence.fatal:
        fits = f", {evidence.fits[0]} among them, where it would fit" if evidence.fits else ""
        return f"{evidence.fatal} (this stops it on every node{fits})"
    lacking = evidence.lacking(rows, nodes)
    if sum(map(len, evidence.errors.values())) == len(nodes):
        return max(evidence.errors, key=lambda error: len(evidence.errors[error]))
    requests: dict[Request, list[Demand]] = {}
    for row in rows:
        requests.setdefault(row.asked, []).append(row)
    hopeless = [request for request in requests if all(request in short for short in lacking.values())]
    if not hopeless:
        return _nowhere_all(requests, lacking, evidence)
    return _hopeless(requests[min(hopeless, key=lambda r: _has_free(requests[r], evidence))], evidence, hints)


def _has_free(rows: Sequence[Demand], evidence: Evidence) -> bool:
    return any(evidence.at(row.place).free for row in rows)


def _nowhere_all(
    requests: dict[Request, list[Demand]], lacking: dict[str, list[Request]], evidence: Evidence
) -> str:
    """Each request can be served on some node, and on no node all of them."""

    def distance(name: str) -> tuple[int, int]:
        short = evidence.together.get(name)
        return len(lacking[name]), short.wanted - short.possible if short else 0

    node = min(lacking, key=distance)
    short = evidence.together.get(node)
    if lacking[node]:
        demand = requests[lacking[node][0]][0]
        findings = evidence.at(demand.place)
        has = f"has {findings.short[node].possible} of {findings.short[node].wanted} devices"
        more = len(lacking[node]) - 1
        others = f" and too few for {more} other{'s' * (more > 1)}" if more else ""
        return f"no node can serve all its requests: {node}, the closest, {has} for {_named(demand)}{others}"
    if short is None:
        return f"on no node can all requests have their devices at once (closest: {node})"
    if short.check is Check.CONSTRAINT:
        names = ", ".join(dict.fromkeys(request.split("/")[0] for _, request in short.requests))
        what = f"{short.wanted} devices{_alike(short)} for its requests {names}"
        return f"no node has {what} (closest: {node} with {short.possible})"
    together = f"{short.wanted} devices, and {node}, the closest, has {short.possible} for them"
    return f"its requests together want {together}"


def _hopeless(rows: Sequence[Demand], evidence: Evidence, hints: Sequence[str]) -> str:
    """No node can serve the request that `rows` are the forms of."""
    if len(rows) > 1:
        return _alternatives(rows, evidence)
    demand, findings = rows[0], evidence.at(rows[0].place)
    if not findings.devices:
        return _nothing_published(demand, findings)
    return _too_few(demand, findings) if findings.free else _nothing_free(demand, findings, hints)


def _nothing_published(demand: Demand, findings: Findings) -> str:
    if findings.pools:
        (driver, pool, _), refusal = next(iter(findings.pools.items()))
        rest = len(findings.pools) - 1
        more = f" (and {rest} more pool{'s' * (rest > 1)})" if rest else ""
        return f"pool {driver}/{pool}{more} is {refusal.reason}, and there are no other devices for it"
    claim = demand.place[0]
    return f"no node it may use has any device at all for {_named(demand)} of {called(claim)}"


def _named(demand: Demand) -> str:
    return requested(*demand.place)


def _nothing_free(demand: Demand, findings: Findings, hints: Sequence[str]) -> str:
    """No device passed every check: what those that came furthest lack."""
    away = list(findings.away.values())
    what = f"{_named(demand)} ({demand.wanted})"
    last = [refusal for refusal in away if refusal.check is not Check.SELECTOR]
    if not last:
        whose = f"class {demand.device_class}" if all(r.is_class for r in away) else _named(demand)
        why = f": {hints[0]}" if hints else ""
        return f"no device matches the selectors of {whose} ({demand.wanted}){why}"
    if len({(refusal.check, amount_of(refusal)) for refusal in last}) == 1:
        return _one_cause(what, demand, findings, last)
    counts = Counter(_LACKS.get(refusal.check, refusal.check) for refusal in last)
    lacks = ", ".join(
        f"{count} {'is' if count == 1 else 'are'} {lack}" for lack, count in counts.most_common()
    )
    return f"no node has a free device for {what}: of {len(last)} that match {lacks}"


def _one_cause(what: str, demand: Demand, findings: Findings, last: Sequence[Refusal]) -> str:
    """What all devices that the selectors leave have against them."""
    match last[0].check:
        case Check.CAPACITY | Check.COUNTER if all(refusal.left for refusal in last):
            best = max(last, key=most_left)
            name = best.name if len({refusal.name for refusal in last}) == 1 else amount_of(best)
            return f"no device has {best.needed} of {name} left for {what}: the most is {best.left}"
        case Check.CAPACITY:
            return f"no device can serve {what}: {last[0].name}: {last[0].reason}".replace(": : ", ": ")
        case Check.TAINT:
            taints = list(dict.fromkeys(taint_text(refusal) for refusal in last))
            which = f": {taints[0]}" if len(taints) == 1 else ""
            return f"every device that {what} could have is tainted{which}"
        case Check.CONSTRAINT if not last[0].reason:
            return f"no device for {what} has attribute {last[0].name}, which a constraint of its claim needs"
        case Check.IN_USE if demand.count > (most := _most_in_use(findings)) and not demand.is_all:
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
    closest = findings.closest
    assert closest is not None
    node, short = closest
    if demand.is_all:
        wants = f"{_named(demand)} wants all {demand.device_class} of a node"
        best = f"{node} with {short.possible} of {short.wanted}"
        return f"{wants}, and not all of them can be had (closest: {best})"
    devices = "free device" if demand.count == 1 else "free devices"
    bounds = [bound for bound in findings.short.values() if bound.check is Check.CONSTRAINT]
    what = f"{demand.count} {devices} for {_named(demand)} ({demand.device_class})"
    what += _alike(bounds[0]) if bounds else ""
    return f"no node has {what} (closest: {node} with {short.possible})"


def _alike(short: FellShort) -> str:
    return f" with {'different values of' if short.is_distinct else 'the same'} {short.name}"


def _alternatives(rows: Sequence[Demand], evidence: Evidence) -> str:
    """A prioritized list none of whose alternatives can be had."""
    texts = []
    for row in rows:
        findings = evidence.at(row.place)
        closest = findings.closest if findings.free else None
        best = f"closest {closest[0]} with {closest[1].possible}" if closest else "no device is free"
        texts.append(f"{row.place[1].rpartition('/')[2]} wants {row.wanted}, {best}")
    return f"no alternative of request {rows[0].asked[1]} can be had: {'; '.join(texts)}"
