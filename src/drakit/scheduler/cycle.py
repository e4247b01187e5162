"""One scheduling attempt: from a pod to a node and its devices, or to the reason why not.

Synchronous, so nothing changes while it runs: no locks, no snapshot. Nodes are looked at from where the
last attempt stopped until enough are found. A pod that likes all nodes alike takes the one with the most
room that has its devices; else enough feasible ones are compared. Only when there is none are all nodes
asked once more for their reasons, so that a success never pays for texts, and then whether less important
pods should leave. And as long as nothing changes, a pod like one that found no node is not even looked
for: many pods that wait for one device cost little each time one comes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from time import perf_counter

import msgspec
from msgspec import Struct

from drakit.errors import AllocationError, SearchGaveUp
from drakit.scheduler.budget import Budgets
from drakit.scheduler.company import Company, company_of
from drakit.scheduler.decision import Decision
from drakit.scheduler.dynamic import DynamicResources
from drakit.scheduler.inventory import Inventory, a_batch, enough
from drakit.scheduler.metrics import Metrics
from drakit.scheduler.neighbours import NamespaceLabels
from drakit.scheduler.node import NodeInfo
from drakit.scheduler.plan import Memory, Plan, Variant
from drakit.scheduler.pod import PodInfo
from drakit.scheduler.preempt import Eviction, find_eviction, may_preempt
from drakit.scheduler.reason import Failure, Rejection, Wake, describe, frame

_ANY = Wake.NODE | Wake.CLAIM | Wake.DEVICES | Wake.CLASS
_KNOWN_AT_MOST = 256
_RANK_WEIGHT, _LIKING_WEIGHT, _DISLIKING_WEIGHT, _COMPANY_WEIGHT = 2, 2, 3, 2


class _Known(Struct, frozen=True):
    """A failure that holds for like pods while both revisions stay. `memory` keeps the claims' identity."""

    revisions: tuple[int, int]
    memory: Memory | None
    failure: Failure


