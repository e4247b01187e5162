"""Telling people why a pod has no node: an event, and the pod's PodScheduled condition.

Events are cheap to lose; they are repeated now and then. The condition is written again until the server
takes it or something newer is to be said. The writes for one pod follow each other; whoever binds the pod
waits for them first, so that an old word never lands after the binding.
"""

from __future__ import annotations

import asyncio
import logging

from drakit.client.api import PODS, Client
from drakit.client.clock import Clock, timestamp
from drakit.client.record import EventRecorder
from drakit.errors import APIError, Conflict
from drakit.scheduler.decision import PASSING
from drakit.scheduler.metrics import Metrics
from drakit.scheduler.pod import PodInfo
from drakit.transport import STRATEGIC_PATCH, Document

_FIRST_DELAY, _LAST_DELAY = 0.5, 10.0
"""Seconds between attempts to tell a pod something that the server did not take."""

REPEAT_AFTER = 60.0
"""Seconds after which a pod is told the same again."""

_log = logging.getLogger(__name__)


class Reporter:
    """Reports of one run. `slots` bounds how many requests are under way, `group` holds the tasks."""

    def __init__(
        self,
        client: Client,
        recorder: EventRecorder,
        metrics: Metrics,
        clock: Clock,
        slots: asyncio.Semaphore,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._slots = slots
        self._told: dict[str, tuple[tuple[str, str], float]] = {}
        self._writes: dict[str, asyncio.Task[None]] = {}

    def forget(self, uid: str) -> None:
        """The pod is gone or bound: nothing is to be said any more."""
        self._told.pop(uid, None)

    async def written(self, uid: str) -> None:
        """Return when what was said about the pod so far is written."""
        task = self._writes.get(uid)
        if task is not None:
            await asyncio.wait([task])

    def failed(self, group: asyncio.TaskGroup, pod: PodInfo, reason: str, message: str) -> None:
        """`pod` has no node for now. The same words soon after are not said again."""
        words, now = (reason, message), self._clock.now()
        last = self._told.get(pod.uid)
        if last is not None and last[0] == words and now - last[1] < REPEAT_AFTER:
            return
        self._metrics.events += 1
        self._recorder.event(pod.document, "Warning", "FailedScheduling", message, action="Scheduling")
        self._told[pod.uid] = (words, now)
        known = _condition(pod.document)
        if words == (last[0] if last is not None else (known.get("reason"), known.get("message"))):
            return
        before = self._writes.get(pod.uid)
        task = group.create_task(self._write(pod, reason, message, before))
        self._writes[pod.uid] = task
        task.add_done_callback(lambda done: self._done(pod.uid, done))

    def _done(self, uid: str, task: asyncio.Task[None]) -> None:
        if self._writes.get(uid) is task:
            del self._writes[uid]

    async def _write(
        self, pod: PodInfo, reason: str, message: str, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        known = _condition(pod.document)
        now = timestamp(self._clock.now())
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": known.get("lastTransitionTime") if known.get("status") == "False" else now,
        }
        if generation := pod.document["metadata"].get("generation"):
            condition["observedGeneration"] = generation
        patch = {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}
        delay = _FIRST_DELAY
        while self._told.get(pod.uid, ((), 0.0))[0] == (reason, message):
            try:
                async with self._slots:
                    self._metrics.pod_writes += 1
                    await self._client.patch(
                        PODS,
                        pod.name,
                        patch,
                        pod.namespace,
                        content_type=STRATEGIC_PATCH,
                        subresource="status",
                    )
                return
            except (*PASSING, Conflict) as error:
                _log.info("condition of pod %s: %s; again in %.1f s", pod.key, error, delay)
                await self._clock.sleep(delay)
                delay = min(2 * delay, _LAST_DELAY)
            except APIError as error:
                _log.info("condition of pod %s: %s", pod.key, error)
                return


def _condition(pod: Document) -> Document:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled":
            found: Document = condition
            return found
    return {}
