"""Waiting until the devices of a decision are ready for the pod: see `readiness` for what that means.

The pod is told by an event and by `status.nominatedNodeName`. Devices that fail or take too long are given
up together with their claim's allocation, where no other pod uses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from drakit.client.api import PODS, Client
from drakit.client.clock import Clock
from drakit.client.record import EventRecorder
from drakit.errors import APIError
from drakit.scheduler.claim import Claims
from drakit.scheduler.decision import Decision, Lost, NotReady, name_of
from drakit.scheduler.metrics import Metrics
from drakit.scheduler.plan import is_reserved_for
from drakit.scheduler.readiness import deadline, readiness
from drakit.transport import STRATEGIC_PATCH, Document

_log = logging.getLogger(__name__)


class Waiter:
    """`changed(key)` gives a future that is done at the next change of a claim; `release` gives up a
    claim's allocation."""

    def __init__(
        self,
        client: Client,
        claims: Claims,
        recorder: EventRecorder,
        metrics: Metrics,
        clock: Clock,
        changed: Callable[[str], Awaitable[None]],
        release: Callable[[Document], Awaitable[bool]],
    ) -> None:
        self._client = client
        self._claims = claims
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._changed = changed
        self._release = release

    async def wait(self, decision: Decision) -> None:
        """Wait until all devices are ready. Failure or the end of the time gives the claim up."""
        pod, node = decision.pod, decision.node
        first = self._missing(decision)
        if not first:
            return
        text = f"waiting for binding conditions for device on node {node}: {', '.join(first)}"
        self._metrics.events += 1
        self._recorder.event(pod.document, "Normal", "BindingConditionsPending", text, action="Scheduling")
        await self.nominate(decision, node)
        while True:
            news = [self._changed(name_of(claim)) for claim in decision.reserved]
            try:
                missing = self._missing(decision)
            except NotReady:
                await self._give_up(decision)
                raise
            if not missing:
                return
            ends = [end for claim in decision.reserved if (end := deadline(claim)) is not None]
            left = min(ends, default=self._clock.now()) - self._clock.now()
            if left <= 0:
                await self._give_up(decision)
                raise NotReady(f"device binding timeout on node {node}: {', '.join(missing)}")
            await _first_of([*news, self._clock.sleep(left)])

    def _missing(self, decision: Decision) -> list[str]:
        """Conditions still awaited. Raises NotReady for one of failure, Lost for a claim that is gone."""
        missing: list[str] = []
        for index, claim in enumerate(decision.reserved):
            latest = self._claims.get(name_of(claim))
            if latest is None or latest["metadata"]["uid"] != claim["metadata"]["uid"]:
                raise Lost(f"resourceclaim {name_of(claim)} was deleted in the meantime")
            if not is_reserved_for(latest, decision.pod.uid):
                raise Lost(f"resourceclaim {name_of(claim)} is no longer reserved for the pod")
            decision.reserved[index] = latest
            state = readiness(latest)
            if state.failure is not None:
                raise NotReady(state.failure)
            missing += state.missing
        return missing

    async def _give_up(self, decision: Decision) -> None:
        """Deallocate the claims whose devices are not ready, where no other pod uses them."""
        for claim in list(decision.reserved):
            reserved = claim["status"].get("reservedFor") or ()
            is_alone = all(row.get("uid") == decision.pod.uid for row in reserved)
            is_special = decision.special is not None and name_of(claim) == name_of(decision.special)
            if is_alone and not is_special and not readiness(claim).is_ready and await self._release(claim):
                decision.reserved.remove(claim)

    async def nominate(self, decision: Decision, node: str | None) -> None:
        """Say on the pod which node is being made ready for it, or that none is any more."""
        pod = decision.pod
        patch = {"metadata": {"uid": pod.uid}, "status": {"nominatedNodeName": node}}
        self._metrics.pod_writes += 1
        try:
            await self._client.patch(
                PODS, pod.name, patch, pod.namespace, content_type=STRATEGIC_PATCH, subresource="status"
            )
        except APIError as error:
            _log.info("nominated node of pod %s: %s", pod.key, error)
        else:
            decision.is_nominated = node is not None


async def _first_of(waits: list[Awaitable[None]]) -> None:
    """Return when one of `waits` is done; the others are called off."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
