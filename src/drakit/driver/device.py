"""Devices and pools from plain Python values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from drakit.model.meta import NodeSelector, NodeSelectorRequirement, NodeSelectorTerm
from drakit.model.quantity import Quantity
from drakit.model.resource import (
    CapacityRequestPolicy,
    CapacityRequestPolicyRange,
    CounterSet,
    Device,
    DeviceAttribute,
    DeviceCapacity,
    DeviceCounterConsumption,
    DeviceTaint,
)
from drakit.model.semver import Version

AttributeValue = (
    bool | int | str | Version | Sequence[bool] | Sequence[int] | Sequence[str] | Sequence[Version]
)
CapacityValue = DeviceCapacity | Quantity | str | int
_KINDS: dict[type, str] = {bool: "bool", int: "int", str: "string", Version: "version"}


class Pool(Struct, frozen=True):
    """Devices of this node that are published together. Their order is the order of preference.

    A driver that has no reason for more has one pool, named like its node. Where devices can be reached from
    other nodes too, the pool has a `node_selector` (see `nodes()`) or is for `all_nodes`, or each of its
    devices says where it is; such a driver is not `is_node_local`, and one instance of it publishes.
    `partition_type_attribute` names the attribute that says of which kind a partition is. With
    `skip_node_operations` kubelets do not call the driver for these devices ("NodePrepareResources",
    "NodeUnprepareResources", "*").
    """

    name: str
    devices: Sequence[Device]
    shared_counters: Sequence[CounterSet] = ()
    node_selector: NodeSelector | None = None
    all_nodes: bool = False
    partition_type_attribute: str | None = None
    skip_node_operations: Sequence[str] = ()


def device(
    name: str,
    attributes: Mapping[str, AttributeValue] | None = None,
    capacity: Mapping[str, CapacityValue] | None = None,
    *,
    taints: Sequence[DeviceTaint] = (),
    consumes_counters: Sequence[DeviceCounterConsumption] = (),
    allow_multiple_allocations: bool = False,
    node_name: str | None = None,
    node_selector: NodeSelector | None = None,
    all_nodes: bool = False,
    binds_to_node: bool = False,
    binding_conditions: Sequence[str] = (),
    binding_failure_conditions: Sequence[str] = (),
    node_allocatable_resources: Mapping[str, Any] | None = None,
) -> Device:
    """A device for a pool.

    Attribute values are bool, int, str, `version("1.2.3")`, or a list of one of them; a name without a
    domain is in the driver's. Capacities are quantities ("80Gi", 4) or what `capacity()` returns. One of
    `node_name`, `node_selector` and `all_nodes` is given for a device that says itself where it is. A pod
    that gets a device with `binding_conditions` is bound when all of them are True in the claim's status,
    and planned anew when a binding failure condition is. `node_allocatable_resources` says what of the
    node's own resources it takes ({"cpu": {"mapping": {...}}}, as in the API). Raises TypeError for another
    kind of value.
    """
    return Device(
        name=name,
        attributes={key: attribute(value) for key, value in (attributes or {}).items()},
        capacity={
            key: value if isinstance(value, DeviceCapacity) else DeviceCapacity(value=str(value))
            for key, value in (capacity or {}).items()
        },
        taints=list(taints),
        consumes_counters=list(consumes_counters),
        allow_multiple_allocations=allow_multiple_allocations or None,
        node_name=node_name,
        node_selector=node_selector,
        all_nodes=all_nodes or None,
        binds_to_node=binds_to_node or None,
        binding_conditions=list(binding_conditions),
        binding_failure_conditions=list(binding_failure_conditions),
        node_allocatable_resources=dict(node_allocatable_resources or {}),
    )


def nodes(labels: Mapping[str, str | Sequence[str]]) -> NodeSelector:
    """The nodes that have all these labels, each with the value or one of the values given."""
    expressions = [
        NodeSelectorRequirement(
            key=key, operator="In", values=[value] if isinstance(value, str) else list(value)
        )
        for key, value in labels.items()
    ]
    return NodeSelector(node_selector_terms=[NodeSelectorTerm(match_expressions=expressions)])


def version(text: str) -> Version:
    """A version attribute. Raises ValueError unless `text` is a semantic version."""
    return Version.parse(text)


def capacity(
    value: Quantity | str | int,
    *,
    default: str | None = None,
    values: Sequence[str] = (),
    min: str | None = None,
    max: str | None = None,
    step: str | None = None,
) -> DeviceCapacity:
    """A capacity that claims may take parts of: one of `values`, or from `min` to `max` in steps of `step`.

    A claim that does not say takes `default`, all of it where there is none.
    """
    valid_range = CapacityRequestPolicyRange(min=min, max=max, step=step) if min is not None else None
    policy = None
    if default is not None or values or valid_range is not None:
        policy = CapacityRequestPolicy(default=default, valid_values=list(values), valid_range=valid_range)
    return DeviceCapacity(value=str(value), request_policy=policy)


def size(count: int) -> str:
    """`count` bytes as a quantity that is easy to read: "80Gi"."""
    return str(Quantity.parse(f"{count // 1024}Ki")) if count % 1024 == 0 else str(count)


def attribute(value: AttributeValue) -> DeviceAttribute:
    """`value` as the API has it. Raises TypeError for what is no attribute value."""
    items: list[object] = list(value) if isinstance(value, list | tuple) else [value]
    kind = type(items[0]) if items else None
    name = next((name for known, name in _KINDS.items() if known is kind), None)
    if name is None or any(type(item) is not kind for item in items):
        raise TypeError(f"{value!r} is no attribute value: use bool, int, str, version(...) or a list of one")
    plain = [str(item) if isinstance(item, Version) else item for item in items]
    is_list = isinstance(value, list | tuple)
    field = {"bool": "bool_", "int": "int_"}.get(name, name) if not is_list else f"{name}s"
    return DeviceAttribute(**{field: plain if is_list else plain[0]})  # type: ignore[arg-type]
