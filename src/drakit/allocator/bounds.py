"""Proofs that what is left cannot serve what is still to be served.

Theory of operation
-------------------
Each request still open is a group: so many devices out of a set. The groups compete for places: a plain
device is one place, a device that can be shared as many as its capacity allows, a GPU with partitions as
many as its counters allow. If the maximal flow from groups to places is smaller than what is wanted, there
is no solution. A matchAttribute constraint holds only if there is a value among whose devices the flow
suffices; a distinctAttribute constraint if the flow from groups to values does.

Every bound may be too generous, never too strict. Requests behind one that has a device on which a selector
fails (a mine), or that may fail for all devices, are left out: the search might never get to them, but it
might get to the mine, and then the answer is the error.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from drakit.allocator.completion import least_of
from drakit.allocator.counters import Counters
from drakit.allocator.flow import Place, served, suffices
from drakit.allocator.packing import Packing
from drakit.allocator.problem import Problem
from drakit.allocator.volume import Volumes
from drakit.model.resource import MAX_RESULTS

if TYPE_CHECKING:
    from drakit.allocator.search import Partial

_MANY = 1 << 30
_PLACEMENTS = 10_000
"""Placements tried in packings of one problem."""


class Option(NamedTuple):
    """One way to serve a group: `need` devices of `mask` for the demand."""

    need: int
    mask: int
    demand: int


class Group(NamedTuple):
    """A request: `need` and `mask` are the least and the widest of its options."""

    need: int
    mask: int
    options: tuple[Option, ...]


class Bounds:
    """The bounds of one problem. `allow` keeps what it learns about counters between calls."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._counters = Counters(problem)
        self._volumes = Volumes(problem)
        self._packing = Packing(problem, self._counters, _PLACEMENTS)
        self._where: dict[tuple[int, int], dict[int, int]] = {}
        """(demand, constraint) -> value bit -> devices with that value."""
        self._lengths: dict[tuple[int, int], int] = {}
        """(demand, constraint) -> the least number of values that a candidate has."""
        takes: dict[Hashable, int] = {}
        self._alike = [
            takes.setdefault(frozenset(demand.consumes.items()), index)
            for index, demand in enumerate(problem.demands)
        ]
        """Of each demand the first that takes the same of every shareable device."""
        self._unfit: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        self._last_full: tuple[object, list[int]] | None = None
        self._leasts: dict[tuple[tuple[int, ...], int], tuple[int, ...]] = {}
        for index, demand in enumerate(problem.demands):
            for constraint, values in demand.values:
                lengths = [v.bit_count() for p, v in enumerate(values) if demand.candidates >> p & 1]
                self._lengths[index, constraint] = min(lengths, default=0)
                masks = self._where.setdefault((index, constraint), {})
                for position, value in enumerate(values):
                    while value:
                        low = value & -value
                        masks[low] = masks.get(low, 0) | 1 << position
                        value ^= low

    def allow(
        self, request: int, count: int, state: Partial, demand: int, slots: int | None, todo: int
    ) -> bool:
        """False when nothing can come of the choice, see `search._Choice` for its parts."""
        groups: list[Group] = []
        plain = ~(state.used | self._problem.taken)
        if slots is not None:
            if todo & self._problem.demands[demand].mines:
                return True
            mask = self.usable(demand, todo, state)
            if mask.bit_count() < slots:
                return False
            # Admin access takes nothing from anybody where it is to a device that is in use.
            need = slots - (mask & ~plain).bit_count()
            if need > 0:
                groups.append(Group(need, mask & plain, (Option(need, mask & plain, demand),)))
            count += slots
            request += 1
        return (
            self._later(request, count, state, plain, groups)
            and self._find_places(groups, state)
            and self._constraints_hold(groups, state)
        )

    def _find_places(self, groups: Sequence[Group], state: Partial) -> bool:
        """Whether the groups may find places together, the cheapest proof first."""
        bins = self._packing.bins(groups, state)
        if bins is not None and self._packing.holds(bins, groups):
            return True
        return (
            self._volumes.suffice(groups, state)
            and self._flows(groups, state)
            and (bins is None or self._packing.may_fit(bins, groups))
        )

    def _later(self, request: int, count: int, state: Partial, plain: int, groups: list[Group]) -> bool:
        """Add the requests from `request` on; False when one of them cannot be served on its own."""
        problem = self._problem
        claim = problem.claim_of[request - 1] if request else -1
        for index in range(request, len(problem.requests)):
            if problem.claim_of[index] != claim:
                claim, count = problem.claim_of[index], 0
            options: list[Option] = []
            for number in problem.requests[index]:
                demand = problem.demands[number]
                if (
                    demand.mines & plain
                    or (demand.mines and demand.is_admin)
                    or (demand.is_all and demand.values)
                ):
                    return True
                if count + demand.count > MAX_RESULTS:
                    continue
                mask = self.usable(
                    number, demand.candidates if demand.is_admin else demand.candidates & plain, state
                )
                is_empty = demand.is_all and not demand.count
                if not is_empty and mask.bit_count() >= demand.count:
                    options.append(Option(demand.count, mask, number))
            if not options:
                return False
            group = group_of(options)
            count += group.need
            if not any(problem.demands[o.demand].is_admin for o in options) and group.need > 0:
                groups.append(group)
        return True

    def usable(self, index: int, mask: int, state: Partial) -> int:
        """The devices of `mask` that counters, capacity and constraints leave to the demand."""
        problem = self._problem
        demand = problem.demands[index]
        mask &= ~self._full(state)[index]
        mask &= ~self._counters.short(state.left)
        for constraint, _ in demand.values:
            mark = state.marks[constraint]
            if mark == problem.marks[constraint]:
                continue
            seen = 0
            for value, devices in self._where[index, constraint].items():
                if mark & value:
                    seen |= devices
            mask &= seen if problem.is_match[constraint] else ~seen
        return mask

    def _full(self, state: Partial) -> list[int]:
        """Of each demand the shareable devices with too little left for it."""
        if self._last_full is not None and self._last_full[0] is state.shares:
            return self._last_full[1]
        found = [0] * len(self._problem.demands)
        for position, share in self._problem.shareable.items():
            room = state.shares[share][1]
            for index in self._too_big(position, room):
                found[index] |= 1 << position
        self._last_full = (state.shares, found)
        return found

    def _too_big(self, position: int, room: tuple[int, ...]) -> list[int]:
        """The demands that take more of a shareable device than is left."""
        known = self._unfit.get((position, room))
        if known is None:
            known = self._unfit[position, room] = [
                index
                for index, demand in enumerate(self._problem.demands)
                if (needed := demand.consumes.get(position)) is not None
                and any([have < need for have, need in zip(room, needed, strict=True)])
            ]
        return known

    # --- flow ----------------------------------------------------------------------------------

    def _flows(self, groups: Sequence[Group], state: Partial) -> bool:
        """Whether the groups find enough places together."""
        return not groups or self.served(groups, state) >= sum([group.need for group in groups])

    def served(self, groups: Sequence[Group], state: Partial) -> int:
        """An upper bound of how many devices the groups can be given together."""
        merged: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for group in groups:
            alike = tuple([self._alike[option.demand] for option in group.options])
            entry = merged.setdefault((group.mask, alike), [0, 0])
            entry[0] += group.need
            entry[1] += 1
        return served([need for need, _ in merged.values()], self._places(merged, state))

    def _places(self, merged: dict[tuple[int, tuple[int, ...]], list[int]], state: Partial) -> list[Place]:
        problem = self._problem
        masks = [mask for mask, _ in merged]
        special = self._counters.members
        places: list[Place] = []
        for position, share in problem.shareable.items():
            bit = 1 << position
            special |= bit
            if any(mask & bit for mask in masks):
                places.append(self._shared(position, state.shares[share][1], merged))
        for component in self._counters.components:
            inside = [mask & component for mask in masks]
            union = 0
            for mask in inside:
                union |= mask
            if union:
                total = self._counters.at_most(union, state.left)
                places.append(Place(total, tuple([self._counters.at_most(m, state.left) for m in inside])))
        parts = [0]
        for mask in masks:
            parts[0] |= mask & ~special
        for mask in masks:
            parts = [part for whole in parts for part in (whole & mask, whole & ~mask) if part]
        for part in parts:
            size = part.bit_count()
            places.append(Place(size, tuple([size if part & mask else 0 for mask in masks])))
        return places

    def _shared(
        self, position: int, room: tuple[int, ...], merged: dict[tuple[int, tuple[int, ...]], list[int]]
    ) -> Place:
        """How often a device can be shared by each group, and at all."""
        per_group: list[int] = []
        rows: list[tuple[int, ...]] = []
        for (mask, demands), (_, requests) in merged.items():
            if not mask >> position & 1:
                per_group.append(0)
                continue
            need = self._least(demands, position)
            rows.append(need)
            per_group.append(min(requests, _times(room, need)))
        return Place(_times(room, least_of(rows)), tuple(per_group))

    def _least(self, demands: tuple[int, ...], position: int) -> tuple[int, ...]:
        """The least that one of the demands takes of a shareable device."""
        known = self._leasts.get((demands, position))
        if known is None:
            found = [self._problem.demands[demand].consumes.get(position) for demand in demands]
            known = self._leasts[demands, position] = least_of([row for row in found if row is not None])
        return known

    # --- constraints ---------------------------------------------------------------------------

    def _constraints_hold(self, groups: Sequence[Group], state: Partial) -> bool:
        problem = self._problem
        concerned: dict[int, list[Group]] = {}
        for group in groups:
            for constraint in {c for o in group.options for c, _ in problem.demands[o.demand].values}:
                concerned.setdefault(constraint, []).append(group)
        matches = [c for c in concerned if problem.is_match[c]]
        for constraint, rows in concerned.items():
            if not problem.is_match[constraint] and not self._has_distinct(constraint, rows):
                return False
        if len(matches) == 2:
            return self._has_match(matches, groups, state)
        return all(self._has_match([constraint], concerned[constraint], state) for constraint in matches)

    def _has_distinct(self, constraint: int, groups: Sequence[Group]) -> bool:
        """Whether there are enough values for every device to have its own, all of them if it has a list."""
        always = [g for g in groups if all((o.demand, constraint) in self._where for o in g.options)]
        values: dict[int, list[int]] = {}
        wanted = sum([g.need * min([self._lengths[o.demand, constraint] for o in g.options]) for g in always])
        for index, group in enumerate(always):
            for option in group.options:
                for value, devices in self._where[option.demand, constraint].items():
                    if devices & option.mask:
                        values.setdefault(value, [0] * len(always))[index] = 1
        return wanted <= len(values) and suffices(
            [g.need for g in always], [Place(1, tuple(row)) for row in values.values()]
        )

    def _has_match(self, constraints: Sequence[int], groups: Sequence[Group], state: Partial) -> bool:
        """Whether some value of each of `constraints` has devices enough for the groups."""
        if not constraints:
            return self._flows(groups, state)
        constraint = constraints[0]
        mark = state.marks[constraint]
        values: dict[int, None] = {}
        for group in groups:
            for option in group.options:
                for value, devices in self._where.get((option.demand, constraint), {}).items():
                    if devices & option.mask and mark & value:
                        values[value] = None
        for value in values:
            restricted = self._restrict(groups, constraint, value)
            if restricted is not None and self._has_match(constraints[1:], restricted, state):
                return True
        # Alternatives that the constraint does not concern need no value of it.
        return any(
            all((o.demand, constraint) not in self._where for o in g.options) or len(g.options) > 1
            for g in groups
        ) and self._has_match(constraints[1:], groups, state)

    def _restrict(self, groups: Sequence[Group], constraint: int, value: int) -> list[Group] | None:
        restricted: list[Group] = []
        for group in groups:
            options: list[Option] = []
            for option in group.options:
                devices = self._where.get((option.demand, constraint))
                mask = option.mask if devices is None else option.mask & devices.get(value, 0)
                if mask.bit_count() >= option.need:
                    options.append(option._replace(mask=mask))
            if not options:
                return None
            restricted.append(group_of(options))
        return restricted


def group_of(options: Sequence[Option]) -> Group:
    mask = 0
    for option in options:
        mask |= option.mask
    return Group(min(o.need for o in options), mask, tuple(options))


def _times(room: Sequence[int], need: Sequence[int]) -> int:
    """How often `need` fits into `room`."""
    if len(need) == 1:
        return room[0] // need[0] if need[0] > 0 else _MANY
    return min([have // amount for have, amount in zip(room, need, strict=True) if amount > 0], default=_MANY)
