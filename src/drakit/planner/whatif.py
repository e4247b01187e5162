"""The smallest changes that would make claims fit, each tried with the same allocator before it is said."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from drakit.allocator.trace import Check
from drakit.model.meta import Node
from drakit.model.resource import (
    CapacityRequirements,
    Device,
    DeviceAttribute,
    DeviceRequest,
    DeviceToleration,
    ResourceClaim,
)
from drakit.planner.evidence import Demand, DeviceID, Evidence, Findings, gather, try_all
from drakit.planner.extended import called, is_extended, requested
from drakit.planner.report import constraint_text, most_left
from drakit.planner.situation import Situation, Wanted

_RELEASES_TRIED = 50
"""Claims whose release is tried, those that hold the most first."""
_NODES_TRIED = 20
"""Nodes on which the release of several claims is tried."""
_AMOUNTS_TRIED = 8
"""Amounts of a capacity that are tried, the largest first."""
_NODES_COUNTED = 5
_SHOWN = 3
_EQUALS = re.compile(r"""\[["']([^"']+)["']\]\.(\w+)\s*==\s*(?:"([^"]*)"|'([^']*)')""")

Claims = Sequence[ResourceClaim]


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change after which the claims fit on `nodes` (not all are named): `text` says it in words.

    `kind` is `class` (another deviceClassName), `count`, `capacity` (less of one), `toleration` (for `key` or
    for all taints), `constraint` (without the one at `index`) or `release` (of the claims in `released`). All
    but the last are changes of one request, alternative or constraint of one claim.
    """

    kind: str
    text: str
    nodes: list[str]
    claim: str = ""
    request: str = ""
    device_class: str = ""
    count: int | None = None
    capacity: dict[str, str] = field(default_factory=dict)
    key: str = ""
    index: int | None = None
    released: list[str] = field(default_factory=list)


class WhatIf:
    """Changes tried for claims of one pod; the situation is as before after each."""

    def __init__(
        self,
        situation: Situation,
        wanted: Wanted,
        demands: Sequence[Demand],
        evidence: Evidence,
    ) -> None:
        self._situation = situation
        self._claims: Claims = wanted.claims
        self._nodes: Sequence[Node] = wanted.nodes
        self._own = wanted.own
        self._demands = demands
        self._evidence = evidence
        self._lacking = evidence.lacking(demands, [node.metadata.name for node in wanted.nodes])

    def changes(self) -> list[Change]:
        """What would help, the least intrusive first."""
        found: list[Change] = []
        for demand in self._demands:
            findings = self._evidence.at(demand.place)
            found += self._of_class(demand)
            if not self._may_help(demand):
                continue
            found += self._fewer(demand)
            found += self._less(demand, findings)
            found += self._tolerating(demand, findings)
        found += self._unconstrained()
        return [*found, *self._released()]

    def _may_help(self, demand: Demand) -> bool:
        """False when no node could serve the other requests, whatever becomes of this one."""
        rows = self._lacking.values()
        return len(rows) < len(self._nodes) or any(set(short) <= {demand.asked} for short in rows)

    def _fits(self, changed: Claims) -> list[str]:
        return try_all(changed, self._situation.state, self._nodes, _NODES_COUNTED)

    def _of(self, demand: Demand) -> str:
        """Which request is meant, where there are several."""
        if len(self._demands) == 1:
            return ""
        claim, request = demand.place
        named = requested(claim, request)
        return f" for {named}" + (f" of {called(claim)}" if len(self._claims) > 1 and named != claim else "")

    def _change(self, demand: Demand, kind: str, words: str, nodes: list[str], **fields: Any) -> Change:
        claim, request = demand.place
        text = f"{words}{self._of(demand)} (on {_where(nodes)})"
        return Change(kind=kind, text=text, nodes=nodes, claim=claim, request=request, **fields)

    # --- requests ------------------------------------------------------------------------------

    def _of_class(self, demand: Demand) -> Iterator[Change]:
        classes = self._situation.state.classes
        if demand.device_class in classes:
            return
        for name in difflib.get_close_matches(demand.device_class, classes, n=1, cutoff=0.5):
            if nodes := self._fits(_changed(self._claims, demand, partial(_set, device_class_name=name))):
                yield self._change(demand, "class", f"with class {name}", nodes, device_class=name)

    def _fewer(self, demand: Demand) -> Iterator[Change]:
        """The largest count that fits: where a number of devices is to be had any smaller one is."""
        if demand.is_all:
            return
        least, most, where = 0, demand.count, list[str]()
        while most - least > 1:
            middle = (least + most) // 2
            nodes = self._fits(_changed(self._claims, demand, partial(_set, count=middle)))
            if nodes:
                least, where = middle, nodes
            else:
                most = middle
        if least:
            yield self._change(demand, "count", f"with count {least}", where, count=least)

    def _less(self, demand: Demand, findings: Findings) -> Iterator[Change]:
        """With as much of a capacity as some device has left, and for several devices as many have."""
        if is_extended(demand.place[0]):
            return
        short = [r for r in findings.away.values() if r.check is Check.CAPACITY and most_left(r).sign > 0]
        for name in dict.fromkeys(refusal.name for refusal in short):
            lefts = {refusal.left: most_left(refusal) for refusal in short if refusal.name == name}
            for amount in sorted(lefts, key=lambda text: lefts[text], reverse=True)[:_AMOUNTS_TRIED]:
                changed = _changed(self._claims, demand, partial(_ask, name=name, amount=amount))
                if nodes := self._fits(changed):
                    words = f"with {name} {amount}"
                    yield self._change(demand, "capacity", words, nodes, capacity={name: amount})
                    break

    def _tolerating(self, demand: Demand, findings: Findings) -> Iterator[Change]:
        """With a toleration for one key, or else for all taints. An extended resource has no place for it."""
        if is_extended(demand.place[0]):
            return
        keys = Counter(r.taint.key for r in findings.away.values() if r.check is Check.TAINT and r.taint)
        found = [self._tolerant(demand, key) for key, _ in keys.most_common(_SHOWN)]
        if keys and not any(found):
            found = [self._tolerant(demand, "")]
        yield from filter(None, found)

    def _tolerant(self, demand: Demand, key: str) -> Change | None:
        toleration = DeviceToleration(key=key, operator="Exists")
        nodes = self._fits(_changed(self._claims, demand, partial(_tolerate, toleration=toleration)))
        words = f"with a toleration for {key or 'all taints'}"
        return self._change(demand, "toleration", words, nodes, key=key) if nodes else None

    def _unconstrained(self) -> Iterator[Change]:
        for claim in self._claims:
            constraints = claim.spec.devices.constraints
            for index, constraint in enumerate(constraints):
                rest = [*constraints[:index], *constraints[index + 1 :]]
                changed = _with_devices(claim, constraints=rest)
                if nodes := self._fits([changed if c is claim else c for c in self._claims]):
                    words = f"without {constraint_text(constraint)}"
                    words += f" of {called(claim.metadata.key)}" if len(self._claims) > 1 else ""
                    text = f"{words} (on {_where(nodes)})"
                    yield Change(
                        kind="constraint", text=text, nodes=nodes, claim=claim.metadata.key, index=index
                    )

    # --- claims that hold devices --------------------------------------------------------------

    def _released(self) -> Iterator[Change]:
        """The release of one claim, or else of as few as possible of those that hold devices of one node."""
        holders, full = self._holders(self._evidence)
        likely = [key for key, _ in holders.most_common(_RELEASES_TRIED)]
        for key in sorted(likely, key=lambda key: len(self._held(key))):
            if nodes := self._without([key], self._nodes):
                yield self._release([key], nodes)
                return
        near = [row[0] for f in self._evidence.places.values() if (row := f.closest) is not None]
        tried = list(dict.fromkeys([*near, *(name for name, _ in full.most_common())]))[:_NODES_TRIED]
        rows = [keys for name in tried if (keys := self._fewest(name))]
        for keys in sorted(rows, key=len):
            if nodes := self._without(keys, self._nodes):
                yield self._release(keys, nodes)
                return

    def _fewest(self, name: str) -> list[str]:
        """Claims whose release lets the claims fit on the node, none of which could be kept."""
        here = [node for node in self._nodes if node.metadata.name == name]
        holders, _ = self._holders(gather(self._claims, self._situation.state, here))
        keys = [key for key, _ in holders.most_common()]
        if not keys or not self._without(keys, here):
            return []
        for key in [*reversed(keys), *reversed(keys)]:
            rest = [other for other in keys if other != key]
            if rest and self._without(rest, here):
                keys = rest
        return keys

    def _holders(self, evidence: Evidence) -> tuple[Counter[str], Counter[str]]:
        """How many of the devices turned away each claim holds, and how many of each node some claim does.
        The pod's own claims are not to be released."""
        holders: Counter[str] = Counter()
        nodes: Counter[str] = Counter()
        for findings in evidence.places.values():
            for device, refusal in findings.away.items():
                if others := [holder for holder in refusal.holders if holder not in self._own]:
                    holders.update(others)
                    nodes[findings.node_of[device]] += len(others)
        return holders, nodes

    def _without(self, keys: Sequence[str], nodes: Sequence[Node]) -> list[str]:
        """Nodes on which the claims fit while the claims `keys` hold nothing."""
        state = self._situation.state
        held = [c for key in keys if (c := self._situation.claims.get(key)) and c.status.allocation]
        if len(held) < len(keys):
            return []
        for claim in held:
            state.release(claim.metadata.uid)
        try:
            return try_all(self._claims, state, nodes, _NODES_COUNTED)
        finally:
            for claim in held:
                assert claim.status.allocation is not None
                state.take(claim.metadata.uid, claim.status.allocation, claim.metadata.key)

    def _held(self, key: str) -> list[str]:
        """The devices that the claim keeps from others."""
        claim = self._situation.claims.get(key)
        allocation = claim.status.allocation if claim else None
        rows = allocation.devices.results if allocation else ()
        return [row.device for row in rows if not row.admin_access]

    def _release(self, keys: Sequence[str], nodes: list[str]) -> Change:
        names = [name for key in keys for name in self._held(key)]
        who = f"claim{'s' * (len(keys) > 1)} {_some(keys)}"
        text = f"if {who} released {_some(names)} (on {_where(nodes)})"
        return Change(kind="release", text=text, nodes=nodes, released=list(keys))


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _where(nodes: Sequence[str]) -> str:
    if len(nodes) == 1:
        return nodes[0]
    return f"{_NODES_COUNTED} or more nodes" if len(nodes) == _NODES_COUNTED else f"{len(nodes)} nodes"


def near_values(findings: Findings, devices: Mapping[DeviceID, Device]) -> Iterator[str]:
    """Values that selectors ask for by `==` and nobody publishes, with the nearest ones that exist."""
    said: set[str] = set()
    refused = [refusal for refusal in findings.away.values() if refusal.check is Check.SELECTOR]
    for expression in dict.fromkeys(refusal.expression for refusal in refused):
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


def _set(exact: Any, **fields: Any) -> Any:
    return replace(exact, **fields)


def _ask(exact: Any, name: str, amount: str) -> Any:
    requests = {**(exact.capacity.requests if exact.capacity else {}), name: amount}
    return replace(exact, capacity=CapacityRequirements(requests=requests))


def _tolerate(exact: Any, toleration: DeviceToleration) -> Any:
    return replace(exact, tolerations=[*exact.tolerations, toleration])


def _with_devices(claim: ResourceClaim, **changes: Any) -> ResourceClaim:
    devices = msgspec.structs.replace(claim.spec.devices, **changes)
    return replace(claim, spec=replace(claim.spec, devices=devices))
