"""Whether requests of different sizes fit side by side: bin packing, exactly, as far as a budget goes.

Theory of operation
-------------------
Each shareable device is a bin with its capacities as room. Devices that draw on the same counters are one
bin together, with the counters (summed by class) as room. Plain devices that the same requests may have
are one bin with a slot for each. A group's devices are items; what one takes of a bin is the least that
any device there takes. Which partition of a GPU it is, is left to the search: the answer may be too
generous, never too strict (`completion` has the search for a packing).

A packing that was found is kept: it answers for every state on the way as long as the search goes along it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from drakit.allocator.completion import Attempt, Bin, Filling, Vector, least_of
from drakit.allocator.counters import Counters
from drakit.allocator.problem import Problem

if TYPE_CHECKING:
    from drakit.allocator.bounds import Group
    from drakit.allocator.search import Partial

_ITEMS = 256
_PACKINGS = 8
"""Packings kept, the latest first."""

Places = list[tuple[str, int]]
"""The bins of a group's devices, in the order of their positions."""


class Packing:
    """The bins of one problem. `tried` counts fillings; after `budget` of them everything may fit."""

    def __init__(self, problem: Problem, counters: Counters, budget: int) -> None:
        self._problem = problem
        self._counters = counters
        self._budget = budget
        self.tried = 0
        self._shareable = sum(1 << position for position in problem.shareable)
        self._special = counters.members | self._shareable
        self._rows: dict[Hashable, tuple[Vector | None, ...]] = {}
        """Of (mask, demands) what the least of the demands takes of each shareable device."""
        self._amounts: dict[int, Vector] = {}
        """Of each partition what it takes of each class of counters."""
        self._least: dict[int, Vector] = {}
        self._hopeless: set[Hashable] = set()
        self._found: list[list[Places]] = []
        """Of each packing the places of each group, the last group first."""

    def bins(self, groups: Sequence[Group], state: Partial) -> list[Bin] | None:
        """The bins that any of the groups may use, with a type for each group; None where sizes do not
        matter, or packing is too much."""
        union = 0
        for group in groups:
            union |= group.mask
        if len(groups) < 2 or not union & self._special or sum([g.need for g in groups]) > _ITEMS:
            return None
        bins: list[Bin] = []
        each = (1,) * len(groups)
        rows = zip(*[self._row(group) for group in groups], strict=True)
        for (position, share), takes in zip(self._problem.shareable.items(), rows, strict=True):
            if union >> position & 1:
                bins.append(Bin("device", position, state.shares[share][1], takes, each))
        for number, component in enumerate(self._counters.components):
            if union & component:
                takes = tuple([self._partition(group, component) for group in groups])
                limits = tuple([(group.mask & component).bit_count() for group in groups])
                bins.append(Bin("counters", number, self._room(component, state.left), takes, limits))
        parts = [union & ~self._special]
        for group in groups:
            parts = [part for whole in parts for part in (whole & group.mask, whole & ~group.mask) if part]
        for part in parts:
            count = part.bit_count()
            takes = tuple([(1,) if group.mask & part else None for group in groups])
            bins.append(Bin("devices", part, (count,), takes, (count,) * len(groups)))
        return bins

    def holds(self, bins: Sequence[Bin], groups: Sequence[Group]) -> bool:
        """Whether a packing found before serves the groups."""
        return any(_holds(bins, groups, found) for found in self._found)

    def may_fit(self, bins: Sequence[Bin], groups: Sequence[Group]) -> bool:
        """False when no packing holds all devices of `groups`."""
        if self.tried >= self._budget:
            return True
        types = _types(bins, groups)
        packed = [self._of_types(one, types, groups) for one in bins]
        needs = [sum([groups[member].need for member in members]) for members in types]
        # Bins alike may change places.
        key = (tuple(needs), frozenset(Counter([one._replace(number=0) for one in packed]).items()))
        if key in self._hopeless:
            return False
        attempt = Attempt(packed, needs, self._budget - self.tried)
        placed = attempt.run()
        self.tried += attempt.tried
        if placed is not None:
            self._found = [_in_order(placed, types, groups), *self._found[: _PACKINGS - 1]]
        elif not attempt.is_spent:
            self._hopeless.add(key)
            return False
        return True

    def _of_types(self, one: Bin, types: Sequence[Sequence[int]], groups: Sequence[Group]) -> Bin:
        """The bin with a type for groups alike: each may have a share of a device, but a partition only one
        of them."""
        takes = tuple([one.takes[members[0]] for members in types])
        if one.sort == "device":
            return one._replace(takes=takes, limits=tuple([len(members) for members in types]))
        if one.sort == "devices":
            return one._replace(takes=takes, limits=tuple([one.limits[members[0]] for members in types]))
        limits: list[int] = []
        for members in types:
            union = 0
            for member in members:
                union |= groups[member].mask
            limits.append((union & self._counters.components[one.number]).bit_count())
        return one._replace(takes=takes, limits=tuple(limits))

    def _row(self, group: Group) -> tuple[Vector | None, ...]:
        """The least that the group takes of each shareable device."""
        key = tuple([(option.mask & self._shareable, option.demand) for option in group.options])
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = tuple([self._share(group, p) for p in self._problem.shareable])
        return row

    def _share(self, group: Group, position: int) -> Vector | None:
        if not group.mask >> position & 1:
            return None
        demands = self._problem.demands
        return least_of(
            [demands[o.demand].consumes[position] for o in group.options if o.mask >> position & 1]
        )

    def _partition(self, group: Group, component: int) -> Vector | None:
        """The least that a device of the group takes of the counters."""
        inside = group.mask & component
        if not inside:
            return None
        least = self._least.get(inside)
        if least is None:
            rows = [self._takes(p) for p in range(inside.bit_length()) if inside >> p & 1]
            least = self._least[inside] = least_of(rows)
        return least

    def _takes(self, position: int) -> Vector:
        known = self._amounts.get(position)
        if known is None:
            sums = [0] * self._counters.classes
            for index, amounts, _ in self._problem.needs[position]:
                for counter, amount in amounts:
                    sums[self._problem.counter_classes[index][counter]] += amount
            known = self._amounts[position] = tuple(sums)
        return known

    def _room(self, component: int, left: tuple[Vector, ...]) -> Vector:
        sums = [0] * self._counters.classes
        for index in self._counters.sets_of(component):
            for kind, amount in zip(self._problem.counter_classes[index], left[index], strict=True):
                sums[kind] += max(0, amount)
        return tuple(sums)


