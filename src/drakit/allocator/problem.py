"""What the search works on: numbers only, no names.

A problem is one plan (claims and classes) on one kind of node in one state of use. Nodes that look alike
share it and its answer. Devices are positions, sets of devices are integers with a bit a position, sets of
attribute values are integers with a bit a value (numbered within the problem, one numbering a constraint).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from drakit.allocator.search import Partial

Need = tuple[int, tuple[tuple[int, int], ...], int]
"""A counter set, ((counter, amount), ...) taken from it, and the compatibility groups as bits."""


class Demanded(Struct, frozen=True, kw_only=True):
    """One alternative of a request on this kind of node."""

    claim: int
    count: int
    is_all: bool
    is_admin: bool
    candidates: int
    """Devices it may take as far as that depends on the device alone."""
    mines: int
    """Devices on which a selector or a derived attribute fails."""
    traps: Mapping[int, int]
    """Of each device on which a derived attribute fails, and no selector, how many of `values` are looked at
    before the constraint that asks for it."""
    all_positions: tuple[int, ...]
    tolerable: int
    """For all devices: those with no taint in the way."""
    values: tuple[tuple[int, tuple[int, ...]], ...]
    """(constraint, values of each device) of the constraints that apply to it."""
    consumes: Mapping[int, tuple[int, ...]]
    """Of each shareable candidate what it takes of each capacity, in the order of `Problem.shareable`."""


class Problem:
    """See the fields; `take` is the one rule book of what a choice changes."""

    def __init__(
        self,
        *,
        size: int,
        taken: int,
        requests: Sequence[tuple[int, ...]],
        claim_of: Sequence[int],
        demands: Sequence[Demanded],
        is_match: Sequence[bool],
        constraint_claims: Sequence[int],
        needs: Mapping[int, tuple[Need, ...]],
        left: tuple[tuple[int, ...], ...],
        counter_classes: Sequence[tuple[int, ...]],
        groups: tuple[int | None, ...],
        shareable: Mapping[int, int],
        shares: tuple[tuple[bool, tuple[int, ...]], ...],
    ) -> None:
        self.size = size
        self.taken = taken
        """Devices other claims hold."""
        self.requests = requests
        """Of each request, all claims in a row, the alternatives as indexes into `demands`."""
        self.claim_of = claim_of
        self.demands = demands
        self.is_match = is_match
        """Of each constraint: matchAttribute or distinctAttribute."""
        self.constraint_claims = constraint_claims
        self.marks = tuple(-1 if match else 0 for match in is_match)
        self.needs = needs
        """Counters the device at a position consumes."""
        self.left = left
        self.counter_classes = counter_classes
        """Of each counter set the class of each counter: counters that differ by a number only are of one."""
        self.groups = groups
        self.shareable = shareable
        """Position of a shareable device -> its index in `shares`."""
        self.shares = shares

    def take(self, demand: Demanded, position: int, state: Partial) -> Partial | None:
        """The state after giving the device to the demand, or None when it does not fit."""
        used, own, left, shares, marks, groups = state
        share = self.shareable.get(position)
        needs = self.needs.get(position)
        if share is not None:
            is_used, room = shares[share]
            rest = tuple([have - need for have, need in zip(room, demand.consumes[position], strict=True)])
            if rest and min(rest) < 0:
                return None
            shares = (*shares[:share], (True, rest), *shares[share + 1 :])
            if is_used:
                needs = None
        else:
            used |= 1 << position
            own |= 1 << position
        if needs is not None:
            spent = _spend(needs, left, groups)
            if spent is None:
                return None
            left, groups = spent
        if demand.values:
            allowed = self._mark(demand, position, marks)
            if allowed is None:
                return None
            marks = allowed
        return state.__class__(used, own, left, shares, marks, groups)

    def is_sprung(self, demand: Demanded, position: int, state: Partial) -> bool:
        """Whether the trap at `position` is reached: nothing looked at before keeps the device away."""
        return self.reaches_constraints(demand, position, state) and not self.violates(
            demand, position, state
        )

    def reaches_constraints(self, demand: Demanded, position: int, state: Partial) -> bool:
        """Whether the device fits as far as that is looked at before the constraints. Of requests for all
        devices the capacity comes after them."""
        needs = self.needs.get(position)
        share = self.shareable.get(position)
        if share is not None:
            is_used, room = state.shares[share]
            wanted = demand.consumes[position]
            if not demand.is_all and any(n > have for n, have in zip(wanted, room, strict=True)):
                return False
            needs = None if is_used else needs
        return needs is None or _spend(needs, state.left, state.groups) is not None

    def violates(self, demand: Demanded, position: int, state: Partial) -> bool:
        """Whether a constraint keeps the device away, one before the trap if it is one."""
        values = demand.values[: demand.traps.get(position)]
        return self._mark(replace(demand, values=values), position, state.marks) is None

    def _mark(self, demand: Demanded, position: int, marks: tuple[int, ...]) -> tuple[int, ...] | None:
        changed = list(marks)
        for constraint, values in demand.values:
            value = values[position]
            if not value:
                return None
            if self.is_match[constraint]:
                common = changed[constraint] & value
                if not common:
                    return None
                changed[constraint] = common
            elif changed[constraint] & value:
                return None
            else:
                changed[constraint] |= value
        return tuple(changed)

    def parts(self) -> list[Problem]:
        """Requests that constraints tie together, each lot as a problem of its own: when one of them has no
        solution on its own, the whole has none. None where a search might end in an error."""
        if any(d.mines or (d.is_all and d.values) for d in self.demands):
            return []
        lots: list[tuple[set[int], list[int]]] = []
        for request, alternatives in enumerate(self.requests):
            ties = {constraint for number in alternatives for constraint, _ in self.demands[number].values}
            members = [request]
            for lot in [lot for lot in lots if lot[0] & ties]:
                lots.remove(lot)
                ties |= lot[0]
                members = lot[1] + members
            if ties:
                lots.append((ties, sorted(members)))
        return [self._part(members) for _, members in lots if len(members) < len(self.requests)]

    def alone(self, number: int, count: int, mask: int) -> Problem:
        """What it takes to give a demand `count` of the devices of `mask`, whatever constraints say."""
        demand = replace(self.demands[number], count=count, is_all=False, candidates=mask, mines=0, values=())
        return self._with([(0,)], [demand.claim], [demand])

    def _part(self, requests: Sequence[int]) -> Problem:
        numbers = [number for request in requests for number in self.requests[request]]
        places = {number: place for place, number in enumerate(numbers)}
        return self._with(
            [tuple([places[n] for n in self.requests[request]]) for request in requests],
            [self.claim_of[request] for request in requests],
            [self.demands[number] for number in numbers],
        )

    def _with(self, requests: list[tuple[int, ...]], claim_of: list[int], demands: list[Demanded]) -> Problem:
        return Problem(
            size=self.size,
            taken=self.taken,
            requests=requests,
            claim_of=claim_of,
            demands=demands,
            is_match=self.is_match,
            constraint_claims=self.constraint_claims,
            needs=self.needs,
            left=self.left,
            counter_classes=self.counter_classes,
            groups=self.groups,
            shareable=self.shareable,
            shares=self.shares,
        )

    def is_hopeless(self) -> bool:
        """Whether some request cannot be served whatever is chosen for those before it.

        False as well when a selector may fail before that request is reached: that must be found out.
        """
        for alternatives in self.requests:
            is_possible = False
            for index in alternatives:
                demand = self.demands[index]
                if demand.mines or (demand.is_all and demand.values):
                    return False
                free = demand.candidates if demand.is_admin else demand.candidates & ~self.taken
                is_possible = is_possible or free.bit_count() >= demand.count
            if not is_possible:
                return True
        return False


def _spend(
    needs: Sequence[Need], left: tuple[tuple[int, ...], ...], groups: tuple[int | None, ...]
) -> tuple[tuple[tuple[int, ...], ...], tuple[int | None, ...]] | None:
    remaining, possible = list(left), list(groups)
    for index, amounts, wanted in needs:
        counters = list(remaining[index])
        for counter, amount in amounts:
            counters[counter] -= amount
            if counters[counter] < 0:
                return None
        remaining[index] = tuple(counters)
        common = possible[index]
        if common is None:
            possible[index] = wanted
        elif wanted & common or (not wanted and not common):
            possible[index] = wanted & common
        else:
            return None
    return tuple(remaining), tuple(possible)
