"""resource.k8s.io/v1 as frozen structs: slices, classes, claims, allocation results, taint rules.

Every field of 1.37 that takes part in allocation or preparation, under its API name in snake_case.
Quantities and versions stay text here (see `quantity`, `semver`); opaque parameters stay documents.
Decode with `msgspec.convert(document, ResourceClaim)`, encode with `msgspec.to_builtins(claim)`.
Source: api/resource/v1/types.go of Kubernetes 1.37.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType, field

from drakit.model.meta import Base, Condition, NodeSelector, ObjectMeta

GROUP = "resource.k8s.io"
FINALIZER = "resource.kubernetes.io/delete-protection"
POD_CLAIM_ANNOTATION = "resource.kubernetes.io/pod-claim-name"
IMPLICIT_PREFIX = "deviceclass.resource.kubernetes.io/"
"""Before the name of a DeviceClass: the extended resource that every class stands behind."""
EXTENDED_CLAIM_ANNOTATION = "resource.kubernetes.io/extended-resource-claim"
ADMIN_NAMESPACE_LABEL = "resource.kubernetes.io/admin-access"

MAX_RESULTS = 32
"""Devices one claim may be given (resource.k8s.io AllocationResultsMaxSize)."""
MAX_RESERVED_FOR = 256

# --- selectors, config, tolerations ---------------------------------------------------------------


class CELDeviceSelector(Base, frozen=True, kw_only=True):
    expression: str


class DeviceSelector(Base, frozen=True, kw_only=True):
    cel: CELDeviceSelector | None = None


class OpaqueDeviceConfiguration(Base, frozen=True, kw_only=True):
    driver: str
    parameters: Any = None


class DeviceConfiguration(Base, frozen=True, kw_only=True):
    opaque: OpaqueDeviceConfiguration | None = None


class DeviceClaimConfiguration(Base, frozen=True, kw_only=True):
    requests: list[str] = field(default_factory=list)
    opaque: OpaqueDeviceConfiguration | None = None


class DeviceAllocationConfiguration(Base, frozen=True, kw_only=True):
    """One config entry of an allocation; `source` is FromClass or FromClaim."""

    source: str
    requests: list[str] = field(default_factory=list)
    opaque: OpaqueDeviceConfiguration | None = None


class DeviceToleration(Base, frozen=True, kw_only=True):
    key: str = ""
    operator: str = ""
    """Exists or Equal, which is also what an empty one means."""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class DeviceTaint(Base, frozen=True, kw_only=True):
    key: str
    value: str = ""
    effect: str = ""
    time_added: str | None = None


# --- DeviceClass ----------------------------------------------------------------------------------


class DeviceClassSpec(Base, frozen=True, kw_only=True):
    selectors: list[DeviceSelector] = field(default_factory=list)
    config: list[DeviceConfiguration] = field(default_factory=list)
    extended_resource_name: str | None = None


class DeviceClass(Base, frozen=True, kw_only=True):
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: DeviceClassSpec = field(default_factory=DeviceClassSpec)


# --- ResourceSlice --------------------------------------------------------------------------------


class ResourcePool(Base, frozen=True, kw_only=True):
    name: str
    generation: int = 0
    resource_slice_count: int = 1


class DeviceAttribute(Base, frozen=True, kw_only=True):
    """Exactly one is set. Lists exist under the list attributes gate."""

    int_: int | None = field(default=None, name="int")
    bool_: bool | None = field(default=None, name="bool")
    string: str | None = None
    version: str | None = None
    ints: list[int] | None = None
    bools: list[bool] | None = None
    strings: list[str] | None = None
    versions: list[str] | None = None


class CapacityRequestPolicyRange(Base, frozen=True, kw_only=True):
    min: str | None = None
    max: str | None = None
    step: str | None = None


class CapacityRequestPolicy(Base, frozen=True, kw_only=True):
    default: str | None = None
    valid_values: list[str] = field(default_factory=list)
    valid_range: CapacityRequestPolicyRange | None = None


class DeviceCapacity(Base, frozen=True, kw_only=True):
    value: str | int | float = "0"
    request_policy: CapacityRequestPolicy | None = None


class Counter(Base, frozen=True, kw_only=True):
    value: str | int | float = "0"


class CounterSet(Base, frozen=True, kw_only=True):
    name: str
    counters: dict[str, Counter] = field(default_factory=dict)


class DeviceCounterConsumption(Base, frozen=True, kw_only=True):
    counter_set: str
    counters: dict[str, Counter] = field(default_factory=dict)
    compatibility_groups: list[str] = field(default_factory=list)


class Device(Base, frozen=True, kw_only=True):
    name: str
    attributes: dict[str, DeviceAttribute] = field(default_factory=dict)
    capacity: dict[str, DeviceCapacity] = field(default_factory=dict)
    consumes_counters: list[DeviceCounterConsumption] = field(default_factory=list)
    node_name: str | None = None
    node_selector: NodeSelector | None = None
    all_nodes: bool | None = None
    taints: list[DeviceTaint] = field(default_factory=list)
    binds_to_node: bool | None = None
    binding_conditions: list[str] = field(default_factory=list)
    binding_failure_conditions: list[str] = field(default_factory=list)
    allow_multiple_allocations: bool | None = None
    node_allocatable_resources: dict[str, Any] = field(default_factory=dict)
    node_allocatable_resource_mappings: dict[str, Any] = field(default_factory=dict)


class ResourceSliceSpec(Base, frozen=True, kw_only=True):
    driver: str
    pool: ResourcePool
    node_name: str | None = None
    node_selector: NodeSelector | None = None
    all_nodes: bool | None = None
    devices: list[Device] = field(default_factory=list)
    per_device_node_selection: bool | None = None
    shared_counters: list[CounterSet] = field(default_factory=list)
    partition_type_attribute: str | None = None
    skip_node_operations: list[str] = field(default_factory=list)


class ResourceSlice(Base, frozen=True, kw_only=True):
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: ResourceSliceSpec


# --- ResourceClaim --------------------------------------------------------------------------------


class CapacityRequirements(Base, frozen=True, kw_only=True):
    requests: dict[str, str | int | float] = field(default_factory=dict)


class DerivedAttribute(Base, frozen=True, kw_only=True):
    name: str
    expression: str


class ExactDeviceRequest(Base, frozen=True, kw_only=True):
    device_class_name: str = ""
    selectors: list[DeviceSelector] = field(default_factory=list)
    allocation_mode: str = "ExactCount"
    count: int = 1
    admin_access: bool | None = None
    tolerations: list[DeviceToleration] = field(default_factory=list)
    capacity: CapacityRequirements | None = None
    derived_attributes: list[DerivedAttribute] = field(default_factory=list)


class DeviceSubRequest(Base, frozen=True, kw_only=True):
    name: str
    device_class_name: str = ""
    selectors: list[DeviceSelector] = field(default_factory=list)
    allocation_mode: str = "ExactCount"
    count: int = 1
    tolerations: list[DeviceToleration] = field(default_factory=list)
    capacity: CapacityRequirements | None = None
    derived_attributes: list[DerivedAttribute] = field(default_factory=list)


class DeviceRequest(Base, frozen=True, kw_only=True):
    name: str
    exactly: ExactDeviceRequest | None = None
    first_available: list[DeviceSubRequest] = field(default_factory=list)


class DeviceConstraint(Base, frozen=True, kw_only=True):
    requests: list[str] = field(default_factory=list)
    match_attribute: str | None = None
    distinct_attribute: str | None = None


class DeviceClaim(Base, frozen=True, kw_only=True):
    requests: list[DeviceRequest] | None = None
    constraints: list[DeviceConstraint] = field(default_factory=list)
    config: list[DeviceClaimConfiguration] = field(default_factory=list)


class ResourceClaimSpec(Base, frozen=True, kw_only=True):
    devices: DeviceClaim = field(default_factory=DeviceClaim)


class DeviceRequestAllocationResult(Base, frozen=True, kw_only=True):
    """One device given to one request (`request` is `main` or `main/sub`)."""

    request: str
    driver: str
    pool: str
    device: str
    admin_access: bool | None = None
    tolerations: list[DeviceToleration] = field(default_factory=list)
    binding_conditions: list[str] = field(default_factory=list)
    binding_failure_conditions: list[str] = field(default_factory=list)
    share_id: str | None = field(default=None, name="shareID")
    consumed_capacity: dict[str, str] = field(default_factory=dict)
    skip_node_operations: list[str] = field(default_factory=list)


class DeviceAllocationResult(Base, frozen=True, kw_only=True):
    results: list[DeviceRequestAllocationResult] = field(default_factory=list)
    config: list[DeviceAllocationConfiguration] = field(default_factory=list)


class AllocationResult(Base, frozen=True, kw_only=True):
    devices: DeviceAllocationResult = field(default_factory=DeviceAllocationResult)
    node_selector: NodeSelector | None = None
    allocation_timestamp: str | None = None


class ConsumerReference(Base, frozen=True, kw_only=True):
    api_group: str = ""
    resource: str = ""
    name: str = ""
    uid: str = ""


class NetworkDeviceData(Base, frozen=True, kw_only=True):
    interface_name: str = ""
    ips: list[str] = field(default_factory=list)
    hardware_address: str = ""


class AllocatedDeviceStatus(Base, frozen=True, kw_only=True):
    """What a driver says of a device; the API server writes null for no conditions."""

    driver: str
    pool: str
    device: str
    share_id: str | None = field(default=None, name="shareID")
    conditions: list[Condition] | None = None
    data: Any | UnsetType = UNSET
    network_data: NetworkDeviceData | None = None


class ResourceClaimStatus(Base, frozen=True, kw_only=True):
    allocation: AllocationResult | None = None
    reserved_for: list[ConsumerReference] = field(default_factory=list)
    devices: list[AllocatedDeviceStatus] = field(default_factory=list)


class ResourceClaim(Base, frozen=True, kw_only=True):
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: ResourceClaimSpec = field(default_factory=ResourceClaimSpec)
    status: ResourceClaimStatus = field(default_factory=ResourceClaimStatus)


class ResourceClaimTemplateSpec(Base, frozen=True, kw_only=True):
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: ResourceClaimSpec = field(default_factory=ResourceClaimSpec)


class ResourceClaimTemplate(Base, frozen=True, kw_only=True):
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: ResourceClaimTemplateSpec = field(default_factory=ResourceClaimTemplateSpec)


# --- DeviceTaintRule ------------------------------------------------------------------------------


class DeviceTaintSelector(Base, frozen=True, kw_only=True):
    driver: str | None = None
    pool: str | None = None
    device: str | None = None


class DeviceTaintRuleSpec(Base, frozen=True, kw_only=True):
    device_selector: DeviceTaintSelector | None = None
    taint: DeviceTaint


class DeviceTaintRule(Base, frozen=True, kw_only=True):
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: DeviceTaintRuleSpec
