"""Bin completion: an exact search for a packing, one bin after the other.

Theory of operation
-------------------
Bins are filled in a fixed order, small ones first, each with all sets of items that may be part of a
packing: as many of the biggest as fit first. What is left for the bins behind is a state; one that failed is
not looked at again, whichever items it came from. Items of one type are not told apart, nor are bins alike:
where only such are left, the first has the biggest item.

A filling is given up when it wastes more than can be spared. How full bins can get at most follows from
the sums that sizes of items can have, as bits of a number: where all rooms must be filled to the brim most
fillings are seen not to be possible before they are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from math import gcd
from typing import NamedTuple

Vector = tuple[int, ...]
"""What is taken of, or left in, each dimension of a bin."""

Filling = tuple[tuple[int, int], ...]
"""(type, count) of the items in a bin."""

_ANY = 0
"""In place of the sums that items can have, as bits: there would be too many."""

_WIDEST = 1 << 14
"""Sums are looked at where a room is at most so many times the common divisor of the sizes."""


class Bin(NamedTuple):
    """`takes` is what an item of each type takes of it, None where none may be there; `limits` is how many
    items of each type may be. Bins of one `sort` have the same dimensions."""

    sort: str
    number: int
    room: Vector
    takes: tuple[Vector | None, ...]
    limits: tuple[int, ...]


class Attempt:
    """One search for a packing of `needs` items of each type, with at most `budget` fillings looked at."""

    def __init__(self, bins: Sequence[Bin], needs: Sequence[int], budget: int) -> None:
        self._budget = budget
        self.tried = 0
        self._bins = sorted(_in_units(bins), key=lambda one: (one.sort, one.room, one.number))
        self._needs = tuple(needs)
        shapes: dict[Hashable, int] = {}
        self._shapes = [shapes.setdefault((b.room, b.takes, b.limits), len(shapes)) for b in self._bins]
        self._offsets, self._width = _offsets(self._bins)
        self._least = [self._at_least(kind) for kind in range(len(needs))]
        self._biggest_first = self._by_size()
        self._dead: set[tuple[int, Vector]] = set()
        self._filled: list[Filling] = []

    @property
    def is_spent(self) -> bool:
        return self.tried > self._budget

    def run(self) -> list[tuple[Bin, Filling]] | None:
        """What is in each bin; None when there is no packing, or none was found before the budget ended."""
        if not self._fill(0, self._needs):
            return None
        return list(zip(self._bins, self._filled, strict=False))

    def _at_least(self, kind: int) -> Vector:
        """What an item takes of every dimension at least, wherever it goes."""
        rows: list[Vector] = []
        for one, offset in zip(self._bins, self._offsets, strict=True):
            takes = one.takes[kind]
            if takes is not None:
                rows.append((0,) * offset + takes + (0,) * (self._width - offset - len(takes)))
        return least_of(rows) if rows else (0,) * self._width

    def _by_size(self) -> list[int]:
        total = [0] * self._width
        for one, offset in zip(self._bins, self._offsets, strict=True):
            for dimension, amount in enumerate(one.room):
                total[offset + dimension] += amount

        def size(kind: int) -> float:
            shares = zip(self._least[kind], total, strict=True)
            return max([amount / room for amount, room in shares if room], default=0.0)

        return sorted(range(len(self._needs)), key=size, reverse=True)

    # --- filling -------------------------------------------------------------------------------

    def _fill(self, depth: int, left: Vector) -> bool:
        """Whether the bins from `depth` on hold all that is left; if so, `_filled` says how."""
        if not any(left):
            return True
        if depth == len(self._bins) or (depth, left) in self._dead:
            return False
        for filling in self._fillings(depth, left):
            self._filled.append(filling)
            rest = list(left)
            for kind, count in filling:
                rest[kind] -= count
            if self._fill(depth + 1, tuple(rest)):
                return True
            self._filled.pop()
        if not self.is_spent:
            self._dead.add((depth, left))
        return False

    def _fillings(self, depth: int, left: Vector) -> Iterator[Filling]:
        """Ways to fill the bin at `depth` that waste no more than can be spared and leave no room for any
        item: such an item could as well be moved there."""
        spare = self._spare(depth, left)
        if spare is None:
            return
        one = self._bins[depth]
        kinds = [kind for kind in self._biggest_first if left[kind] and one.takes[kind] is not None]
        most = [min(left[kind], one.limits[kind]) for kind in kinds]
        reach = _sums_from(one, kinds, most)
        # Where only bins alike are left, the biggest item is in this one.
        last_start = min(1, len(kinds)) if len(set(self._shapes[depth:])) == 1 else len(kinds)
        stack: list[tuple[int, Vector, tuple[int, ...]]] = [(0, one.room, ())]
        while stack:
            start, room, items = stack.pop()
            if all([have <= some for have, some in zip(room, spare, strict=True)]):
                filling = tuple([(kinds[at], count) for at, count in Counter(items).items()])
                if not _has_place(one, room, kinds, most, dict(filling)):
                    yield filling
            following: list[tuple[int, Vector, tuple[int, ...]]] = []
            for at in range(start, len(kinds) if items else last_start):
                if _wastes(room, reach[at], spare):
                    break
                if at == start and items.count(at) == most[at]:
                    continue
                self.tried += 1
                takes = one.takes[kinds[at]] or ()
                rest = tuple([have - amount for have, amount in zip(room, takes, strict=True)])
                if (not rest or min(rest) >= 0) and not _wastes(rest, reach[at], spare):
                    following.append((at, rest, (*items, at)))
            stack += reversed(following)
            if self.is_spent:
                return

    def _spare(self, depth: int, left: Vector) -> Vector | None:
        """How much of each dimension of the bin at `depth` may stay unused; None when what is left does not
        fit into the bins from there on, filled as full as they can be."""
        spare = [0] * self._width
        for kind, count in enumerate(left):
            if count:
                spare = [have - count * least for have, least in zip(spare, self._least[kind], strict=True)]
        known: dict[int, Vector] = {}
        kinds = [kind for kind, count in enumerate(left) if count]
        for number in range(depth, len(self._bins)):
            one, offset = self._bins[number], self._offsets[number]
            full = known.get(self._shapes[number])
            if full is None:
                usable = [kind for kind in kinds if one.takes[kind] is not None]
                most = [min(left[kind], one.limits[kind]) for kind in usable]
                sums = _sums_from(one, usable, most)[0]
                full = tuple([_best(have, reach) for have, reach in zip(one.room, sums, strict=True)])
                known[self._shapes[number]] = full
            for dimension, amount in enumerate(full):
                spare[offset + dimension] += amount
        if min(spare, default=0) < 0:
            return None
        one, offset = self._bins[depth], self._offsets[depth]
        full = known[self._shapes[depth]]
        unused = [have - amount for have, amount in zip(one.room, full, strict=True)]
        return tuple([spare[offset + d] + amount for d, amount in enumerate(unused)])


def least_of(rows: Sequence[Vector]) -> Vector:
    """The least of each column."""
    return tuple(map(min, zip(*rows, strict=True)))


def _offsets(bins: Sequence[Bin]) -> tuple[list[int], int]:
    """Where the dimensions of each bin stand among those of all, and how many there are."""
    widths: dict[str, int] = {}
    for one in bins:
        widths[one.sort] = max(widths.get(one.sort, 0), len(one.room))
    starts: dict[str, int] = {}
    width = 0
    for sort, count in widths.items():
        starts[sort] = width
        width += count
    return [starts[one.sort] for one in bins], width


def _in_units(bins: Sequence[Bin]) -> list[Bin]:
    """The bins with their amounts in units of the common divisor of all sizes: small numbers."""
    units: dict[tuple[str, int], int] = {}
    for one in bins:
        for dimension in range(len(one.room)):
            sizes = [takes[dimension] for takes in one.takes if takes is not None]
            units[one.sort, dimension] = gcd(units.get((one.sort, dimension), 0), *sizes)

    def in_units(one: Bin, amounts: Vector) -> Vector:
        return tuple([amount // (units[one.sort, d] or 1) for d, amount in enumerate(amounts)])

    return [
        one._replace(
            room=in_units(one, one.room),
            takes=tuple([None if takes is None else in_units(one, takes) for takes in one.takes]),
        )
        for one in bins
    ]


def _sums_from(one: Bin, kinds: Sequence[int], most: Sequence[int]) -> list[Vector]:
    """For each place in `kinds`, of each dimension the sums that items of kinds there and behind can have."""
    columns: list[list[int]] = []
    for dimension, room in enumerate(one.room):
        sums = [1]
        mask = (2 << room) - 1 if room <= _WIDEST else 0
        for kind, count in zip(reversed(kinds), reversed(most), strict=True):
            takes = one.takes[kind]
            sums.append(_with(sums[-1], 0 if takes is None else takes[dimension], count, mask))
        columns.append(sums[::-1] if mask else [_ANY] * len(sums))
    return list(zip(*columns, strict=True)) if columns else [()] * (len(kinds) + 1)


def _with(sums: int, size: int, count: int, mask: int) -> int:
    """The sums with up to `count` items of `size` more: by powers of two."""
    chunk, count = 1, min(count, (mask.bit_length() - 1) // size if size and mask else 0)
    while count:
        chunk = min(chunk, count)
        sums |= sums << size * chunk & mask
        count -= chunk
        chunk *= 2
    return sums


def _wastes(room: Vector, sums: Vector, spare: Vector) -> bool:
    """Whether more of a dimension than can be spared stays unused, whatever of the sums is put in."""
    for have, reach, some in zip(room, sums, spare, strict=True):
        if have > some and have - _best(have, reach) > some:
            return True
    return False


def _best(have: int, sums: int) -> int:
    """The most of `have` that the sums can fill."""
    return have if sums == _ANY else (sums & ((2 << have) - 1)).bit_length() - 1


def _has_place(
    one: Bin, room: Vector, kinds: Sequence[int], most: Sequence[int], filling: dict[int, int]
) -> bool:
    """Whether one more item fits into the bin."""
    for kind, count in zip(kinds, most, strict=True):
        takes = one.takes[kind]
        if takes is None or filling.get(kind, 0) == count:
            continue
        if all([amount <= have for amount, have in zip(takes, room, strict=True)]):
            return True
    return False
