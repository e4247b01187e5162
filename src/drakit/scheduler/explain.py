"""Why devices cannot be had, in words, from the allocator's trace.

The allocator runs again on the nodes that turned the pod away, this time telling what it does. Its messages
are counted for each node by the request that fell short; nodes with the same such request are put together
into one text: `cannot serve claim default/x request r: 8 devices wanted, 5 free (22 taken, 40 do not match
selector #1 of class gpu)`. A device that several nodes see is counted once; what is said of devices together
is true of the node that comes closest.
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
    """What became of the devices for one request on some nodes: the free ones, the others by the words
    against them; `short` is the bound that the node falls short of, the closest one of several."""

    free: set[DeviceID] = field(default_factory=set)
    against: dict[str, set[DeviceID]] = field(default_factory=dict)
    short: FellShort | None = None
    nodes: int = 0

    def merge(self, other: Tally, short: FellShort | None) -> None:
        """Add a node, which falls short of `short`."""
        self.free |= other.free
        for words, devices in other.against.items():
            self.against.setdefault(words, set()).update(devices)
        if self.short is None or (short is not None and _distance(short) < _distance(self.short)):
            self.short = short
        self.nodes += 1


def _distance(short: FellShort) -> int:
    return short.wanted - short.possible


class Told(Struct):
    """The tallies of one node; a `Trace` of the allocator. `indexes` of the claims by namespace/name."""

    indexes: dict[str, int]
    tallies: dict[Place, Tally] = field(default_factory=dict)
    short: dict[Place, FellShort] = field(default_factory=dict)
    """The tightest bound of each request that cannot be served."""
    together: tuple[Place, FellShort] | None = None
    """The first bound on several requests, with the first of them."""
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
        place = (self.indexes[candidate.claim], candidate.request)
        if len(event.requests) > 1:
            self.together = self.together or (place, event)
        elif place not in self.short or event.possible < self.short[place].possible:
            self.short[place] = event

    def _at(self, candidate: Candidate) -> Tally:
        return self.tallies.setdefault((self.indexes[candidate.claim], candidate.request), Tally())


def explain(claims: list[ResourceClaim], state: State, nodes: Iterable[Node]) -> dict[str, str]:
    """Why `claims` do not fit, by node name; nodes beyond `MESSAGES_AT_MOST` are left out.

    The texts name claims as `claims` do.
    """
    indexes = {claim.metadata.key: index for index, claim in enumerate(claims)}
    groups: dict[tuple[Place, bool] | None, tuple[Tally, list[str]]] = {}
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
        blamed = _guilty(claims, told)
        guilty = (blamed[0], bool(blamed[1].requests)) if blamed else None
        tally, names = groups.setdefault(guilty, (Tally(), []))
        if blamed is not None:
            place, short = blamed
            tally.merge(told.tallies.get(place, Tally()), short)
        names.append(node.metadata.name)
    found: dict[str, str] = {}
    for blame, (tally, names) in groups.items():
        text = _text(claims, blame[0] if blame else None, tally)
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


def _guilty(claims: list[ResourceClaim], told: Told) -> tuple[Place, FellShort] | None:
    """The request to blame and what it falls short of: the first that cannot be served in any of its
    alternatives, else the first of those that cannot be served together."""
    requests: dict[Place, list[Place]] = {}
    for place, _, _ in _places(claims):
        requests.setdefault((place[0], place[1].split("/")[0]), []).append(place)
    for places in requests.values():
        if all(place in told.short for place in places):
            return places[0], told.short[places[0]]
    return told.together


def _text(claims: list[ResourceClaim], place: Place | None, tally: Tally) -> str:
    if place is None:
        names = ", ".join(claim.metadata.key for claim in claims)
        return f"have no combination of free devices for claim {names}"
    rows = {row: (mode, count) for row, mode, count in _places(claims)}
    mode, count = rows[place]
    wanted = "all devices" if mode == "All" else f"{count} device{'s' * (count != 1)}"
    key = claims[place[0]].metadata.key
    text = f"cannot serve claim {key} request {place[1]}: {wanted} wanted, {len(tally.free)} free"
    against = {words: len(devices - tally.free) for words, devices in tally.against.items()}
    details = [
        _counted(words, number)
        for words, number in sorted(against.items(), key=lambda row: -row[1])
        if number
    ]
    short = tally.short
    if short is not None and (extra := _shortage(short, len(tally.free), tally.nodes)):
        details.append(extra)
    if not details and not tally.free:
        details = ["no devices are published here"]
    text += f" ({', '.join(details)})" if details else ""
    main, slash, _ = place[1].partition("/")
    others = sum(index == place[0] and name.startswith(f"{main}/") for index, name in rows) - 1
    return f"{text}, nor can its other alternatives be had" if slash and others > 0 else text


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
            wanted = f", {refusal.needed} wanted" if refusal.needed else f": {refusal.reason}"
            return f"lack capacity {refusal.name}{wanted}".replace(" :", ":")
        case Check.FEATURE:
            return f"cannot be served: {refusal.reason}"
        case Check.COUNTER:
            return f"short of counter {refusal.name}" if refusal.name else f"cannot be had: {refusal.reason}"
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


def _shortage(short: FellShort, free: int, nodes: int) -> str:
    """What a bound on several devices together adds to the counts."""
    where = "on one node" if nodes > 1 else "at once"
    match short.check:
        case Check.CONSTRAINT:
            alike = "different values of" if short.is_distinct else "the same"
            best = (
                ", ".join(f"{value}: {count}" for value, count in short.best) if not short.is_distinct else ""
            )
            closest = f", closest {best}" if best else ""
            others = f" of the {short.wanted} wanted together" if len(short.requests) > 1 else ""
            return f"at most {short.possible}{others} with {alike} {short.name}{closest}"
        case Check.COUNTER:
            return f"the counters allow at most {short.possible} {where}"
        case Check.CAPACITY:
            return f"the capacities allow at most {short.possible} {where}"
        case Check.LIMIT:
            return "a claim can have at most 32"
        case Check.COMPETITION:
            return f"the requests together want {short.wanted}, of which {short.possible} can be had {where}"
        case _:
            return f"at most {short.possible} {where}" if short.possible < min(free, short.wanted) else ""
