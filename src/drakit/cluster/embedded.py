"""The embedded cluster: one process, one loop, every room a client of the API in the middle.

Start order: data folder and store, API server on its socket, then controllers, scheduler, nodes and
drivers, each with an in-process transport and the user it would have in a real cluster. Stopping goes
the other way. What fails while it runs is started again (see `supervise`).
"""

from __future__ import annotations

import asyncio
import datetime
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from drakit.apiserver.app import API, User
from drakit.apiserver.http import Server, serve
from drakit.apiserver.tls import certificates
from drakit.client.api import Client
from drakit.cluster.kubeconfig import kubeconfig
from drakit.cluster.options import DriverOption, Options
from drakit.cluster.place import Place, Running, write_atomic
from drakit.cluster.supervise import supervise
from drakit.controllers import Controllers
from drakit.node.agent import Agent
from drakit.node.fake import FakeNodes
from drakit.node.paths import NodePaths
from drakit.node.runtime import Runtime
from drakit.podio import PodIO
from drakit.profile import profile_for
from drakit.scheduler import Scheduler
from drakit.store import Store

_MASTERS = "system:masters"
_READY_SECONDS = 30.0


class Embedded:
    """A cluster to start, use and stop. `report` is told of each step, one line at a time."""

    def __init__(self, options: Options, report: Callable[[str], None]) -> None:
        self.options = options
        self.profile = profile_for(options.version, options.gates)
        self.node_names = [f"node-{index}" for index in range(options.nodes)]
        self.running: Running | None = None
        self._report = report
        self._temporary: str | None = None
        if options.data_dir is None:
            self._temporary = tempfile.mkdtemp(prefix="drakit-")
        self.place = Place(options.data_dir or Path(self._temporary or ""))
        self._agents: dict[str, Agent] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._api: API | None = None
        self._server: Server | None = None

    async def start(self) -> Running:
        """Start every room and return once kubectl can use the cluster. Raises DRAError if it cannot."""
        self.place.hold()
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop every room and remove kubeconfig and sockets; the data stay unless they are ephemeral."""
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for agent in self._agents.values():
            await agent.stop_containers()
        if self._server:
            await self._server.stop()
        if self._api:
            await self._api.close()
        self.place.release()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    async def _start(self) -> Running:
        self._api = self._open_api()
        await self._api.start()
        token = self.place.token()
        files = certificates(self.place.pki)
        self._server = await serve(
            self._api, "127.0.0.1", self.options.port, certfile=files.certificate, keyfile=files.key
        )
        server = f"https://127.0.0.1:{self._server.port}"
        write_atomic(self.place.kubeconfig, kubeconfig(server, files.ca.read_bytes(), token))
        self._report(f"API server   {server}  (Kubernetes {self.profile.version})")

        runtime = self._runtime()
        controllers = Controllers(self._client("system:kube-controller-manager"), self.profile)
        self._spawn("controllers", controllers.run)
        scheduler = Scheduler(self._client("system:kube-scheduler"), self.profile)
        self._spawn("scheduler", scheduler.run)
        for name in self.node_names:
            self._start_node(name, runtime)
        if self.options.fake_nodes:
            fake = FakeNodes(self._client("system:node:fake"), self.options.fake_nodes)
            self._spawn("fake nodes", fake.run)
        for driver in self.options.drivers:
            self._start_driver(driver)
        await asyncio.wait_for(
            asyncio.gather(
                controllers.ready.wait(),
                scheduler.ready.wait(),
                *(agent.ready.wait() for agent in self._agents.values()),
            ),
            _READY_SECONDS,
        )
        self.running = Running(
            pid=os.getpid(),
            server=server,
            kubeconfig=str(self.place.kubeconfig),
            version=self.profile.version,
            nodes=self.node_names,
            drivers=[driver.name for driver in self.options.drivers],
            runtime=runtime.name,
            started=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        self.place.announce(self.running)
        return self.running
