"""ReplicaSets: as many pods of one template as asked for.

Source: pkg/controller/replicaset.
"""

from __future__ import annotations

from drakit.client.api import PODS, REPLICA_SETS
from drakit.client.informer import key_of
from drakit.controllers.adoption import Adoption
from drakit.controllers.context import Context
from drakit.controllers.pod import (
    available_in,
    is_active,
    is_deleting,
    is_ready,
    is_terminal,
    node_name,
    phase,
)
from drakit.controllers.recent import Recent
from drakit.controllers.workload import PodControl, pod_from, write_status
from drakit.errors import APIError, NotFound
from drakit.transport import Document

_WORKERS = 4
_COST = "controller.kubernetes.io/pod-deletion-cost"


class ReplicaSets:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._queue = context.queue()
        self._sets = context.informer(REPLICA_SETS)
        pods = context.informer(PODS)
        recorder, recent = context.recorder("replicaset-controller"), Recent(pods, context.clock)
        self._control = PodControl(context.client, REPLICA_SETS, recent, recorder)
        self._adoption = Adoption(context.client, self._sets, pods, recent)
        self._sets.add_handler(lambda old, new: self._queue.add(key_of(new)) if new else None)
        pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=_WORKERS, name="replicaset")

    def _pod_changed(self, old: Document | None, new: Document | None) -> None:
        for key in self._adoption.concerned(new or old):
            self._queue.add(key)

    async def _sync(self, key: str) -> None:
        replica_set = self._sets.get(key)
        if replica_set is None:
            return
        pods = [pod for pod in await self._adoption.gather(replica_set) if not is_terminal(pod)]
        active = [pod for pod in pods if is_active(pod)]
        failure: APIError | None = None
        if not is_deleting(replica_set):
            try:
                active = await self._scale(replica_set, active)
            except APIError as error:
                failure = error
        await self._report(replica_set, active, failure)
        if failure is not None:
            raise failure

    async def _scale(self, replica_set: Document, active: list[Document]) -> list[Document]:
        """Make or delete pods until there are enough; returns those that are there then."""
        spec = replica_set["spec"]
        wanted = spec.get("replicas", 1)
        if len(active) < wanted:
            pod = pod_from(replica_set, REPLICA_SETS, spec["template"])
            return active + await self._control.create(replica_set, [pod] * (wanted - len(active)))
        if len(active) > wanted:
            order = sorted(active, key=_worth)
            excess = len(active) - wanted
            await self._control.delete(replica_set, order[:excess])
            return order[excess:]
        return active

    async def _report(self, replica_set: Document, pods: list[Document], failure: APIError | None) -> None:
        spec, now = replica_set["spec"], self._clock.now()
        min_ready = spec.get("minReadySeconds") or 0
        waits = [wait for pod in pods if (wait := available_in(pod, min_ready, now)) is not None]
        labels = (spec["template"].get("metadata") or {}).get("labels") or {}
        status: Document = {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(1 for pod in pods if _has(pod, labels)) or None,
            "readyReplicas": sum(1 for pod in pods if is_ready(pod)) or None,
            "availableReplicas": sum(1 for wait in waits if wait == 0) or None,
            "observedGeneration": replica_set["metadata"].get("generation", 0),
            "conditions": None,
        }
        if failure is not None:
            row = {
                "type": "ReplicaFailure",
                "status": "True",
                "reason": "FailedCreate",
                "message": str(failure),
            }
            status["conditions"] = [row]
        try:
            await write_status(self._client, REPLICA_SETS, replica_set, status)
        except NotFound:
            return
        late = [wait for wait in waits if wait > 0]
        if late:
            self._queue.add_after(key_of(replica_set), min(late))


def _worth(pod: Document) -> tuple[bool, int, bool, int, str]:
    """The order in which pods may go: unassigned, pending, not ready, cheapest, youngest first."""
    stages = {"Pending": 0, "Unknown": 1}
    created = pod["metadata"].get("creationTimestamp") or ""
    younger_first = "".join(chr(255 - ord(letter)) for letter in created)
    cost = (pod["metadata"].get("annotations") or {}).get(_COST, "0")
    is_number = cost.removeprefix("-").isdigit()
    return (
        bool(node_name(pod)),
        stages.get(phase(pod), 2),
        is_ready(pod),
        int(cost) if is_number else 0,
        younger_first,
    )


def _has(pod: Document, labels: dict[str, str]) -> bool:
    have = pod["metadata"].get("labels") or {}
    return all(have.get(key) == value for key, value in labels.items())
