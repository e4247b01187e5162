"""What the scheduler has done since it started, as plain numbers."""

from __future__ import annotations

import msgspec
from msgspec import Struct


class Metrics(Struct):
    """Counts, and seconds of CPU-bound work by step; `..._writes` count API requests."""

    attempts: int = 0
    scheduled: int = 0
    unschedulable: int = 0
    errors: int = 0
    conflicts: int = 0
    nodes_looked_at: int = 0
    allocations_tried: int = 0
    allocations_given_up: int = 0
    preempted: int = 0
    claim_writes: int = 0
    bindings: int = 0
    pod_writes: int = 0
    events: int = 0
    decide_seconds: float = 0.0
    allocate_seconds: float = 0.0
    informer_seconds: float = 0.0

    def document(self) -> dict[str, int | float]:
        """All numbers by name."""
        return msgspec.structs.asdict(self)
