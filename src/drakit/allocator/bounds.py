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

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from drakit.allocator.problem import Demanded, Problem
from drakit.model.resource import MAX_RESULTS

if TYPE_CHECKING:
    from drakit.allocator.search import Partial

_MANY = 1 << 30


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


class _Place(NamedTuple):
    """Room for `total` devices, of each group (in order) at most `per_group`."""

    total: int
    per_group: tuple[int, ...]


class Bounds:
    """The bounds of one problem. `allow` keeps what it learns about counters between calls."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._counters = _Counters(problem)
        self._volumes = _Volumes(problem)
        self._where: dict[tuple[int, int], dict[int, int]] = {}
        """(demand, constraint) -> value bit -> devices with that value."""
        for index, demand in enumerate(problem.demands):
            for constraint, values in demand.values:
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
            option = Option(slots, self.usable(demand, todo, state), demand)
            if option.mask.bit_count() < slots:
                return False
            groups.append(Group(slots, option.mask, (option,)))
            count += slots
            request += 1
        return (
            self._later(request, count, state, plain, groups)
            and self._volumes.suffice(groups, state)
            and self._flows(groups, state)
            and self._constraints_hold(groups, state)
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
        for position, share in problem.shareable.items():
            if mask >> position & 1:
                room = state.shares[share][1]
                if any(have < need for have, need in zip(room, demand.consumes[position], strict=True)):
                    mask &= ~(1 << position)
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

    # --- flow ----------------------------------------------------------------------------------

    def _flows(self, groups: Sequence[Group], state: Partial) -> bool:
        """Whether the groups find enough places together."""
        return not groups or self.served(groups, state) >= sum([group.need for group in groups])

    def served(self, groups: Sequence[Group], state: Partial) -> int:
        """An upper bound of how many devices the groups can be given together."""
        merged: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for group in groups:
            entry = merged.setdefault((group.mask, tuple(o.demand for o in group.options)), [0, 0])
            entry[0] += group.need
            entry[1] += 1
        return _served([need for need, _ in merged.values()], self._places(merged, state))

    def _places(self, merged: dict[tuple[int, tuple[int, ...]], list[int]], state: Partial) -> list[_Place]:
        problem = self._problem
        masks = [mask for mask, _ in merged]
        special = self._counters.members
        places: list[_Place] = []
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
                places.append(_Place(total, tuple([self._counters.at_most(m, state.left) for m in inside])))
        parts = [0]
        for mask in masks:
            parts[0] |= mask & ~special
        for mask in masks:
            parts = [part for whole in parts for part in (whole & mask, whole & ~mask) if part]
        for part in parts:
            size = part.bit_count()
            places.append(_Place(size, tuple([size if part & mask else 0 for mask in masks])))
        return places

    def _shared(
        self, position: int, room: tuple[int, ...], merged: dict[tuple[int, tuple[int, ...]], list[int]]
    ) -> _Place:
        """How often a device can be shared by each group, and at all."""
        per_group: list[int] = []
        least: tuple[int, ...] | None = None
        for (mask, demands), (_, requests) in merged.items():
            if not mask >> position & 1:
                per_group.append(0)
                continue
            needs = [
                self._problem.demands[d].consumes[position]
                for d in demands
                if position in self._problem.demands[d].consumes
            ]
            need = tuple(min(column) for column in zip(*needs, strict=True))
            least = need if least is None else tuple(map(min, least, need))
            per_group.append(min(requests, _times(room, need)))
        return _Place(_times(room, least or ()), tuple(per_group))

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
        """Whether there are enough values for every device to have its own."""
        always = [g for g in groups if all((o.demand, constraint) in self._where for o in g.options)]
        values: dict[int, list[int]] = {}
        for index, group in enumerate(always):
            for option in group.options:
                for value, devices in self._where[option.demand, constraint].items():
                    if devices & option.mask:
                        values.setdefault(value, [0] * len(always))[index] = 1
        return _suffices([g.need for g in always], [_Place(1, tuple(row)) for row in values.values()])

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
    times = [have // amount for have, amount in zip(room, need, strict=False) if amount > 0]
    return min(times, default=_MANY)


def _suffices(needs: Sequence[int], places: Sequence[_Place]) -> bool:
    return _served(needs, places) >= sum(needs)


def _served(needs: Sequence[int], places: Sequence[_Place]) -> int:
    """How much of `needs` fits through `places`: greedy first, then along augmenting paths."""
    if len(needs) == 1:
        return min(needs[0], sum([min(place.total, place.per_group[0]) for place in places]))
    free = [place.total for place in places]
    flow = [[0] * len(places) for _ in needs]
    served = 0
    for group, need in enumerate(needs):
        served += need
        for index, place in enumerate(places):
            amount = min(need, free[index], place.per_group[group])
            flow[group][index] += amount
            free[index] -= amount
            need -= amount
        while need and _augment(group, places, flow, free):
            need -= 1
        served -= need
    return served


def _augment(start: int, places: Sequence[_Place], flow: list[list[int]], free: list[int]) -> bool:
    """Find one more unit for group `start` by moving others; False when there is none."""
    came: dict[int, tuple[int, int] | None] = {start: None}
    queue = [start]
    for group in queue:
        for index, place in enumerate(places):
            if flow[group][index] >= place.per_group[group]:
                continue
            if free[index]:
                free[index] -= 1
                _move(group, index, came, flow)
                return True
            for other in range(len(flow)):
                if other not in came and flow[other][index]:
                    came[other] = (group, index)
                    queue.append(other)
    return False


def _move(group: int, index: int, came: dict[int, tuple[int, int] | None], flow: list[list[int]]) -> None:
    flow[group][index] += 1
    while (step := came[group]) is not None:
        before, place = step
        flow[group][place] -= 1
        flow[before][place] += 1
        group = before


class _Counters:
    """How many partitions counters allow at once, at most."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.members = 0
        self.components: list[int] = []
        """Devices that draw on the same counters, directly or through others."""
        self._sets: dict[int, list[int]] = {}
        """Component -> its counter sets."""
        self._known: dict[tuple[int, tuple[tuple[int, ...], ...]], int] = {}
        self._short: dict[tuple[int, tuple[int, ...]], int] = {}
        self._by_set: dict[int, list[tuple[int, tuple[tuple[int, int], ...]]]] = {}
        self._tie()

    def _tie(self) -> None:
        shared: dict[int, set[int]] = {}
        masks: dict[int, int] = {}
        for position, rows in self._problem.needs.items():
            if position in self._problem.shareable:
                continue
            self.members |= 1 << position
            joined = {index for index, _, _ in rows}
            for index, amounts, _ in rows:
                self._by_set.setdefault(index, []).append((position, amounts))
                masks[index] = masks.get(index, 0) | 1 << position
                joined |= shared.get(index, set())
            for index in joined:
                shared[index] = joined
        for joined in {id(group): group for group in shared.values()}.values():
            component = 0
            for index in joined:
                component |= masks[index]
            self.components.append(component)
            self._sets[component] = sorted(joined)

    def short(self, left: tuple[tuple[int, ...], ...]) -> int:
        """Devices for which the counters do not suffice even alone."""
        found = 0
        for index, devices in self._by_set.items():
            key = (index, left[index])
            mask = self._short.get(key)
            if mask is None:
                mask = 0
                for position, amounts in devices:
                    if any(amount > left[index][counter] for counter, amount in amounts):
                        mask |= 1 << position
                self._short[key] = mask
            found |= mask
        return found

    def at_most(self, mask: int, left: tuple[tuple[int, ...], ...]) -> int:
        """An upper bound of how many devices of `mask`, all of one component, fit together."""
        if not mask:
            return 0
        sets = next(s for c, s in self._sets.items() if c & mask)
        key = (mask, tuple([left[index] for index in sets]))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._count(mask, sets, left)
        return known

    def _count(self, mask: int, sets: Sequence[int], left: tuple[tuple[int, ...], ...]) -> int:
        best = mask.bit_count()
        for index in sets:
            rows = [dict(amounts) for position, amounts in self._by_set[index] if mask >> position & 1]
            outside = mask.bit_count() - len(rows)
            alike: dict[int, list[int]] = {}
            for counter, kind in enumerate(self._problem.counter_classes[index]):
                alike.setdefault(kind, []).append(counter)
                best = min(best, outside + _fill([row.get(counter, 0) for row in rows], left[index][counter]))
            for counters in alike.values():
                needs = [sum(row.get(counter, 0) for counter in counters) for row in rows]
                best = min(best, outside + _fill(needs, sum(left[index][c] for c in counters)))
        return best


