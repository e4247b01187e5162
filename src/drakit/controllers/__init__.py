"""What kube-controller-manager does for DRA: claims, evictions, garbage, and the workloads drivers ship in.

A controller here reads through shared informers and writes through the API, nothing else: no state that
a restart would lose, no shortcut to the store. What decides where a pod runs, or runs it, is not here.
"""

from __future__ import annotations

import asyncio

from drakit.client.api import Client
from drakit.client.clock import Clock
from drakit.client.informer import Informers
from drakit.controllers.aggregation import Aggregation
from drakit.controllers.context import Context, Controller
from drakit.controllers.cronjob import CronJobs
from drakit.controllers.daemonset import DaemonSets
from drakit.controllers.deployment import Deployments
from drakit.controllers.disruption import Disruption
from drakit.controllers.eviction import DeviceEviction
from drakit.controllers.garbage import Garbage
from drakit.controllers.job import Jobs
from drakit.controllers.namespace import Namespaces
from drakit.controllers.nodelifecycle import NodeLifecycle
from drakit.controllers.podgc import PodGarbage
from drakit.controllers.poolstatus import PoolStatus
from drakit.controllers.quota import Quotas
from drakit.controllers.replicaset import ReplicaSets
from drakit.controllers.resourceclaim import ResourceClaims
from drakit.controllers.statefulset import StatefulSets
from drakit.profile import Gate, Profile

__all__ = ["Controllers"]


class Controllers:
    """All controllers of a cluster of `profile`. `ready` is set once they work; `root_ca` is the PEM that
    pods are given to trust the API server."""

    def __init__(
        self, client: Client, profile: Profile, *, root_ca: str = "", clock: Clock | None = None
    ) -> None:
        self._client = client
        self._profile = profile
        self._root_ca = root_ca
        self._clock = clock or Clock()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        informers = Informers(self._client, clock=self._clock)
        context = Context(
            client=self._client,
            informers=informers,
            profile=self._profile,
            clock=self._clock,
            root_ca=self._root_ca,
        )
        controllers: list[Controller] = [
            ResourceClaims(context),
            Namespaces(context),
            ReplicaSets(context),
            Deployments(context),
            DaemonSets(context),
            StatefulSets(context),
            Jobs(context),
            CronJobs(context),
            NodeLifecycle(context),
            PodGarbage(context),
            Aggregation(context),
            Quotas(context),
            Disruption(context),
            Garbage(context),
        ]
        if self._profile.is_on(Gate.DEVICE_TAINTS):
            controllers.append(DeviceEviction(context))
        if self._profile.is_on(Gate.POOL_STATUS):
            controllers.append(PoolStatus(context))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(informers.run())
                await informers.wait_synced()
                for controller in controllers:
                    group.create_task(controller.run())
                self.ready.set()
        finally:
            self.ready.clear()
            for recorder in context.recorders:
                await recorder.close()
