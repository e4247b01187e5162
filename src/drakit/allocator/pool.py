"""Pools: which slices of a pool a node sees, and whether they may be used.

A pool is all slices of one driver with one pool name. A node sees the pool when one of its slices names the
node, selects it or is for all nodes. Of these only the highest generation counts; with it the node sees all
slices of that generation with counter sets. A pool is used when all its slices are there
(`resourceSliceCount`, counting slices of other nodes as well, and the same in each of them) and nothing in it
contradicts itself; otherwise it is incomplete or invalid: passed over by requests for a count, an error for
requests for all devices.

Source: structured/internal/*/pools_*.go of Kubernetes 1.37.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum

from drakit.allocator.device import Published
from drakit.allocator.tolerations import rule_applies
from drakit.errors import BadRequest
from drakit.model.meta import Node, NodeSelector
from drakit.model.quantity import Quantity
from drakit.model.resource import Device, DeviceTaint, DeviceTaintRule, ResourceSlice
from drakit.model.selector import NodeMatcher, read_node_selector
from drakit.profile import Gate, Profile

PoolID = tuple[str, str]
"""Driver and pool name."""


class Problem(Enum):
    INCOMPLETE = "incomplete"
    INVALID = "invalid"


class Slice:
    """One published slice. `problem` names what makes its pool invalid wherever it is seen."""

    def __init__(self, document: ResourceSlice, rules: Iterable[DeviceTaintRule], profile: Profile) -> None:
        spec = document.spec
        self.name = document.metadata.name
        self.spec = spec
        self.problem = ""
        self.has_counters = bool(spec.shared_counters)
        self.per_device = bool(spec.per_device_node_selection)
        self._profile = profile
        self._is_known = profile.is_on(Gate.PARTITIONABLE_DEVICES) or (
            spec.per_device_node_selection is None and not spec.shared_counters
        )
        self._matcher = self._read(spec.node_selector, "node selector")
        self._matchers: list[NodeMatcher | None] = []
        if self.per_device:
            self._matchers = [
                self._read(d.node_selector, f"device {d.name}, node selector") for d in spec.devices
            ]
        is_shared = profile.is_on(Gate.CONSUMABLE_CAPACITY)
        self.devices = [
            Published(self, d, self._taints(d, rules), is_shared and bool(d.allow_multiple_allocations))
            for d in spec.devices
        ]
        self._everywhere = [True] * len(self.devices)
        self.consumes_counters = any(d.consumes_counters for d in spec.devices)
        self.has_binding_conditions = any(d.binding_conditions for d in spec.devices)

    def _read(self, selector: NodeSelector | None, what: str) -> NodeMatcher | None:
        if selector is None:
            return None
        try:
            return read_node_selector(selector)
        except BadRequest as error:
            self.problem = self.problem or f"slice {self.name}, {what}: {error}"
            return None

    def _taints(self, device: Device, rules: Iterable[DeviceTaintRule]) -> tuple[DeviceTaint, ...]:
        if not self._profile.is_on(Gate.DEVICE_TAINTS):
            return ()
        pool = self.spec.pool.name
        applied = (r.spec.taint for r in rules if rule_applies(r, self.spec.driver, pool, device.name))
        return (*device.taints, *applied)

    def apply_rules(self, rules: Sequence[DeviceTaintRule]) -> bool:
        """Work out the taints again; whether any changed."""
        is_changed = False
        for published in self.devices:
            taints = self._taints(published.device, rules)
            if taints != published.taints:
                published.set_taints(taints)
                is_changed = True
        return is_changed

    def selects(self, node: Node) -> bool:
        """Whether the slice is meant for the node."""
        spec = self.spec
        if not self._is_known:
            return False
        if spec.node_name or spec.all_nodes or spec.node_selector is not None:
            return _matches(spec.node_name, spec.all_nodes, self._matcher, node)
        return self.per_device and any(self.is_here(index, node) for index in range(len(spec.devices)))

    def here(self, node: Node) -> list[bool]:
        """Of each device whether it may be used on a node that sees the slice."""
        if not self.per_device:
            return self._everywhere
        return [self.is_here(index, node) for index in range(len(self.devices))]

    def is_here(self, index: int, node: Node) -> bool:
        """Whether the device at `index` may be used on a node that sees the slice."""
        if not self.per_device:
            return True
        device = self.spec.devices[index]
        return _matches(device.node_name, device.all_nodes, self._matchers[index], node)


def _matches(name: str | None, all_nodes: bool | None, matcher: NodeMatcher | None, node: Node) -> bool:
    if name:
        return node.metadata.name == name
    if all_nodes:
        return True
    return matcher is not None and matcher.matches(node.metadata.name, node.metadata.labels)


class Pool:
    """Everything published for one pool, of all generations and nodes."""

    def __init__(self, id: PoolID) -> None:
        self.id = id
        self.slices: dict[str, Slice] = {}
        self.use_revision = 0
        """Goes up when a device of the pool is taken or released."""
        self.indexed: set[str] = set()
        """The nodes its slices name, as the state has them in its index."""

    def __str__(self) -> str:
        return f"{self.id[0]}/{self.id[1]}"

    def node_names(self) -> set[str]:
        return {s.spec.node_name for s in self.slices.values() if s.spec.node_name}

    @property
    def is_open(self) -> bool:
        """Whether nodes that no slice names may see it."""
        return any(not s.spec.node_name for s in self.slices.values())


class PoolView:
    """A pool as one node sees it. With a `problem` it offers no devices; `reason` says what is wrong.

    `counters` are the totals of its counter sets, `generation` all slices of the generation in use,
    those of other nodes too: their devices consume the same counters.
    """

    def __init__(self, pool: Pool, slices: list[Slice], generation: list[Slice], node: Node) -> None:
        self.pool = pool
        self.generation = generation
        self.problem: Problem | None = None
        self.reason = ""
        self.counters: dict[str, dict[str, int]] = {}
        self.devices: list[Published] = []
        self.here: list[bool] = []
        self.goes_last = False
        """Pools with binding conditions come after all others."""
        for seen in slices:
            if seen.has_counters:
                continue
            self.devices += seen.devices
            self.goes_last = self.goes_last or seen.has_binding_conditions
            self.here += seen.here(node)
        self.prints = tuple([published.fingerprint for published in self.devices])

    def reject(self, problem: Problem, reason: str) -> None:
        self.problem, self.reason = problem, reason
        self.devices, self.here, self.counters, self.prints = [], [], {}, ()
        self.goes_last = False


def view_pool(pool: Pool, node: Node, profile: Profile) -> PoolView | None:
    """`pool` as `node` sees it; None when it has nothing for the node or what it has is obsolete."""
    slices = pool.slices.values()
    seen = [s for s in slices if s.selects(node)]
    if not seen:
        return None
    number = max([s.spec.pool.generation for s in seen]) if len(seen) > 1 else seen[0].spec.pool.generation
    if profile.is_on(Gate.PARTITIONABLE_DEVICES) and len(seen) < len(slices):
        seen += [s for s in slices if s.has_counters and s not in seen]
    current = seen
    if len(seen) > 1:
        current = sorted((s for s in seen if s.spec.pool.generation == number), key=lambda s: s.name)
    count = current[0].spec.pool.resource_slice_count
    generation = current
    if len(current) != count or len({s.spec.pool.resource_slice_count for s in current}) > 1:
        if any(s.spec.pool.generation > number for s in pool.slices.values()):
            return None
        others = [s for s in slices if s.spec.pool.generation == number and s not in current]
        generation = [*current, *others]
    view = PoolView(pool, current, generation, node)
    counts = sorted({s.spec.pool.resource_slice_count for s in generation})
    if len(counts) > 1:
        wanted = " or ".join(map(str, counts))
        view.reject(Problem.INCOMPLETE, f"slices of generation {number} say that there are {wanted} of them")
        return view
    if len(generation) != count:
        view.reject(Problem.INCOMPLETE, f"{len(generation)} of {count} slices of generation {number}")
        return view
    try:
        reason = _contradiction(view, current, profile)
    except ValueError as error:
        reason = str(error)
    if reason:
        view.reject(Problem.INVALID, reason)
    return view


def _contradiction(view: PoolView, current: list[Slice], profile: Profile) -> str:
    """What is wrong within the pool, or ""; collects its counters on the way."""
    for s in view.generation:
        if s.problem:
            return s.problem
    names = {published.name for published in view.devices}
    if len(names) < len(view.devices):
        count = Counter(published.name for published in view.devices)
        return f"duplicate device name {next(name for name, times in count.items() if times > 1)}"
    if not profile.is_on(Gate.PARTITIONABLE_DEVICES):
        return ""
    for counter_set in (c for s in current for c in s.spec.shared_counters):
        if counter_set.name in view.counters:
            return f"duplicate counter set name {counter_set.name}"
        view.counters[counter_set.name] = {
            name: _read(c.value, f"counter set {counter_set.name}, counter {name}")
            for name, c in counter_set.counters.items()
        }
    for s in view.generation:
        for published in s.devices if s.consumes_counters else ():
            wrong = _wrong_counter(published, view)
            if wrong:
                return wrong
    return ""


def _wrong_counter(published: Published, view: PoolView) -> str:
    for set_name, counters in published.needs.items():
        offered = view.counters.get(set_name)
        if offered is None:
            return f"counter set {set_name} not found"
        for name, amount in counters.items():
            if name not in offered:
                return f"counter {name} not found in counter set {set_name}"
            if amount < 0:
                return f"device {published.name} consumes less than nothing of counter {set_name}/{name}"
    return ""


def _read(value: str | int | float, what: str) -> int:
    try:
        amount = Quantity.of(value).nano
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    if amount < 0:
        raise ValueError(f"{what} is less than nothing")
    return amount
