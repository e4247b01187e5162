"""What the allocator's trace says, collected over all nodes and sorted by request and device.

A device that several nodes see counts once: as free if it is for one of them, else with the first thing said
against it, which is that it is another node's only if nobody says more.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from drakit.allocator import Allocator, State
from drakit.allocator.trace import Candidate, Check, FellShort, Refusal
from drakit.errors import AllocationError, FailedOnNode
from drakit.model.meta import Node
from drakit.model.resource import AllocationResult, ResourceClaim

Place = tuple[str, str]
"""Claim (namespace/name) and request (`main` or `main/sub`)."""
Request = tuple[str, str]
"""Claim and request; the alternatives of a prioritized list are one request."""
DeviceID = tuple[str, str, str]
"""Driver, pool, device."""


class Demand(Struct, frozen=True):
    """One request, or one alternative of a prioritized list, as it stands in its claim."""

    place: Place
    device_class: str
    count: int
    is_all: bool

    @property
    def asked(self) -> Request:
        """The request that it is, or is an alternative of."""
        claim, request = self.place
        return claim, request.split("/")[0]

    @property
    def wanted(self) -> str:
        count = "all" if self.is_all else str(self.count)
        return f"{count} x {self.device_class}"


class Findings(Struct):
    """What became of the devices for one request: `node_of` tells where each was seen first, `short` by how
    much nodes fall short of this request alone (of several bounds the tightest)."""

    away: dict[DeviceID, Refusal] = field(default_factory=dict)
    free: set[DeviceID] = field(default_factory=set)
    node_of: dict[DeviceID, str] = field(default_factory=dict)
    free_on: dict[str, int] = field(default_factory=dict)
    short: dict[str, FellShort] = field(default_factory=dict)

    pools: dict[DeviceID, Refusal] = field(default_factory=dict)
    """Pools (with "" for the device) that could not be used at all."""

    @property
    def devices(self) -> int:
        return len(self.away.keys() | self.free)

    @property
    def closest(self) -> tuple[str, FellShort] | None:
        """Of the nodes that fall short the one that has most of what is wanted, and how it falls short."""

        def progress(name: str) -> tuple[bool, int, int]:
            short = self.short[name]
            return short.possible > 0, short.possible - short.wanted, short.possible

        if not self.short:
            return None
        node = max(self.short, key=progress)
        return node, self.short[node]


class Evidence(Struct):
    """A `Trace` for one allocation tried on many nodes."""

    places: dict[Place, Findings] = field(default_factory=dict)
    together: dict[str, FellShort] = field(default_factory=dict)
    """By node the first bound that it falls short of for several requests together."""
    errors: dict[str, list[str]] = field(default_factory=dict)
    """What made nodes unusable, by its text, with the nodes."""
    fatal: str = ""
    """What stops the pod on every node."""
    looked_at: set[str] = field(default_factory=set)
    """Nodes of whose devices the trace told."""
    fits: list[str] = field(default_factory=list)
    """Nodes on which it fits."""

    def at(self, place: Place) -> Findings:
        return self.places.setdefault(place, Findings())

    def lacking(self, rows: Sequence[Demand], nodes: Sequence[str]) -> dict[str, list[Request]]:
        """Of each of `nodes` the requests that it cannot serve, not even alone; without those that an error
        kept from being looked at."""
        requests: dict[Request, list[dict[str, FellShort]]] = {}
        for row in rows:
            requests.setdefault(row.asked, []).append(self.at(row.place).short)
        return {
            name: [r for r, shorts in requests.items() if all(name in short for short in shorts)]
            for name in nodes
            if name in self.looked_at
        }

    def turned_away(self, candidate: Candidate, device: DeviceID, refusal: Refusal) -> None:
        self.looked_at.add(candidate.node)
        findings = self.at((candidate.claim, candidate.request))
        if refusal.check is Check.POOL:
            findings.pools.setdefault(device, refusal)
            return
        known = findings.away.get(device)
        is_more = known is None or (known.check is Check.NODE and refusal.check is not Check.NODE)
        if is_more and device not in findings.free:
            findings.away[device] = refusal
            findings.node_of[device] = candidate.node

    def passed(self, candidate: Candidate, device: DeviceID) -> None:
        self.looked_at.add(candidate.node)
        findings = self.at((candidate.claim, candidate.request))
        if device not in findings.free:
            findings.away.pop(device, None)
            findings.free.add(device)
            findings.node_of[device] = candidate.node
        findings.free_on[candidate.node] = findings.free_on.get(candidate.node, 0) + 1

    def fell_short(self, candidate: Candidate, event: FellShort) -> None:
        self.looked_at.add(candidate.node)
        if len(event.requests) > 1:
            self.together.setdefault(candidate.node, event)
            return
        short = self.at((candidate.claim, candidate.request)).short
        known = short.get(candidate.node)
        if known is None or event.possible < known.possible:
            short[candidate.node] = event


def gather(claims: Sequence[ResourceClaim], state: State, nodes: Sequence[Node]) -> Evidence:
    """Try `claims` on every node with a trace and keep what it says."""
    evidence = Evidence()
    allocator = Allocator(claims, state, share_id=lambda: "0", trace=evidence)
    for node in nodes:
        try:
            if allocator.allocate(node) is not None:
                evidence.fits.append(node.metadata.name)
        except FailedOnNode as error:
            evidence.errors.setdefault(str(error), []).append(node.metadata.name)
        except AllocationError as error:
            evidence.fatal = evidence.fatal or str(error)
    return evidence


def try_all(
    claims: Sequence[ResourceClaim], state: State, nodes: Sequence[Node], enough: int = 1
) -> list[str]:
    """The nodes on which `claims` fit, `enough` of them at most; none if one of `nodes` meets an error that
    stops the pod on all."""
    allocator = Allocator(claims, state, share_id=lambda: "0")
    found: list[str] = []
    for node in nodes:
        try:
            result: list[AllocationResult] | None = allocator.allocate(node)
        except FailedOnNode:
            continue
        except AllocationError:
            return []
        if result is not None and len(found) < enough:
            found.append(node.metadata.name)
    return found


def demands(claims: Sequence[ResourceClaim]) -> list[Demand]:
    """Every request and alternative of `claims`, in order."""
    rows: list[Demand] = []
    for claim in claims:
        for request in claim.spec.devices.requests or ():
            if exact := request.exactly:
                place = (claim.metadata.key, request.name)
                rows.append(
                    Demand(place, exact.device_class_name, exact.count, exact.allocation_mode == "All")
                )
            for sub in request.first_available:
                place = (claim.metadata.key, f"{request.name}/{sub.name}")
                rows.append(Demand(place, sub.device_class_name, sub.count, sub.allocation_mode == "All"))
    return rows
