"""Bin completion against trying every way to put items into bins."""

from __future__ import annotations

from itertools import product
from random import Random

from drakit.allocator.completion import Attempt, Bin


def puzzle(random: Random) -> tuple[list[Bin], list[int]]:
    """A few bins of one or two sorts and items that nearly fill them."""
    types = random.randint(1, 3)
    width = random.choice([1, 1, 2])
    unit = random.choice([1, 7, 10**12])
    sizes = [tuple(random.randint(0, 5) * unit for _ in range(width)) for _ in range(types)]
    bins = []
    for number in range(random.randint(1, 3)):
        sort = random.choice(["device", "device", "devices"])
        room = tuple(random.randint(2, 9) * unit for _ in range(width))
        takes = tuple(None if random.random() < 0.15 else size for size in sizes)
        limits = tuple(random.choice([1, 2, 9]) for _ in sizes)
        bins.append(Bin(sort, number, room, takes, limits))
    needs = [random.randint(0, 2) for _ in sizes]
    return bins, needs


def holds(bins: list[Bin], where: list[tuple[int, int]]) -> bool:
    """Whether items (type, index of its bin) fit."""
    for index, one in enumerate(bins):
        kinds = [kind for kind, place in where if place == index]
        takes = [one.takes[kind] for kind in kinds]
        if any(taken is None for taken in takes):
            return False
        if any(kinds.count(kind) > one.limits[kind] for kind in kinds):
            return False
        for dimension, room in enumerate(one.room):
            if sum(taken[dimension] for taken in takes if taken is not None) > room:
                return False
    return True


def brute_force(bins: list[Bin], needs: list[int]) -> bool:
    items = [kind for kind, need in enumerate(needs) for _ in range(need)]
    ways = product(range(len(bins)), repeat=len(items))
    return any(holds(bins, list(zip(items, places, strict=True))) for places in ways)


def test_brute_force() -> None:
    random = Random(7)
    answers = []
    for _ in range(200):
        bins, needs = puzzle(random)
        attempt = Attempt(bins, needs, 10_000)
        found = attempt.run()
        assert not attempt.is_spent
        assert (found is not None) == brute_force(bins, needs), (bins, needs)
        answers.append(found is not None)
        if found is not None:
            where = [
                (kind, next(i for i, one in enumerate(bins) if (one.sort, one.number) == (b.sort, b.number)))
                for b, filling in found
                for kind, count in filling
                for _ in range(count)
            ]
            assert holds(bins, where)
            assert sorted(kind for kind, _ in where) == sorted(
                kind for kind, need in enumerate(needs) for _ in range(need)
            )
    assert 50 < sum(answers) < 180


def test_a_budget_that_is_spent_is_said() -> None:
    sizes = [(31,), (29,), (23,), (19,), (17,), (13,), (11,), (7,), (5,), (3,)]
    bins = [Bin("device", number, (40,), tuple(sizes), (1,) * 10) for number in range(4)]
    attempt = Attempt(bins, [1] * 10, 3)
    assert attempt.run() is None
    assert attempt.is_spent
