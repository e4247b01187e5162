"""Everything but the API server, which is another process: controllers, scheduler and lease, node, driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec import structs

from drakit.client.api import NODES, Client
from drakit.client.clock import Clock, Timer
from drakit.client.dialect import Dialect
from drakit.client.http import HTTPTransport
from drakit.client.kubeconfig import Config
from drakit.controllers import Controllers
from drakit.driver import Plugin
from drakit.node.agent import Agent
from drakit.node.paths import NodePaths
from drakit.profile import DEFAULT_VERSION, profile_for
from drakit.scheduler import Scheduler
from drakit.scheduler.election import Election
from tests.cluster.mortal import Lamps, LastingRuntime

NODE = "node-1"
LEASE = "kube-scheduler"
PACE = 4.0
"""Time runs faster in these rooms, so that what waits a second is not waited for as long."""
DRIVER_PACE = 60.0
"""For a driver alone, which lets a minute pass before it puts right for the tenth time what others change."""

MANAGER, SCHEDULER, KUBELET = "system:kube-controller-manager", "system:kube-scheduler", f"system:node:{NODE}"
USERS = {"admin": ["system:masters"], MANAGER: [], SCHEDULER: [], KUBELET: ["system:nodes"]}


class FastClock(Clock):
    """The machine's time, `pace` times as fast."""

    def __init__(self, pace: float = PACE) -> None:
        self._pace = pace
        self._start = super().now()

    def now(self) -> float:
        return self._start + (super().now() - self._start) * self._pace

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        return super().call_later(seconds / self._pace, call)


class Rooms:
    """They reach the server at `config`; each is the user it would be in a real cluster."""

    def __init__(self, config: Config, paths: NodePaths) -> None:
        self._config = config
        self._clock = FastClock()
        self._clients: list[Client] = []
        profile = profile_for(DEFAULT_VERSION)
        self.paths = paths
        paths.create()
        runtime = LastingRuntime(self._clock, paths.root / "containers.json")
        self.driver = Lamps(NODE)
        self.controllers = Controllers(self.client(MANAGER), profile, clock=self._clock)
        self.scheduler = Scheduler(self.client(SCHEDULER), profile, clock=self._clock)
        self.election = Election(self.client(SCHEDULER), "kube-system", LEASE, "one", clock=self._clock)
        self.agent = Agent(self.client(KUBELET), NODE, runtime, paths, profile=profile, clock=self._clock)
        folders = paths.plugins, paths.plugins_registry, paths.cdi
        self.plugin = Plugin(self.driver, self.client(KUBELET), NODE, *folders, clock=self._clock)

    def client(self, user: str) -> Client:
        transport = HTTPTransport(structs.replace(self._config, token=user), clock=self._clock)
        self._clients.append(Client(Dialect(transport), field_manager=user.rpartition(":")[2]))
        return self._clients[-1]

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """No room may end by itself, whatever becomes of the server."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(room)
                    for room in (
                        self.controllers.run(),
                        self.election.lead(self.scheduler.run),
                        self.agent.run(),
                        self.plugin.run(),
                    )
                ]
                yield
                for task in tasks:
                    assert not task.done()
                    task.cancel()
        finally:
            for client in self._clients:
                await client.close()
            self.paths.remove_sockets()


@asynccontextmanager
async def driver_alone(config: Config, paths: NodePaths) -> AsyncIterator[Lamps]:
    """A driver on a node without an agent."""
    paths.create()
    clock = FastClock(DRIVER_PACE)
    admin = Client(HTTPTransport(config))
    await admin.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    await admin.close()
    client = Client(
        Dialect(HTTPTransport(structs.replace(config, token=KUBELET), clock=clock)), field_manager="lamp"
    )
    driver = Lamps(NODE)
    plugin = Plugin(driver, client, NODE, paths.plugins, paths.plugins_registry, paths.cdi, clock=clock)
    running = asyncio.create_task(plugin.run())
    try:
        yield driver
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()
        paths.remove_sockets()
