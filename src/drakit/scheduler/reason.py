"""Why a pod is not on a node, in words, and what could change that.

The filters answer with `Rejection`s, one or more a node. Those of all nodes together become the one line
people read in events and in the PodScheduled condition: `0/3 nodes are available: 1 Insufficient cpu
(2 wanted, at most 500m free), 2 node(s) didn't match Pod's node affinity/selector.` The frame and the
first words of each reason are Kubernetes', so that what searches for them finds them; what follows
them is more than Kubernetes says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntFlag

from msgspec import Struct

from drakit.model.quantity import Quantity
from drakit.transport import Document


class Wake(IntFlag):
    """Kinds of change that may make an unschedulable pod schedulable."""

    NODE = 1
    """A node came, or its labels, taints or capacity changed."""
    POD_GONE = 2
    """A pod on a node ended and left its resources and ports."""
    CLAIM = 4
    """One of the pod's own claims changed."""
    DEVICES = 8
    """Devices came or became free: slices, taint rules, deallocated claims."""
    CLASS = 16
    """A DeviceClass came or changed."""
    POD_PLACED = 32
    """A pod came to a node, or its labels changed there."""


class Rejection(Struct, frozen=True):
    """One reason against one node. `resource` with `wanted` and `free` (in the units of
    `drakit.scheduler.request`) is there when it is a matter of amounts. `is_resolvable`: fewer pods on the
    node could help."""

    text: str
    wakes: Wake
    resource: str = ""
    wanted: int = 0
    free: int = 0
    is_resolvable: bool = False


class Failure(Struct, frozen=True):
    """A scheduling attempt that found no node.

    `reason` is the condition's reason: Unschedulable, or SchedulerError for bad input. `is_quiet`: the
    pod only waits for this scheduler's own write and nobody needs to hear of it. `release` is a claim
    whose allocation stands in the pod's way while nobody uses it: give it up and try again. `rejections`
    are the reasons by node.
    """

    message: str
    wakes: Wake
    reason: str = "Unschedulable"
    is_quiet: bool = False
    release: Document | None = None
    rejections: Mapping[str, tuple[Rejection, ...]] | None = None


def describe(rejections: Mapping[str, Iterable[Rejection]], notes: Iterable[str] = ()) -> str:
    """The line for a pod that no node can take: `rejections` by node name, `notes` said after them."""
    counts: dict[tuple[str, str, int], int] = {}
    most: dict[tuple[str, str, int], int] = {}
    for reasons in rejections.values():
        for reason in reasons:
            group = (reason.text, reason.resource, reason.wanted)
            counts[group] = counts.get(group, 0) + 1
            most[group] = max(most.get(group, reason.free), reason.free)
    parts = []
    for group in sorted(counts):
        text, resource, wanted = group
        if resource:
            text += f" ({amount_text(resource, wanted)} wanted, "
            text += f"at most {amount_text(resource, most[group])} free)"
        parts.append(f"{counts[group]} {text}")
    return frame(len(rejections), [", ".join(parts), *notes])


def frame(nodes: int, parts: Iterable[str]) -> str:
    """`0/N nodes are available: PART. PART.`"""
    said = " ".join(part if part.endswith(".") else f"{part}." for part in parts if part)
    start = f"0/{nodes} nodes are available:" if nodes else "no nodes available to schedule pods."
    return f"{start} {said}".strip()


def amount_text(resource: str, amount: int) -> str:
    """`amount` as people write it: `500m`, `16Gi`, `3`."""
    if resource == "cpu":
        return str(Quantity.parse(f"{amount}m"))
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        for shift, suffix in ((30, "Gi"), (20, "Mi"), (10, "Ki")):
            if amount and amount % (1 << shift) == 0:
                return f"{amount >> shift}{suffix}"
        if amount >= 1 << 20:
            return f"{amount >> 20}Mi"
    return str(amount)
