"""One scheduling attempt: from a pod to a node and its devices, or to the reason why not.

Synchronous, so nothing changes while it runs: no locks, no snapshot. Nodes are looked at from where the
last attempt stopped until enough feasible ones are found; those are compared. Only when there is none are
all nodes asked once more for their reasons, so that a success never pays for texts. And as long as nothing
changes, a pod like one that found no node is not even looked for: many pods that wait for one device cost
little each time one comes back.
"""

from __future__ import annotations

from time import perf_counter

import msgspec
from msgspec import Struct

from drakit.errors import AllocationError, SearchGaveUp
from drakit.scheduler.decision import Decision
from drakit.scheduler.dynamic import DynamicResources
from drakit.scheduler.inventory import Inventory, enough
from drakit.scheduler.metrics import Metrics
from drakit.scheduler.node import NodeInfo
from drakit.scheduler.plan import Memory, Plan, Variant
from drakit.scheduler.pod import PodInfo
from drakit.scheduler.reason import Failure, Rejection, Wake, describe, frame

_ANY = Wake.NODE | Wake.CLAIM | Wake.DEVICES | Wake.CLASS
_KNOWN_AT_MOST = 256
_RANK_WEIGHT, _LIKING_WEIGHT, _DISLIKING_WEIGHT = 2, 2, 3


class _Known(Struct, frozen=True):
    """A failure that holds for like pods while both revisions stay. `memory` keeps the claims' identity."""

    revisions: tuple[int, int]
    memory: Memory | None
    failure: Failure


