"""Topology spread: pods of one kind evenly over zones, nodes or whatever a label of nodes makes.

For one attempt the matching pods are counted once by place; a node is then judged by the count of its
place against the smallest one. Source: pkg/scheduler/framework/plugins/podtopologyspread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from drakit.model.selector import LabelSelector
from drakit.scheduler.neighbours import with_label_keys
from drakit.scheduler.reason import Rejection, Wake
from drakit.transport import Document

if TYPE_CHECKING:
    from drakit.scheduler.node import NodeInfo
    from drakit.scheduler.pod import PodInfo

_TEXT = "node(s) didn't match pod topology spread constraints"
_WAKES = Wake.NODE | Wake.POD_GONE | Wake.POD_PLACED
_UNEVEN = Rejection(_TEXT, _WAKES, is_resolvable=True)
_UNLABELLED = Rejection(f"{_TEXT} (missing required label)", Wake.NODE)


class Constraint(Struct, frozen=True):
    """One entry of `spec.topologySpreadConstraints`."""

    topology_key: str
    max_skew: int
    min_domains: int
    selector: LabelSelector | None
    is_hard: bool
    honors_affinity: bool
    honors_taints: bool

    def picks(self, pod: PodInfo) -> bool:
        return self.selector is not None and self.selector.matches(pod.labels)


def read_constraints(spec: Document, labels: Mapping[str, str]) -> tuple[Constraint, ...]:
    """Raises BadRequest for a selector that is broken."""
    return tuple(
        Constraint(
            row.get("topologyKey") or "",
            int(row.get("maxSkew") or 1),
            int(row.get("minDomains") or 1),
            with_label_keys(row, labels),
            (row.get("whenUnsatisfiable") or "DoNotSchedule") == "DoNotSchedule",
            (row.get("nodeAffinityPolicy") or "Honor") == "Honor",
            row.get("nodeTaintsPolicy") == "Honor",
        )
        for row in spec.get("topologySpreadConstraints") or ()
    )


Suits = Callable[["NodeInfo"], bool]


class Spread:
    """How the pods that a pod's constraints pick are spread by now. `is_chosen` says whether a node meets
    the pod's node selector and affinity, `is_open` whether the pod tolerates its taints."""

    __slots__ = ("_counts", "_hard", "_pod", "_smallest", "_soft")

    def __init__(self, pod: PodInfo, nodes: Iterable[NodeInfo], is_chosen: Suits, is_open: Suits) -> None:
        self._pod = pod
        self._hard = [c for c in pod.spread if c.is_hard]
        self._soft = [c for c in pod.spread if not c.is_hard]
        self._counts: dict[Constraint, dict[str, int]] = {c: {} for c in pod.spread}
        for node in nodes:
            for group in (self._hard, self._soft):
                if any(c.topology_key not in node.labels for c in group):
                    continue
                for constraint in group:
                    if constraint.honors_affinity and not is_chosen(node):
                        continue
                    if constraint.honors_taints and not is_open(node):
                        continue
                    self._count(constraint, node)
        self._smallest = {c: self._least(c) for c in self._hard}

    def _count(self, constraint: Constraint, node: NodeInfo) -> None:
        matching = sum(
            other.namespace == self._pod.namespace
            and constraint.picks(other)
            and not other.document["metadata"].get("deletionTimestamp")
            for other in node.pods.values()
        )
        counts = self._counts[constraint]
        value = node.labels[constraint.topology_key]
        counts[value] = counts.get(value, 0) + matching

    def _least(self, constraint: Constraint) -> int:
        counts = self._counts[constraint]
        return min(counts.values(), default=0) if len(counts) >= constraint.min_domains else 0

    @property
    def has_preference(self) -> bool:
        return bool(self._soft)

    def reject(self, node: NodeInfo) -> Rejection | None:
        """Why the pod may not be on `node`."""
        for constraint in self._hard:
            value = node.labels.get(constraint.topology_key)
            if value is None:
                return _UNLABELLED
            count = self._counts[constraint].get(value, 0) + constraint.picks(self._pod)
            if count - self._smallest[constraint] > constraint.max_skew:
                return _UNEVEN
        return None

    def crowd(self, node: NodeInfo) -> float | None:
        """How many like it are around `node`, weighed by how many places there are; None where a place
        cannot be told."""
        total = 0.0
        for constraint in self._soft:
            value = node.labels.get(constraint.topology_key)
            if value is None:
                return None
            counts = self._counts[constraint]
            total += counts.get(value, 0) * math.log(len(counts) + 2) + constraint.max_skew - 1
        return total
