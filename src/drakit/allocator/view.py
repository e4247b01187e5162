"""Everything one node offers, in the order in which the search tries it, and what of it is in use.

A view lasts as long as the slices that concern its node; what is in use is worked out again only for the
pools where a claim came or went. Device positions (0, 1, ...) are the search's only notion of a device;
sets of devices are integers with one bit a position.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from drakit.allocator.device import Groups, Needs, Published
from drakit.allocator.pool import PoolView, Problem
from drakit.allocator.usage import Use
from drakit.model.meta import Node
from drakit.model.resource import AllocationResult
from drakit.profile import Gate

Usages = Mapping[tuple[str, str], Mapping[str, Use]]
"""Pool -> device name -> its use."""


class CounterSet(NamedTuple):
    """One set of shared counters of one pool of the view; `totals` in the order of `names`."""

    pool: int
    name: str
    names: tuple[str, ...]
    totals: tuple[int, ...]


class InUse(NamedTuple):
    """What other claims hold. Hashable: nodes that look alike and are used alike get the same answer.

    `taken` has the devices nobody else may have. `left` is what remains of each counter set of the view.
    `shares` has (position, ((capacity, consumed), ...)) of devices that are shared. `groups` has (counter
    set index, groups of each device allocated from it, that of the first one published first).
    """

    taken: int = 0
    left: tuple[tuple[int, ...], ...] = ()
    shares: tuple[tuple[int, tuple[tuple[str, int], ...]], ...] = ()
    groups: tuple[tuple[int, tuple[tuple[str, ...], ...]], ...] = ()


_NOTHING = InUse()


def declares(node: Node) -> bool:
    """Whether the node says that its kubelet leaves out what slices tell it to skip."""
    return Gate.OPTIONAL_NODE_OPERATIONS in (node.status.get("declaredFeatures") or ())


class NodeView:
    """What `node` sees of all pools."""

    def __init__(self, node: Node, pools: list[PoolView], wide_revision: int) -> None:
        ordered = sorted(pools, key=lambda p: (p.goes_last, p.pool.id)) if len(pools) > 1 else pools
        self.node_name = node.metadata.name
        self.labels = node.metadata.labels
        self.wide_revision = wide_revision
        self.pools = ordered
        self.devices: list[Published] = []
        self.here: list[bool] = []
        self.starts: list[int] = []
        """Position of each pool's first device."""
        self.sets: list[CounterSet] = []
        for index, pool in enumerate(ordered):
            self.starts.append(len(self.devices))
            self.devices += pool.devices
            self.here += pool.here
            for name, counters in sorted(pool.counters.items()) if pool.counters else ():
                names = tuple(sorted(counters))
                self.sets.append(CounterSet(index, name, names, tuple(counters[n] for n in names)))
        self.signatures: dict[int, int] = {}
        """By plan: which nodes look alike (see plan.py)."""
        self.answers: dict[int, tuple[object, list[AllocationResult]]] = {}
        """By plan: the last outcome and the results built from it."""
        self.declares = declares(node)
        self.unserved = 0
        """Devices that need a node that declares the feature, where this one does not."""
        self.has_skips = any([p.slice.spec.skip_node_operations for p in self.devices])
        if self.has_skips and not self.declares:
            skips = [bool(p.slice.spec.skip_node_operations) for p in self.devices]
            self.unserved = sum([1 << position for position, skip in enumerate(skips) if skip])
        self.invalid = [p for p in ordered if p.problem is Problem.INVALID]
        self._revisions: list[int] | None = None
        self._in_use = _NOTHING
        self._positions: dict[tuple[str, str], dict[str, int]] | None = None

    def in_use(self, usages: Usages) -> InUse:
        """What is in use now."""
        revisions = [p.pool.use_revision for p in self.pools]
        if revisions != self._revisions:
            self._in_use = self._look(usages)
            self._revisions = revisions
        return self._in_use

    def position(self, pool: tuple[str, str], device: str) -> int | None:
        if self._positions is None:
            self._positions = {}
            for index, published in enumerate(self.devices):
                self._positions.setdefault((published.driver, published.pool), {})[published.name] = index
        return self._positions.get(pool, {}).get(device)

    def _look(self, usages: Usages) -> InUse:
        if not self.sets and not any([view.pool.id in usages for view in self.pools]):
            return _NOTHING
        taken = 0
        shares = []
        for view in self.pools:
            for name, use in usages.get(view.pool.id, {}).items():
                position = self.position(view.pool.id, name)
                if position is None or not use:
                    continue
                if use.keeps_away(self.devices[position]):
                    taken |= 1 << position
                else:
                    shares.append((position, tuple(sorted(use.consumed().items()))))
        if not self.sets:
            return InUse(taken, (), tuple(sorted(shares)))
        return InUse(taken, *self._counters(usages, tuple(sorted(shares))))

    def _counters(
        self, usages: Usages, shares: tuple[tuple[int, tuple[tuple[str, int], ...]], ...]
    ) -> tuple[
        tuple[tuple[int, ...], ...],
        tuple[tuple[int, tuple[tuple[str, int], ...]], ...],
        tuple[tuple[int, tuple[tuple[str, ...], ...]], ...],
    ]:
        left: list[tuple[int, ...]] = []
        groups: list[tuple[int, tuple[tuple[str, ...], ...]]] = []
        consumers = {
            index: self._consumers(view, usages) for index, view in enumerate(self.pools) if view.counters
        }
        for index, counter_set in enumerate(self.sets):
            amounts = dict(zip(counter_set.names, counter_set.totals, strict=True))
            members: list[tuple[str, ...]] = []
            for needs, its_groups in consumers[counter_set.pool]:
                if needs is None:
                    # It was allocated and vanished before anyone saw what it consumed: nothing of the
                    # pool's counters can be promised until its claim is gone.
                    amounts = dict.fromkeys(amounts, -1)
                    continue
                if counter_set.name not in needs:
                    continue
                members.append(its_groups.get(counter_set.name, ()))
                for name, amount in needs[counter_set.name].items():
                    if name in amounts:
                        amounts[name] -= amount
            left.append(tuple(amounts[name] for name in counter_set.names))
            if members:
                groups.append((index, (members[0], *sorted(members[1:]))))
        return tuple(left), shares, tuple(groups)

    def _consumers(self, view: PoolView, usages: Usages) -> list[tuple[Needs | None, Groups]]:
        """What devices of the pool that are held consume, those of other nodes too, as they are published
        now and in that order; of those that are not, as they last were."""
        used = usages.get(view.pool.id)
        if not used:
            return []
        published = {p.name: p for s in view.generation for p in s.devices if used.get(p.name)}
        gone = [use for name, use in sorted(used.items()) if use and name not in published]
        return [(p.needs, p.groups) for p in published.values()] + [(use.needs, use.groups) for use in gone]
