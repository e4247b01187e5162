"""The embedded cluster: one process, one loop, every room a client of the API in the middle.

Start order: data folder and store, API server on its socket, then controllers, scheduler, nodes and
drivers, each with an in-process transport and the user it would have in a real cluster. Stopping goes
the other way. What fails while it runs is started again (see `supervise`).
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from drakit.apiserver.app import API, User
from drakit.apiserver.http import Server, serve
from drakit.apiserver.roles import FAKE_NODES
from drakit.apiserver.tls import Authority, certificates
from drakit.client.api import Client
from drakit.client.dialect import Dialect
from drakit.cluster.fake_slices import publish
from drakit.cluster.garbage import collect_rarely
from drakit.cluster.kubeconfig import kubeconfig
from drakit.cluster.leftover import sweep
from drakit.cluster.options import LOOPBACK, Options
from drakit.cluster.place import Place, Running, write_atomic
from drakit.cluster.supervise import supervise
from drakit.controllers import Controllers
from drakit.driver import Plugin
from drakit.drivers import build
from drakit.errors import UsageError
from drakit.node.agent import Agent
from drakit.node.choose import choose_runtime
from drakit.node.fake import FakeNodes
from drakit.node.image import ImageStore
from drakit.node.node_object import machine_ip
from drakit.node.paths import NodePaths
from drakit.node.pod_network import PodNetwork
from drakit.pluginapi.folder import FolderNote, write_note
from drakit.profile import profile_for
from drakit.scheduler import Scheduler
from drakit.store import Durability, Store

_MASTERS = ("system:masters",)
_FAKE_NODES = User(FAKE_NODES, ("system:serviceaccounts", "system:serviceaccounts:kube-system"))
_READY_SECONDS = 30.0


def _names_of(listen: str) -> list[str]:
    """What the server's certificate must be good for beside loopback: the address it listens on, or for all
    addresses the machine's own name and address."""
    if ipaddress.ip_address(listen).is_unspecified:
        return [socket.gethostname(), machine_ip()]
    return [listen]


def _node_user(name: str) -> User:
    return User(f"system:node:{name}", ("system:nodes",))


