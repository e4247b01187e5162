"""Maximal flow from groups of requests to places for devices, on graphs of a few dozen nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Place(NamedTuple):
    """Room for `total` devices, of each group (in order) at most `per_group`."""

    total: int
    per_group: tuple[int, ...]


def suffices(needs: Sequence[int], places: Sequence[Place]) -> bool:
    return served(needs, places) >= sum(needs)


def served(needs: Sequence[int], places: Sequence[Place]) -> int:
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


def _augment(start: int, places: Sequence[Place], flow: list[list[int]], free: list[int]) -> bool:
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
