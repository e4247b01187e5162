"""Whatever people do and whenever the controllers die: in the end nothing is leaked, nothing is lost."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest

from drakit.client.api import (
    DEPLOYMENTS,
    JOBS,
    PODS,
    REPLICA_SETS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
)
from drakit.controllers.pod import claim_names, is_active, is_done
from drakit.errors import APIError, NotFound
from drakit.model.resource import FINALIZER
from drakit.transport import Document
from tests.client.fake_clock import settle
from tests.controllers.cluster import NS, Cluster, cluster, from_template, pod, template

pytestmark = pytest.mark.anyio

OPERATIONS = ("create", "create", "create", "allocate", "allocate", "delete", "finish", "unclaim", "restart")


async def allocate(c: Cluster, name: str) -> None:
    """What a scheduler does for a pod whose claims are there."""
    found = await c.client.get(PODS, name, NS)
    names = claim_names(found)
    if not names or is_done(found) or found["spec"].get("nodeName"):
        return
    for each in names:
        claim = await c.client.get(RESOURCE_CLAIMS, each, NS)
        if (claim.get("status") or {}).get("allocation"):
            return
        meta = {"finalizers": [FINALIZER], "resourceVersion": claim["metadata"]["resourceVersion"]}
        claim = await c.client.patch(RESOURCE_CLAIMS, each, {"metadata": meta}, NS)
        consumer = {"resource": "pods", "name": name, "uid": found["metadata"]["uid"]}
        result = {"request": "r", "driver": "d.example.com", "pool": "p", "device": each}
        status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": [consumer]}
        meta = {"resourceVersion": claim["metadata"]["resourceVersion"]}
        patch = {"metadata": meta, "status": status}
        await c.client.patch(RESOURCE_CLAIMS, each, patch, NS, subresource="status")
    await c.bind(name, "n0")


async def act(c: Cluster, rng: random.Random, operation: str, number: int) -> None:
    if operation == "restart":
        await c.stop()
        c.start()
        return
    if operation == "create":
        await c.client.create(PODS, pod(f"p{number}", from_template()))
        return
    pods = await c.list(PODS)
    if not pods:
        return
    name = rng.choice(pods)["metadata"]["name"]
    if operation == "allocate":
        await allocate(c, name)
    elif operation == "delete":
        await c.client.delete(PODS, name, NS, grace_period_seconds=0)
    elif operation == "finish":
        await c.set_pod(name, phase=rng.choice(["Succeeded", "Failed"]))
    elif claims := await c.list(RESOURCE_CLAIMS):
        await c.client.delete(RESOURCE_CLAIMS, rng.choice(claims)["metadata"]["name"], NS)


@pytest.mark.parametrize("seed", range(12))
async def test_claims(seed: int) -> None:
    rng = random.Random(seed)
    async with cluster() as c:
        await c.client.create(RESOURCE_CLAIM_TEMPLATES, template())
        for number in range(60):
            try:
                await act(c, rng, rng.choice(OPERATIONS), number)
            except APIError:
                continue  # A conflict, or something that is gone: whoever tried it would try again.
            await settle(rng.choice([0, 1, 3, 10, 100]))
        await c.settle(3)
        await c.settle(3)
        await check_claims(c)


async def check_claims(c: Cluster) -> None:
    pods = {p["metadata"]["uid"]: p for p in await c.list(PODS)}
    claims = {d["metadata"]["name"]: d for d in await c.list(RESOURCE_CLAIMS)}
    for claim in claims.values():
        (owner,) = claim["metadata"]["ownerReferences"]
        assert owner["uid"] in pods, "a claim outlived its pod"
        assert not is_done(pods[owner["uid"]]), "a claim outlived the work of its pod"
        for row in (claim.get("status") or {}).get("reservedFor") or ():
            assert row["uid"] in pods
            assert not is_done(pods[row["uid"]])
    for each in pods.values():
        if not is_done(each):
            (name,) = claim_names(each)
            assert name in claims, "a pod lost its claim"
    owners = [claim["metadata"]["ownerReferences"][0]["uid"] for claim in claims.values()]
    assert len(owners) == len(set(owners)), "a pod has two claims for one entry"


def workload(resource: Any, **spec: Any) -> Document:
    labels = {"app": "x"}
    container = {"name": "c", "image": "x"}
    pods: Document = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    if resource is JOBS:
        pods["spec"]["restartPolicy"] = "Never"
    else:
        spec["selector"] = {"matchLabels": labels}
    meta = {"name": "w", "namespace": NS}
    spec = {"template": pods, **spec}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, "spec": spec}


async def run_all(c: Cluster) -> None:
    for each in await c.list(PODS):
        with suppress(NotFound):
            await c.set_pod(each["metadata"]["name"], phase="Running")


@pytest.mark.parametrize("seed", range(4))
async def test_deployments_end_with_the_right_number(seed: int) -> None:
    rng = random.Random(seed)
    async with cluster() as c:
        await c.client.create(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=5))
        wanted = 5
        for number in range(30):
            choice = rng.choice(["scale", "image", "kill", "restart", "ready"])
            if choice == "scale":
                wanted = rng.randrange(10)
                await c.client.patch(DEPLOYMENTS, "w", {"spec": {"replicas": wanted}}, NS)
            elif choice == "image":
                container = {"name": "c", "image": f"image-{number}"}
                patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
                await c.client.patch(DEPLOYMENTS, "w", patch, NS)
            elif choice == "restart":
                await c.stop()
                c.start()
            elif choice == "ready":
                await run_all(c)
            for each in await c.list(PODS):
                name = each["metadata"]["name"]
                if choice == "kill" and rng.random() < 0.3:
                    with suppress(NotFound):
                        await c.client.delete(PODS, name, NS, grace_period_seconds=0)
            await settle(rng.choice([0, 1, 5, 50]))
        for _ in range(15):
            await c.settle()
            await run_all(c)
        pods = [p for p in await c.list(PODS) if is_active(p)]
        assert len(pods) == wanted
        assert len({p["spec"]["containers"][0]["image"] for p in pods}) <= 1
        sets = [s for s in await c.list(REPLICA_SETS) if s["spec"]["replicas"]]
        assert len(sets) <= 1


@pytest.mark.parametrize("seed", range(4))
async def test_jobs_count_every_pod_once(seed: int) -> None:
    rng = random.Random(seed)
    async with cluster() as c:
        await c.client.create(JOBS, workload(JOBS, completions=8, parallelism=3, backoffLimit=1000))
        ended: set[str] = set()
        for _ in range(200):
            job = await c.client.get(JOBS, "w", NS)
            if any(row["type"] == "Complete" for row in (job.get("status") or {}).get("conditions") or ()):
                break
            for each in await c.list(PODS):
                name, uid = each["metadata"]["name"], each["metadata"]["uid"]
                with suppress(NotFound):
                    if is_active(each) and rng.random() < 0.6:
                        await c.set_pod(name, phase="Succeeded")
                        ended.add(uid)
                    elif not is_active(each) and rng.random() < 0.3:
                        await c.client.delete(PODS, name, NS)
            if rng.random() < 0.2:
                await c.stop()
                c.start()
            await settle(rng.choice([0, 2, 20, 100]))
        else:
            raise AssertionError("the job never completed")
        assert job["status"]["succeeded"] == len(ended) == 8
