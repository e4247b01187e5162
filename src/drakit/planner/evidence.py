"""What the allocator's trace says, collected over all nodes and sorted by request and device.

A device that several nodes see counts once, with the first thing said against it.
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
DeviceID = tuple[str, str, str]
"""Driver, pool, device."""


class Demand(Struct, frozen=True):
    """One request, or one alternative of a prioritized list, as it stands in its claim."""

    place: Place
    device_class: str
    count: int
    is_all: bool

    @property
    def wanted(self) -> str:
        count = "all" if self.is_all else str(self.count)
        return f"{count} x {self.device_class}"


_PROGRESS = (
    Check.COUNT,
    Check.CAPACITY,
    Check.COUNTER,
    Check.CONSTRAINT,
    Check.COMPETITION,
)
"""How far a node came, by the bound it fell short of."""


class Findings(Struct):
    """What became of the devices for one request: `node_of` tells where each was seen first."""

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
    def closest(self) -> tuple[str, FellShort | None]:
        """The node that came closest, and how it fell short; ("", None) when no node had anything free."""

        def progress(name: str) -> tuple[int, int]:
            short = self.short[name]
            return _PROGRESS.index(short.check) if short.check in _PROGRESS else -1, short.possible

        if self.short:
            node = max(self.short, key=progress)
            return node, self.short[node]
        if self.free_on:
            return max(self.free_on, key=lambda name: self.free_on[name]), None
        return "", None


class Evidence(Struct):
    """A `Trace` for one allocation tried on many nodes."""

    places: dict[Place, Findings] = field(default_factory=dict)
    errors: dict[str, list[str]] = field(default_factory=dict)
    """What made nodes unusable, by its text, with the nodes."""
    fatal: str = ""
    """What stops the pod on every node."""
    fits: list[str] = field(default_factory=list)
    """Nodes on which it fits."""

    def at(self, place: Place) -> Findings:
        return self.places.setdefault(place, Findings())

    def turned_away(self, candidate: Candidate, device: DeviceID, refusal: Refusal) -> None:
        findings = self.at((candidate.claim, candidate.request))
        (findings.pools if refusal.check is Check.POOL else findings.away).setdefault(device, refusal)
        findings.node_of.setdefault(device, candidate.node)

    def passed(self, candidate: Candidate, device: DeviceID) -> None:
        findings = self.at((candidate.claim, candidate.request))
        findings.free.add(device)
        findings.node_of.setdefault(device, candidate.node)
        findings.free_on[candidate.node] = findings.free_on.get(candidate.node, 0) + 1

    def fell_short(self, candidate: Candidate, event: FellShort) -> None:
        self.at((candidate.claim, candidate.request)).short.setdefault(candidate.node, event)


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
    """The nodes on which `claims` fit, `enough` of them at most; errors count as not fitting."""
    allocator = Allocator(claims, state, share_id=lambda: "0")
    found: list[str] = []
    for node in nodes:
        try:
            result: list[AllocationResult] | None = allocator.allocate(node)
        except AllocationError:
            continue
        if result is not None:
            found.append(node.metadata.name)
            if len(found) >= enough:
                break
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
