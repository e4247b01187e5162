"""Telling a trace what became of every device, before the search combines them.

The verdicts, the rule book (`Problem.take`) and the bounds are the ones the search uses; here they are asked
one device and one request at a time, on the state before anything is picked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from drakit.allocator.bounds import Bounds, Group, Option, group_of
from drakit.allocator.device import Value
from drakit.allocator.formulation import problem_of
from drakit.allocator.judge import Failure
from drakit.allocator.plan import Plan
from drakit.allocator.problem import Problem
from drakit.allocator.request import Demand
from drakit.allocator.search import solve, start
from drakit.allocator.state import State
from drakit.allocator.trace import Candidate, Check, FellShort, Refusal, Trace
from drakit.allocator.view import NodeView
from drakit.model.quantity import Quantity
from drakit.model.resource import MAX_RESULTS, ResourceClaim
from drakit.profile import Gate

_BEST = 5
"""Values of an attribute that are named."""
_STEPS = 100
"""Choices that are worth knowing how many devices can be had at once."""


class Report:
    """One plan on one node."""

    def __init__(
        self, plan: Plan, claims: Sequence[ResourceClaim], state: State, view: NodeView, trace: Trace
    ) -> None:
        self._plan = plan
        self._claims = claims
        self._state = state
        self._view = view
        self._trace = trace
        self._problem: Problem = problem_of(plan, view, state.in_use(view), is_whole=True)
        self._root = start(self._problem)
        self._bounds = Bounds(self._problem)
        self._verdicts = [
            plan.verdicts[plan.kind(published, here)]
            for published, here in zip(view.devices, view.here, strict=True)
        ]
        self._passed: dict[int, int] = {}
        self._drawn: dict[int, tuple[str, ...]] = {}

    def tell(self) -> None:
        """Every device, then every request that falls short, then all of them together."""
        for demand in self._plan.demands:
            self._devices(demand)
        groups: list[Group] = []
        is_short = False
        for row in self._plan.claims:
            for asked in row:
                options = [option for d in asked.alternatives if (option := self._alone(d)) is not None]
                is_short = is_short or not options
                if options:
                    groups.append(group_of(options))
        is_short = self._constraints() or is_short
        if groups and not is_short:
            self._together(groups)

    def _candidate(self, demand: Demand) -> Candidate:
        return Candidate(self._view.node_name, self._claims[demand.claim].metadata.key, demand.full_name)

    # --- one device ----------------------------------------------------------------------------

    def _devices(self, demand: Demand) -> None:
        candidate = self._candidate(demand)
        passed = 0
        for pool in self._view.pools:
            if pool.problem is not None:
                refusal = Refusal(Check.POOL, reason=f"{pool.problem.value}: {pool.reason}")
                self._trace.turned_away(candidate, (*pool.pool.id, ""), refusal)
        for position, published in enumerate(self._view.devices):
            found = self._refusal(demand, position)
            if found is None:
                passed |= 1 << position
                self._trace.passed(candidate, published.id)
            else:
                self._trace.turned_away(candidate, published.id, found)
        self._passed[demand.index] = passed

    def _refusal(self, demand: Demand, position: int) -> Refusal | None:
        """The first check the device does not pass. Who holds it matters only where it would be selected."""
        published, demanded = self._view.devices[position], self._problem.demands[demand.index]
        verdict = self._verdicts[position][demand.index]
        is_held = bool(self._problem.taken >> position & 1) and not demand.is_admin
        if verdict.failure is not None and verdict.failure.expression is not None:
            return _failed(verdict.failure)
        if is_held and (verdict.refusal is None or verdict.refusal.check not in (Check.SELECTOR, Check.NODE)):
            return Refusal(Check.IN_USE, holders=self._state.holders(*published.id))
        if verdict.failure is not None:
            return _failed(verdict.failure)
        if verdict.refusal is not None:
            return verdict.refusal
        short = self._capacity(demand, position)
        if short is None and self._view.unserved >> position & 1:
            reason = f"the node does not declare {Gate.OPTIONAL_NODE_OPERATIONS}"
            short = Refusal(Check.FEATURE, reason=reason)
        short = short or self._counter(position)
        if short is not None:
            return short
        if verdict.taint is not None:
            return verdict.taint
        has_groups = any(published.groups.values())
        if has_groups and not demanded.tolerable >> position & 1:
            return Refusal(Check.GATE, reason=Gate.COMPATIBILITY_GROUPS)
        for constraint, values in demanded.values:
            if not values[position]:
                known = self._plan.constraints[constraint]
                failed = verdict.derived.get(known.attribute)
                if isinstance(failed, Failure):
                    return _failed(failed)
                return Refusal(Check.CONSTRAINT, name=known.attribute, constraint=known.index)
        if demanded.candidates >> position & 1 or demanded.is_all:
            return None
        return Refusal(Check.COUNTER, reason="more of the pool's counters is given out than there is")

    def _capacity(self, demand: Demand, position: int) -> Refusal | None:
        share = self._problem.shareable.get(position)
        needed = self._problem.demands[demand.index].consumes.get(position)
        if share is None or needed is None:
            return None
        names = sorted(self._view.devices[position].device.capacity)
        for name, have, need in zip(names, self._problem.shares[share][1], needed, strict=True):
            if have < need:
                published = self._view.devices[position]
                return Refusal(
                    Check.CAPACITY,
                    name=name,
                    needed=_text(need),
                    left=_text(max(0, have)),
                    holders=self._state.holders(*published.id),
                )
        return None

    def _counter(self, position: int) -> Refusal | None:
        share = self._problem.shareable.get(position)
        if share is not None and self._problem.shares[share][0]:
            return None
        for index, amounts, groups in self._problem.needs.get(position, ()):
            counter_set = self._view.sets[index]
            left = self._problem.left[index]
            for counter, amount in amounts:
                if left[counter] < 0 and not self._drawing(index):
                    reason = "a claim holds a device of the pool that is not published any more"
                    return Refusal(Check.COUNTER, reason=reason)
                if amount > left[counter]:
                    name = f"{counter_set.name}/{counter_set.names[counter]}"
                    return Refusal(
                        Check.COUNTER,
                        name=name,
                        needed=_text(amount),
                        left=_text(max(0, left[counter])),
                        holders=self._drawing(index),
                    )
            common = self._problem.groups[index]
            if common is not None and not (groups & common or (not groups and not common)):
                return Refusal(Check.GROUP, name=counter_set.name, holders=self._drawing(index))
        return None

    def _drawing(self, index: int) -> tuple[str, ...]:
        """The claims that hold devices that draw on the counter set."""
        known = self._drawn.get(index)
        if known is None:
            counter_set = self._view.sets[index]
            found = [
                holder
                for row in self._view.pools[counter_set.pool].generation
                for published in row.devices
                if counter_set.name in published.needs
                for holder in self._state.holders(*published.id)
            ]
            known = self._drawn[index] = tuple(dict.fromkeys(found))
        return known

    # --- requests ------------------------------------------------------------------------------

    def _alone(self, demand: Demand) -> Option | None:
        """The demand as an option of its request; None, and told, when it cannot be served even alone."""
        demanded = self._problem.demands[demand.index]
        mask = self._bounds.usable(demand.index, self._passed[demand.index], self._root)
        wanted, possible = max(demanded.count, int(demanded.is_all)), mask.bit_count()
        check = Check.COUNT
        if demanded.count > MAX_RESULTS:
            check, possible = Check.LIMIT, MAX_RESULTS
        elif possible and demanded.count and not demand.is_admin:
            option = Option(demanded.count, mask, demand.index)
            together = self._served(option)
            if together < possible and not demanded.is_all:
                check = Check.CAPACITY if mask & self._shareable() else Check.COUNTER
            possible = min(possible, together)
        if possible < wanted:
            shortage = FellShort(check=check, wanted=wanted, possible=possible)
            self._trace.fell_short(self._candidate(demand), shortage)
            return None
        return Option(demanded.count, mask, demand.index)

    def _served(self, option: Option) -> int:
        """How many of the devices can be had at once: tried out where they draw on the same things."""
        most = min(self._bounds.served([group_of([option])], self._root), option.mask.bit_count())
        if all(
            not option.mask >> position & 1 for position in (*self._problem.needs, *self._problem.shareable)
        ):
            return most
        for count in range(most, 0, -1):
            outcome = solve(self._problem.alone(option.demand, count, option.mask), _STEPS)
            if outcome.picks is not None or outcome.failed is not None:
                return count
        return 0

    def _shareable(self) -> int:
        return sum(1 << position for position in self._problem.shareable)

    def _constraints(self) -> bool:
        """Tell of constraints for which no value has enough devices; whether there are any."""
        is_short = False
        for number, constraint in enumerate(self._plan.constraints):
            rows: list[tuple[Demand, int]] = []
            for asked in self._plan.claims[constraint.claim]:
                if all(number in demand.constraints for demand in asked.alternatives):
                    best = min(asked.alternatives, key=lambda d: self._problem.demands[d.index].count)
                    rows.append((best, self._problem.demands[best.index].count))
            wanted = sum(count for _, count in rows)
            counts = self._by_value(number, rows)
            best_values = counts.most_common(_BEST)
            if constraint.is_match:
                possible = best_values[0][1] if best_values else 0
            else:
                possible = min(wanted, len(counts))
            if possible < wanted:
                is_short = True
                self._trace.fell_short(
                    self._candidate(rows[0][0]),
                    FellShort(
                        check=Check.CONSTRAINT,
                        wanted=wanted,
                        possible=possible,
                        requests=self._places([demand for demand, _ in rows]) if len(rows) > 1 else (),
                        name=constraint.attribute,
                        constraint=constraint.index,
                        is_distinct=not constraint.is_match,
                        best=tuple([(_value(value), count) for value, count in best_values]),
                    ),
                )
        return is_short

    def _by_value(self, number: int, rows: Sequence[tuple[Demand, int]]) -> Counter[Value]:
        """Value of the constraint's attribute -> how many of the wanted devices it can provide. A shareable
        device counts once for each request."""
        by_row: list[dict[Value, int]] = []
        for demand, _ in rows:
            masks: dict[Value, int] = {}
            for position, published in enumerate(self._view.devices):
                if self._passed[demand.index] >> position & 1:
                    here = self._view.here[position]
                    for value in self._plan.values_of(number, demand, published, here):
                        masks[value] = masks.get(value, 0) | 1 << position
            by_row.append(masks)
        shareable = self._shareable()
        counts: Counter[Value] = Counter()
        for value in dict.fromkeys(value for masks in by_row for value in masks):
            inside = [masks.get(value, 0) for masks in by_row]
            union = 0
            for mask in inside:
                union |= mask
            places = (union & ~shareable).bit_count() + sum((mask & shareable).bit_count() for mask in inside)
            served = sum(min(count, m.bit_count()) for (_, count), m in zip(rows, inside, strict=True))
            counts[value] = min(served, places)
        return counts

    def _together(self, groups: Sequence[Group]) -> None:
        """Tell when the requests that can be served one by one cannot be served together."""
        competing = [
            g for g in groups if not any(self._problem.demands[o.demand].is_admin for o in g.options)
        ]
        if not competing:
            return
        wanted = sum(group.need for group in competing)
        possible = self._bounds.served(competing, self._root)
        if possible < wanted:
            demands = [self._plan.demands[group.options[0].demand] for group in competing]
            places = self._places(demands) if len(demands) > 1 else ()
            shortage = FellShort(check=Check.COMPETITION, wanted=wanted, possible=possible, requests=places)
            self._trace.fell_short(self._candidate(demands[0]), shortage)

    def _places(self, demands: Sequence[Demand]) -> tuple[tuple[str, str], ...]:
        return tuple((self._claims[demand.claim].metadata.key, demand.full_name) for demand in demands)


def _failed(failure: Failure) -> Refusal:
    if failure.derived:
        return Refusal(Check.CONSTRAINT, name=failure.derived, reason=failure.message)
    expression = failure.expression
    if expression is None:
        return Refusal(Check.CAPACITY, reason=failure.message)
    return Refusal(
        Check.SELECTOR,
        reason=failure.message,
        is_class=expression.is_class,
        selector=expression.index,
        expression=expression.text,
    )


def _value(value: Value) -> str:
    kind, held = value
    return str(held).lower() if kind == "bool" else str(held)


def _text(nano: int) -> str:
    whole, rest = divmod(nano, 10**9)
    if rest:
        return str(Quantity(nano, -9))
    is_binary = whole >= 1024 and whole % 1024 == 0
    return str(Quantity(whole, 0, "BinarySI" if is_binary else "DecimalSI"))
