"""Many nodes without containers, to see what a scheduler or a driver does with them.

A fake node has a Node object and a lease like any other; a pod bound to one shows as Running, with no
container behind it, until it is deleted. One informer serves all of them, and heartbeats are spread over
their interval, so that a thousand idle nodes cost a hundred small writes a second at most, and in bulk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence

from drakit.client.api import PODS, Client
from drakit.client.clock import Clock, timestamp
from drakit.client.informer import Informer, key_of
from drakit.client.queue import WorkQueue
from drakit.errors import Conflict, DRAError, NotFound
from drakit.node.node_object import LEASE_SECONDS, NodeObject, machine_ip
from drakit.node.pod_status import Progress, View, build
from drakit.node.runtime import Container
from drakit.profile import Profile, profile_for
from drakit.transport import STRATEGIC_PATCH, Document

CAPACITY: Mapping[str, str] = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "250"}
FAKE_LABEL = "drakit.dev/fake-node"

_RENEW_SECONDS = LEASE_SECONDS * 0.75
_WORKERS = 8
_REGISTERING = 16

_log = logging.getLogger(__name__)


class FakeNodes:
    """The fake nodes `fake-0` ... `fake-<count - 1>` (another `prefix` gives other names)."""

    def __init__(
        self,
        client: Client,
        count: int,
        *,
        prefix: str = "fake-",
        labels: Mapping[str, str] | None = None,
        capacity: Mapping[str, str] | None = None,
        profile: Profile | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self.names = [f"{prefix}{index}" for index in range(count)]
        self._client = client
        self._clock = clock or Clock()
        self._ip = machine_ip()
        self._queue: WorkQueue[str] = WorkQueue(clock=self._clock)
        self._informer = Informer(client, PODS, clock=self._clock)
        self._own = set(self.names)
        self._nodes = [
            NodeObject(
                client,
                profile or profile_for(),
                name,
                {FAKE_LABEL: "true", **(labels or {})},
                capacity or CAPACITY,
                runtime="fake",
                ip=self._ip,
                clock=self._clock,
            )
            for name in self.names
        ]

    async def run(self) -> None:
        """Keep the nodes alive and their pods Running until cancelled."""
        self._informer.add_handler(self._pod_changed)
        async with asyncio.TaskGroup() as group:
            await self._register()
            group.create_task(self._informer.run())
            group.create_task(self._queue.run(self._sync, workers=_WORKERS, name="fake pod"))
            group.create_task(self._renew())
            self.ready.set()

    async def _register(self) -> None:
        waiting = iter(self._nodes)

        async def work() -> None:
            for node in waiting:
                while True:
                    try:
                        await node.register()
                        break
                    except (DRAError, OSError) as error:
                        _log.info("registration of node %s: %s", node.name, error)
                        await self._clock.sleep(1.0)

        await asyncio.gather(*(work() for _ in range(_REGISTERING)))

    async def _renew(self) -> None:
        """One node after the other, all of them once in each interval; in groups, to wake up rarely."""
        if not self._nodes:
            return
        groups = _split(self._nodes, max(1, int(_RENEW_SECONDS)))
        while True:
            for group in groups:
                await self._clock.sleep(_RENEW_SECONDS / len(groups))
                for node in group:
                    try:
                        await node.renew()
                    except (DRAError, OSError) as error:
                        _log.info("heartbeat of node %s: %s", node.name, error)

    def _pod_changed(self, old: Document | None, new: Document | None) -> None:
        if new is not None and (new.get("spec") or {}).get("nodeName") in self._own:
            self._queue.add(key_of(new))

    async def _sync(self, key: str) -> None:
        pod = self._informer.get(key)
        if pod is None:
            return
        meta = pod["metadata"]
        with contextlib.suppress(NotFound, Conflict):
            if meta.get("deletionTimestamp"):
                await self._client.delete(
                    PODS, meta["name"], meta["namespace"], uid=meta["uid"], grace_period_seconds=0
                )
            elif (pod.get("status") or {}).get("phase") == "Pending":
                patch = {"metadata": {"uid": meta["uid"]}, "status": self._running(pod)}
                await self._client.patch(
                    PODS,
                    meta["name"],
                    patch,
                    meta["namespace"],
                    content_type=STRATEGIC_PATCH,
                    subresource="status",
                )

    def _running(self, pod: Document) -> Document:
        now = self._clock.now()
        views = [_hollow(pod, spec, now) for spec in (pod.get("spec") or {}).get("containers") or []]
        progress = Progress(
            inits=[],
            mains=views,
            conditions=(pod.get("status") or {}).get("conditions") or [],
            runtime_name="fake",
            host_ip=self._ip,
            pod_ip="",
            start_time=timestamp(now),
            now=now,
            has_sandbox=True,
        )
        return build(pod, progress)


def _hollow(pod: Document, spec: Document, now: float) -> View:
    """A container that looks as if it ran."""
    meta = pod["metadata"]
    container = Container(
        id=f"{meta['uid']}.{spec['name']}",
        pod_uid=meta["uid"],
        pod_namespace=meta["namespace"],
        pod_name=meta["name"],
        name=spec["name"],
        attempt=0,
        image=spec.get("image") or "",
        image_id="fake",
        log_path="",
        state="running",
        created_at=now,
        started_at=now,
    )
    return View(spec=spec, current=container, is_ready=True, is_started=True)


def _split(nodes: Sequence[NodeObject], count: int) -> list[Sequence[NodeObject]]:
    size = -(-len(nodes) // count)
    return [nodes[start : start + size] for start in range(0, len(nodes), size)]
