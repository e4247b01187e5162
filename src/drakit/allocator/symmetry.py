"""Which devices, and which states of the search, are the same but for names.

Theory of operation
-------------------
Two devices are of one kind when everything the problem says of them is equal. The kinds split into cells:
devices that draw on the same counters, or share a value that a constraint looks at, belong to one cell
(a GPU with its partitions; the devices of a NUMA node). Devices tied to no others form one cell together.

Cells are alike when their kinds correspond one by one, with values and counter sets numbered in the order
in which they appear. The key of a state says of every cell what it is like and what is left of it, and of
the state as a whole which choice comes next. It does not say which cell is which: states with equal keys
can be turned into each other by exchanging cells, so either both lead to a solution or neither does.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from drakit.allocator.problem import Demanded, Problem

if TYPE_CHECKING:
    from drakit.allocator.search import Partial

_STAGES = 8


class _Cell:
    """`kinds` are the devices of each kind as a mask, `labels` of each row of values the cell's values in the
    order of appearance, `sets` its counter sets in that order, `shared` of each kind the shareable devices
    with their share, `shape` what is equal for cells alike."""

    __slots__ = ("kinds", "known", "labels", "mask", "sets", "shape", "shared")

    def __init__(
        self,
        kinds: list[int],
        labels: list[list[int]],
        sets: list[int],
        shared: list[list[tuple[int, int]]],
        shape: int,
    ) -> None:
        self.kinds = kinds
        self.mask = sum(kinds)
        self.shared = shared
        self.labels = labels
        self.sets = sets
        self.shape = shape
        self.known: dict[Hashable, int] = {}


class Fingerprints:
    """Kinds and state keys of one problem. Requests served already do not matter, save for some where there
    are many: what a stage of the search looks like takes time to find out."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        first: dict[Hashable, int] = {}
        alike = [first.setdefault(_content(d), index) for index, d in enumerate(problem.demands)]
        ahead: set[int] = set()
        self._ahead: list[frozenset[int]] = []
        """From each request on the demands, one of those that are equal but for claim and count."""
        for alternatives in reversed(problem.requests):
            ahead |= {alike[index] for index in alternatives}
            self._ahead.append(frozenset(ahead))
        self._ahead.reverse()
        self._stages: dict[frozenset[int], _Stage] = {}
        self._stride = -(-len(problem.requests) // _STAGES)
        self._last_admin = {
            problem.claim_of[number]: number
            for number, alternatives in enumerate(problem.requests)
            if any(problem.demands[index].is_admin for index in alternatives)
        }
        """Claim -> its last request with admin access: up to there it matters which devices are its own."""

    def _stage(self, request: int) -> _Stage:
        ahead = self._ahead[request - request % self._stride]
        stage = self._stages.get(ahead)
        if stage is None:
            demands = [self._problem.demands[index] for index in sorted(ahead)]
            stage = self._stages[ahead] = _Stage(self._problem, demands)
        return stage

    def kind(self, request: int, position: int, state: Partial) -> Hashable:
        """Equal for devices that nothing in the state or from `request` on tells apart. Admin access may be
        to one that the pod uses already, or to one that others may still want."""
        kind = self._stage(request).kinds[position]
        share = self._problem.shareable.get(position)
        return (kind, state.used >> position & 1) if share is None else (kind, state.shares[share])

    def key(self, choice: tuple[int, int, int, int | None], state: Partial, todo: int) -> Hashable:
        """Equal for states of which all lead to a solution or none does.

        `choice` says what is to be chosen next, the request first, `todo` the devices still open.
        """
        claim = self._problem.claim_of[choice[0]]
        own = state.own if choice[0] <= self._last_admin.get(claim, -1) else 0
        return (choice, *self._stage(choice[0]).key(claim, state, todo, own))


class _Stage:
    """The devices as `demands` see them, which are all that are still to be served."""

    def __init__(self, problem: Problem, demands: Sequence[Demanded]) -> None:
        self._problem = problem
        self._demands = demands
        self._rows = _rows_of(demands)
        looks = [self._look(position) for position in range(problem.size)]
        numbers: dict[Hashable, int] = {}
        self.kinds = [numbers.setdefault(look, len(numbers)) for look in looks]
        self._shapes: dict[Hashable, int] = {}
        self._moods: dict[Hashable, int] = {}
        self._active: dict[int, list[int]] = {}
        for index, (constraint, _) in enumerate(self._rows):
            self._active.setdefault(problem.constraint_claims[constraint], []).append(index)
        self._cells = [self._cell(positions) for positions in self._connected()]

    def key(self, claim: int, state: Partial, todo: int, own: int) -> tuple[Hashable, ...]:
        marks = state.marks
        active = self._active.get(claim, [])
        moods = [self._mood(cell, state, todo, own, active) for cell in self._cells]
        constraints = [self._rows[index][0] for index in active]
        started = tuple([marks[c] != self._problem.marks[c] for c in constraints])
        moods.sort()
        return (started, tuple(moods))

    def _mood(self, cell: _Cell, state: Partial, todo: int, own: int, active: list[int]) -> int:
        """A number for what the cell is like in the state; equal for cells that could be exchanged."""
        marks = state.marks
        used, todo, own = state.used & cell.mask, todo & cell.mask, own & cell.mask
        drawn = tuple([(state.left[index], state.groups[index]) for index in cell.sets])
        seen = tuple(
            [tuple([marks[self._rows[row][0]] & label != 0 for label in cell.labels[row]]) for row in active]
        )
        shares = state.shares
        rooms = tuple([tuple([shares[share] for _, share in row]) for row in cell.shared])
        key = (used, todo, own, drawn, seen, rooms)
        mood = cell.known.get(key)
        if mood is None:
            parts = (todo, ~used, todo & ~used, own)
            counts = tuple([tuple([(kind & part).bit_count() for part in parts]) for kind in cell.kinds])
            alike = tuple(
                [tuple(sorted([(todo >> p & 1, *shares[share]) for p, share in row])) for row in cell.shared]
            )
            mood = self._moods.setdefault((cell.shape, counts, drawn, seen, alike), len(self._moods))
            cell.known[key] = mood
        return mood

    def _look(self, position: int) -> Hashable:
        problem = self._problem
        bit = 1 << position
        return (
            bool(problem.taken & bit),
            tuple([_role(demand, position) for demand in self._demands]),
            tuple([values[position] for _, values in self._rows]),
            problem.needs.get(position),
            position in problem.shareable,
        )

    def _matters(self, position: int) -> bool:
        bit = 1 << position
        return any((d.candidates | d.mines) & bit or position in d.all_positions for d in self._demands)

    def _connected(self) -> list[list[int]]:
        """Positions by cell, those tied to no others in one list."""
        problem = self._problem
        parent = list(range(problem.size))

        def find(position: int) -> int:
            while parent[position] != position:
                parent[position] = parent[parent[position]]
                position = parent[position]
            return position

        first: dict[Hashable, int] = {}
        tied: set[int] = set()

        def tie(what: Hashable, position: int) -> None:
            tied.add(position)
            parent[find(position)] = find(first.setdefault(what, position))

        for position in range(problem.size):
            for index, _, _ in problem.needs.get(position, ()):
                tie(("set", index), position)
            for constraint, values in self._rows:
                for value in _bits(values[position]):
                    tie((constraint, value), position)
        cells: dict[int, list[int]] = {}
        for position in range(problem.size):
            if not self._matters(position):
                continue
            cells.setdefault(find(position) if position in tied else -1, []).append(position)
        return list(cells.values())

    def _cell(self, positions: list[int]) -> _Cell:
        problem = self._problem
        masks: dict[int, int] = {}
        labels: list[dict[int, int]] = [{} for _ in self._rows]
        sets: dict[int, int] = {}
        shape: list[Hashable] = []
        for position in positions:
            kind = self.kinds[position]
            if kind not in masks:
                shape.append(
                    (
                        bool(problem.taken >> position & 1),
                        tuple([_role(demand, position) for demand in self._demands]),
                        position in problem.shareable,
                        tuple(
                            [
                                tuple([known.setdefault(v, len(known)) for v in _bits(values[position])])
                                for known, (_, values) in zip(labels, self._rows, strict=True)
                            ]
                        ),
                        tuple(
                            [
                                (sets.setdefault(index, len(sets)), amounts, groups)
                                for index, amounts, groups in problem.needs.get(position, ())
                            ]
                        ),
                    )
                )
            masks[kind] = masks.get(kind, 0) | 1 << position
        sizes = tuple([mask.bit_count() for mask in masks.values()])
        shares = problem.shareable
        shared = [[(p, shares[p]) for p in _bits(mask) if p in shares] for mask in masks.values()]
        number = self._shapes.setdefault((tuple(shape), sizes), len(self._shapes))
        values = [[1 << value for value in known] for known in labels]
        return _Cell(list(masks.values()), values, list(sets), [row for row in shared if row], number)


def _role(demand: Demanded, position: int) -> Hashable:
    """What the device is to the demand.

    A request for all devices under a constraint takes them in order, and what stops it first decides
    between no solution and an error: there no device stands for another.
    """
    bit = 1 << position
    in_all: Hashable = demand.is_all and position in demand.all_positions
    if in_all and demand.values:
        in_all = position
    return (
        bool(demand.candidates & bit),
        bool(demand.mines & bit),
        bool(demand.tolerable & bit),
        in_all,
        demand.consumes.get(position),
    )


def _content(demand: Demanded) -> Hashable:
    """Equal for demands to which every device is the same."""
    return (
        demand.candidates,
        demand.mines,
        demand.tolerable,
        demand.is_all,
        demand.all_positions,
        tuple(demand.traps.items()),
        demand.values,
        tuple(demand.consumes.items()),
    )


def _rows_of(demands: Sequence[Demanded]) -> list[tuple[int, tuple[int, ...]]]:
    """Constraints with each device's values; one twice where demands see different values of a device."""
    return list(dict.fromkeys(row for demand in demands for row in demand.values))


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found
