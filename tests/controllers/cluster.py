"""The controllers against the real API server in memory, with a clock that the test turns."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from drakit.apiserver.app import API, User
from drakit.client.api import EVENTS, NAMESPACES, PODS, Client, Resource
from drakit.client.dialect import Dialect
from drakit.controllers import Controllers
from drakit.errors import NotFound
from drakit.profile import Profile, profile_for
from drakit.store import Store
from drakit.transport import Document
from tests.client.fake_clock import FakeClock, settle

ADMIN = User("system:admin", ("system:masters", "system:authenticated"))
MANAGER = User("system:kube-controller-manager")
NS = "test"


class Cluster:
    """`client` acts as an administrator. `settle` lets everybody finish what can be done now."""

    def __init__(self, api: API, clock: FakeClock, profile: Profile) -> None:
        self.api = api
        self.clock = clock
        self.profile = profile
        self.client = Client(Dialect(api.transport(ADMIN)), field_manager="test")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, **options: Any) -> Controllers:
        """Start a set of controllers."""
        client = Client(Dialect(self.api.transport(MANAGER)), field_manager="controllers")
        controllers = Controllers(client, self.profile, clock=self.clock, **options)
        self._tasks.append(asyncio.create_task(controllers.run()))
        return controllers

    async def stop(self) -> None:
        """Stop the controllers, as a crash does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def settle(self, seconds: float = 2.0) -> None:
        """Let what is under way end, short delays included."""
        for _ in range(8):
            await settle(100)
            await self.clock.advance(seconds / 8)

    async def until(self, holds: Callable[[], Any], steps: int = 100) -> None:
        """Turn the clock in small steps until `await holds()` is true."""
        for _ in range(steps):
            if await holds():
                return
            await self.settle(0.5)
        raise AssertionError(f"still not so after {steps} steps")

    async def get(self, resource: Resource, name: str, namespace: str | None = NS) -> Document | None:
        try:
            return await self.client.get(resource, name, namespace if resource.is_namespaced else None)
        except NotFound:
            return None

    async def list(self, resource: Resource, namespace: str | None = NS) -> list[Document]:
        found = await self.client.list(resource, namespace if resource.is_namespaced else None)
        return found.items

    async def reasons(self, name: str) -> list[str]:
        """The reasons of the events about `name`."""
        return [e["reason"] for e in await self.list(EVENTS) if e["involvedObject"]["name"] == name]

    async def set_pod(self, name: str, **status: Any) -> Document:
        """Write a pod's status as its node would."""
        if status.get("phase") == "Running" or status.pop("is_ready", False):
            now = datetime.datetime.fromtimestamp(self.clock.now(), datetime.UTC).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
            row = {"type": "Ready", "status": "True", "lastTransitionTime": now}
            status["conditions"] = [row]
        return await self.client.patch(PODS, name, {"status": status}, NS, subresource="status")

    async def bind(self, pod: str, node: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": target}
        await self.client.create(PODS, body, NS, name=pod, subresource="binding")


@asynccontextmanager
async def cluster(version: str = "1.37", start: bool = True, **gates: bool) -> AsyncIterator[Cluster]:
    """A cluster with the namespace `test`; its controllers run unless `start` is False."""
    clock, profile = FakeClock(), profile_for(version, gates)
    api = API.open(Store(), profile, clock=lambda: datetime.datetime.fromtimestamp(clock.now(), datetime.UTC))
    await api.start()
    made = Cluster(api, clock, profile)
    await made.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
    if start:
        made.start()
        await made.settle()
    try:
        yield made
    finally:
        await made.stop()
        await api.close()


def pod(name: str, *claims: Document, **spec: Any) -> Document:
    """A pod with entries of `spec.resourceClaims`."""
    container: Document = {"name": "c", "image": "busybox"}
    if claims:
        container["resources"] = {"claims": [{"name": claim["name"]} for claim in claims]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NS},
        "spec": {"containers": [container], "resourceClaims": list(claims), **spec},
    }


def from_template(name: str = "gpu", template: str = "t") -> Document:
    return {"name": name, "resourceClaimTemplateName": template}


SPEC: Document = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}


def template(name: str = "t") -> Document:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name, "namespace": NS},
        "spec": {"metadata": {"labels": {"a": "b"}, "annotations": {"x": "y"}}, "spec": SPEC},
    }


def claim(name: str) -> Document:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": NS},
        "spec": SPEC,
    }
