"""Evidence told so that a person reads it in ten seconds: one sentence, a short tree, what would help.

Devices and nodes that share a fate are folded into one line with their number. A selector's line says what
the attribute was, not only that it did not match: `productName is "L4" (8)`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from drakit import cel
from drakit.allocator.trace import Check, FellShort, Refusal
from drakit.cel import Verdict
from drakit.errors import CELError
from drakit.model.resource import Device
from drakit.planner.evidence import Demand, DeviceID, Findings
from drakit.profile import Profile

_SHOWN = 3
"""Values, claims or nodes named in one line before the rest is only counted."""


class Line(Struct, frozen=True):
    """`count` devices with one fate: `cause` in a word or two, `detail` with the values."""

    count: int
    cause: str
    detail: str


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
    findings: Findings,
    nodes: int,
    devices: Mapping[DeviceID, Device],
    profile: Profile,
) -> Section:
    """The section of `demand`; `extra` says which constraints apply to it."""
    groups: dict[tuple[str, str], list[DeviceID]] = defaultdict(list)
    for device, refusal in findings.away.items():
        groups[_group(refusal)].append(device)
    lines = [
        _line(members, findings.away[members[0]], findings, devices, profile)
        for members in sorted(groups.values(), key=len, reverse=True)
    ]
    if findings.free:
        lines.append(Line(len(findings.free), "free", _free(demand, findings)))
    wanted = f"{demand.wanted}{extra}"
    return Section(*demand.place, wanted, nodes, findings.devices, lines)


def _group(refusal: Refusal) -> tuple[str, str]:
    """Refusals that belong into one line have one group."""
    match refusal.check:
        case Check.SELECTOR:
            return refusal.check, f"{refusal.is_class} {refusal.selector}"
        case Check.TAINT:
            return refusal.check, _taint(refusal)
        case Check.IN_USE:
            return refusal.check, "" if refusal.holders else "self"
        case Check.POOL | Check.GATE:
            return refusal.check, refusal.reason
        case _:
            return refusal.check, refusal.name


def _line(
    members: Sequence[DeviceID],
    refusal: Refusal,
    findings: Findings,
    devices: Mapping[DeviceID, Device],
    profile: Profile,
) -> Line:
    count, where = len(members), _nodes(findings, members)
    match refusal.check:
        case Check.SELECTOR:
            whose = "class selector" if refusal.is_class else "selector"
            known = [(device, devices[device]) for device in members if device in devices]
            return Line(count, f"{whose} #{refusal.selector}", selector_detail(refusal, known, profile))
        case Check.IN_USE:
            if not refusal.holders:
                return Line(count, "taken", "by an earlier request of the same pod")
            return Line(count, "allocated", _holders(members, findings))
        case Check.TAINT:
            return Line(count, "taint", f"{_taint(refusal)} on {where}: not tolerated")
        case Check.COUNTER:
            amounts = _amounts(members, findings)
            return Line(count, "counter", f"{refusal.name} is short: {amounts}, on {where}")
        case Check.CAPACITY:
            why = refusal.reason or _amounts(members, findings)
            return Line(count, "capacity", f"{refusal.name}: {why}, on {where}")
        case Check.CONSTRAINT:
            return Line(
                count, f"constraint #{refusal.constraint}", f"without attribute {refusal.name}, on {where}"
            )
        case Check.POOL:
            names = _some(sorted({f"{driver}/{pool}" for driver, pool, _ in members}))
            return Line(count, "pool", f"{names} {refusal.reason}")
        case Check.NODE:
            return Line(count, "other node", "usable only on other nodes")
        case Check.GROUP:
            return Line(count, "compatibility", f"not compatible with what is allocated from {refusal.name}")
        case _:
            return Line(count, refusal.check, refusal.reason or refusal.name)


def selector_detail(refusal: Refusal, members: Iterable[tuple[DeviceID, Device]], profile: Profile) -> str:
    """What the deciding part of the selector found on the devices: `model is "L4" (8), "A100" (2)`."""
    if refusal.reason:
        return refusal.reason
    try:
        selector = cel.compile(refusal.expression, profile=profile)
    except CELError as error:
        return str(error)
    found: dict[tuple[str, str], Counter[str]] = {}
    for (driver, _, _), device in members:
        name, value, wanted = _decision(selector.explain(device, driver))
        found.setdefault((name, wanted), Counter())[value] += 1
    texts = []
    for (name, wanted), values in found.items():
        texts.append(f"{name} is {_counted(values)}{wanted}" if name else _counted(values))
    return "; ".join(texts)


def _decision(verdict: Verdict) -> tuple[str, str, str]:
    """In the first part that decided: what was looked at, its value, and what was wanted of it."""
    if verdict.error is not None:
        return "", verdict.error.message, ""
    for decided in verdict.decisive:
        start, end = decided.span
        inside = [
            p for p in verdict.parts if start <= p.span[0] and p.span[1] <= end and p.span != decided.span
        ]
        reads = [part for part in inside if part.text.startswith("device.") and not part.is_error]
        if not reads:
            return decided.text, decided.value, ""
        widest = max(reads, key=lambda part: part.span[1] - part.span[0])
        condition = decided.text.replace(widest.text, "", 1).strip()
        return _short(widest.text), widest.value, f", not {condition.removeprefix('==').strip()}"
    return "", "false", ""


def _short(text: str) -> str:
    """`device.attributes["d"].model` as `model`."""
    return text.rsplit(".", 1)[-1] if "(" not in text else text


def _counted(values: Counter[str]) -> str:
    shown = [f"{value} ({count})" for value, count in values.most_common(_SHOWN)]
    rest = len(values) - len(shown)
    return ", ".join(shown) + (f", {rest} more values" if rest > 0 else "")


def _holders(members: Sequence[DeviceID], findings: Findings) -> str:
    held: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for device in members:
        for holder in findings.away[device].holders:
            held[holder][findings.node_of[device]].append(device[2])
    rows = sorted(held.items(), key=lambda row: -sum(map(len, row[1].values())))
    texts = [
        f"claim {claim}: " + _some([f"{node} {_some(names)}" for node, names in where.items()])
        for claim, where in rows[:_SHOWN]
    ]
    rest = len(rows) - len(texts)
    return "; ".join(texts) + (f"; {rest} more claim{'s' * (rest > 1)}" if rest > 0 else "")


def _amounts(members: Sequence[DeviceID], findings: Findings) -> str:
    refusal = max((findings.away[device] for device in members), key=lambda r: len(r.left))
    return f"{refusal.needed} wanted, {refusal.left or '0'} left"


def _taint(refusal: Refusal) -> str:
    taint = refusal.taint
    if taint is None:
        return refusal.name
    value = f"={taint.value}" if taint.value else ""
    return f"{taint.key}{value}:{taint.effect}"


def _free(demand: Demand, findings: Findings) -> str:
    """What keeps the free devices from being enough."""
    node, short = closest(findings)
    if short is not None and short.check is Check.CONSTRAINT:
        best = _some([f"{value} has {count}" for value, count in short.best])
        return f"but no value of {short.name} has {short.wanted}: {best} (on {node})"
    if short is not None and short.check is Check.COUNTER:
        return f"but the counters allow {short.possible} at once (on {node})"
    if short is not None and short.check is Check.COMPETITION:
        return "but the pod's requests need the same ones"
    most = findings.free_on.get(node, 0)
    return f"but at most {most} on one node ({node})" if most < demand.count else ""


_PROGRESS = (Check.COUNT, Check.COUNTER, Check.CONSTRAINT, Check.COMPETITION)
"""How far a node came, by the bound it fell short of."""


def closest(findings: Findings) -> tuple[str, FellShort | None]:
    """The node that came closest, and how it fell short; ("", None) when no node had anything free."""

    def progress(name: str) -> tuple[int, int]:
        short = findings.short[name]
        return _PROGRESS.index(short.check) if short.check in _PROGRESS else -1, short.possible

    if findings.short:
        node = max(findings.short, key=progress)
        return node, findings.short[node]
    if findings.free_on:
        return max(findings.free_on, key=lambda name: findings.free_on[name]), None
    return "", None


def _nodes(findings: Findings, members: Sequence[DeviceID]) -> str:
    return _some(list(dict.fromkeys(findings.node_of[device] for device in members)))


def _some(texts: Sequence[str]) -> str:
    rest = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
