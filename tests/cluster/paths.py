"""What is walked: each path uses a cluster as people do, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools

from msgspec import structs

from drakit.client.api import (
    DEVICE_CLASSES,
    JOBS,
    LEASES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Client,
)
from drakit.client.http import HTTPTransport
from drakit.driver import device
from drakit.scheduler.election import Election
from drakit.transport import Document
from tests.cluster.mortal import DRIVER, Lamps
from tests.cluster.rooms import LEASE, SCHEDULER, FastClock
from tests.cluster.walk import NS, World

_LEASE_PACE = 20.0
_LEASES = "kube-system"
_REQUESTS: Document = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "lamp"}}]}}


async def furnish(world: World) -> None:
    """The class and the template that the paths need."""
    selector = {"cel": {"expression": f'device.driver == "{DRIVER}"'}}
    kind = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "lamp"}}
    await world.create(DEVICE_CLASSES, {**kind, "spec": {"selectors": [selector]}})
    template = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "lamp", "namespace": NS},
        "spec": {"spec": _REQUESTS},
    }
    await world.create(RESOURCE_CLAIM_TEMPLATES, template)


async def own_claim(world: World) -> None:
    """A pod with a claim of its own."""
    await world.create(PODS, _pod("own", resourceClaimTemplateName="lamp"))
    await world.until_phase("Running", "own")
    await world.settle("own")
    await world.delete(PODS, "own")
    await world.until_rest()


async def shared_claim(world: World) -> None:
    """Two pods share a claim. The first to come is the first to go; the claim is to go before the second."""
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "shared", "namespace": NS},
        "spec": _REQUESTS,
    }
    await world.create(RESOURCE_CLAIMS, claim)
    for name in ("first", "second"):
        await world.create(PODS, _pod(name, resourceClaimName="shared"))
        await world.until_phase("Running", name)
    await world.settle("first", "second")
    await world.delete(PODS, "first")
    await world.until_gone(PODS, "first")
    await world.settle("second")
    await world.delete(RESOURCE_CLAIMS, "shared")
    await world.delete(PODS, "second")
    await world.until_rest()


async def job(world: World) -> None:
    """A job whose pod ends by itself: its claim goes then, and not when the pod is deleted."""
    template = {"spec": {**_pod_spec("done", resourceClaimTemplateName="lamp"), "restartPolicy": "Never"}}
    document = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job", "namespace": NS},
        "spec": {"template": template},
    }
    await world.create(JOBS, document)

    def is_complete() -> bool:
        status = (world.server.get(JOBS, "job") or {}).get("status") or {}
        rows = [row["type"] for row in status.get("conditions") or () if row["status"] == "True"]
        return "Complete" in rows and not world.server.find(RESOURCE_CLAIMS)

    await world.server.until(is_complete, "the job to be complete and its claim to be gone")
    assert len(world.server.find(PODS)) == 1
    assert not world.prepared()
    assert not world.cdi_files()
    await world.delete(JOBS, "job")
    await world.until_gone(JOBS, "job")
    await world.until_rest()


async def publishing(world: World, driver: Lamps) -> None:
    """A driver has more devices than fit into a slice, other ones, then few; somebody deletes its slice."""
    for wanted in ((130, {0}), (130, {1}), (4, {1})):
        count, (mark,) = wanted
        driver.lamps = [device(f"lamp-{index}", {"mark": mark}) for index in range(count)]
        driver.changed()
        await world.server.until(functools.partial(_is_published, world, wanted), f"{wanted} to be published")
    (slice_,) = world.server.find(RESOURCE_SLICES)
    uid, name = slice_["metadata"]["uid"], slice_["metadata"]["name"]
    await world.delete(RESOURCE_SLICES, name)

    def is_back() -> bool:
        uids = {document["metadata"]["uid"] for document in world.server.find(RESOURCE_SLICES)}
        return uid not in uids and _is_published(world, (4, {1}))

    await world.server.until(is_back, "the slice to be there again")


def _is_published(world: World, wanted: tuple[int, set[int]]) -> bool:
    """Whether that is there, and nothing of before."""
    return _published(world) == wanted and len(world.server.find(RESOURCE_SLICES)) == -(-wanted[0] // 128)


def _published(world: World) -> tuple[int, set[int]]:
    """How many devices a scheduler sees in the pool, and their marks; none while the pool is not complete."""
    specs = [document["spec"] for document in world.server.find(RESOURCE_SLICES)]
    newest = max((spec["pool"]["generation"] for spec in specs), default=0)
    specs = [spec for spec in specs if spec["pool"]["generation"] == newest]
    if any(spec["pool"]["resourceSliceCount"] != len(specs) for spec in specs):
        return 0, set()
    devices = [device for spec in specs for device in spec["devices"]]
    assert len({device["name"] for device in devices}) == len(devices)
    return len(devices), {device["attributes"]["mark"]["int"] for device in devices}


async def leadership(world: World) -> None:
    """Two schedulers want one lease: the first works, renews it and goes, the second takes over."""
    at_work: list[str] = []
    clock = FastClock(_LEASE_PACE)

    async def work(name: str) -> None:
        assert not at_work
        at_work.append(name)
        try:
            await asyncio.Event().wait()
        finally:
            at_work.remove(name)

    async def run(name: str) -> None:
        client = Client(HTTPTransport(structs.replace(world.config, token=SCHEDULER), clock=clock))
        try:
            await Election(client, _LEASES, LEASE, name, clock=clock).lead(lambda: work(name))
        finally:
            await client.close()

    def renewals() -> int:
        return sum(step.name == f"leases {LEASE}: renewed" for step in world.server.steps)

    before = renewals()
    tasks = {"first": asyncio.create_task(run("first"))}
    await world.server.until(lambda: at_work and renewals() > before, "the first to lead")
    tasks["second"] = asyncio.create_task(run("second"))
    while tasks:
        (leader,) = await world.server.until(lambda: at_work, f"one of {sorted(tasks)} to lead")
        task = tasks.pop(leader)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await world.delete(LEASES, LEASE, _LEASES)
    await world.until_gone(LEASES, LEASE)


def _pod(name: str, **claim: str) -> Document:
    metadata = {"name": name, "namespace": NS}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _pod_spec("c", **claim)}


def _pod_spec(container: str, **claim: str) -> Document:
    use = {"claims": [{"name": "lamp"}]}
    return {
        "containers": [{"name": container, "image": "busybox", "resources": use}],
        "resourceClaims": [{"name": "lamp", **claim}],
        "terminationGracePeriodSeconds": 1,
    }