class Cycle:
    """Decides about pods over what is known of nodes and devices. `labels_of(name)` are the labels of a
    namespace."""

    def __init__(
        self,
        inventory: Inventory,
        dynamic: DynamicResources,
        metrics: Metrics,
        labels_of: NamespaceLabels = lambda name: {},
        budgets: Budgets | None = None,
    ) -> None:
        self._inventory = inventory
        self._dynamic = dynamic
        self._metrics = metrics
        self._labels_of = labels_of
        self._budgets = budgets or Budgets()
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
            company = company_of(pod, self._inventory, self._labels_of)
            variant = self._dynamic.plain_variant(plan) if plan is not None and plan.is_plain else None
            failure = self._recall(pod, plan, variant) if company is None else None
            if failure is None:
                feasible = self._feasible(pod, plan, company)
                if not feasible:
                    failure = self._failure(pod, plan, company)
                    if company is None:
                        self._remember(pod, plan, variant, failure)
            if failure is not None:
                text = variant.named(failure.message) if variant is not None else failure.message
                return msgspec.structs.replace(failure, message=text)
        except AllocationError as error:
            self._metrics.allocations_given_up += isinstance(error, SearchGaveUp)
            return Failure(str(error), _ANY, "SchedulerError")
        node = feasible[0] if len(feasible) == 1 else self._best(pod, plan, company, feasible)
        return self._decision(pod, plan, node)

    def _decision(self, pod: PodInfo, plan: Plan | None, node: NodeInfo) -> Decision:
        if plan is None:
            return Decision(pod=pod, node=node.name)
        offer = plan.offers.get(node.name)
        shares, requests = plan.shares.get(node.name, ([], pod.requests))
        return Decision(
            pod=msgspec.structs.replace(pod, requests=requests) if shares else pod,
            node=node.name,
            plan=plan,
            variant=offer[0] if offer else None,
            promises=self._dynamic.reserve(plan, node),
            shares=shares,
        )

    def make_room(self, pod: PodInfo, failure: Failure) -> Eviction | None:
        """Which pods should leave so that `pod`, which found no node for `failure`, can be placed."""
        rejections = failure.rejections
        if not rejections or not self._inventory.has_less_important(pod.priority):
            return None
        if not may_preempt(pod, self._inventory.get(pod.nominated_node)):
            return None
        plan = self._dynamic.pre_filter(pod)
        if isinstance(plan, Failure):
            return None

        def fits(node: NodeInfo) -> bool:
            if node.reject(pod, self._dynamic.extended):
                return False
            if pod.minds_others or self._inventory.with_terms:
                company = company_of(pod, self._inventory, self._labels_of)
                if company is not None and company.reject(node) is not None:
                    return False
            return plan is None or self._dynamic.filter(plan, node) is None

        try:
            return find_eviction(pod, self._inventory.all(), rejections, fits, self._budgets)
        except AllocationError:
            return None

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

    def _feasible(self, pod: PodInfo, plan: Plan | None, company: Company | None) -> list[NodeInfo]:
        """Nodes that can take the pod: enough of them to compare, or the best one alone."""
        if (nominated := self._inventory.get(pod.nominated_node)) is not None:
            for node in self._suitable(pod, plan, company, iter([nominated])):
                if self._has_devices(plan, node):
                    return [node]
        named = plan.named_nodes() if plan is not None else None
        nodes = self._inventory.rotation() if named is None else self._some(named)
        suitable = self._suitable(pod, plan, company, nodes)
        has_preferences = (
            pod.has_preference
            or self._inventory.has_soft_taints
            or (plan is not None and plan.has_alternatives)
            or (company is not None and company.has_preference)
        )
        if has_preferences:
            wanted = enough(len(self._inventory))
            return list(islice((node for node in suitable if self._has_devices(plan, node)), wanted))
        size = a_batch(len(self._inventory))
        while batch := sorted(islice(suitable, size), key=lambda node: -node.score(pod)):
            if (chosen := self._first(plan, batch)) is not None:
                return [chosen]
        return []

    def _first(self, plan: Plan | None, nodes: list[NodeInfo]) -> NodeInfo | None:
        """The first of `nodes` that has the devices. Those after it are tried once, too: a device that
        breaks the claim's selectors fails the pod wherever it is."""
        if plan is None:
            return nodes[0]
        chosen: NodeInfo | None = None
        for node in nodes:
            if chosen is None:
                chosen = node if self._has_devices(plan, node) else None
            elif not self._dynamic.is_tried(plan, node):
                self._has_devices(plan, node)
        return chosen

    def _some(self, names: frozenset[str]) -> Iterator[NodeInfo]:
        for name in sorted(names):
            node = self._inventory.get(name)
            if node is not None:
                yield node

    def _suitable(
        self, pod: PodInfo, plan: Plan | None, company: Company | None, nodes: Iterator[NodeInfo]
    ) -> Iterator[NodeInfo]:
        """Those of `nodes` that can take the pod as far as devices are not concerned."""
        extended = self._dynamic.extended
        misfits = self._dynamic.misfits(plan)
        for node in nodes:
            self._metrics.nodes_looked_at += 1
            if misfits is None:
                if plan is not None and self._dynamic.is_misfit(plan, node):
                    continue
            elif node.name in misfits:
                continue
            if node.reject(pod, extended) or (company is not None and company.reject(node) is not None):
                continue
            yield node

    def _has_devices(self, plan: Plan | None, node: NodeInfo) -> bool:
        if plan is None:
            return True
        started = perf_counter()
        rejection = self._dynamic.filter(plan, node)
        self._metrics.allocate_seconds += perf_counter() - started
        self._metrics.allocations_tried += 1
        return rejection is None

    def _best(
        self, pod: PodInfo, plan: Plan | None, company: Company | None, feasible: list[NodeInfo]
    ) -> NodeInfo:
        """The node with the highest score; of equals the first."""
        ranks = [self._dynamic.rank(plan, node) if plan is not None else 0 for node in feasible]
        likings = [node.liking(pod) for node in feasible]
        dislikings = [node.disliking(pod) for node in feasible]
        shares = [100 / (max(row) or 1) for row in (ranks, likings, dislikings)]
        company_scores = company.likings(feasible) if company is not None else [0.0] * len(feasible)
        best, best_score = feasible[0], float("-inf")
        for index, node in enumerate(feasible):
            score = node.score(pod) + _COMPANY_WEIGHT * company_scores[index]
            score += _RANK_WEIGHT * ranks[index] * shares[0] + _LIKING_WEIGHT * likings[index] * shares[1]
            score -= _DISLIKING_WEIGHT * dislikings[index] * shares[2]
            if score > best_score:
                best, best_score = node, score
        return best

    def _failure(self, pod: PodInfo, plan: Plan | None, company: Company | None) -> Failure:
        """Ask every node for its reason, in the order of upstream's filters."""
        extended = self._dynamic.extended
        rejections: dict[str, tuple[Rejection, ...]] = {}
        for_devices: list[NodeInfo] = []
        for node in self._inventory.all():
            reasons = node.reject(pod, extended)
            if not reasons and company is not None and (unfit := company.reject(node)) is not None:
                reasons = (unfit,)
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
        return Failure(describe(rejections, notes), wakes, release=release, rejections=rejections)
