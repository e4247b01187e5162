"""A tiny cluster for driver tests: a real API server in this process, a node, a kubelet's half of gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from drakit.apiserver.app import API, User
from drakit.client.api import NODES, RESOURCE_CLAIMS, RESOURCE_SLICES, Client
from drakit.client.dialect import Dialect
from drakit.driver import Claim, Device, Driver, Plugin, PreparedClaim, PreparedDevice, device
from drakit.pluginapi import wire
from drakit.pluginapi.dra import DRA_V1, DRAStub, PrepareResult
from drakit.pluginapi.dra import Claim as ClaimReference
from drakit.pluginapi.registration import PluginInfo, RegistrationStub
from drakit.profile import DEFAULT_VERSION, profile_for
from drakit.store import Store

NODE = "node-1"
ADMIN = User("admin", ("system:masters",))
TOKEN = "secret"


class LampDriver(Driver):
    """Lamps; what is prepared and unprepared is written down."""

    name = "lamp.example.com"

    def __init__(self, count: int = 2) -> None:
        super().__init__(NODE)
        self.lamps: list[Device] = [device(f"lamp-{index}", {"index": index}) for index in range(count)]
        self.calls: list[str] = []

    def devices(self) -> Sequence[Device]:
        return self.lamps

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        self.calls.append(f"prepare {claim.name}")
        return [lamp.prepared(env={"LAMP": lamp.name}) for lamp in claim.devices]

    async def unprepare(self, claim: PreparedClaim) -> None:
        self.calls.append(f"unprepare {claim.name}")


class Cluster:
    """`client` talks to the API server as an administrator; folders of node-1 are below `root`."""

    def __init__(self, client: Client, root: Path, api: API | None = None) -> None:
        self.client = client
        self.api = api
        self.plugins = root / "plugins"
        self.registry = root / "registry"
        self.cdi = root / "cdi"
        self.registry.mkdir(exist_ok=True)

    async def add_node(self) -> None:
        await self.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})

    def plugin(self, driver: Driver, **more: Any) -> Plugin:
        return Plugin(driver, self.client, NODE, self.plugins, self.registry, self.cdi, **more)

    @asynccontextmanager
    async def running(self, driver: Driver, **more: Any) -> AsyncIterator[Plugin]:
        """`driver` at work, published and ready."""
        plugin = self.plugin(driver, **more)
        task = asyncio.create_task(plugin.run())
        try:
            async with asyncio.timeout(20):
                await plugin.ready.wait()
                await plugin.publisher.published.wait()
            yield plugin
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def slices(self, driver: str) -> list[dict[str, Any]]:
        found = await self.client.list(RESOURCE_SLICES, field_selector=f"spec.driver={driver}")
        return sorted(found.items, key=lambda item: str(item["metadata"]["name"]))

    async def claim(
        self, name: str, *devices: str, driver: str = LampDriver.name, config: Any = (), **result: Any
    ) -> ClaimReference:
        """An allocated claim with `devices` (`request:device`, or a device for the request "r")."""
        made = await self.client.create(
            RESOURCE_CLAIMS,
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceClaim",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "devices": {
                        "requests": [
                            _request(name) for name in dict.fromkeys(_split(item)[0] for item in devices)
                        ]
                    }
                },
            },
        )
        results = [
            {"request": request, "driver": driver, "pool": NODE, "device": device, **result}
            for request, device in map(_split, devices)
        ]
        allocation = {"devices": {"results": results, "config": list(config)}}
        if devices:
            await self.client.update(
                RESOURCE_CLAIMS, {**made, "status": {"allocation": allocation}}, subresource="status"
            )
        return ClaimReference("default", made["metadata"]["uid"], name)


def _request(name: str) -> dict[str, Any]:
    """The request `main`, or one of which the allocation took the alternative `main/sub`."""
    main, slash, sub = name.partition("/")
    if slash:
        return {"name": main, "firstAvailable": [{"name": sub, "deviceClassName": "any"}]}
    return {"name": main, "exactly": {"deviceClassName": "any"}}


def _split(text: str) -> tuple[str, str]:
    request, colon, device = text.rpartition(":")
    return (request if colon else "r"), device


@asynccontextmanager
async def cluster(root: Path, version: str = DEFAULT_VERSION) -> AsyncIterator[Cluster]:
    api = API.open(Store(None), profile_for(version), tokens={TOKEN: ADMIN})
    await api.start()
    made = Cluster(Client(Dialect(api.transport(ADMIN))), root, api)
    await made.add_node()
    try:
        yield made
    finally:
        await api.close()


class Kubelet:
    """The kubelet's end: finds the driver by its registry socket and calls it."""

    def __init__(self, info: PluginInfo, stub: DRAStub) -> None:
        self.info = info
        self._stub = stub

    @staticmethod
    @asynccontextmanager
    async def meet(cluster: Cluster, driver: str, service: str = DRA_V1) -> AsyncIterator[Kubelet]:
        async with contextlib.AsyncExitStack() as stack:
            registry = wire.connect(cluster.registry / f"{driver}-reg.sock")
            stack.push_async_callback(registry.close)
            registration = RegistrationStub(registry)
            info = await registration.get_info()
            await registration.notify(True)
            channel = wire.connect(info.endpoint)
            stack.push_async_callback(channel.close)
            yield Kubelet(info, DRAStub(channel, service))

    async def prepare(self, *claims: ClaimReference, timeout: float = 20) -> dict[str, PrepareResult]:
        """The results by claim name."""
        answers = await self._stub.prepare(claims, timeout)
        return {claim.name: answers[claim.uid] for claim in claims}

    async def unprepare(self, *claims: ClaimReference, timeout: float = 20) -> dict[str, str]:
        answers = await self._stub.unprepare(claims, timeout)
        return {claim.name: answers[claim.uid] for claim in claims}


async def until(condition: Callable[[], bool], attempts: int = 2000) -> None:
    """Return when `condition` holds; gives other tasks a turn in between."""
    for _ in range(attempts):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")
