"""Fake nodes: Ready, with a lease, and pods that only look as if they ran."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from drakit.apiserver.app import API
from drakit.client.api import LEASES, NODES, PODS, Client
from drakit.errors import NotFound
from drakit.node.fake import FakeNodes
from drakit.node.node_object import LEASE_NAMESPACE
from drakit.profile import profile_for
from drakit.store import Store
from tests.client.fake_clock import FakeClock
from tests.node.make import ADMIN, NS, make_pod, until

pytestmark = pytest.mark.anyio


async def test_fake_nodes() -> None:
    api = API.open(Store(), profile_for())
    await api.start()
    client = Client(api.transport(ADMIN), field_manager="kubelet")
    clock = FakeClock()
    nodes = FakeNodes(client, 20, clock=clock)
    task = asyncio.create_task(nodes.run())
    await nodes.ready.wait()
    assert len((await client.list(NODES)).items) == 20
    before = (await client.get(LEASES, "fake-7", LEASE_NAMESPACE))["spec"]["renewTime"]
    await clock.advance(40)

    async def renewed() -> bool:
        return bool((await client.get(LEASES, "fake-7", LEASE_NAMESPACE))["spec"]["renewTime"] != before)

    await until(renewed)
    pod = make_pod("p")
    pod["spec"]["nodeName"] = "fake-3"
    await client.create(PODS, pod)

    async def phase() -> bool:
        found = await client.get(PODS, "p", NS)
        return bool((found.get("status") or {}).get("phase") == "Running")

    await until(phase)
    status = (await client.get(PODS, "p", NS))["status"]
    assert status["containerStatuses"][0]["ready"] is True
    await client.delete(PODS, "p", NS)

    async def gone() -> bool:
        with contextlib.suppress(NotFound):
            await client.get(PODS, "p", NS)
            return False
        return True

    await until(gone)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await api.close()
