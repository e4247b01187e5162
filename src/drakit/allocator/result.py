"""From picks to the AllocationResults that go into the claims' status.

Source: structured/internal/*/allocator_*.go (the end of Allocate, createNodeSelector) of Kubernetes 1.37.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from drakit.allocator.device import Published
from drakit.allocator.plan import Plan
from drakit.allocator.request import Asked, Demand
from drakit.allocator.search import Pick
from drakit.allocator.view import NodeView
from drakit.errors import FailedOnNode
from drakit.model.meta import NodeSelector, NodeSelectorRequirement, NodeSelectorTerm
from drakit.model.resource import (
    AllocationResult,
    DeviceAllocationConfiguration,
    DeviceAllocationResult,
    DeviceRequestAllocationResult,
    ResourceClaim,
)
from drakit.profile import Gate, Profile


def build(
    plan: Plan,
    claims: Sequence[ResourceClaim],
    view: NodeView,
    picks: Sequence[Pick],
    share_id: Callable[[], str],
) -> list[AllocationResult]:
    """One result a claim, in order. `share_id` is called once for each share of a device."""
    rows: list[list[DeviceRequestAllocationResult]] = [[] for _ in claims]
    devices: list[list[Published]] = [[] for _ in claims]
    chosen: dict[tuple[int, str], Demand] = {}
    for pick in picks:
        demand = plan.demands[pick.demand]
        published = view.devices[pick.position]
        rows[demand.claim].append(_row(plan, demand, published, view.here[pick.position], share_id))
        devices[demand.claim].append(published)
        chosen[demand.claim, demand.request] = demand
    return [
        AllocationResult(
            devices=DeviceAllocationResult(
                results=rows[index], config=_config(claim, plan.claims[index], index, chosen, plan.has_config)
            ),
            node_selector=_node_selector(claim, devices[index], view.node_name),
        )
        for index, claim in enumerate(claims)
    ]


def _row(
    plan: Plan, demand: Demand, published: Published, is_here: bool, share_id: Callable[[], str]
) -> DeviceRequestAllocationResult:
    """What the device tells beyond its name is empty for most devices, and most of the time is spent here."""
    profile: Profile = plan.profile
    device = published.device
    row = DeviceRequestAllocationResult(
        request=demand.full_name,
        driver=published.driver,
        pool=published.pool,
        device=published.name,
        admin_access=True if demand.is_admin else None,
        tolerations=demand.tolerations,
    )
    if published.is_shareable:
        consumed = plan.verdict(demand, published, is_here).consumes
        texts = {name: str(amount) for name, amount in consumed.items()}
        row = replace(row, share_id=share_id(), consumed_capacity=texts)
    if device.binding_conditions and profile.is_on(Gate.DEVICE_BINDING_CONDITIONS):
        row = replace(
            row,
            binding_conditions=device.binding_conditions,
            binding_failure_conditions=device.binding_failure_conditions,
        )
    skipped = published.slice.spec.skip_node_operations
    if skipped and profile.is_on(Gate.OPTIONAL_NODE_OPERATIONS):
        row = replace(row, skip_node_operations=skipped)
    return row


def _config(
    claim: ResourceClaim,
    row: Sequence[Asked],
    index: int,
    chosen: dict[tuple[int, str], Demand],
    has_class_config: bool,
) -> list[DeviceAllocationConfiguration]:
    """The classes' configuration (each class once, with the requests it serves), then the claim's.

    Requests are left out where an entry serves all of them.
    """
    own_config = claim.spec.devices.config
    if not own_config and not has_class_config:
        return []
    demands = [chosen.get((index, asked.name)) or asked.alternatives[0] for asked in row]
    served: dict[str, list[Demand]] = {}
    for demand in demands:
        served.setdefault(demand.asked.device_class_name, []).append(demand)
    config: list[DeviceAllocationConfiguration] = []
    for group in served.values():
        requests = [] if len(group) == len(demands) else [demand.full_name for demand in group]
        config += [
            DeviceAllocationConfiguration(source="FromClass", requests=requests, opaque=entry.opaque)
            for entry in (group[0].device_class.spec.config if group[0].device_class else ())
        ]
    for own in own_config:
        wanted = own.requests
        concerned = [d for d in demands if not wanted or d.request in wanted or d.full_name in wanted]
        if concerned or not wanted:
            requests = [] if len(concerned) == len(demands) else wanted
            config.append(
                DeviceAllocationConfiguration(source="FromClaim", requests=requests, opaque=own.opaque)
            )
    return config


def _node_selector(claim: ResourceClaim, devices: Iterable[Published], node_name: str) -> NodeSelector | None:
    """Where the devices can be used: on one node, on nodes that all selectors allow, or everywhere (None)."""
    fields: list[NodeSelectorRequirement] = []
    expressions: list[NodeSelectorRequirement] = []
    for published in devices:
        spec = published.slice.spec
        where = published.device if spec.per_device_node_selection else spec
        if where.node_name is not None or published.device.binds_to_node:
            return _only(node_name)
        terms = where.node_selector.node_selector_terms if where.node_selector else []
        if len(terms) > 1:
            raise FailedOnNode(
                f"create NodeSelector for claim {claim.metadata.name}: "
                f"unsupported ResourceSlice.NodeSelector with {len(terms)} terms"
            )
        for term in terms:
            _add(term.match_fields, fields)
            _add(term.match_expressions, expressions)
    if not fields and not expressions:
        return None
    return NodeSelector(
        node_selector_terms=[NodeSelectorTerm(match_expressions=expressions, match_fields=fields)]
    )


def _only(node_name: str) -> NodeSelector:
    field = NodeSelectorRequirement(key="metadata.name", operator="In", values=[node_name])
    return NodeSelector(node_selector_terms=[NodeSelectorTerm(match_fields=[field])])


def _add(rows: Iterable[NodeSelectorRequirement], to: list[NodeSelectorRequirement]) -> None:
    for row in rows:
        if not any(
            row.key == known.key and row.operator == known.operator and set(row.values) == set(known.values)
            for known in to
        ):
            to.append(row)
