"""The dynamic-resources steps of a scheduling attempt: claims of the pod, nodes they fit on, devices.

`pre_filter` looks at what is the same for all nodes and makes a `Plan`; `filter` asks for one node, whose
answer the plan keeps; `rank` compares nodes; `reserve` promises the devices of the chosen node. Writing
them to the API is `drakit.scheduler.binding`.

A cluster full of like claims would make each pod search every node again. So what did not fit is
remembered by the claims' specs and the node, until something comes back to that node: taking devices
never makes a claim fit that did not.

Source: pkg/scheduler/framework/plugins/dynamicresources.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

import msgspec

from drakit.allocator import State
from drakit.errors import AllocationError, FailedOnNode
from drakit.model.resource import MAX_RESERVED_FOR, AllocationResult
from drakit.scheduler.claim import Claims
from drakit.scheduler.explain import explain
from drakit.scheduler.extended import ExtendedResources
from drakit.scheduler.node import NodeInfo
from drakit.scheduler.nodeshare import ClaimShare, NodeShares, reject_amounts, reject_shares
from drakit.scheduler.plan import (
    Awaited,
    Memory,
    Plan,
    Restriction,
    Variant,
    claim_name,
    is_made_for,
    is_reserved_for,
    other_users,
    special_claim,
    users_of,
)
from drakit.scheduler.pod import PodInfo
from drakit.scheduler.readiness import is_timed_out, readiness
from drakit.scheduler.reason import Failure, Rejection, Wake
from drakit.scheduler.request import Amounts, pod_requests
from drakit.transport import Document

MAX_SUBREQUESTS = 8
_FITS_NOT = Wake.NODE | Wake.DEVICES | Wake.CLASS
_NOT_HERE = Rejection("resourceclaim not available on the node", Wake.CLAIM | Wake.NODE)
_NO_DEVICES = Rejection("cannot allocate all claims", _FITS_NOT)
_SPECS_REMEMBERED = 256
_NONE: frozenset[str] = frozenset()


class DynamicResources:
    """The steps, over the shared `state`. `has_class(name)` says whether a DeviceClass exists, `now()` is
    the wall clock in seconds, `shares` knows the devices that stand for resources of nodes."""

    def __init__(
        self,
        state: State,
        claims: Claims,
        extended: ExtendedResources,
        has_class: Callable[[str], bool],
        now: Callable[[], float],
        shares: NodeShares | None = None,
    ) -> None:
        self.state = state
        self.claims = claims
        self.extended = extended
        self.shares = NodeShares(is_on=False) if shares is None else shares
        self._has_class = has_class
        self._now = now
        self._memories: OrderedDict[tuple[bytes, ...], Memory] = OrderedDict()
        self._pools: dict[tuple[str, str], Counter[str]] = {}
        """Of each pool (driver, name) how many slices each node has, "" for those that name no node."""

    # --- what came back ---------------------------------------------------------------------------

    def forget_misfits(self, nodes: Iterable[str] | None = None) -> None:
        """Something came back to `nodes`, or anywhere: try again what did not fit there."""
        if nodes is None:
            self._memories.clear()
            return
        for memory in self._memories.values():
            memory.misfits.difference_update(nodes)
            memory.tried.difference_update(nodes)

    def freed(self, nodes: frozenset[str] | None, results: list[Document]) -> None:
        """Devices came back. Those of a pool that spans nodes may share its counters with others."""
        spans = any(self._spans_nodes(r.get("driver", ""), r.get("pool", "")) for r in results)
        self.forget_misfits(None if spans else nodes)

    def slice_changed(self, old: Document | None, new: Document | None) -> None:
        """Keep track of the pools that span nodes, and try again where the slice matters."""
        nodes: set[str] = set()
        spans = False
        for document, step in ((old, -1), (new, 1)):
            if document is None:
                continue
            spec = document["spec"]
            name, pool = spec.get("nodeName") or "", (spec["driver"], spec["pool"]["name"])
            spans = spans or self._spans_nodes(*pool)
            where = self._pools.setdefault(pool, Counter())
            where[name] += step
            if not where[name]:
                del where[name]
            if not where:
                del self._pools[pool]
            spans = spans or self._spans_nodes(*pool)
            nodes.add(name)
        self.forget_misfits(None if spans or "" in nodes else nodes)

    def _spans_nodes(self, driver: str, pool: str) -> bool:
        """Whether more than one node may see the pool."""
        where = self._pools.get((driver, pool))
        return where is not None and (len(where) > 1 or "" in where)

    # --- the pod's claims -------------------------------------------------------------------------

    def resolve(self, pod: PodInfo) -> list[Document] | Awaited:
        """The claims of `pod`, each once; or what it still waits for."""
        found: dict[str, Document] = {}
        for pod_claim in pod.spec.get("resourceClaims") or ():
            name, is_generated = claim_name(pod, pod_claim)
            if name is None:
                if is_generated:
                    continue
                template = pod_claim.get("resourceClaimTemplateName")
                return Awaited(
                    f"waiting for the claim of pod claim {pod_claim.get('name')} "
                    f"to be made from template {pod.namespace}/{template}",
                    is_busy=True,
                )
            full = f"{pod.namespace}/{name}"
            document = self.claims.get(full)
            if document is None:
                text = f"waiting for resourceclaim {full}: it does not exist"
                return Awaited(text, is_busy=is_generated)
            meta = document["metadata"]
            if meta.get("deletionTimestamp"):
                return Awaited(f"resourceclaim {full} is being deleted")
            if is_generated and not is_made_for(pod, meta):
                return Awaited(f"resourceclaim {full} was not created for pod {pod.key}")
            found[meta["uid"]] = document
        return list(found.values())

    def pre_filter(self, pod: PodInfo) -> Plan | Failure | None:
        """The plan for `pod`; None if devices are no matter to it. Raises AllocationError for claims that
        cannot be read."""
        extended = self.extended.wanted_by(pod)
        if not extended and not pod.spec.get("resourceClaims"):
            return None
        claims = self.resolve(pod)
        if isinstance(claims, Awaited):
            return Failure(claims.text, Wake.CLAIM)
        plan = Plan(pod, claims)
        for claim in claims:
            failure = self._look_at(plan, claim)
            if failure is not None:
                return failure
        if extended:
            special = self.claims.special(pod.uid)
            if special is not None:
                text = f"resourceclaim {pod.namespace}/{special['metadata']['name']} of an earlier attempt"
                if others := other_users(special, pod.name):
                    text = f"{text}, made for the pod's extended resources, is in use by {', '.join(others)}"
                    return Failure(text, Wake.CLAIM)
                return Failure(f"{text} is removed first", Wake.CLAIM, is_quiet=True, release=special)
            plan.extended = extended
        return plan

    def _look_at(self, plan: Plan, claim: Document) -> Failure | None:
        meta, status = claim["metadata"], claim.get("status") or {}
        name = f"{meta['namespace']}/{meta['name']}"
        if self.claims.is_in_flight(meta["uid"]):
            text = f"resourceclaim {name} is in the process of being allocated"
            return Failure(text, Wake.CLAIM)
        if status.get("allocation") is None:
            plan.wanted.append(claim)
            return self._look_at_requests(plan, claim, name)
        reserved = status.get("reservedFor") or ()
        if len(reserved) >= MAX_RESERVED_FOR and not is_reserved_for(claim, plan.pod.uid):
            text = f"resourceclaim in use: {name} is reserved for {len(reserved)} pods, the most it can be"
            return Failure(text, Wake.CLAIM)
        is_stuck = readiness(claim).failure is not None or is_timed_out(claim, self._now())
        plan.restrictions.append(Restriction(claim, is_stuck=is_stuck))
        return None

    def _look_at_requests(self, plan: Plan, claim: Document, name: str) -> Failure | None:
        """The failure of a request whose class does not exist."""
        for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
            rows = [(request["name"], request.get("exactly") or {})]
            if choices := request.get("firstAvailable"):
                plan.has_alternatives = True
                rows = [(f"{request['name']}/{choice['name']}", choice) for choice in choices]
            for label, row in rows:
                wanted = row.get("deviceClassName", "")
                if wanted and not self._has_class(wanted):
                    text = f"claim {name}, request {label}: device class {wanted} does not exist"
                    return Failure(text, Wake.CLASS | Wake.CLAIM)
        return None

    # --- nodes ------------------------------------------------------------------------------------

    def filter(self, plan: Plan, node: NodeInfo) -> Rejection | None:
        """Why the devices for `plan` cannot be had on `node`; None if they can, kept in `plan.offers`.

        Raises AllocationError when the pod can run nowhere.
        """
        for restriction in plan.restrictions:
            if not restriction.allows(node):
                plan.blocking[restriction.claim["metadata"]["uid"]] = restriction.claim
                return _NOT_HERE
        variant = self.variant(plan, node)
        memory = variant.memory
        if memory is None:
            return self._share(plan, variant, [], node) if self.shares else None
        if node.name in memory.misfits:
            return _NO_DEVICES
        memory.tried.add(node.name)
        try:
            offer = memory.allocator.allocate(node.node)
        except FailedOnNode as error:
            return Rejection(_said(plan, variant, str(error)), _FITS_NOT)
        except AllocationError as error:
            raise type(error)(variant.named(str(error))) from error
        if offer is None:
            memory.misfits.add(node.name)
            return _NO_DEVICES
        if self.shares and (rejection := self._share(plan, variant, offer, node)) is not None:
            return rejection
        plan.offers[node.name] = (variant, offer)
        return None

    def _share(
        self, plan: Plan, variant: Variant, offer: list[AllocationResult], node: NodeInfo
    ) -> Rejection | None:
        """Why `node` has too little of its own for what the pod's devices stand for; kept in
        `plan.shares`."""
        rows: list[tuple[str, str, list[Document]]] = [
            (uid, name, msgspec.to_builtins(allocation.devices.results or []))
            for (uid, name), allocation in zip(variant.members, offer, strict=True)
        ]
        for claim in plan.claims:
            if allocation := (claim.get("status") or {}).get("allocation"):
                results = (allocation.get("devices") or {}).get("results") or []
                rows.append((claim["metadata"]["uid"], claim["metadata"]["name"], results))
        shares: list[ClaimShare] = []
        for uid, name, results in rows:
            share = self.shares.of_claim(uid, name.rpartition("/")[2], results, users_of(plan, uid))
            if share is not None:
                shares.append(share)
        if not shares:
            return None
        shares.sort(key=lambda share: str(share.status["resourceClaimName"]))
        claims = {claim["metadata"]["uid"]: claim for claim in plan.claims}
        requests: Amounts = pod_requests(plan.pod.spec, [share.status for share in shares])
        rejection = reject_shares(plan.pod, claims, shares) or reject_amounts(plan.pod, requests, node)
        if rejection is None:
            plan.shares[node.name] = ([share.status for share in shares], requests)
        return rejection

    def is_misfit(self, plan: Plan, node: NodeInfo) -> bool:
        """Whether the claims are known not to fit on `node`, without a search."""
        memory = self.variant(plan, node).memory
        return memory is not None and node.name in memory.misfits

    def misfits(self, plan: Plan | None) -> set[str] | frozenset[str] | None:
        """The nodes on which the claims are known not to fit; None where that is a question for each."""
        if plan is None:
            return _NONE
        memory = self.plain_variant(plan).memory if plan.is_plain else None
        return memory.misfits if memory is not None else None

    def is_tried(self, plan: Plan, node: NodeInfo) -> bool:
        """Whether the claims were searched for on `node` since something changed there. What is broken in
        a claim or a device is only found by trying, and concerns the pod wherever it could go."""
        memory = self.variant(plan, node).memory
        return memory is None or node.name in memory.tried

    def plain_variant(self, plan: Plan) -> Variant:
        """The one variant of a plain plan."""
        return plan.variants.get(_NONE) or self._add_variant(plan, _NONE)

    def variant(self, plan: Plan, node: NodeInfo) -> Variant:
        """The claims to allocate if the pod comes to `node`."""
        by_device = _NONE
        if plan.extended:
            by_device = frozenset(name for name in plan.extended if not node.allocatable.get(name))
        return plan.variants.get(by_device) or self._add_variant(plan, by_device)

    def _add_variant(self, plan: Plan, by_device: frozenset[str]) -> Variant:
        documents = list(plan.wanted)
        special: Document | None = None
        mappings: list[Document] = []
        if by_device:
            requests, mappings = self.extended.requests(plan.pod, by_device)
            special = special_claim(plan.pod, requests)
            documents.append(special)
        variant = Variant(documents, self._memory(documents) if documents else None)
        variant.special, variant.mappings = special, mappings
        plan.variants[by_device] = variant
        return variant

    def _memory(self, documents: list[Document]) -> Memory:
        rows = [self.claims.spec_of(document) for document in documents]
        key = tuple(row[0] for row in rows)
        memory = self._memories.get(key)
        if memory is None:
            memory = self._memories[key] = Memory([row[1] for row in rows], self.state)
            if len(self._memories) > _SPECS_REMEMBERED:
                self._memories.popitem(last=False)
        else:
            self._memories.move_to_end(key)
        return memory

    def explain(self, plan: Plan, nodes: list[NodeInfo]) -> dict[str, Rejection]:
        """Why the devices cannot be had on `nodes`, all of which `filter` rejected for that, by node name.

        For a plain plan the texts still have placeholders: see `Variant.named`.
        """
        found: dict[str, Rejection] = {}
        by_variant: dict[int, tuple[Variant, list[NodeInfo]]] = {}
        for node in nodes:
            variant = self.variant(plan, node)
            by_variant.setdefault(id(variant), (variant, []))[1].append(node)
        for variant, members in by_variant.values():
            memory = variant.memory
            if memory is None:
                continue
            if memory.revision != self.state.revision:
                memory.revision, memory.reasons = self.state.revision, {}
            if missing := [node.node for node in members if node.name not in memory.reasons]:
                memory.reasons |= explain(memory.claims, self.state, missing)
            said = {
                reason: Rejection(_said(plan, variant, reason), _FITS_NOT)
                for reason in set(memory.reasons.values())
            }
            for node in members:
                found[node.name] = said.get(memory.reasons.get(node.name, ""), _NO_DEVICES)
        return found

    def rank(self, plan: Plan, node: NodeInfo) -> int:
        """How good the alternatives are that `node` offers: 8 for the first of a request, then 7, ..."""
        offer = plan.offers.get(node.name)
        if offer is None:
            return 0
        memory = offer[0].memory
        total = 0
        for claim, allocation in zip(memory.claims if memory else (), offer[1], strict=True):
            chosen = {result.request for result in allocation.devices.results}
            for request in claim.spec.devices.requests or ():
                for index, sub in enumerate(request.first_available):
                    if f"{request.name}/{sub.name}" in chosen:
                        total += MAX_SUBREQUESTS - index
        return total

    def reserve(self, plan: Plan, node: NodeInfo) -> dict[str, Document]:
        """Promise what `node` offers. Returns the allocations by claim uid, as they will be written."""
        offer = plan.offers.get(node.name)
        if offer is None:
            return {}
        variant, allocations = offer
        return {
            uid: self.claims.reserve(uid, allocation, name)
            for (uid, name), allocation in zip(variant.members, allocations, strict=True)
        }

    def releasable(self, plan: Plan) -> Document | None:
        """A claim of the pod whose allocation kept it from a node and that nobody else uses."""
        for claim in plan.blocking.values():
            reserved = claim["status"].get("reservedFor") or ()
            if all(row.get("uid") == plan.pod.uid for row in reserved):
                return claim
        return None


def _said(plan: Plan, variant: Variant, text: str) -> str:
    return text if plan.is_plain else variant.named(text)
