"""What the allocator has to say about devices it did not take.

A trace is plugged into the allocator by whoever wants an explanation. It is told, for each request (each
alternative of a prioritized list counts as one) and each device of a node, the first check that turned the
device away, and for each request the bound that the devices left over could not meet. Without a trace
nothing of this is computed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from drakit.allocator.device import DeviceID
from drakit.model.resource import DeviceTaint


class Check(StrEnum):
    """The checks in the order in which they turn a device away. POOL concerns a whole pool, those from LIMIT
    on concern requests."""

    POOL = "pool"
    """Its pool is incomplete, obsolete or invalid."""
    IN_USE = "in-use"
    """Another claim holds it; `holders` says which."""
    GATE = "gate"
    """It needs a feature that is off in this profile."""
    SELECTOR = "selector"
    """A CEL selector of the class or the request says no, or fails."""
    NODE = "node"
    """It belongs to another node (per-device node selection)."""
    CAPACITY = "capacity"
    """It lacks the capacity asked for, or too little of it is left."""
    FEATURE = "feature"
    """The node does not declare a feature it needs; `reason` says which."""
    COUNTER = "counter"
    """A shared counter that it consumes is short."""
    GROUP = "group"
    """Its compatibility groups do not go with what is allocated from the same counters."""
    TAINT = "taint"
    """It has a taint that the request does not tolerate."""
    CONSTRAINT = "constraint"
    """It lacks the attribute of a constraint, or has the wrong value beside what was picked."""
    LIMIT = "limit"
    """The request would give the claim more than 32 devices."""
    COUNT = "count"
    """Fewer devices passed than are wanted."""
    COMPETITION = "competition"
    """Each request could be served alone, all together they cannot."""


class Candidate(Struct, frozen=True):
    """Where a message comes from: one alternative of a request on one node.

    `claim` is namespace/name, `request` is `main` or `main/sub`.
    """

    node: str
    claim: str
    request: str


class Refusal(Struct, frozen=True):
    """The first check that a device (for POOL a whole pool) did not pass. Only the fields of the check are
    set. Amounts are quantities as text."""

    check: Check
    reason: str = ""
    """POOL: incomplete or what is invalid. GATE: the gate. SELECTOR: the error, if it failed. CAPACITY: why
    the device cannot serve the amount, whatever is left. COUNTER: what is wrong with all of the pool's."""
    holders: tuple[str, ...] = ()
    """The claims (namespace/name) that hold it (IN_USE; empty when an earlier request of this pod took it),
    share it (CAPACITY), or draw on the counters (COUNTER, GROUP)."""
    is_class: bool = False
    """SELECTOR: whether it is the class's or the request's."""
    selector: int = 0
    expression: str = ""
    name: str = ""
    """CAPACITY: the capacity. COUNTER: set/counter. GROUP: the set. CONSTRAINT: the attribute."""
    needed: str = ""
    left: str = ""
    taint: DeviceTaint | None = None
    constraint: int = 0
    """CONSTRAINT: its index in the claim. With a `reason` a derived attribute that cannot be worked out."""


class FellShort(Struct, frozen=True, kw_only=True):
    """The devices that passed every check of their own are not enough, or not together.

    `wanted` devices, at most `possible` of them at once; for all of `requests` (claim and request) where it
    is a matter of several. COUNT: too few passed. COUNTER: the counters do not allow so many. CONSTRAINT: no
    value of the attribute `name` has enough, or it has too few different values (`is_distinct`); `best` has
    the values that come closest with how many devices each has. COMPETITION: the requests of all claims take
    each other's devices. LIMIT: the claim asks for more than it may have.
    """

    check: Check
    wanted: int
    possible: int
    requests: tuple[tuple[str, str], ...] = ()
    name: str = ""
    constraint: int = 0
    is_distinct: bool = False
    best: tuple[tuple[str, int], ...] = ()


class Trace(Protocol):
    """Receives the messages of one allocation; it must not change anything it is given."""

    def turned_away(self, candidate: Candidate, device: DeviceID, refusal: Refusal) -> None:
        """The device (driver, pool, name) did not pass; for POOL the name is ""."""
        ...

    def passed(self, candidate: Candidate, device: DeviceID) -> None:
        """The device passed every check of its own."""
        ...

    def fell_short(self, candidate: Candidate, event: FellShort) -> None: ...
