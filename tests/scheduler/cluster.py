"""The scheduler against the real API server in memory, with a clock that the test turns."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from drakit.apiserver.app import API, User
from drakit.client.api import EVENTS, NODES, PODS, RESOURCE_CLAIMS, Client, Resource
from drakit.client.dialect import Dialect
from drakit.errors import NotFound
from drakit.profile import Profile, profile_for
from drakit.scheduler import Scheduler
from drakit.store import Store
from drakit.transport import Document, Request, Response, Transport
from tests.client.fake_clock import FakeClock, settle

ADMIN = User("system:admin", ("system:masters", "system:authenticated"))
SCHEDULER = User("system:kube-scheduler")
NS = "default"
_KINDS = {
    "Pod": PODS,
    "Node": NODES,
    "ResourceClaim": RESOURCE_CLAIMS,
    "DeviceClass": Resource("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", False),
    "ResourceSlice": Resource("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", False),
    "PriorityClass": Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False),
    "DeviceTaintRule": Resource("resource.k8s.io", "v1", "devicetaintrules", "DeviceTaintRule", False),
}


class Wire:
    """A transport to `inner` that a test can break. `before` is called with each write before it is sent,
    `after` when it was carried out; an exception of theirs is what the client sees."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.writes: list[Request] = []
        self.before: Callable[[Request], None] | None = None
        self.after: Callable[[Request], None] | None = None

    async def send(self, request: Request) -> Response:
        if request.method == "GET":
            return await self._inner.send(request)
        self.writes.append(request)
        if self.before is not None:
            self.before(request)
        response = await self._inner.send(request)
        if self.after is not None:
            self.after(request)
        return response

    def watch(self, request: Request) -> AsyncIterator[Document]:
        return self._inner.watch(request)

    async def close(self) -> None:
        await self._inner.close()


class Cluster:
    """`client` acts as an administrator; `wire` carries what the scheduler sends."""

    def __init__(self, api: API, clock: FakeClock, profile: Profile) -> None:
        self.api = api
        self.clock = clock
        self.profile = profile
        self.client = Client(Dialect(api.transport(ADMIN)), field_manager="test")
        self.wire = Wire(Dialect(api.transport(SCHEDULER)))
        self.scheduler = Scheduler(Client(self.wire, field_manager="sched"), profile, clock=clock)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self.scheduler.run())
        await self.until(self.scheduler.ready.is_set)

    async def stop(self) -> None:
        """Stop the scheduler, as a crash does."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def until(self, holds: Callable[[], bool], rounds: int = 200) -> None:
        """Let everybody work until `holds()`."""
        for _ in range(rounds):
            if holds():
                return
            await settle(20)
        raise AssertionError("did not come to pass")

    async def settle(self, seconds: float = 0.0) -> None:
        """Let everybody finish what can be done now, then turn the clock by `seconds`."""
        await settle(400)
        if seconds:
            await self.clock.advance(seconds)
            await settle(400)

    async def put(self, *documents: Document) -> None:
        """Create objects, with their status where they have one."""
        for document in documents:
            resource = _KINDS[document["kind"]]
            made = await self.client.create(resource, document)
            if status := document.get("status"):
                await self.client.update(resource, {**made, "status": status}, subresource="status")

    async def get(self, kind: str, name: str) -> Document:
        resource = _KINDS[kind]
        return await self.client.get(resource, name, NS if resource.is_namespaced else None)

    async def find(self, kind: str, name: str) -> Document | None:
        try:
            return await self.get(kind, name)
        except NotFound:
            return None

    async def claims(self) -> list[Document]:
        return (await self.client.list(RESOURCE_CLAIMS, NS)).items

    async def node_of(self, name: str) -> str | None:
        node: str | None = (await self.get("Pod", name))["spec"].get("nodeName")
        return node

    async def condition(self, name: str) -> Document:
        """The pod's PodScheduled condition."""
        status = (await self.get("Pod", name)).get("status") or {}
        rows = [row for row in status.get("conditions") or () if row["type"] == "PodScheduled"]
        return rows[0] if rows else {}

    async def events(self, name: str) -> list[Document]:
        events = (await self.client.list(EVENTS, NS)).items
        return [event for event in events if event["involvedObject"]["name"] == name]

    async def set_status(self, kind: str, name: str, status: Document) -> None:
        """Merge `status` into the object's, as another client would."""
        await self.client.patch(_KINDS[kind], name, {"status": status}, NS, subresource="status")

    async def delete(self, kind: str, name: str) -> None:
        resource = _KINDS[kind]
        namespace = NS if resource.is_namespaced else None
        await self.client.delete(resource, name, namespace, grace_period_seconds=0)


@asynccontextmanager
async def cluster(
    *documents: Document, version: str = "1.37", gates: dict[str, bool] | None = None, start: bool = True
) -> AsyncIterator[Cluster]:
    """A cluster with `documents` and a running scheduler."""
    clock, profile = FakeClock(), profile_for(version, gates or {})
    api = API.open(Store(), profile, clock=lambda: datetime.datetime.fromtimestamp(clock.now(), datetime.UTC))
    await api.start()
    made = Cluster(api, clock, profile)
    await made.put(*documents)
    if start:
        await made.start()
    try:
        yield made
    finally:
        await made.stop()
        await api.close()
