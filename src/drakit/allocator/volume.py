"""Bounds on sums: what all requests need of a resource against what is left of it, wherever it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from drakit.allocator.problem import Demanded, Problem

if TYPE_CHECKING:
    from drakit.allocator.bounds import Group
    from drakit.allocator.search import Partial


class Volumes:
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
