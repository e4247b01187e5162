"""What a scheduling attempt decided, on its way to the API, and the ways in which that can fail."""

from __future__ import annotations

from msgspec import Struct, field

from drakit.errors import Conflict, DRAError, InternalError, ServiceUnavailable, Timeout, TooManyRequests
from drakit.scheduler.plan import Plan, Variant
from drakit.scheduler.pod import PodInfo
from drakit.transport import Document

PASSING = (ServiceUnavailable, Timeout, InternalError, TooManyRequests)
"""Failures that pass, and after which it is not known whether the write was carried out."""


class Lost(Conflict):
    """The decision no longer stands: something else came first. The pod is scheduled anew."""


class NotReady(DRAError):
    """A device said that it will not get ready for the pod, or took too long."""


class Decision(Struct, kw_only=True, eq=False):
    """A pod, its node and the devices promised to it (`promises`: allocation by claim uid).

    `variant` holds the special claim for extended resources, if there is one. `reserved` collects the
    claims that this decision reserved for the pod, `special` the one it created. `is_nominated`: the
    pod says that its node is being made ready for it. `shares` are rows for the pod's status: what its
    devices stand for of the node's own resources.
    """

    pod: PodInfo
    node: str
    plan: Plan | None = None
    variant: Variant | None = None
    promises: dict[str, Document] = field(default_factory=dict)
    reserved: list[Document] = field(default_factory=list)
    special: Document | None = None
    is_nominated: bool = False
    shares: list[Document] = field(default_factory=list)
    has_told_shares: bool = False

    @property
    def may_wait(self) -> bool:
        """Whether devices may have to get ready first."""
        allocations = list(self.promises.values())
        for claim in self.plan.claims if self.plan else ():
            allocations.append((claim.get("status") or {}).get("allocation") or {})
        return any(
            result.get("bindingConditions")
            for allocation in allocations
            for result in (allocation.get("devices") or {}).get("results") or ()
        )


def name_of(claim: Document) -> str:
    """`namespace/name`."""
    meta = claim["metadata"]
    return f"{meta['namespace']}/{meta['name']}"
