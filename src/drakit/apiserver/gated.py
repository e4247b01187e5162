"""Fields that exist only while their feature gate is on.

A field of a disabled gate is dropped from what a client writes, unless the object used the gate's fields
before: then unrelated updates must not lose them. `*` in a path stands for every item of a list or map.
Source: pkg/registry/resource/*/strategy.go, the dropDisabled... functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from drakit.profile import Gate, Profile
from drakit.transport import Document

_REQUESTS = "devices.requests.*"
_RESULTS = "status.allocation.devices.results.*"
_DEVICES = "spec.devices.*"
_BINDING = ("bindingConditions", "bindingFailureConditions")


def _spec_fields(prefix: str) -> dict[Gate, tuple[str, ...]]:
    """The gated fields of a claim's spec below `prefix`."""
    request = f"{prefix}.{_REQUESTS}"
    each = (f"{request}.exactly", f"{request}.firstAvailable.*")
    return {
        Gate.PRIORITIZED_LIST: (f"{request}.firstAvailable",),
        Gate.ADMIN_ACCESS: (f"{request}.exactly.adminAccess",),
        Gate.DEVICE_TAINTS: tuple(f"{place}.tolerations" for place in each),
        Gate.CONSUMABLE_CAPACITY: (
            *(f"{place}.capacity" for place in each),
            f"{prefix}.devices.constraints.*.distinctAttribute",
        ),
        Gate.DERIVED_ATTRIBUTES: tuple(f"{place}.derivedAttributes" for place in each),
    }


_STATUS: dict[Gate, tuple[str, ...]] = {
    Gate.ADMIN_ACCESS: (f"{_RESULTS}.adminAccess",),
    Gate.DEVICE_TAINTS: (f"{_RESULTS}.tolerations",),
    Gate.CONSUMABLE_CAPACITY: (
        f"{_RESULTS}.shareID",
        f"{_RESULTS}.consumedCapacity",
        "status.devices.*.shareID",
    ),
    Gate.DEVICE_BINDING_CONDITIONS: (
        *(f"{_RESULTS}.{name}" for name in _BINDING),
        "status.allocation.allocationTimestamp",
    ),
    Gate.DEVICE_STATUS: ("status.devices",),
    Gate.OPTIONAL_NODE_OPERATIONS: (f"{_RESULTS}.skipNodeOperations",),
}

_CLAIM = {
    gate: _spec_fields("spec").get(gate, ()) + _STATUS.get(gate, ())
    for gate in [*_spec_fields("spec"), *_STATUS]
}

FIELDS: dict[str, dict[Gate, tuple[str, ...]]] = {
    "DeviceClass": {Gate.EXTENDED_RESOURCE: ("spec.extendedResourceName",)},
    "ResourceClaim": _CLAIM,
    "ResourceClaimTemplate": _spec_fields("spec.spec"),
    "ResourceSlice": {
        Gate.DEVICE_TAINTS: (f"{_DEVICES}.taints",),
        Gate.PARTITIONABLE_DEVICES: (
            "spec.perDeviceNodeSelection",
            "spec.sharedCounters",
            f"{_DEVICES}.consumesCounters",
            f"{_DEVICES}.nodeName",
            f"{_DEVICES}.nodeSelector",
            f"{_DEVICES}.allNodes",
        ),
        Gate.PARTITIONABLE_DEVICES_TYPE: ("spec.partitionTypeAttribute",),
        Gate.CONSUMABLE_CAPACITY: (
            f"{_DEVICES}.allowMultipleAllocations",
            f"{_DEVICES}.capacity.*.requestPolicy",
        ),
        Gate.DEVICE_BINDING_CONDITIONS: (
            f"{_DEVICES}.bindsToNode",
            *(f"{_DEVICES}.{name}" for name in _BINDING),
        ),
        Gate.NODE_ALLOCATABLE: (
            f"{_DEVICES}.nodeAllocatableResources",
            f"{_DEVICES}.nodeAllocatableResourceMappings",
        ),
        Gate.COMPATIBILITY_GROUPS: (f"{_DEVICES}.consumesCounters.*.compatibilityGroups",),
        Gate.LIST_ATTRIBUTES: tuple(
            f"{_DEVICES}.attributes.*.{name}" for name in ("bools", "ints", "strings", "versions")
        ),
        Gate.OPTIONAL_NODE_OPERATIONS: ("spec.skipNodeOperations",),
    },
}


def drop_disabled(kind: str, document: Document, old: Document | None, profile: Profile) -> None:
    """Remove from `document`, in place, the fields of gates that are off in `profile`.

    What is removed from is part of the caller's own document; parts shared with `old` are only read.
    """
    for paths in _disabled(kind, profile):
        found = [(holder, path[-1]) for path in paths for holder in _holders(document, path)]
        if not found or (old is not None and any(True for path in paths for _ in _holders(old, path))):
            continue
        for holder, name in found:
            del holder[name]


@lru_cache(maxsize=64)
def _disabled(kind: str, profile: Profile) -> list[list[tuple[str, ...]]]:
    """The fields of `kind` whose gates are off, gate by gate."""
    gated = FIELDS.get(kind, {}).items()
    return [[tuple(path.split(".")) for path in paths] for gate, paths in gated if not profile.is_on(gate)]


def _holders(value: Any, path: tuple[str, ...]) -> Iterator[Document]:
    """The objects that have the last field of `path`."""
    if path[0] == "*":
        items = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        for item in items:
            yield from _holders(item, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        if len(path) == 1:
            yield value
        else:
            yield from _holders(value[path[0]], path[1:])
