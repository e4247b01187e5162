"""Fields of a slice that the API server did not keep: its version, or its feature gates, do not know them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from drakit.errors import DRAError
from drakit.transport import Document

GATES = {
    "taints": "DRADeviceTaints",
    "sharedCounters": "DRAPartitionableDevices",
    "consumesCounters": "DRAPartitionableDevices",
    "perDeviceNodeSelection": "DRAPartitionableDevices",
    "bindsToNode": "DRADeviceBindingConditions",
    "bindingConditions": "DRADeviceBindingConditions",
    "bindingFailureConditions": "DRADeviceBindingConditions",
    "allowMultipleAllocations": "DRAConsumableCapacity",
    "requestPolicy": "DRAConsumableCapacity",
    "partitionTypeAttribute": "DRAResourcePoolStatus",
    "skipNodeOperations": "DRAOptionalNodeOperations",
    "nodeAllocatableResources": "DRANodeAllocatableResources",
    "compatibilityGroups": "DRADeviceCompatibilityGroups",
    "ints": "DRAListTypeAttributes",
    "bools": "DRAListTypeAttributes",
    "strings": "DRAListTypeAttributes",
    "versions": "DRAListTypeAttributes",
}
"""The feature gate that each field needs."""


class DroppedFields(DRAError):
    """`fields` of the slice `name` are not kept; `gates` are those that may be off."""

    def __init__(self, name: str, fields: Sequence[str]) -> None:
        self.name = name
        self.fields = tuple(fields)
        self.gates = tuple(sorted({GATES[field] for field in fields if field in GATES}))
        shown = ", ".join(fields) or "some fields"
        why = (
            f"the feature gate {', '.join(self.gates)} is off" if self.gates else "it is of an older version"
        )
        super().__init__(f"the API server keeps slice {name} without {shown}: probably {why}")

    @classmethod
    def of(cls, name: str, wanted: Document, kept: Document) -> DroppedFields:
        """What is missing in `kept` of the slice `wanted`."""
        return cls(name, sorted(set(_missing(wanted, kept))))


def _missing(wanted: Any, kept: Any) -> Iterator[str]:
    """The names of fields that `wanted` has somewhere and `kept` has not."""
    if isinstance(wanted, dict) and isinstance(kept, dict):
        for key, value in wanted.items():
            if key in kept:
                yield from _missing(value, kept[key])
            else:
                yield key
    elif isinstance(wanted, list) and isinstance(kept, list):
        for one, other in zip(wanted, kept, strict=False):
            yield from _missing(one, other)
