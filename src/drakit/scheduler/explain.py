"""Why devices cannot be had, in words, from the allocator's trace.

The allocator runs again on the nodes that turned the pod away, this time telling what it does. Its messages
are counted for each node by the request that fell short; nodes with the same such request are put together
into one text: `claim default/x request r: 8 devices wanted, 5 free (22 taken, 40 do not match selector #1
of class gpu)`. A device that several nodes see is counted once.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from drakit.allocator import Allocator, State
from drakit.allocator.device import DeviceID
from drakit.allocator.trace import Candidate, Check, FellShort, Refusal
from drakit.errors import AllocationError
from drakit.model.meta import Node
from drakit.model.resource import ResourceClaim

MESSAGES_AT_MOST = 20_000
"""Messages of the trace after which the remaining nodes are not asked any more."""
_EXPRESSION_SHOWN = 80

Place = tuple[int, str]
"""Index of the claim, and request."""


class Tally(Struct):
    """What became of the devices for one request: the free ones, the others by the words against them."""

    free: set[DeviceID] = field(default_factory=set)
    against: dict[str, set[DeviceID]] = field(default_factory=dict)
    short: FellShort | None = None

    def merge(self, other: Tally) -> None:
        self.free |= other.free
        for words, devices in other.against.items():
            self.against.setdefault(words, set()).update(devices)
        self.short = self.short or other.short


class Told(Struct):
    """The tallies of one node; a `Trace` of the allocator. `indexes` of the claims by namespace/name."""

    indexes: dict[str, int]
    tallies: dict[Place, Tally] = field(default_factory=dict)
    messages: int = 0

    def turned_away(self, candidate: Candidate, device: DeviceID, refusal: Refusal) -> None:
        self.messages += 1
        if refusal.check is not Check.NODE:
            words = _words(device, refusal)
            self._at(candidate).against.setdefault(words, set()).add(device)

    def passed(self, candidate: Candidate, device: DeviceID) -> None:
        self.messages += 1
        self._at(candidate).free.add(device)

    def fell_short(self, candidate: Candidate, event: FellShort) -> None:
        self.messages += 1
        tally = self._at(candidate)
        tally.short = tally.short or event

    def _at(self, candidate: Candidate) -> Tally:
        return self.tallies.setdefault((self.indexes[candidate.claim], candidate.request), Tally())


def explain(claims: list[ResourceClaim], state: State, nodes: Iterable[Node]) -> dict[str, str]:
    """Why `claims` do not fit, by node name; nodes beyond `MESSAGES_AT_MOST` are left out.

    The texts name claims as `claims` do.
    """
    indexes = {claim.metadata.key: index for index, claim in enumerate(claims)}
    groups: dict[Place | None, tuple[Tally, list[str]]] = {}
    messages = 0
    for node in nodes:
        if messages > MESSAGES_AT_MOST:
            break
        told = Told(indexes)
        try:
            Allocator(claims, state, share_id=str, trace=told).allocate(node)
        except AllocationError:
            continue
        messages += told.messages
        place = _guilty(claims, told)
        tally, names = groups.setdefault(place, (Tally(), []))
        if place is not None:
            tally.merge(told.tallies.get(place, Tally()))
        names.append(node.metadata.name)
    found: dict[str, str] = {}
    for place, (tally, names) in groups.items():
        text = _text(claims, place, tally)
        found |= dict.fromkeys(names, text)
    return found


def _places(claims: list[ResourceClaim]) -> list[tuple[Place, str, int]]:
    """Every request (or alternative) in order, with its allocation mode and count."""
    rows: list[tuple[Place, str, int]] = []
    for index, claim in enumerate(claims):
        for request in claim.spec.devices.requests or ():
            if request.exactly is not None:
                exact = request.exactly
                rows.append(((index, request.name), exact.allocation_mode, exact.count))
            for sub in request.first_available:
                place = (index, f"{request.name}/{sub.name}")
                rows.append((place, sub.allocation_mode, sub.count))
    return rows


def _guilty(claims: list[ResourceClaim], told: Told) -> Place | None:
    """The request to blame: the first that fell short, else the first with too few free devices."""
    rows = _places(claims)
    for place, _, _ in rows:
        tally = told.tallies.get(place)
        if tally is not None and tally.short is not None:
            return place
    for place, mode, count in rows:
        tally = told.tallies.get(place)
        free = len(tally.free) if tally is not None else 0
        if free < count or (mode == "All" and tally is not None and tally.against):
            return place
    return None


def _text(claims: list[ResourceClaim], place: Place | None, tally: Tally) -> str:
    if place is None:
        names = ", ".join(claim.metadata.key for claim in claims)
        return f"no combination of free devices satisfies claim {names}"
    wanted = next(
        "all devices" if mode == "All" else f"{count} device{'s' * (count != 1)}"
        for row, mode, count in _places(claims)
        if row == place
    )
    key = claims[place[0]].metadata.key
    text = f"claim {key} request {place[1]}: {wanted} wanted, {len(tally.free)} free"
    details = [
        _counted(words, len(devices))
        for words, devices in sorted(tally.against.items(), key=lambda row: -len(row[1]))
    ]
    short = tally.short
    if short is not None and (extra := _shortage(short, len(tally.free))):
        details.append(extra)
    if not details and not tally.free:
        details = ["no devices are published here"]
    return f"{text} ({', '.join(details)})" if details else text


def _counted(words: str, count: int) -> str:
    return words if words.startswith("pool ") else f"{count} {words}"


def _words(device: DeviceID, refusal: Refusal) -> str:
    """What is said of a device that was turned away, after its count."""
    match refusal.check:
        case Check.POOL:
            return f"pool {device[0]}/{device[1]} {refusal.reason}"
        case Check.IN_USE:
            return "taken" if refusal.holders else "taken by other requests of the pod"
        case Check.GATE:
            return f"need the feature {refusal.reason or refusal.name}"
        case Check.SELECTOR:
            words = f"do not match selector #{refusal.selector}{' of the class' if refusal.is_class else ''}"
            if len(refusal.expression) <= _EXPRESSION_SHOWN and "\n" not in refusal.expression:
                words += f" [{refusal.expression}]"
            return words
        case Check.CAPACITY:
            return f"lack capacity {refusal.name}, {refusal.needed} wanted"
        case Check.FEATURE:
            return f"cannot be served: {refusal.reason}"
        case Check.COUNTER:
            return f"short of counter {refusal.name}"
        case Check.GROUP:
            return f"not compatible with what is allocated from {refusal.name}"
        case Check.TAINT:
            taint = refusal.taint
            if taint is None:
                return "tainted"
            value = f"={taint.value}" if taint.value else ""
            return f"tainted {taint.key}{value}:{taint.effect}"
        case Check.CONSTRAINT:
            return f"do not meet constraint #{refusal.constraint} on {refusal.name}"
        case _:
            return "beyond the limit of devices of a claim"


def _shortage(short: FellShort, free: int) -> str:
    """What a bound on several devices together adds to the counts."""
    match short.check:
        case Check.CONSTRAINT:
            best = ", ".join(f"{value}: {count}" for value, count in short.best)
            closest = f", closest {best}" if best else ""
            bound = f"constraint #{short.constraint} on {short.name}"
            return f"at most {short.possible} together by {bound}{closest}"
        case Check.COUNTER:
            return f"at most {short.possible} together by counter {short.name}"
        case Check.CAPACITY:
            return f"at most {short.possible} together by capacity {short.name}"
        case Check.LIMIT:
            return "a claim can have at most 32"
        case Check.COMPETITION:
            return f"the requests together want {short.wanted}, of which {short.possible} can be had at once"
        case _:
            return f"at most {short.possible} together" if short.possible < min(free, short.wanted) else ""
