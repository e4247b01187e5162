"""Devices of fake nodes: the slices a driver would publish there, with nobody behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from drakit.client.api import NODES, RESOURCE_SLICES, Client
from drakit.cluster.options import DriverOption
from drakit.driver.slices import encode, plan, slice_specs
from drakit.drivers import build
from drakit.model.resource import ResourceSliceSpec
from drakit.transport import Document

_REAL_ONLY = {"blockdev", "cpu", "device-plugin", "memory", "nvidia"}
"""Drivers of what this machine really has, which no other node can have too."""
_AT_ONCE = 64


async def publish(client: Client, drivers: Sequence[DriverOption], nodes: Sequence[str]) -> None:
    """Bring the slices of `drivers` for the fake `nodes` to what the drivers say."""
    wanted = [driver for driver in drivers if driver.name not in _REAL_ONLY]
    if not wanted:
        return
    owners = {node["metadata"]["name"]: _owner(node) for node in (await client.list(NODES)).items}
    existing: dict[tuple[str, str], list[Document]] = {}
    for document in (await client.list(RESOURCE_SLICES)).items:
        spec = document["spec"]
        existing.setdefault((spec["driver"], spec["pool"]["name"]), []).append(document)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def write(verb: Callable[..., Awaitable[Document]], document: Document) -> None:
        async with gate:
            await verb(RESOURCE_SLICES, document)

    writes = []
    for option in wanted:
        for node in nodes:
            driver = build(option.name, option.options, node)
            for pool in driver.pools():
                todo = plan(slice_specs(driver.name, node, pool), existing.get((driver.name, pool.name), []))
                for document, spec in todo.updates:
                    writes.append(write(client.update, _slice(document["metadata"], spec)))
                for name, spec in todo.creates:
                    writes.append(
                        write(client.create, _slice({"name": name, "ownerReferences": [owners[node]]}, spec))
                    )
    await asyncio.gather(*writes)


def _owner(node: Document) -> Document:
    meta = node["metadata"]
    return {"apiVersion": "v1", "kind": "Node", "name": meta["name"], "uid": meta["uid"], "controller": True}


def _slice(metadata: Document, spec: ResourceSliceSpec) -> Document:
    return {
        "apiVersion": RESOURCE_SLICES.api_version,
        "kind": RESOURCE_SLICES.kind,
        "metadata": metadata,
        "spec": encode(spec),
    }
