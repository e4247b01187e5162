"""Evidence told so that a person reads it in ten seconds: one sentence, a short tree, what would help.

Devices and nodes that share a fate are folded into one line with their number. A selector's line says what
the attribute was, not only that it did not match: `productName is "L4" (8)`. Of many like fates the smaller
ones share a line.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from drakit.allocator.trace import Check, Refusal
from drakit.model.quantity import Quantity
from drakit.model.resource import Device, DeviceConstraint
from drakit.planner.decision import Decisions
from drakit.planner.evidence import Demand, DeviceID, Evidence, Findings
from drakit.profile import Profile

_SHOWN = 3
"""Claims, nodes or devices named in one line before the rest is only counted."""
_LINES = 4
"""Lines for one check before the rest share one."""


class Line(Struct, frozen=True):
    """`count` devices with one fate: `cause` in a word or two, `detail` with the values."""

    count: int
    cause: str
    detail: str


class World(Struct, frozen=True):
    """What lines look up: devices as published, and the pods that use a claim."""

    devices: Mapping[DeviceID, Device]
    profile: Profile
    decisions: Decisions
    users: Mapping[str, Sequence[str]]


class Section(Struct, frozen=True):
    """One request: what it wants, how many devices were looked at on how many nodes, and their fates."""

    claim: str
    request: str
    wanted: str
    nodes: int
    devices: int
    lines: list[Line]


def section(
    demand: Demand,
    extra: str,
    evidence: Evidence,
    nodes: Sequence[str],
    world: World,
) -> Section:
    """The section of `demand`; `extra` says which constraints apply to it."""
    findings = evidence.at(demand.place)
    groups: dict[tuple[str, str], list[DeviceID]] = defaultdict(list)
    for device, refusal in findings.away.items():
        groups[_group(refusal)].append(device)
    lines: list[Line] = []
    rest: dict[str, list[list[DeviceID]]] = defaultdict(list)
    shown: Counter[str] = Counter()
    for (check, _), members in sorted(groups.items(), key=lambda row: -len(row[1])):
        shown[check] += 1
        if shown[check] <= _LINES:
            lines.append(_line(members, findings.away[members[0]], findings, world))
        else:
            rest[check].append(members)
    lines += [_rest(check, fates, findings) for check, fates in rest.items()]
    lines += [_pools(findings)] if findings.pools else []
    if findings.free:
        lines.append(Line(len(findings.free), "free", _free(demand, evidence)))
    wanted = f"{demand.wanted}{extra}"
    return Section(*demand.place, wanted, len(nodes), findings.devices, lines)


def _group(refusal: Refusal) -> tuple[str, str]:
    """Refusals that belong into one line have one group."""
    match refusal.check:
        case Check.SELECTOR:
            return refusal.check, f"{refusal.is_class} {refusal.selector} {refusal.reason}"
        case Check.TAINT:
            return refusal.check, taint_text(refusal)
        case Check.IN_USE:
            return refusal.check, "" if refusal.holders else "self"
        case Check.GATE:
            return refusal.check, refusal.reason
        case Check.COUNTER | Check.CAPACITY:
            return refusal.check, f"{refusal.needed} {amount_of(refusal)} {refusal.reason}"
        case _:
            return refusal.check, f"{refusal.name} {refusal.reason}"


def _rest(check: str, fates: Sequence[Sequence[DeviceID]], findings: Findings) -> Line:
    """One line for what would be too many: how many fates they are, and the largest by name."""
    named = [taint_text(r) or r.name or r.reason for r in (findings.away[fate[0]] for fate in fates)]
    which = f": {_some(list(dict.fromkeys(named)))}" if any(named) else ""
    return Line(sum(map(len, fates)), check, f"{len(fates)} more kinds{which}")


def _line(members: Sequence[DeviceID], refusal: Refusal, findings: Findings, world: World) -> Line:
    count, where = len(members), _nodes(findings, members)
    match refusal.check:
        case Check.SELECTOR:
            whose = "class selector" if refusal.is_class else "selector"
            known = [(device, world.devices[device]) for device in members if device in world.devices]
            detail = refusal.reason or world.decisions.told(refusal.expression, known)
            return Line(count, f"{whose} #{refusal.selector}", detail)
        case Check.IN_USE:
            if not refusal.holders:
                return Line(count, "taken", "by an earlier request of the same pod")
            return Line(count, "allocated", _holders(members, findings, world))
        case Check.TAINT:
            return Line(count, "taint", f"{taint_text(refusal)} on {where}: not tolerated")
        case Check.COUNTER if refusal.reason:
            return Line(count, "counter", f"{refusal.reason}, on {where}")
        case Check.COUNTER:
            amounts = _amounts(members, findings)
            held = _claims(members, findings, world)
            names = list(dict.fromkeys(findings.away[device].name for device in members))
            what = names[0] if len(names) == 1 else f"{amount_of(refusal)} of {_some(_sets(names))}"
            return Line(count, "counter", f"{what} is short: {amounts}, on {where}{held}")
        case Check.CAPACITY:
            held = f"; {_holders(members, findings, world)}" if refusal.holders else ""
            why = refusal.reason or _amounts(members, findings)
            return Line(count, "capacity", f"{refusal.name}: {why}, on {where}{held}".removeprefix(": "))
        case Check.CONSTRAINT:
            if refusal.reason:
                return Line(count, "derived", f"{refusal.name}: {refusal.reason}, on {where}")
            what = f"without attribute {refusal.name}, on {where}"
            return Line(count, f"constraint #{refusal.constraint}", what)
        case Check.NODE:
            return Line(count, "other node", "usable only on other nodes")
        case Check.FEATURE:
            return Line(count, "node feature", f"{refusal.reason}, on {where}")
        case Check.GROUP:
            held = _claims(members, findings, world)
            what = f"not compatible with what is allocated from {refusal.name}"
            return Line(count, "compatibility", f"{what}{held}")
        case Check.GATE:
            off = f"needs {refusal.reason}, which is off in Kubernetes {world.profile.version}"
            return Line(count, "feature", off)
        case _:
            return Line(count, refusal.check, refusal.reason or refusal.name)


def _pools(findings: Findings) -> Line:
    """Pools that could not be used; how many devices they have is not known."""
    texts = [f"{driver}/{pool} is {r.reason}" for (driver, pool, _), r in findings.pools.items()]
    return Line(len(texts), "pools" if len(texts) > 1 else "pool", _some(texts))


def _holders(members: Sequence[DeviceID], findings: Findings, world: World) -> str:
    held: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for device in members:
        for holder in findings.away[device].holders:
            held[holder][findings.node_of[device]].append(device[2])
    rows = sorted(held.items(), key=lambda row: -sum(map(len, row[1].values())))
    texts = [
        f"claim {claim}{_pods(world.users.get(claim, ()))}: "
        + _some([f"{node} {_some(names)}" for node, names in where.items()])
        for claim, where in rows[:_SHOWN]
    ]
    rest = len(rows) - len(texts)
    return "; ".join(texts) + (f"; {rest} more claim{'s' * (rest > 1)}" if rest > 0 else "")


def _claims(members: Sequence[DeviceID], findings: Findings, world: World) -> str:
    """The claims that draw on what the devices lack."""
    names = dict.fromkeys(holder for device in members for holder in findings.away[device].holders)
    texts = [f"claim {name}{_pods(world.users.get(name, ()))}" for name in names]
    return f"; drawn on by {_some(texts)}" if texts else ""


def _pods(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f" (pod {names[0]})" if len(names) == 1 else f" ({len(names)} pods)"


def _amounts(members: Sequence[DeviceID], findings: Findings) -> str:
    """What is wanted, and the most that any of the devices has left."""
    refusal = max([findings.away[device] for device in members], key=most_left)
    most = "at most " if len({findings.away[device].left for device in members}) > 1 else ""
    return f"{refusal.needed} wanted, {most}{refusal.left or '0'} left"


def most_left(refusal: Refusal) -> Quantity:
    """The amount left, to compare by."""
    return Quantity.of(refusal.left or "0")


def amount_of(refusal: Refusal) -> str:
    """What there is too little of: the capacity, or the counter whatever set it is in."""
    return refusal.name.rpartition("/")[2] if refusal.check is Check.COUNTER else refusal.name


def _sets(names: Sequence[str]) -> list[str]:
    return [name.rpartition("/")[0] for name in names]


def taint_text(refusal: Refusal) -> str:
    """The taint as kubectl writes it."""
    taint = refusal.taint
    if taint is None:
        return refusal.name
    value = f"={taint.value}" if taint.value else ""
    return f"{taint.key}{value}:{taint.effect}"


def _free(demand: Demand, evidence: Evidence) -> str:
    """What keeps the free devices from being enough; the nodes where they are, if it is not this request."""
    findings = evidence.at(demand.place)
    able = [name for name in findings.free_on if name not in findings.short]
    if able:
        shared = any(s for name in able if (s := evidence.together.get(name)) and demand.place in s.requests)
        return f"enough on {_some(able)}" + (", but not beside the other requests" if shared else "")
    if findings.closest is None:
        return ""
    node, short = findings.closest
    match short.check:
        case Check.CONSTRAINT if not short.is_distinct:
            best = _some([f"{value} has {count}" for value, count in short.best])
            return f"but no value of {short.name} has {short.wanted}: {best} (on {node})"
        case Check.CONSTRAINT:
            return f"but {short.name} has only {short.possible} different values (on {node})"
        case Check.COUNTER | Check.CAPACITY:
            what = "counters allow" if short.check is Check.COUNTER else "capacities allow"
            return f"but the {what} {short.possible} at once (on {node})"
        case _ if demand.is_all:
            return f"but not all that match: {short.possible} of {short.wanted} on {node}"
        case _:
            return f"but at most {short.possible} on one node ({node})"


def constraint_text(constraint: DeviceConstraint) -> str:
    """The constraint as its claim has it: `matchAttribute NAME`."""
    if constraint.match_attribute:
        return f"matchAttribute {constraint.match_attribute}"
    return f"distinctAttribute {constraint.distinct_attribute}"


def _nodes(findings: Findings, members: Sequence[DeviceID]) -> str:
    return _some(list(dict.fromkeys(findings.node_of[device] for device in members)))


def _some(texts: Sequence[str]) -> str:
    rest = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