class Embedded:
    """A cluster to start, use and stop. `report` is told of each step, one line at a time. Raises UsageError
    for options that a driver does not take, before anything is made or started."""

    def __init__(self, options: Options, report: Callable[[str], None]) -> None:
        self.options = options
        self.profile = profile_for(options.version, options.gates)
        self.node_names = [f"node-{index}" for index in range(options.nodes)]
        self.running: Running | None = None
        self._drivers = [
            (name, build(driver.name, driver.options, name, self._share(index)))
            for driver in options.drivers
            for index, name in enumerate(self.node_names)
        ]
        self._report = report
        self._temporary: str | None = None
        if options.data_dir is None:
            self._temporary = tempfile.mkdtemp(prefix="drakit-")
        self.place = Place(options.data_dir or Path(self._temporary or ""))
        self._agents: dict[str, Agent] = {}
        self._paths: dict[str, NodePaths] = {}
        self._network = PodNetwork(self.place.network)
        self._runtime_name = "none"
        self._root_ca = b""
        self._fake: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._driver_tasks: list[asyncio.Task[None]] = []
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
        await _end(self._tasks)
        try:
            await asyncio.gather(*(agent.stop_containers() for agent in self._agents.values()))
            await self._network.remove()
            await _end(self._driver_tasks)  # last, so that they can take back what the pods had
            if self._server:
                await self._server.stop()
            if self._api:
                await self._api.close()
        finally:
            await _end(self._driver_tasks)
            for paths in self._paths.values():
                paths.remove_sockets()
            self.place.release()
            if self._temporary:
                shutil.rmtree(self._temporary, ignore_errors=True)

    async def _start(self) -> Running:
        collect_rarely()
        self._tasks.append(asyncio.create_task(sweep(), name="sweep"))
        self._api = await self._open_api()
        server = await self._serve(self._api)
        self._report(f"API server   {server}  (Kubernetes {self.profile.version})")
        ready = [*self._start_control_plane(), *await self._start_nodes()]
        await self._wait_for(ready)
        self._report(f"nodes        {self._nodes_text()}")
        await self._wait_for(self._start_drivers())
        if self._fake:
            await publish(self._client("kubelet", _FAKE_NODES), self.options.drivers, self._fake)
        for driver in self.options.drivers:
            self._report(f"driver       {driver.name}")
        self.running = Running(
            pid=os.getpid(),
            server=server,
            kubeconfig=str(self.place.kubeconfig),
            version=self.profile.version,
            nodes=self.node_names,
            drivers=[driver.name for driver in self.options.drivers],
            runtime=self._runtime_name,
            started=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        self.place.announce(self.running)
        return self.running

    async def _open_api(self) -> API:
        durability: Durability = "full" if self.options.is_durable else "normal"
        store = Store(None if self._temporary else self.place.state, durability=durability)
        admin = User("kubernetes-admin", _MASTERS)
        tokens = {self.place.token(): admin}
        tokens |= {self.place.token(f"node-{name}"): _node_user(name) for name in self.node_names}
        api = API.open(store, self.profile, tokens=tokens, pod_io=self._agents.get)
        await api.start()
        return api

    async def _serve(self, api: API) -> str:
        listen = self.options.listen
        files = certificates(self.place.pki, _names_of(listen))
        api.registry.certificate_authority = Authority.load(files)
        port = self.options.port or self.place.last_port()
        serve_at = partial(
            serve, api, listen, certfile=files.certificate, keyfile=files.key, client_ca=files.ca
        )
        try:
            self._server = await serve_at(port)
        except UsageError:
            if self.options.port or not port:
                raise
            self._server = await serve_at(0)
        self.place.remember_port(self._server.port)
        self._root_ca = files.ca.read_bytes()
        server = f"https://{self._address()}"
        write_atomic(self.place.kubeconfig, kubeconfig(server, self._root_ca, self.place.token()))
        return server

    def _start_control_plane(self) -> list[asyncio.Event]:
        controllers = Controllers(
            self._client("kube-controller-manager", User("system:kube-controller-manager")),
            self.profile,
            root_ca=self._root_ca.decode(),
        )
        scheduler = Scheduler(self._client("kube-scheduler", User("system:kube-scheduler")), self.profile)
        assert self._api is not None
        self._api.more_metrics = lambda: {
            f"drakit_scheduler_{name}": number for name, number in scheduler.metrics.document().items()
        }
        self._spawn("controllers", controllers.run)
        self._spawn("scheduler", scheduler.run)
        return [controllers.ready, scheduler.ready]

    async def _start_nodes(self) -> list[asyncio.Event]:
        assert self._server is not None
        ready = []
        images = ImageStore(self.place.images)
        for index, name in enumerate(self.node_names):
            paths = NodePaths(self.place.nodes / name)
            network = self._network.of_node(index)
            runtime = await choose_runtime(
                self.options.runtime,
                paths,
                images=images,
                network=network,
                cri_socket=self.options.cri_socket,
            )
            self._runtime_name = runtime.info.title
            client = self._client("kubelet", _node_user(name))
            self._write_node_kubeconfig(name)
            agent = Agent(client, name, runtime, paths, profile=self.profile, api_address=self._address())
            write_note(paths.plugins, FolderNote(str(paths.real_plugins), self._share(index)))
            self._agents[name] = agent
            self._paths[name] = paths
            self._spawn(f"node {name}", agent.run)
            ready.append(agent.ready)
        if self.options.fake_nodes:
            client = self._client("kubelet", _FAKE_NODES)
            fake = FakeNodes(client, self.options.fake_nodes, profile=self.profile)
            self._fake = fake.names
            self._spawn("fake nodes", fake.run)
            ready.append(fake.ready)
        return ready

    def _start_drivers(self) -> list[asyncio.Event]:
        """Every driver on every node, told apart from its neighbours on this one machine."""
        published = []
        for name, driver in self._drivers:
            paths = self._paths[name]
            client = self._client(driver.name, _node_user(name))
            folders = paths.plugins, paths.plugins_registry, paths.cdi
            plugin = Plugin(driver, client, name, *folders)
            self._spawn(f"driver {driver.name} on {name}", plugin.run, self._driver_tasks)
            published.append(plugin.publisher.published)
        return published

    def _share(self, index: int) -> str:
        """The part of this machine that node `index` has, where there are several."""
        count = len(self.node_names)
        return f"{index}/{count}" if count > 1 else ""

    def _address(self) -> str:
        """Host and port at which this machine reaches the API server."""
        assert self._server is not None
        address = ipaddress.ip_address(self.options.listen)
        if address.is_unspecified:
            address = ipaddress.ip_address(LOOPBACK if address.version == 4 else "::1")
        host = f"[{address}]" if address.version == 6 else str(address)
        return f"{host}:{self._server.port}"

    def _write_node_kubeconfig(self, name: str) -> None:
        """For a driver that is started by hand on this node: it acts with the node's credentials."""
        server = f"https://{self._address()}"
        user = f"system:node:{name}"
        data = kubeconfig(server, self._root_ca, self.place.token(f"node-{name}"), user=user)
        write_atomic(self.place.nodes / name / "kubeconfig", data)

    def _client(self, manager: str, user: User) -> Client:
        assert self._api is not None
        transport = Dialect(self._api.transport(user))
        return Client(transport, field_manager=manager)

    def _spawn(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        tasks: list[asyncio.Task[None]] | None = None,
    ) -> None:
        tasks = self._tasks if tasks is None else tasks
        tasks.append(asyncio.create_task(supervise(name, run), name=name))

    def _nodes_text(self) -> str:
        text = ", ".join(self.node_names) or "none"
        if self.options.fake_nodes:
            text += f" and {self.options.fake_nodes} fake ones"
        return f"{text}  (containers: {self._runtime_name})" if self.node_names else text

    async def _wait_for(self, events: Sequence[asyncio.Event]) -> None:
        waiting = [event.wait() for event in events]
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await asyncio.gather(*waiting)
        except TimeoutError:
            raise UsageError(
                f"the cluster is not ready after {_READY_SECONDS:.0f} s; {self.place.log} says why"
            ) from None


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel `tasks`, the last one first, and wait for all of them."""
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks.clear()