class _Volumes:
    """What all groups need at least of each resource, against all that is left of it anywhere.

    A resource is a class of counters over all sets, or a capacity (by its place in the order of names) of
    all shareable devices of a demand.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._least: dict[int, tuple[int, ...]] = {}
        self._kinds = 1 + max((kind for row in problem.counter_classes for kind in row), default=-1)
        columns = [len(room) for _, room in problem.shares]
        self._columns = columns[0] if columns and len(set(columns)) == 1 else 0
        """Capacities of every shareable device; 0 where they differ: then their volume is not looked at."""
        self._left: dict[tuple[int, tuple[int, ...]], tuple[int, ...]] = {}

    def suffice(self, groups: Sequence[Group], state: Partial) -> bool:
        if not self._kinds and not self._columns:
            return True
        total = [0] * (self._kinds + self._columns)
        for group in groups:
            rows = [
                tuple([option.need * amount for amount in self._of(option.demand)])
                for option in group.options
            ]
            for column, amounts in enumerate(zip(*rows, strict=True)):
                total[column] += min(amounts)
        if not any(total):
            return True
        room = [0] * len(total)
        for index, left in enumerate(state.left):
            for kind, amount in enumerate(self._by_kind(index, left)):
                room[kind] += amount
        if self._columns:
            for _, rest in state.shares:
                for column, amount in enumerate(rest):
                    room[self._kinds + column] += max(0, amount)
        return all(need <= have for need, have in zip(total, room, strict=True))

    def _by_kind(self, index: int, left: tuple[int, ...]) -> tuple[int, ...]:
        known = self._left.get((index, left))
        if known is None:
            sums = [0] * self._kinds
            for kind, amount in zip(self._problem.counter_classes[index], left, strict=True):
                sums[kind] += max(0, amount)
            known = self._left[index, left] = tuple(sums)
        return known

    def _of(self, number: int) -> tuple[int, ...]:
        """The least of each resource that any candidate of the demand takes."""
        least = self._least.get(number)
        if least is None:
            demand = self._problem.demands[number]
            rows = [
                self._takes(demand, position)
                for position in range(self._problem.size)
                if demand.candidates >> position & 1
            ]
            least = tuple(map(min, zip(*rows, strict=True))) if rows else (0,) * (self._kinds + self._columns)
            self._least[number] = least
        return least

    def _takes(self, demand: Demanded, position: int) -> tuple[int, ...]:
        row = [0] * (self._kinds + self._columns)
        if position in self._problem.shareable:
            if self._columns:
                row[self._kinds :] = demand.consumes[position]
            return tuple(row)
        for index, amounts, _ in self._problem.needs.get(position, ()):
            for counter, amount in amounts:
                row[self._problem.counter_classes[index][counter]] += amount
        return tuple(row)


def _fill(needs: list[int], room: int) -> int:
    """How many of `needs` fit into `room`, smallest first."""
    count = 0
    for need in sorted(needs):
        room -= need
        if room < 0:
            break
        count += 1
    return count
