"""Kubernetes versions as one table: which gates are on, which versions of resource.k8s.io are served.

A profile is data. Code asks `profile.is_on(Gate.X)`; nothing else in drakit compares version numbers.
Source: the gate list of each release (pkg/features/kube_features.go) and its API documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

from drakit.errors import UsageError

DEFAULT_VERSION = "1.37"
VERSIONS = ("1.32", "1.33", "1.34", "1.35", "1.36", "1.37")


class Gate(StrEnum):
    """The feature gates that change what DRA does."""

    ADMIN_ACCESS = "DRAAdminAccess"
    PRIORITIZED_LIST = "DRAPrioritizedList"
    PARTITIONABLE_DEVICES = "DRAPartitionableDevices"
    PARTITIONABLE_DEVICES_TYPE = "DRAPartitionableDevicesType"
    DEVICE_TAINTS = "DRADeviceTaints"
    DEVICE_TAINT_RULES = "DRADeviceTaintRules"
    CONSUMABLE_CAPACITY = "DRAConsumableCapacity"
    FRACTIONAL_CAPACITY_RANGE = "DRAFractionalCapacityRange"
    DEVICE_BINDING_CONDITIONS = "DRADeviceBindingConditions"
    EXTENDED_RESOURCE = "DRAExtendedResource"
    DEVICE_STATUS = "DRAResourceClaimDeviceStatus"
    GRANULAR_STATUS_AUTHORIZATION = "DRAResourceClaimGranularStatusAuthorization"
    HEALTH_STATUS = "ResourceHealthStatus"
    LIST_ATTRIBUTES = "DRAListTypeAttributes"
    NODE_ALLOCATABLE = "DRANodeAllocatableResources"
    WORKLOAD_CLAIMS = "DRAWorkloadResourceClaims"
    POOL_STATUS = "DRAResourcePoolStatus"
    OPTIONAL_NODE_OPERATIONS = "DRAOptionalNodeOperations"
    COMPATIBILITY_GROUPS = "DRADeviceCompatibilityGroups"
    DERIVED_ATTRIBUTES = "DRADerivedAttributes"
    FILTER_TIMEOUT = "DRASchedulerFilterTimeout"


class _Stage(Struct, frozen=True):
    """`since`: first version that knows the gate (off); `on`: first version that has it on by default."""

    since: str
    on: str | None = None


_STAGES: Mapping[Gate, _Stage] = {
    Gate.ADMIN_ACCESS: _Stage("1.32", "1.34"),
    Gate.DEVICE_STATUS: _Stage("1.32", "1.33"),
    Gate.HEALTH_STATUS: _Stage("1.32", "1.36"),
    Gate.PRIORITIZED_LIST: _Stage("1.33", "1.34"),
    Gate.PARTITIONABLE_DEVICES: _Stage("1.33", "1.36"),
    Gate.DEVICE_TAINTS: _Stage("1.33", "1.36"),
    Gate.DEVICE_TAINT_RULES: _Stage("1.33", "1.37"),
    Gate.CONSUMABLE_CAPACITY: _Stage("1.34", "1.36"),
    Gate.DEVICE_BINDING_CONDITIONS: _Stage("1.34", "1.36"),
    Gate.EXTENDED_RESOURCE: _Stage("1.34", "1.36"),
    Gate.FILTER_TIMEOUT: _Stage("1.34", "1.34"),
    Gate.GRANULAR_STATUS_AUTHORIZATION: _Stage("1.36", "1.36"),
    Gate.LIST_ATTRIBUTES: _Stage("1.36"),
    Gate.NODE_ALLOCATABLE: _Stage("1.36"),
    Gate.WORKLOAD_CLAIMS: _Stage("1.36"),
    Gate.POOL_STATUS: _Stage("1.36"),
    Gate.FRACTIONAL_CAPACITY_RANGE: _Stage("1.37", "1.37"),
    Gate.PARTITIONABLE_DEVICES_TYPE: _Stage("1.37"),
    Gate.OPTIONAL_NODE_OPERATIONS: _Stage("1.37"),
    Gate.COMPATIBILITY_GROUPS: _Stage("1.37"),
    Gate.DERIVED_ATTRIBUTES: _Stage("1.37"),
}

_SERVED: Mapping[str, tuple[str, ...]] = {
    "1.32": ("v1beta1", "v1alpha3"),
    "1.33": ("v1beta1", "v1beta2", "v1alpha3"),
    "1.34": ("v1", "v1beta2", "v1beta1", "v1alpha3"),
    "1.35": ("v1", "v1beta2", "v1beta1", "v1alpha3"),
    "1.36": ("v1", "v1beta2", "v1beta1", "v1alpha3"),
    "1.37": ("v1", "v1beta2", "v1beta1", "v1alpha3"),
}


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


class Profile(Struct, frozen=True):
    """What a Kubernetes version does about DRA. `version` is "1.37", `gates` the ones that are on,
    `served` the versions of resource.k8s.io, the preferred one first."""

    version: str
    gates: frozenset[Gate]
    served: tuple[str, ...]

    def is_on(self, gate: Gate) -> bool:
        return gate in self.gates

    def at_least(self, version: str) -> bool:
        """Whether this Kubernetes is `version` ("1.34") or newer: for facts no gate stands for."""
        return _order(self.version) >= _order(version)


def profile_for(
    version: str = DEFAULT_VERSION, gates: Mapping[str, bool] | Iterable[tuple[str, bool]] = ()
) -> Profile:
    """The profile of `version` ("1.37", "v1.37.2") with its default gates, changed by `gates`.

    `AllAlpha`/`AllBeta` are not known; `all` turns on every gate the version has. Raises UsageError for
    an unknown version or a gate that version does not have.
    """
    text = ".".join(version.removeprefix("v").split(".")[:2])
    if text not in _SERVED:
        raise UsageError(f"unknown Kubernetes version {version!r}: choose one of {', '.join(VERSIONS)}")
    known = {gate for gate, stage in _STAGES.items() if _order(stage.since) <= _order(text)}
    on = {g for g in known if (since := _STAGES[g].on) and _order(since) <= _order(text)}
    for name, is_wanted in dict(gates).items():
        if name == "all":
            on = set(known) if is_wanted else set()
            continue
        gate = next((g for g in known if g.value == name), None)
        if gate is None:
            names = ", ".join(sorted(g.value for g in known))
            raise UsageError(f"Kubernetes {text} has no DRA feature gate {name!r}: it has {names}")
        (on.add if is_wanted else on.discard)(gate)
    return Profile(text, frozenset(on), _SERVED[text])
