"""Carrying out a preemption: the pods that have to leave are told why and deleted, and the pod they leave
for says which node is being made free for it."""

from __future__ import annotations

import logging

from drakit.client.api import PODS, Client
from drakit.client.clock import Clock, timestamp
from drakit.client.record import EventRecorder
from drakit.errors import Conflict, NotFound
from drakit.scheduler.metrics import Metrics
from drakit.scheduler.pod import PodInfo
from drakit.scheduler.preempt import Eviction
from drakit.transport import STRATEGIC_PATCH, Document

_log = logging.getLogger(__name__)


class Evictor:
    """Acts for the scheduler `name`."""

    def __init__(
        self, client: Client, recorder: EventRecorder, metrics: Metrics, clock: Clock, name: str
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._name = name

    async def evict(self, pod: PodInfo, eviction: Eviction) -> None:
        """Promise the node to `pod`, then have the victims leave. Raises APIError if that cannot be done."""
        self._metrics.pod_writes += 1
        patch = {"metadata": {"uid": pod.uid}, "status": {"nominatedNodeName": eviction.node}}
        await self._patch(pod, patch)
        for victim in eviction.victims:
            await self._leave(pod, victim, eviction.node)
        self._metrics.preempted += len(eviction.victims)

    async def _leave(self, pod: PodInfo, victim: PodInfo, node: str) -> None:
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{self._name}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": timestamp(self._clock.now()),
        }
        try:
            await self._patch(
                victim, {"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}
            )
            await self._client.delete(PODS, victim.name, victim.namespace, uid=victim.uid)
        except (NotFound, Conflict) as error:
            _log.info("pod %s, which was to leave node %s, is gone: %s", victim.key, node, error)
            return
        text = f"Preempted by pod {pod.uid} ({pod.key}, priority {pod.priority}) on node {node}"
        self._recorder.event(victim.document, "Normal", "Preempted", text, action="Preempting")

    async def _patch(self, pod: PodInfo, patch: Document) -> None:
        await self._client.patch(
            PODS, pod.name, patch, pod.namespace, content_type=STRATEGIC_PATCH, subresource="status"
        )
