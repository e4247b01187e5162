"""Pods that have ended and that nobody collects: beyond a number the oldest go.

Pods of nodes that are gone are taken care of with the nodes (`drakit.controllers.nodelifecycle`). Source:
pkg/controller/podgc.
"""

from __future__ import annotations

import asyncio

from drakit.client.api import PODS
from drakit.controllers.context import Context
from drakit.controllers.pod import is_deleting, is_terminal
from drakit.errors import APIError
from drakit.transport import Document

KEPT_AT_MOST = 12_500
"""Ended pods that are left alone (`--terminated-pod-gc-threshold`)."""
LOOK_SECONDS = 20.0
_AT_ONCE = 32


class PodGarbage:
    def __init__(self, context: Context, *, kept: int = KEPT_AT_MOST) -> None:
        self._client = context.client
        self._clock = context.clock
        self._kept = kept
        self._pods = context.informer(PODS)
        self._pods.add_index("ended", _ended)

    async def run(self) -> None:
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            ended = self._pods.by_index("ended", "yes")
            ended.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""))
            surplus = ended[: max(len(ended) - self._kept, 0)]
            for start in range(0, len(surplus), _AT_ONCE):
                await asyncio.gather(*map(self._collect, surplus[start : start + _AT_ONCE]))

    async def _collect(self, pod: Document) -> None:
        meta = pod["metadata"]
        try:
            await self._client.delete(
                PODS, meta["name"], meta["namespace"], uid=meta["uid"], grace_period_seconds=0
            )
        except APIError:
            return  # Looked at again soon.


def _ended(pod: Document) -> list[str]:
    """Index: whether the pod has ended and nobody deletes it."""
    return ["yes"] if is_terminal(pod) and not is_deleting(pod) else []
