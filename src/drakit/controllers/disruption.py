"""PodDisruptionBudgets: how many of a budget's pods may be evicted now.

Written is `status` alone; the API server asks it at each eviction and notes there which pods it let go.
A pod that was let go counts as lost until it is deleting, or for two minutes in which nothing happened.
Source: pkg/controller/disruption.
"""

from __future__ import annotations

from drakit.client.api import DEPLOYMENTS, PODS, REPLICA_SETS, Resource
from drakit.client.clock import parse_timestamp, timestamp
from drakit.client.informer import key_of
from drakit.controllers.context import Context
from drakit.controllers.owner import controller_of, namespace_of
from drakit.controllers.pod import is_deleting, is_ready
from drakit.controllers.workload import portion, set_condition, write_status
from drakit.errors import NotFound
from drakit.model.selector import read_labels
from drakit.transport import Document

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
_STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
_LOST_SECONDS = 120


class Disruption:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._queue = context.queue()
        self._budgets = context.informer(BUDGETS)
        self._budgets.add_index("namespace", namespace_of)
        self._pods = context.informer(PODS)
        self._pods.add_index("namespace", namespace_of)
        self._owners = {
            resource.kind: context.informer(resource)
            for resource in (REPLICA_SETS, DEPLOYMENTS, _STATEFUL_SETS)
        }
        self._budgets.add_handler(lambda old, new: self._queue.add(key_of(new)) if new else None)
        for informer in (self._pods, *self._owners.values()):
            informer.add_handler(self._changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=1, name="disruption")

    def _changed(self, old: Document | None, new: Document | None) -> None:
        document = new or old
        assert document is not None
        for budget in self._budgets.by_index("namespace", document["metadata"]["namespace"]):
            self._queue.add(key_of(budget))

    async def _sync(self, key: str) -> None:
        budget = self._budgets.get(key)
        if budget is None or is_deleting(budget):
            return
        pods = self._pods_of(budget)
        expected, desired = self._goal(budget, pods)
        disrupted, wait = self._disrupted(budget, pods)
        healthy = [
            pod
            for pod in pods
            if is_ready(pod) and not is_deleting(pod) and pod["metadata"]["name"] not in disrupted
        ]
        allowed = max(0, len(healthy) - desired) if expected > 0 else 0
        reason = "SufficientPods" if allowed else "InsufficientPods"
        row = {"type": "DisruptionAllowed", "status": "True" if allowed else "False", "reason": reason}
        generation = budget["metadata"].get("generation", 0)
        before = (budget.get("status") or {}).get("conditions") or []
        row |= {"message": "", "observedGeneration": generation}
        status: Document = {
            "disruptionsAllowed": allowed,
            "currentHealthy": len(healthy),
            "desiredHealthy": desired,
            "expectedPods": expected,
            "observedGeneration": generation,
            "disruptedPods": self._notes(budget, disrupted),
            "conditions": set_condition(before, row, timestamp(self._clock.now())),
        }
        try:
            await write_status(self._client, BUDGETS, budget, status)
        except NotFound:
            return
        if wait is not None:
            self._queue.add_after(key, wait)

    def _pods_of(self, budget: Document) -> list[Document]:
        wanted = (budget.get("spec") or {}).get("selector")
        selector = read_labels(wanted) if isinstance(wanted, dict) else None
        if selector is None:
            return []
        pods = self._pods.by_index("namespace", budget["metadata"]["namespace"])
        return [pod for pod in pods if selector.matches(pod["metadata"].get("labels") or {})]

    def _goal(self, budget: Document, pods: list[Document]) -> tuple[int, int]:
        """How many pods there should be, and how many of them must be healthy."""
        spec = budget.get("spec") or {}
        least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
        if most is not None:
            expected = self._scale(pods)
            return expected, max(0, expected - portion(most, expected, up=True))
        if isinstance(least, str):
            expected = self._scale(pods)
            return expected, portion(least, expected, up=True)
        return len(pods), int(least or 0)

    def _scale(self, pods: list[Document]) -> int:
        """The replicas asked for by all that own `pods`."""
        owners: dict[str, int] = {}
        for pod in pods:
            found = self._owner_of(pod)
            while found is not None:
                last, found = found, self._owner_of(found)
                if found is None:
                    owners[last["metadata"]["uid"]] = (last.get("spec") or {}).get("replicas", 1)
        return sum(owners.values())

    def _owner_of(self, document: Document) -> Document | None:
        reference = controller_of(document)
        informer = self._owners.get(reference["kind"]) if reference else None
        if reference is None or informer is None:
            return None
        owner = informer.get(f"{document['metadata']['namespace']}/{reference['name']}")
        return owner if owner is not None and owner["metadata"]["uid"] == reference["uid"] else None

    def _disrupted(self, budget: Document, pods: list[Document]) -> tuple[set[str], float | None]:
        """The pods that were let go and are not deleting yet, and when the first of them is given up on."""
        noted = (budget.get("status") or {}).get("disruptedPods") or {}
        now, lost = self._clock.now(), set()
        wait: float | None = None
        for pod in pods:
            name = pod["metadata"]["name"]
            if name not in noted or is_deleting(pod):
                continue
            left = parse_timestamp(noted[name]) + _LOST_SECONDS - now
            if left > 0:
                lost.add(name)
                wait = left if wait is None else min(wait, left)
        return lost, wait

    def _notes(self, budget: Document, kept: set[str]) -> Document | None:
        """What to write about disrupted pods: a merge patch takes the others away."""
        noted = (budget.get("status") or {}).get("disruptedPods") or {}
        return {name: noted[name] if name in kept else None for name in noted} or None
