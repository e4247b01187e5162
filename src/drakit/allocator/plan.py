"""Claims and classes made ready for any node: everything that does not depend on where.

Two nodes look alike to a plan when their devices agree, one by one, on what the plan reads of them: the
attributes its expressions and constraints name, and everything but attributes. Such nodes have the same
signature and share one problem for each state of use, and its answer. Plans are kept in the state and shared
by all claims of equal spec, so the next replica of a workload finds most nodes already judged.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress

from msgspec import Struct

from drakit import cel
from drakit.allocator.device import Published, Value, attribute_values, digest
from drakit.allocator.judge import Verdict, judge
from drakit.allocator.pool import PoolView
from drakit.allocator.pool import Problem as PoolProblem
from drakit.allocator.request import Asked, Demand, applies, read_request
from drakit.allocator.search import Outcome
from drakit.allocator.view import InUse, NodeView
from drakit.errors import CELError
from drakit.model.resource import MAX_RESULTS, DeviceAttribute, DeviceClass, DeviceConstraint, ResourceClaim
from drakit.profile import Gate, Profile

_KINDS = 65536
_SIGNATURES = 64
"""Plans a view remembers its signature for."""


_WITH_DISTINCT = (
    Gate.CONSUMABLE_CAPACITY,
    Gate.DEVICE_BINDING_CONDITIONS,
    Gate.LIST_ATTRIBUTES,
    Gate.OPTIONAL_NODE_OPERATIONS,
    Gate.DERIVED_ATTRIBUTES,
    Gate.COMPATIBILITY_GROUPS,
)


class PlanConstraint(Struct, frozen=True):
    claim: int
    index: int
    """In its claim."""
    is_match: bool
    attribute: str


class Plan:
    """Demands, constraints and verdicts of some claims."""

    def __init__(
        self,
        number: int,
        claims: Sequence[ResourceClaim],
        classes: Mapping[str, DeviceClass],
        profile: Profile,
    ) -> None:
        self.number = number
        """Tells this plan from every other of the same state."""
        self.profile = profile
        self.claims: list[list[Asked]] = []
        self.demands: list[Demand] = []
        self.constraints: list[PlanConstraint] = []
        self.constraint_errors: dict[int, str] = {}
        """Claim -> what is wrong with its constraints, behind `claim NAMESPACE/NAME`."""
        for index, claim in enumerate(claims):
            self._add_claim(index, claim, classes)
        self.is_plain = not (
            any(d.is_all for d in self.demands)
            or any(d.error for d in self.demands)
            or any(asked.error for row in self.claims for asked in row)
            or self.constraint_errors
            or any(
                sum(min(d.count for d in a.alternatives) for a in row) > MAX_RESULTS for row in self.claims
            )
        )
        """Whether nothing has to be checked on each node before the search."""
        self.has_config = any(d.device_class is not None and d.device_class.spec.config for d in self.demands)
        reads = self._reads()
        self._read = _reader(reads)
        self.attributes = list(dict.fromkeys(c.attribute for c in self.constraints))
        self._reads_attributes = (
            reads is None or bool(self.attributes) or any(what == "attributes" for what, _, _ in reads)
        )
        self._pools: dict[Hashable, tuple[int, ...]] = {}
        self._lists = profile.is_on(Gate.LIST_ATTRIBUTES)
        self._kinds: dict[Hashable, int] = {}
        self._judged: dict[Hashable, tuple[Verdict, ...]] = {}
        self.verdicts: list[tuple[Verdict, ...]] = []
        self.values: list[tuple[tuple[Value, ...], ...]] = []
        self._signatures: dict[Hashable, int] = {}
        self.rows: list[list[int]] = []
        """Of each signature the kinds of the devices."""
        self.outcomes: dict[tuple[int, InUse], Outcome] = {}
        """By signature and use: what came of the search."""
        self.looked_at = -1
        """Number of the change up to which `known` and `fitting` hold (see allocator.py)."""
        self.known: set[str] = set()
        self.fitting: set[str] = set()

    def _add_claim(self, index: int, claim: ResourceClaim, classes: Mapping[str, DeviceClass]) -> None:
        row: list[Asked] = []
        for request in claim.spec.devices.requests or ():
            asked = read_request(index, request, len(self.demands), classes, self.profile)
            self.demands += asked.alternatives
            row.append(asked)
        self.claims.append(row)
        for number, constraint in enumerate(claim.spec.devices.constraints):
            attribute = constraint.match_attribute or constraint.distinct_attribute
            if attribute is None or (constraint.match_attribute is None and not self._knows_distinct()):
                self.constraint_errors.setdefault(
                    index,
                    f", constraint #{number}: empty constraint (unsupported constraint type?)",
                )
                continue
            self._add_constraint(index, number, constraint, attribute, row)

    def _knows_distinct(self) -> bool:
        """distinctAttribute came with consumable capacity, in the allocators that each of these selects."""
        return any(self.profile.is_on(gate) for gate in _WITH_DISTINCT)

    def _add_constraint(
        self, claim: int, number: int, constraint: DeviceConstraint, attribute: str, row: list[Asked]
    ) -> None:
        for asked in row:
            for demand in asked.alternatives:
                if applies(constraint, demand):
                    demand.constraints.append(len(self.constraints))
        is_match = constraint.match_attribute is not None
        self.constraints.append(PlanConstraint(claim, number, is_match, attribute))

    def _reads(self) -> frozenset[tuple[str, str, str]] | None:
        """What all expressions together read; None when that cannot be told."""
        paths: set[tuple[str, str, str]] = set()
        profile = self.profile
        for demand in self.demands:
            found: list[frozenset[tuple[str, str, str]] | None] = []
            for expression in demand.expressions:
                with suppress(CELError):
                    found.append(expression.selector(profile).reads)
            for derived in demand.derived:
                with suppress(CELError):
                    found.append(
                        cel.compile_value(derived.expression, profile.version, profile=profile).reads
                    )
            for reads in found:
                if reads is None:
                    return None
                paths |= reads
        return frozenset(paths)

    # --- devices and nodes ---------------------------------------------------------------------

    def kind(self, published: Published, is_here: bool) -> int:
        """A number that is equal for devices the plan cannot tell apart."""
        values: tuple[tuple[Value, ...], ...] = ()
        if self.attributes:
            values = tuple([self._constrained(published, name) for name in self.attributes])
        alike = (published.driver, self._read(published), is_here, published.fingerprint)
        key = (alike, values)
        kind = self._kinds.get(key)
        if kind is None:
            verdicts = self._judged.get(alike)
            if verdicts is None:
                verdicts = self._judged[alike] = self._judge(published, is_here)
            kind = self._kinds[key] = len(self.verdicts)
            self.verdicts.append(verdicts)
            self.values.append(values)
        return kind

    def _judge(self, published: Published, is_here: bool) -> tuple[Verdict, ...]:
        """The verdicts of all demands; demands that ask for the same share theirs."""
        distinct = {d.wants: d for d in reversed(self.demands)}
        verdicts = {wants: judge(d, published, is_here, self.profile) for wants, d in distinct.items()}
        return tuple([verdicts[d.wants] for d in self.demands])

    @property
    def is_worn(self) -> bool:
        """Whether it has seen so many different devices that a new plan would be smaller."""
        return len(self._kinds) > _KINDS or len(self.rows) > _KINDS

    def _constrained(self, published: Published, name: str) -> tuple[Value, ...]:
        attribute = published.attribute(name)
        return () if attribute is None else attribute_values(attribute, self._lists)

    def verdict(self, demand: Demand, published: Published, is_here: bool) -> Verdict:
        return self.verdicts[self.kind(published, is_here)][demand.index]

    def values_of(
        self, constraint: int, demand: Demand, published: Published, is_here: bool
    ) -> tuple[Value, ...]:
        """The device's values of the constraint's attribute, with their types."""
        attribute = self.constraints[constraint].attribute
        for derived in demand.derived:
            if derived.name == attribute:
                return self.verdict(demand, published, is_here).values_of(attribute)
        return self._constrained(published, attribute)

    def signature(self, view: NodeView) -> int:
        """A number that is equal for nodes that look alike to this plan."""
        known = view.signatures.get(self.number)
        if known is None:
            pools = [self._pool_kinds(pool) for pool in view.pools]
            key = (tuple(pools), tuple(view.sets), view.unserved)
            known = self._signatures.setdefault(key, len(self.rows))
            if known == len(self.rows):
                self.rows.append([kind for pool in pools if isinstance(pool, tuple) for kind in pool])
            if len(view.signatures) >= _SIGNATURES:
                view.signatures.clear()
            view.signatures[self.number] = known
        return known

    def _pool_kinds(self, pool: PoolView) -> tuple[int, ...] | PoolProblem:
        if pool.problem is not None:
            return pool.problem
        if not self._reads_attributes:
            # Nothing but the fingerprints and the driver can tell these devices apart.
            key = (pool.pool.id[0], pool.prints, tuple(pool.here))
            known = self._pools.get(key)
            if known is None:
                known = self._pools[key] = self._kinds_of(pool.devices, pool.here)
            return known
        return self._kinds_of(pool.devices, pool.here)

    def _kinds_of(self, devices: Sequence[Published], here: Sequence[bool]) -> tuple[int, ...]:
        return tuple([self.kind(p, is_here) for p, is_here in zip(devices, here, strict=True)])


def _reader(reads: frozenset[tuple[str, str, str]] | None) -> Callable[[Published], Hashable]:
    """What the expressions see of a device that its fingerprint does not tell, as a key."""
    if reads is None:
        return lambda published: digest(published.device.attributes)
    names = sorted({(domain, name) for what, domain, name in reads if what == "attributes"})
    if not names:
        return lambda published: None
    columns = [(f"{domain}/{name}", domain, name) for domain, name in names]

    def read(published: Published) -> Hashable:
        attributes, driver = published.device.attributes, published.driver
        seen: list[Hashable] = []
        for full, domain, name in columns:
            if not name:
                seen.append(
                    any(k.startswith(full) or (domain == driver and "/" not in k) for k in attributes)
                )
                continue
            seen.append(_value(attributes.get(full)))
            if domain == driver:
                seen.append(_value(attributes.get(name)))
        return tuple(seen)

    return read


def _value(attribute: DeviceAttribute | None) -> Hashable:
    if attribute is None or attribute.string is not None:
        return attribute and attribute.string
    return attribute_values(attribute, True)