def _types(bins: Sequence[Bin], groups: Sequence[Group]) -> list[list[int]]:
    """The groups by what they take of every bin."""
    types: dict[Hashable, list[int]] = {}
    for number in range(len(groups)):
        types.setdefault(tuple([(b.takes[number], b.limits[number]) for b in bins]), []).append(number)
    return list(types.values())


def _holds(bins: Sequence[Bin], groups: Sequence[Group], found: list[Places]) -> bool:
    """Whether a packing found before serves the groups: they are the last ones of those it was made for."""
    if len(found) < len(groups):
        return False
    by_id = {(one.sort, one.number): one for one in bins}
    rooms = {id: list(one.room) for id, one in by_id.items()}
    for index, group in enumerate(reversed(groups)):
        places = found[index]
        if len(places) < group.need:
            return False
        for id in places[len(places) - group.need :]:
            one = by_id.get(id)
            takes = None if one is None else one.takes[len(groups) - 1 - index]
            if takes is None:
                return False
            room = rooms[id]
            for dimension, amount in enumerate(takes):
                room[dimension] -= amount
    return all(amount >= 0 for room in rooms.values() for amount in room)


def _in_order(
    placed: Sequence[tuple[Bin, Filling]], types: Sequence[Sequence[int]], groups: Sequence[Group]
) -> list[Places]:
    """The places of each group as the search comes to them, the last group first: of bins alike the first is
    used first."""
    rows: list[list[int]] = [[] for _ in groups]
    for kind, members in enumerate(types):
        items = [n for n, (_, filling) in enumerate(placed) for _ in range(dict(filling).get(kind, 0))]
        for offset, member in enumerate(members):
            rows[member] = items[offset :: len(members)]
    alike: dict[Hashable, list[tuple[str, int]]] = {}
    for one, _ in placed:
        alike.setdefault(one[2:], []).append((one.sort, one.number))
    called: dict[int, tuple[str, int]] = {}
    found: list[Places] = []
    for row in rows:
        for number in row:
            if number not in called:
                called[number] = alike[placed[number][0][2:]].pop(0)
        found.append(sorted([called[number] for number in row], key=lambda id: id[1]))
    return found[::-1]
