"""Bounds on how many partitions shared counters allow at once."""

from __future__ import annotations

from collections.abc import Sequence

from drakit.allocator.problem import Problem


class Counters:
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
        self.classes = 1 + max((kind for row in problem.counter_classes for kind in row), default=-1)
        """Classes of counters, over all sets."""
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

    def sets_of(self, component: int) -> list[int]:
        return self._sets[component]

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


def _fill(needs: list[int], room: int) -> int:
    """How many of `needs` fit into `room`, smallest first."""
    count = 0
    for need in sorted(needs):
        room -= need
        if room < 0:
            break
        count += 1
    return count
