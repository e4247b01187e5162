"""From a plan and a node to what the search works on."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence

from drakit.allocator.capacity import qualified
from drakit.allocator.device import Published, Value
from drakit.allocator.doomed import settle
from drakit.allocator.judge import Failure, Verdict
from drakit.allocator.plan import Plan
from drakit.allocator.problem import Demanded, Need, Problem
from drakit.allocator.request import Demand
from drakit.allocator.view import InUse, NodeView
from drakit.model.quantity import Quantity
from drakit.profile import Gate

_NOBODYS = 1 << 64
"""A compatibility group that no device has."""

_DIGITS = re.compile("[0-9]+")

Rooms = tuple[tuple[bool, tuple[int, ...]], ...]
"""Of each shareable device whether it is shared already, and what is left of its capacities."""


def problem_of(plan: Plan, view: NodeView, in_use: InUse, *, is_whole: bool = False) -> Problem:
    """What there is to solve on the node, and on every node of its signature used alike.

    `is_whole` leaves in what is of no consequence for the answer (see doomed.py).
    """
    return _Formulation(plan, is_whole).problem(view, in_use)


class _Formulation:
    """Names become numbers: positions of devices, bits of values, columns of capacities and counters."""

    def __init__(self, plan: Plan, is_whole: bool) -> None:
        self._plan = plan
        self._is_whole = is_whole

    def problem(self, view: NodeView, in_use: InUse) -> Problem:
        kinds = self._plan.rows[self._plan.signature(view)]
        needs, groups = self._needs(view, in_use)
        barred = self._barred(view, in_use, needs)
        shareable = {i: n for n, i in enumerate(i for i, p in enumerate(view.devices) if p.is_shareable)}
        rooms = _rooms(view, in_use, shareable)
        values = [self._numbered(index, kinds) for index in range(len(self._plan.constraints))]
        demands = [
            self._demanded(d, view, kinds, barred, shareable, rooms, values) for d in self._plan.demands
        ]
        is_match = [c.is_match for c in self._plan.constraints]
        if not self._is_whole:
            demands = [
                settle(found, in_use.taken, is_match, self._is_fresh(d))
                for d, found in zip(self._plan.demands, demands, strict=True)
            ]
        return Problem(
            size=len(kinds),
            taken=in_use.taken,
            requests=[tuple(d.index for d in a.alternatives) for row in self._plan.claims for a in row],
            claim_of=[a.claim for row in self._plan.claims for a in row],
            demands=demands,
            is_match=is_match,
            constraint_claims=[c.claim for c in self._plan.constraints],
            needs=needs,
            left=in_use.left,
            counter_classes=_counter_classes(view),
            groups=groups,
            shareable=shareable,
            shares=rooms,
        )

    def _demanded(
        self,
        demand: Demand,
        view: NodeView,
        kinds: Sequence[int],
        barred: int,
        shareable: Mapping[int, int],
        rooms: Rooms,
        values: list[dict[int, tuple[int, ...]]],
    ) -> Demanded:
        selectable, tolerable, mines = 0, 0, 0
        traps: dict[int, int] = {}
        consumes: dict[int, tuple[int, ...]] = {}
        for position, kind in enumerate(kinds):
            verdict = self._plan.verdicts[kind][demand.index]
            bit = 1 << position
            if verdict.failure is not None:
                mines |= bit
            elif verdict.refusal is None and not (demand.is_all and view.unserved & bit):
                if position in shareable:
                    needed = tuple(verdict.consumes[n].nano for n in _capacities(view.devices[position]))
                    consumes[position] = needed
                    if demand.is_all and not _fits(needed, rooms[shareable[position]][1]):
                        continue
                selectable |= bit
                if verdict.taint is None and not barred & bit:
                    tolerable |= bit
                    trap = self._trap(demand, verdict)
                    if trap is not None:
                        traps[position] = trap
                        mines |= bit
        candidates = tolerable
        for constraint in demand.constraints:
            row = values[constraint][demand.index]
            candidates &= sum(1 << i for i, value in enumerate(row) if value)
        positions = tuple(i for i in range(len(kinds)) if selectable >> i & 1) if demand.is_all else ()
        return Demanded(
            claim=demand.claim,
            count=len(positions) if demand.is_all else demand.count,
            is_all=demand.is_all,
            is_admin=demand.is_admin,
            candidates=candidates,
            mines=mines,
            traps=traps,
            all_positions=positions,
            tolerable=tolerable,
            values=tuple((c, values[c][demand.index]) for c in demand.constraints),
            consumes=consumes,
        )

    def _is_fresh(self, demand: Demand) -> bool:
        """Whether no request before it in its claim is under its constraints."""
        concerned = set(demand.constraints)
        return not any(
            concerned & set(other.constraints)
            for other in self._plan.demands[: demand.index]
            if other.request != demand.request
        )

    def _trap(self, demand: Demand, verdict: Verdict) -> int | None:
        """Which of the demand's constraints asks for a derived attribute that fails; None for no one."""
        for number, constraint in enumerate(demand.constraints):
            attribute = self._plan.constraints[constraint].attribute
            if isinstance(verdict.derived.get(attribute), Failure):
                return number
        return None

    def _numbered(self, index: int, kinds: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """For each demand that the constraint concerns, each device's values of its attribute as bits.

        Values that the same devices have are one bit: long lists need not make large numbers.
        """
        attribute = self._plan.constraints[index].attribute
        column = self._plan.attributes.index(attribute)
        published: dict[int, Sequence[Value]] = {k: self._plan.values[k][column] for k in kinds}
        rows: dict[int, dict[int, Sequence[Value]]] = {}
        for demand in self._plan.demands:
            if index in demand.constraints:
                rows[demand.index] = published
                if any(derived.name == attribute for derived in demand.derived):
                    verdicts = {kind: self._plan.verdicts[kind][demand.index] for kind in published}
                    rows[demand.index] = {k: v.values_of(attribute) for k, v in verdicts.items()}
        holders: dict[Value, list[tuple[int, int]]] = {}
        for row in {id(row): row for row in rows.values()}.values():
            for kind, values in row.items():
                for value in values:
                    holders.setdefault(value, []).append((id(row), kind))
        numbers: dict[Hashable, int] = {}
        bits = {value: 1 << numbers.setdefault(tuple(who), len(numbers)) for value, who in holders.items()}
        found: dict[int, tuple[int, ...]] = {}
        for number, row in rows.items():
            masks = {kind: _any_of([bits[value] for value in values]) for kind, values in row.items()}
            found[number] = tuple([masks[kind] for kind in kinds])
        return found

    def _needs(
        self, view: NodeView, in_use: InUse
    ) -> tuple[dict[int, tuple[Need, ...]], tuple[int | None, ...]]:
        """What each device draws from the counters, and the compatibility groups possible in each set."""
        sets = {(s.pool, s.name): index for index, s in enumerate(view.sets)}
        has_groups = self._plan.profile.is_on(Gate.COMPATIBILITY_GROUPS)
        numbers: list[dict[str, int]] = [{} for _ in view.sets]

        def bits(index: int, groups: Sequence[str]) -> int:
            known = numbers[index]
            return sum(1 << known.setdefault(group, len(known)) for group in dict.fromkeys(groups))

        found: dict[int, tuple[Need, ...]] = {}
        pool = -1
        for position, published in enumerate(view.devices if sets else ()):
            while pool + 1 < len(view.starts) and view.starts[pool + 1] <= position:
                pool += 1
            rows: list[Need] = []
            for row in published.device.consumes_counters:
                index = sets[pool, row.counter_set]
                names = view.sets[index].names
                amounts = published.needs[row.counter_set]
                wanted = bits(index, row.compatibility_groups) if has_groups else 0
                rows.append((index, tuple((names.index(n), a) for n, a in amounts.items()), wanted))
            if rows:
                found[position] = tuple(rows)
        possible: list[int | None] = [None] * len(view.sets)
        for index, members in in_use.groups if has_groups else ():
            common = bits(index, members[0])
            for member in members[1:] if common else ():
                common &= bits(index, member) or common
            # Devices that do not go together may hold the set already, where slices have changed: with
            # groups that have nothing in common nothing goes, of others the first one decides.
            possible[index] = common or (_NOBODYS if members[0] else 0)
        return found, tuple(possible)

    def _barred(self, view: NodeView, in_use: InUse, needs: Mapping[int, tuple[Need, ...]]) -> int:
        """Devices the node cannot serve; and, but for those that are shared already and draw no more, devices
        of pools that have promised more counters than they have, and with compatibility groups switched off
        those that have groups or are beside allocated ones that have: nobody could check them."""
        over = {view.sets[i].pool for i, left in enumerate(in_use.left) if left and min(left) < 0}
        grouped: set[int] = set()
        is_off = not self._plan.profile.is_on(Gate.COMPATIBILITY_GROUPS)
        if is_off:
            grouped = {index for index, members in in_use.groups if any(members)}
        drawn = {position for position, _ in in_use.shares}
        barred = view.unserved
        for position, rows in needs.items():
            if position in drawn:
                continue
            has_groups = is_off and any(view.devices[position].groups.values())
            if has_groups or any(view.sets[i].pool in over or i in grouped for i, _, _ in rows):
                barred |= 1 << position
        return barred


def _any_of(bits: Iterable[int]) -> int:
    union = 0
    for bit in bits:
        union |= bit
    return union


def _capacities(published: Published) -> list[str]:
    return sorted(published.device.capacity)


def _rooms(view: NodeView, in_use: InUse, shareable: Mapping[int, int]) -> Rooms:
    """Of each shareable device whether it is shared already, and what is left of its capacities."""
    consumed = {position: dict(amounts) for position, amounts in in_use.shares}
    rooms: list[tuple[bool, tuple[int, ...]]] = []
    for position in shareable:
        published = view.devices[position]
        gone: dict[str, int] = {}
        for name, amount in consumed.get(position, {}).items():
            full = qualified(name, published.driver)
            gone[full] = gone.get(full, 0) + amount
        rooms.append(
            (
                position in consumed,
                tuple(
                    _nano(published.device.capacity[name].value)
                    - gone.get(qualified(name, published.driver), 0)
                    for name in _capacities(published)
                ),
            )
        )
    return tuple(rooms)


def _counter_classes(view: NodeView) -> list[tuple[int, ...]]:
    """`memory-slice-0` to `memory-slice-7` of all GPUs are slots of one resource, as far as names tell."""
    numbers: dict[str, int] = {}
    return [
        tuple([numbers.setdefault(_DIGITS.sub("", name), len(numbers)) for name in counter_set.names])
        for counter_set in view.sets
    ]


def _fits(needed: Sequence[int], room: Sequence[int]) -> bool:
    return all(amount <= have for amount, have in zip(needed, room, strict=True))


def _nano(value: str | int | float) -> int:
    try:
        return Quantity.of(value).nano
    except ValueError:
        return 0
