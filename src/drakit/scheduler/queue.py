"""The pods that want a node, in the order in which they get their turn.

A pod is in one of four places. *Active*: its turn comes by priority, then first in, first out. *Backing
off*: it failed and waits 1 s, doubled with each failure up to 10 s; when nothing is active, those that
found no node need not wait longer (upstream's pop from the back-off queue). *Parked*: no node would take
it; it moves on when something of the kinds that could help happens, or after five minutes. *Gated*: its
claims do not exist yet; only its own changes and its claims' bring it back, and after a moment the pod is
told what it waits for.

Time comes from the caller's clock; nothing here waits. Heap items of a place that an entry has left stay
behind; they carry another tick than the entry and are dropped when met. Source: pkg/scheduler/backend/queue.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto

from drakit.client.clock import Clock
from drakit.scheduler.pod import PodInfo
from drakit.scheduler.reason import Wake

FIRST_BACKOFF, LAST_BACKOFF = 1.0, 10.0
PARKED_AT_MOST = 300.0
TELL_AFTER, TELL_AFTER_BUSY = 1.0, 10.0
"""How long a pod may wait for its claims before it is told so; longer while they are being made."""


class Place(Enum):
    ACTIVE = auto()
    BACKOFF = auto()
    PARKED = auto()
    GATED = auto()
    OUT = auto()
    """Handed out: being decided or bound."""


class Entry:
    """A pod in the queue, with its history there. `since`: when it came to its present place."""

    __slots__ = (
        "attempts",
        "due",
        "gate",
        "has_failed_badly",
        "is_busy",
        "order",
        "place",
        "pod",
        "since",
        "tick",
        "wakes",
    )

    def __init__(self, pod: PodInfo, order: int) -> None:
        self.pod = pod
        self.order = order
        self.place = Place.OUT
        self.since = 0.0
        self.tick = 0
        self.attempts = 0
        self.due = 0.0
        self.wakes = Wake(0)
        self.gate = ""
        self.is_busy = False
        self.has_failed_badly = False


class SchedulingQueue:
    """Entries by pod uid. `pop` hands one out; `park`, `back_off`, `add`, `gate` or `remove` decide what
    becomes of it. `changed` is called whenever `pop`, `untold` or `next_due` may answer differently."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._entries: dict[str, Entry] = {}
        self._active: list[tuple[int, int, int, Entry]] = []
        self._backoff: list[tuple[float, int, int, Entry]] = []
        self._parked: dict[str, Entry] = {}
        self._awaited: Counter[Wake] = Counter()
        """How many parked entries wait for each kind of change."""
        self._untold: dict[bool, dict[str, Entry]] = {False: {}, True: {}}
        self._order = 0
        self._tick = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, uid: str) -> Entry | None:
        return self._entries.get(uid)

    def counts(self) -> dict[str, int]:
        """How many entries are in each place."""
        found = {place.name.lower(): 0 for place in Place}
        for entry in self._entries.values():
            found[entry.place.name.lower()] += 1
        return found

    # --- in ---------------------------------------------------------------------------------------

    def add(self, pod: PodInfo) -> Entry:
        """Have `pod` scheduled as soon as its turn comes; a pod known before keeps its place in line."""
        entry = self._known(pod)
        self._move(entry, Place.ACTIVE)
        return entry

    def gate(self, pod: PodInfo, reason: str, *, is_busy: bool = False) -> Entry:
        """Keep `pod` out until `add`: `reason` says what it waits for, `is_busy` that somebody makes it."""
        entry = self._known(pod)
        if entry.place is not Place.GATED or entry.gate != reason:
            entry.gate = reason
            entry.is_busy = is_busy
            self._move(entry, Place.GATED)
        return entry

    def park(self, entry: Entry, wakes: Wake) -> None:
        """`entry` found no node: leave it until one of `wakes` happens."""
        entry.wakes = wakes
        entry.has_failed_badly = False
        self._delay(entry)
        self._move(entry, Place.PARKED)

    def back_off(self, entry: Entry, *, badly: bool) -> None:
        """`entry` failed for a reason that no change announces: try again after its back-off, or, if it
        did not fail `badly`, as soon as nothing else is to do."""
        entry.has_failed_badly = badly
        self._delay(entry)
        self._move(entry, Place.BACKOFF)

    def refresh(self, pod: PodInfo) -> None:
        """`pod` changed in nothing that matters to its place."""
        entry = self._entries.get(pod.uid)
        if entry is not None:
            entry.pod = pod

    def remove(self, uid: str) -> None:
        entry = self._entries.pop(uid, None)
        if entry is not None:
            self._move(entry, Place.OUT)

    def wake(self, wakes: Wake) -> int:
        """Something of the kinds `wakes` happened: parked pods it could help move on. Returns how many."""
        if not any(kind in self._awaited for kind in wakes):
            return 0
        moving = [entry for entry in self._parked.values() if entry.wakes & wakes]
        for entry in moving:
            self._unpark(entry)
        return len(moving)

    def wake_pod(self, uid: str) -> None:
        """Something happened that matters to this pod alone."""
        entry = self._parked.get(uid)
        if entry is not None:
            self._unpark(entry)

    # --- out --------------------------------------------------------------------------------------

    def pop(self) -> Entry | None:
        """The pod whose turn it is, None when all have to wait. The caller decides what becomes of it."""
        self._ripen()
        while self._active:
            _, _, tick, entry = heapq.heappop(self._active)
            if entry.tick == tick:
                return self._hand_out(entry)
        held = []
        found = None
        while self._backoff and found is None:
            item = heapq.heappop(self._backoff)
            if item[3].tick == item[2]:
                if item[3].has_failed_badly:
                    held.append(item)
                else:
                    found = item[3]
        for item in held:
            heapq.heappush(self._backoff, item)
        return self._hand_out(found) if found else None

    def untold(self) -> list[Entry]:
        """Gated pods that have waited long enough to be told why; each is given once for each reason."""
        found = []
        for is_busy, patience in ((False, TELL_AFTER), (True, TELL_AFTER_BUSY)):
            latest = self._clock.now() - patience
            for entry in self._untold[is_busy].values():
                if entry.since > latest:
                    break
                found.append(entry)
        for entry in found:
            del self._untold[entry.is_busy][entry.pod.uid]
        return found

    def next_due(self) -> float | None:
        """When `pop` or `untold` may have something without any event; None for never."""
        times = [item[0] for item in self._backoff[:1]]
        for is_busy, patience in ((False, TELL_AFTER), (True, TELL_AFTER_BUSY)):
            if waiting := self._untold[is_busy]:
                times.append(next(iter(waiting.values())).since + patience)
        if self._parked:
            times.append(next(iter(self._parked.values())).since + PARKED_AT_MOST)
        return min(times, default=None)

    # --- inside -----------------------------------------------------------------------------------

    def _known(self, pod: PodInfo) -> Entry:
        entry = self._entries.get(pod.uid)
        if entry is None:
            self._order += 1
            entry = self._entries[pod.uid] = Entry(pod, self._order)
        entry.pod = pod
        return entry

    def _delay(self, entry: Entry) -> None:
        seconds = FIRST_BACKOFF * 2.0 ** min(max(entry.attempts - 1, 0), 16)
        entry.due = self._clock.now() + min(seconds, LAST_BACKOFF)

    def _move(self, entry: Entry, place: Place) -> None:
        uid = entry.pod.uid
        if self._parked.pop(uid, None) is not None:
            self._awaited.subtract(entry.wakes)
            self._awaited = +self._awaited
        self._untold[False].pop(uid, None)
        self._untold[True].pop(uid, None)
        self._tick += 1
        entry.tick, entry.place, entry.since = self._tick, place, self._clock.now()
        if place is Place.ACTIVE:
            heapq.heappush(self._active, (-entry.pod.priority, entry.order, entry.tick, entry))
        elif place is Place.BACKOFF:
            heapq.heappush(self._backoff, (entry.due, entry.order, entry.tick, entry))
        elif place is Place.PARKED:
            self._parked[uid] = entry
            self._awaited.update(entry.wakes)
        elif place is Place.GATED:
            self._untold[entry.is_busy][uid] = entry
        if place is not Place.OUT:
            self._changed()

    def _unpark(self, entry: Entry) -> None:
        self._move(entry, Place.ACTIVE if entry.due <= self._clock.now() else Place.BACKOFF)

    def _hand_out(self, entry: Entry) -> Entry:
        self._move(entry, Place.OUT)
        entry.attempts += 1
        return entry

    def _ripen(self) -> None:
        """Move on what has waited its time."""
        now = self._clock.now()
        while self._backoff and self._backoff[0][0] <= now:
            _, _, tick, entry = heapq.heappop(self._backoff)
            if entry.tick == tick:
                self._move(entry, Place.ACTIVE)
        while self._parked and (entry := next(iter(self._parked.values()))).since + PARKED_AT_MOST <= now:
            self._move(entry, Place.ACTIVE)