class Cycle:
    """Decides about pods over what is known of nodes and devices. `extended` names the extended resources
    that devices stand behind."""

    def __init__(self, inventory: Inventory, dynamic: DynamicResources, metrics: Metrics) -> None:
        self._inventory = inventory
        self._dynamic = dynamic
        self._metrics = metrics
        self._known: dict[tuple[bytes, int], _Known] = {}

    def decide(self, pod: PodInfo) -> Decision | Failure:
        """Where `pod` goes. A decision has its devices promised already; the caller has to place the pod
        and to write the decision or unreserve it."""
        if pod.problem:
            return Failure(pod.problem, Wake(0), "SchedulerError")
        try:
            plan = self._dynamic.pre_filter(pod)
            if isinstance(plan, Failure):
                text = plan.message if plan.is_quiet else frame(len(self._inventory), [plan.message])
                return Failure(text, plan.wakes, plan.reason, plan.is_quiet, plan.release)
            variant = self._dynamic.plain_variant(plan) if plan is not None and plan.is_plain else None
            failure = self._recall(pod, plan, variant)
            if failure is None:
                feasible = self._feasible(pod, plan)
                if not feasible:
                    failure = self._failure(pod, plan)
                    self._remember(pod, plan, variant, failure)
            if failure is not None:
                text = variant.named(failure.message) if variant is not None else failure.message
                return msgspec.structs.replace(failure, message=text)
        except AllocationError as error:
            self._metrics.allocations_given_up += isinstance(error, SearchGaveUp)
            return Failure(str(error), _ANY, "SchedulerError")
        node = feasible[0] if len(feasible) == 1 else self._best(pod, plan, feasible)
        if plan is None:
            return Decision(pod=pod, node=node.name)
        offer = plan.offers.get(node.name)
        promises = self._dynamic.reserve(plan, node)
        return Decision(
            pod=pod, node=node.name, plan=plan, variant=offer[0] if offer else None, promises=promises
        )

    def _revisions(self) -> tuple[int, int]:
        return self._dynamic.state.revision, self._inventory.revision

    def _recall(self, pod: PodInfo, plan: Plan | None, variant: Variant | None) -> Failure | None:
        """The failure of a pod like this one, if nothing has changed since; claims without their names."""
        if not self._known or (plan is not None and variant is None):
            return None
        memory = variant.memory if variant is not None else None
        known = self._known.get((pod.shape(), id(memory)))
        if known is None or known.memory is not memory or known.revisions != self._revisions():
            return None
        return known.failure

    def _remember(self, pod: PodInfo, plan: Plan | None, variant: Variant | None, failure: Failure) -> None:
        if plan is not None and variant is None:
            return
        if len(self._known) >= _KNOWN_AT_MOST:
            self._known.clear()
        memory = variant.memory if variant is not None else None
        self._known[pod.shape(), id(memory)] = _Known(self._revisions(), memory, failure)

    def _feasible(self, pod: PodInfo, plan: Plan | None) -> list[NodeInfo]:
        """Enough nodes that can take the pod, or all there are."""
        extended = self._dynamic.extended
        has_preferences = pod.has_preference or self._inventory.has_soft_taints
        wanted = enough(len(self._inventory), has_preferences=has_preferences or _has_alternatives(plan))
        found: list[NodeInfo] = []
        named = plan.named_nodes() if plan is not None else None
        if named is not None:
            some = [node for name in sorted(named) if (node := self._inventory.get(name))]
        for node in some if named is not None else self._inventory.rotation():
            self._metrics.nodes_looked_at += 1
            if plan is not None and self._dynamic.is_misfit(plan, node):
                continue
            if node.reject(pod, extended):
                continue
            if plan is not None:
                started = perf_counter()
                rejection = self._dynamic.filter(plan, node)
                self._metrics.allocate_seconds += perf_counter() - started
                self._metrics.allocations_tried += 1
                if rejection is not None:
                    continue
            found.append(node)
            if len(found) >= wanted:
                break
        return found

    def _best(self, pod: PodInfo, plan: Plan | None, feasible: list[NodeInfo]) -> NodeInfo:
        """The node with the highest score; of equals the first."""
        ranks = [self._dynamic.rank(plan, node) if plan is not None else 0 for node in feasible]
        likings = [node.liking(pod) for node in feasible]
        dislikings = [node.disliking(pod) for node in feasible]
        shares = [100 / (max(row) or 1) for row in (ranks, likings, dislikings)]
        best, best_score = feasible[0], float("-inf")
        for node, rank, liking, disliking in zip(feasible, ranks, likings, dislikings, strict=True):
            score = node.free_share(pod)
            score += _RANK_WEIGHT * rank * shares[0] + _LIKING_WEIGHT * liking * shares[1]
            score -= _DISLIKING_WEIGHT * disliking * shares[2]
            if score > best_score:
                best, best_score = node, score
        return best

    def _failure(self, pod: PodInfo, plan: Plan | None) -> Failure:
        """Ask every node for its reason, in the order of upstream's filters."""
        extended = self._dynamic.extended
        rejections: dict[str, tuple[Rejection, ...]] = {}
        for_devices: list[NodeInfo] = []
        for node in self._inventory.all():
            reasons = node.reject(pod, extended)
            if not reasons and plan is not None:
                rejection = self._dynamic.filter(plan, node)
                if rejection is not None:
                    reasons = (rejection,)
                    if self._dynamic.is_misfit(plan, node):
                        for_devices.append(node)
            rejections[node.name] = reasons
        if plan is not None and for_devices:
            rejections |= {name: (r,) for name, r in self._dynamic.explain(plan, for_devices).items()}
        wakes = Wake.NODE if plan is None else Wake.NODE | Wake.CLAIM
        for reasons in rejections.values():
            for reason in reasons:
                wakes |= reason.wakes
        release = self._dynamic.releasable(plan) if plan is not None else None
        notes: list[str] = []
        if release is not None:
            meta = release["metadata"]
            notes.append(
                f"claim {meta['namespace']}/{meta['name']} is allocated elsewhere and unused: released"
            )
        return Failure(describe(rejections, notes), wakes, release=release)


def _has_alternatives(plan: Plan | None) -> bool:
    return plan is not None and plan.has_alternatives
