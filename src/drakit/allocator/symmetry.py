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

from collections.abc import Hashable
from typing import TYPE_CHECKING

from drakit.allocator.problem import Demanded, Problem

if TYPE_CHECKING:
    from drakit.allocator.search import Partial


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
    """Kinds and state keys of one problem."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._has_admin = any(d.is_admin for d in problem.demands)
        self._rows = _rows_of(problem)
        looks = [self._look(position) for position in range(problem.size)]
        numbers: dict[Hashable, int] = {}
        self._kinds = [numbers.setdefault(look, len(numbers)) for look in looks]
        self._shapes: dict[Hashable, int] = {}
        self._moods: dict[Hashable, int] = {}
        self._active: dict[int, list[int]] = {}
        for index, (constraint, _) in enumerate(self._rows):
            self._active.setdefault(problem.constraint_claims[constraint], []).append(index)
        self._cells = [self._cell(positions) for positions in self._connected()]

    def kind(self, position: int, state: Partial) -> Hashable:
        """Equal for devices that nothing in the problem or in the state tells apart."""
        share = self._problem.shareable.get(position)
        if share is None:
            return self._kinds[position]
        return (self._kinds[position], state.shares[share])

    def key(self, choice: Hashable, claim: int, state: Partial, todo: int) -> Hashable:
        """Equal for states of which all lead to a solution or none does.

        `choice` says what is to be chosen next, `claim` for which claim, `todo` the devices still open.
        """
        marks = state.marks
        active = self._active.get(claim, [])
        moods = [self._mood(cell, state, todo, active) for cell in self._cells]
        constraints = [self._rows[index][0] for index in active]
        started = tuple([marks[c] != self._problem.marks[c] for c in constraints])
        own = state.own if self._has_admin else 0
        moods.sort()
        return (choice, own, started, tuple(moods))

    def _mood(self, cell: _Cell, state: Partial, todo: int, active: list[int]) -> int:
        """A number for what the cell is like in the state; equal for cells that could be exchanged."""
        marks = state.marks
        used, todo = state.used & cell.mask, todo & cell.mask
        drawn = tuple([(state.left[index], state.groups[index]) for index in cell.sets])
        seen = tuple(
            [tuple([marks[self._rows[row][0]] & label != 0 for label in cell.labels[row]]) for row in active]
        )
        shares = state.shares
        rooms = tuple([tuple([shares[share] for _, share in row]) for row in cell.shared])
        key = (used, todo, drawn, seen, rooms)
        mood = cell.known.get(key)
        if mood is None:
            counts = tuple([((kind & todo).bit_count(), (kind & ~used).bit_count()) for kind in cell.kinds])
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
            tuple([_role(demand, position) for demand in problem.demands]),
            tuple([values[position] for _, values in self._rows]),
            problem.needs.get(position),
            position in problem.shareable,
        )

    def _matters(self, position: int) -> bool:
        bit = 1 << position
        return any(
            (d.candidates | d.mines) & bit or position in d.all_positions for d in self._problem.demands
        )

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
            kind = self._kinds[position]
            if kind not in masks:
                shape.append(
                    (
                        bool(problem.taken >> position & 1),
                        tuple([_role(demand, position) for demand in problem.demands]),
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


def _rows_of(problem: Problem) -> list[tuple[int, tuple[int, ...]]]:
    """Constraints with each device's values; one twice where demands see different values of a device."""
    return list(dict.fromkeys(row for demand in problem.demands for row in demand.values))


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found
