"""What the allocator knows of the cluster: slices, classes, taint rules and who holds what.

One writer applies changes one at a time, as a watch reports them; each costs what it touches, not what the
cluster holds. Everything derived (views of nodes, compiled plans) is kept until something it depends on
changes, so that a pod much like the last one on a cluster much like a moment ago finds its answer ready.
"""

from __future__ import annotations

from collections.abc import Sequence

from drakit.allocator.device import digest
from drakit.allocator.journal import Journal
from drakit.allocator.plan import Plan
from drakit.allocator.pool import Pool, PoolID, Slice, view_pool
from drakit.allocator.usage import Use, held_rows
from drakit.allocator.view import InUse, NodeView, declares
from drakit.model.meta import Node
from drakit.model.resource import AllocationResult, DeviceClass, DeviceTaintRule, ResourceClaim, ResourceSlice
from drakit.profile import Gate, Profile

_PLANS = 64


class State:
    """The inputs of allocation besides the claims. Documents that are handed in are never changed."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.revision = 0
        """Changes whenever anything else here does."""
        self.class_revision = 0
        self.classes: dict[str, DeviceClass] = {}
        self._rules: dict[str, DeviceTaintRule] = {}
        self._pools: dict[PoolID, Pool] = {}
        self._slices: dict[str, Slice] = {}
        self._taken: dict[str, tuple[AllocationResult, str]] = {}
        self._usages: dict[PoolID, dict[str, Use]] = {}
        self._local: dict[str, set[PoolID]] = {}
        """Node -> pools with a slice that names it."""
        self._wide: set[PoolID] = set()
        """Pools that a node may see although no slice names it."""
        self._wide_revision = 0
        self._skipping: set[str] = set()
        """Slices whose devices need a node that declares a feature."""
        self._views: dict[str, NodeView] = {}
        self.journal = Journal()
        """Nodes by the time they last changed."""
        self._plans: dict[bytes, Plan] = {}
        """The plans used last, the latest at the end."""
        self._plan_class_revision = 0
        self._plan_number = 0

    # --- what is published ---------------------------------------------------------------------

    def apply_slice(self, slice: ResourceSlice) -> None:
        """Add or replace the slice of that name."""
        old = self._slices.get(slice.metadata.name)
        new = Slice(slice, self._applied_rules(), self.profile)
        self._slices[new.name] = new
        if old is not None:
            self._detach(old)
        if new.spec.skip_node_operations:
            self._skipping.add(new.name)
        id = _pool_id(new)
        pool = self._pools.get(id)
        if pool is None:
            pool = self._pools[id] = Pool(id)
        self._forget_views(pool)
        pool.slices[new.name] = new
        self._index(pool)
        self.revision += 1

    def remove_slice(self, name: str) -> None:
        """Forget the slice; nothing when there is none."""
        old = self._slices.pop(name, None)
        if old is not None:
            self._detach(old)
            self.revision += 1

    def apply_class(self, device_class: DeviceClass) -> None:
        self.classes[device_class.metadata.name] = device_class
        self.class_revision += 1
        self.revision += 1

    def remove_class(self, name: str) -> None:
        if self.classes.pop(name, None) is not None:
            self.class_revision += 1
            self.revision += 1

    def apply_taint_rule(self, rule: DeviceTaintRule) -> None:
        self._rules[rule.metadata.name] = rule
        self._taint_again()

    def remove_taint_rule(self, name: str) -> None:
        if self._rules.pop(name, None) is not None:
            self._taint_again()

    # --- what is allocated ---------------------------------------------------------------------

    def take(self, claim_uid: str, allocation: AllocationResult, owner: str = "") -> None:
        """Hold the devices of `allocation` for the claim, in place of what it held before.

        `owner` names the claim (namespace/name) where people read it.
        """
        if self._taken.get(claim_uid) == (allocation, owner):
            return
        self._drop(claim_uid)
        self._taken[claim_uid] = (allocation, owner)
        for row in held_rows(allocation):
            id = (row.driver, row.pool)
            use = self._usages.setdefault(id, {}).setdefault(row.device, Use())
            use.add(claim_uid, owner or claim_uid, row)
            self._used(id)
        self.revision += 1

    def release(self, claim_uid: str) -> None:
        """Give back what the claim holds; nothing when it holds nothing."""
        if claim_uid in self._taken:
            self._drop(claim_uid)
            self.revision += 1

    def holders(self, driver: str, pool: str, device: str) -> tuple[str, ...]:
        """The claims that hold the device, as `take` named them."""
        use = self._usages.get((driver, pool), {}).get(device)
        return use.holders() if use else ()

    # --- what the search asks ------------------------------------------------------------------

    def view(self, node: Node) -> NodeView:
        """What the node offers."""
        name = node.metadata.name
        view = self._views.get(name)
        if (
            view is not None
            and view.wide_revision == self._wide_revision
            and (not self._wide or view.labels == node.metadata.labels)
            and (not view.has_skips or view.declares == declares(node))
        ):
            return view
        ids = self._local.get(name, set()) | self._wide
        pools = [view_pool(self._pools[id], node, self.profile) for id in ids]
        view = NodeView(node, [p for p in pools if p is not None], self._wide_revision)
        self._views[name] = view
        return view

    def plan(self, claims: Sequence[ResourceClaim]) -> Plan:
        """The claims made ready for any node; the same plan for claims of equal spec."""
        if self._plan_class_revision != self.class_revision:
            self._plans.clear()
            self._plan_class_revision = self.class_revision
        key = digest([c.spec for c in claims])
        plan = self._plans.pop(key, None)
        if plan is None or plan.is_worn:
            self._plan_number += 1
            plan = Plan(self._plan_number, claims, self.classes, self.profile)
            if len(self._plans) >= _PLANS:
                del self._plans[next(iter(self._plans))]
        self._plans[key] = plan
        return plan

    @property
    def depends_on_nodes(self) -> bool:
        """Whether what a node offers may change with the node alone: some pool may be seen by nodes that no
        slice names, by their labels for example, or be of use only to nodes that declare a feature."""
        return bool(self._wide) or bool(self._skipping)

    def in_use(self, view: NodeView) -> InUse:
        return view.in_use(self._usages)

    # --- keeping it consistent -----------------------------------------------------------------

    def _applied_rules(self) -> list[DeviceTaintRule]:
        if not self.profile.is_on(Gate.DEVICE_TAINT_RULES):
            return []
        return [self._rules[name] for name in sorted(self._rules)]

    def _taint_again(self) -> None:
        rules = self._applied_rules()
        for published in self._slices.values():
            if published.apply_rules(rules):
                self._forget_views(self._pools[_pool_id(published)])
        self.revision += 1

    def _detach(self, old: Slice) -> None:
        self._skipping.discard(old.name)
        pool = self._pools[_pool_id(old)]
        self._forget_views(pool)
        if pool.slices.get(old.name) is old:
            del pool.slices[old.name]
        self._remember(old)
        if not pool.slices:
            del self._pools[pool.id]
        self._index(pool)

    def _index(self, pool: Pool) -> None:
        """Note which nodes see the pool."""
        names = pool.node_names() if pool.slices else set()
        for name in pool.indexed - names:
            self._local[name].discard(pool.id)
            if not self._local[name]:
                del self._local[name]
        for name in names:
            self._local.setdefault(name, set()).add(pool.id)
        pool.indexed = names
        if pool.is_open:
            self._wide.add(pool.id)
        else:
            self._wide.discard(pool.id)
        self._forget_views(pool)

    def _forget_views(self, pool: Pool) -> None:
        for name in pool.indexed:
            self._views.pop(name, None)
        self.journal.note(pool.indexed)
        if pool.id in self._wide:
            self._wide_revision += 1
            self.journal.forget()

    def _remember(self, published: Slice) -> None:
        """Keep what devices in use consume, in case the slice goes while they are held."""
        used = self._usages.get(_pool_id(published))
        if used:
            for device in published.devices:
                use = used.get(device.name)
                if use is not None:
                    use.remember(device)

    def _used(self, id: PoolID) -> None:
        pool = self._pools.get(id)
        if pool is not None:
            pool.use_revision += 1
            self.journal.note(pool.indexed)
            if id in self._wide:
                self.journal.forget()

    def _drop(self, claim_uid: str) -> None:
        held = self._taken.pop(claim_uid, None)
        if held is None:
            return
        for row in held_rows(held[0]):
            id = (row.driver, row.pool)
            devices = self._usages.get(id, {})
            use = devices.get(row.device)
            if use is not None:
                use.drop(claim_uid)
                if not use:
                    del devices[row.device]
            if not devices:
                self._usages.pop(id, None)
            self._used(id)


def _pool_id(published: Slice) -> PoolID:
    return (published.spec.driver, published.spec.pool.name)
