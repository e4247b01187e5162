"""Requests for all devices that fail on the node whatever is picked before them.

Devices are taken in order, so such a request never comes further than to the first device that is not to be
had, or that a constraint keeps away from those before it. Only devices up to there matter: which of them
others take decides between no solution and an error. Where it can be no error, nothing about it matters but
that it fails.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from drakit.allocator.problem import Demanded


def settle(demanded: Demanded, taken: int, is_match: Sequence[bool], is_fresh: bool) -> Demanded:
    """`demanded` without what does not matter. `taken` are devices of other claims; `is_fresh` says that no
    request before it in its claim is under its constraints."""
    if not demanded.is_all or not demanded.values:
        return demanded
    blocked = ~demanded.tolerable | (0 if demanded.is_admin else taken)
    marks = [-1 if is_match[constraint] else 0 for constraint, _ in demanded.values]
    for number, position in enumerate(demanded.all_positions):
        if blocked >> position & 1:
            return _cut(demanded, number + 1, is_silent=is_fresh)
        if position in demanded.traps or not _mark(demanded, position, marks, is_match):
            return _cut(demanded, number + 1, is_silent=False)
    return demanded


def _mark(demanded: Demanded, position: int, marks: list[int], is_match: Sequence[bool]) -> bool:
    """Whether the constraints allow the device beside those before it; `marks` goes on with it."""
    for number, (constraint, values) in enumerate(demanded.values):
        value = values[position]
        if is_match[constraint]:
            marks[number] &= value
            if not marks[number]:
                return False
        else:
            if not value or marks[number] & value:
                return False
            marks[number] |= value
    return True


def _cut(demanded: Demanded, count: int, *, is_silent: bool) -> Demanded:
    positions = demanded.all_positions[:count]
    mask = sum([1 << position for position in positions])
    rows = [
        (constraint, tuple([value if mask >> i & 1 else 0 for i, value in enumerate(values)]))
        for constraint, values in demanded.values
    ]
    return replace(
        demanded,
        all_positions=positions,
        candidates=demanded.candidates & mask,
        tolerable=demanded.tolerable & mask,
        mines=demanded.mines & mask,
        values=() if is_silent else tuple(rows),
    )
