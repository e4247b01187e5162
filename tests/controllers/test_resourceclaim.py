from __future__ import annotations

import pytest

from drakit.client.api import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from drakit.model.resource import FINALIZER
from drakit.transport import Document
from tests.controllers.cluster import NS, Cluster, claim, cluster, from_template, pod, template

pytestmark = pytest.mark.anyio


async def allocate(c: Cluster, name: str, *pods: Document) -> Document:
    """What the scheduler writes: finalizer, allocation, reservedFor."""
    await c.client.patch(RESOURCE_CLAIMS, name, {"metadata": {"finalizers": [FINALIZER]}}, NS)
    result = {"request": "r", "driver": "d.example.com", "pool": "p", "device": "x"}
    reserved = [
        {"resource": "pods", "name": p["metadata"]["name"], "uid": p["metadata"]["uid"]} for p in pods
    ]
    status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": reserved}
    return await c.client.patch(RESOURCE_CLAIMS, name, {"status": status}, NS, subresource="status")


async def generated(c: Cluster, name: str) -> str:
    """The name of the pod's one generated claim, as its status tells."""
    found = await c.get(PODS, name)
    assert found is not None
    (row,) = found["status"]["resourceClaimStatuses"]
    return str(row["resourceClaimName"])


async def test_a_claim_from_a_template() -> None:
    async with cluster() as c:
        await c.client.create(RESOURCE_CLAIM_TEMPLATES, template())
        made = await c.client.create(PODS, pod("p", from_template()))
        await c.settle()
        (found,) = await c.list(RESOURCE_CLAIMS)
        meta = found["metadata"]
        assert meta["name"].startswith("p-gpu-")
        assert len(meta["name"]) == len("p-gpu-") + 5
        assert meta["annotations"] == {"x": "y", "resource.kubernetes.io/pod-claim-name": "gpu"}
        assert meta["labels"] == {"a": "b"}
        (owner,) = meta["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "p", made["metadata"]["uid"])
        assert owner["controller"] is True
        assert await generated(c, "p") == meta["name"]


@pytest.mark.parametrize("version", ["1.32", "1.33", "1.34", "1.35", "1.36"])
async def test_every_kubernetes_version(version: str) -> None:
    async with cluster(version) as c:
        await c.client.create(RESOURCE_CLAIM_TEMPLATES, template())
        made = await c.client.create(PODS, pod("p", from_template()))
        await c.settle()
        name = await generated(c, "p")
        found = await c.get(RESOURCE_CLAIMS, name) or {}
        assert found["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] == "c"
        await allocate(c, name, made)
        await c.bind("p", "n0")
        await c.set_pod("p", phase="Succeeded")
        await c.settle()
        assert await c.list(RESOURCE_CLAIMS) == []


async def test_one_claim_only_for_each_entry() -> None:
    async with cluster() as c:
        await c.client.create(RESOURCE_CLAIM_TEMPLATES, template())
        await c.client.create(RESOURCE_CLAIMS, claim("own"))
        entries = [from_template("a"), from_template("b"), {"name": "c", "resourceClaimName": "own"}]
        await c.client.create(PODS, pod("p", *entries))
        await c.settle()
        for _ in range(3):
            await c.client.patch(PODS, "p", {"metadata": {"labels": {"n": str(_)}}}, NS)
            await c.settle()
        assert len(await c.list(RESOURCE_CLAIMS)) == 3


async def test_a_missing_template_is_told_and_made_up_for() -> None:
    async with cluster() as c:
        await c.client.create(PODS, pod("p", from_template()))
        await c.settle()
        assert set(await c.reasons("p")) == {"FailedResourceClaimCreation"}
        assert await c.list(RESOURCE_CLAIMS) == []
        await c.client.create(RESOURCE_CLAIM_TEMPLATES, template())
        await c.settle(0.1)
        assert len(await c.list(RESOURCE_CLAIMS)) == 1


async def test_a_claim_made_before_a_crash_is_found_again() -> None:
    async with cluster(start=False) as c:
        owner = await c.client.create(PODS, pod("p", from_template()))
        left = claim("p-gpu-abcde")
        left["metadata"] |= {
            "annotations": {"resource.kubernetes.io/pod-claim-name": "gpu"},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": "p",
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        }
        await c.client.create(RESOURCE_CLAIMS, left)
        c.start()
        await c.settle()
        assert await generated(c, "p") == "p-gpu-abcde"
        assert len(await c.list(RESOURCE_CLAIMS)) == 1


async def test_a_deleted_claim_is_made_again() -> None:
    async with cluster() as c:
        await c.client.create(RESOURCE_CLAIM_TEMPLATES, template())
        await c.client.create(PODS, pod("p", from_template()))
        await c.settle()
        first = await generated(c, "p")
        await c.client.delete(RESOURCE_CLAIMS, first, NS)
        await c.settle()
        second = await generated(c, "p")
        assert second != first
        assert await c.get(RESOURCE_CLAIMS, second) is not None


async def test_long_names_are_cut_in_proportion() -> None:
    async with cluster() as c:
        await c.client.create(RESOURCE_CLAIM_TEMPLATES, template())
        name = "p" * 63
        await c.client.create(PODS, pod(name, from_template("c" * 40)))
        await c.settle()
        (found,) = await c.list(RESOURCE_CLAIMS)
        assert len(found["metadata"]["name"]) <= 63
        assert "pp-cc" in found["metadata"]["name"]


@pytest.mark.parametrize("end", ["deleted", "succeeded", "failed"])
async def test_what_a_pod_used_is_given_back(end: str) -> None:
    async with cluster() as c:
        await c.client.create(RESOURCE_CLAIM_TEMPLATES, template())
        await c.client.create(RESOURCE_CLAIMS, claim("own"))
        made = await c.client.create(
            PODS, pod("p", from_template(), {"name": "own", "resourceClaimName": "own"})
        )
        await c.settle()
        name = (await c.get(PODS, "p") or {})["status"]["resourceClaimStatuses"][0]["resourceClaimName"]
        for each in (name, "own"):
            await allocate(c, each, made)
        await c.bind("p", "n0")
        await c.settle()
        assert len(await c.list(RESOURCE_CLAIMS)) == 2
        if end == "deleted":
            await c.client.delete(PODS, "p", NS, grace_period_seconds=0)
        else:
            await c.set_pod("p", phase=end.capitalize())
        await c.settle()
        (own,) = await c.list(RESOURCE_CLAIMS)
        assert own["metadata"]["name"] == "own"
        assert not own.get("status")
        assert "finalizers" not in own["metadata"]


async def test_a_shared_claim_is_kept_until_its_last_pod_ends() -> None:
    async with cluster() as c:
        await c.client.create(RESOURCE_CLAIMS, claim("own"))
        entry = {"name": "own", "resourceClaimName": "own"}
        pods = [await c.client.create(PODS, pod(name, entry)) for name in ("p1", "p2")]
        await allocate(c, "own", *pods)
        for name in ("p1", "p2"):
            await c.bind(name, "n0")
        await c.client.delete(PODS, "p1", NS, grace_period_seconds=0)
        await c.settle()
        own = await c.get(RESOURCE_CLAIMS, "own") or {}
        assert [row["name"] for row in own["status"]["reservedFor"]] == ["p2"]
        assert own["status"]["allocation"]
        await c.client.delete(PODS, "p2", NS, grace_period_seconds=0)
        await c.settle()
        assert not (await c.get(RESOURCE_CLAIMS, "own") or {}).get("status")


async def test_a_deleted_claim_goes_when_it_is_not_used_any_more() -> None:
    async with cluster() as c:
        await c.client.create(RESOURCE_CLAIMS, claim("own"))
        user = await c.client.create(PODS, pod("p", {"name": "own", "resourceClaimName": "own"}))
        await allocate(c, "own", user)
        await c.client.delete(RESOURCE_CLAIMS, "own", NS)
        await c.settle()
        assert (await c.get(RESOURCE_CLAIMS, "own") or {})["status"]["allocation"]
        await c.client.delete(PODS, "p", NS, grace_period_seconds=0)
        await c.settle()
        assert await c.get(RESOURCE_CLAIMS, "own") is None


async def test_reservations_of_pods_that_vanished_while_nobody_looked() -> None:
    async with cluster() as c:
        await c.client.create(RESOURCE_CLAIMS, claim("own"))
        user = await c.client.create(PODS, pod("p", {"name": "own", "resourceClaimName": "own"}))
        await allocate(c, "own", user)
        await c.stop()
        await c.client.delete(PODS, "p", NS, grace_period_seconds=0)
        await c.client.create(PODS, pod("p", {"name": "own", "resourceClaimName": "own"}))
        c.start()
        await c.settle()
        assert not (await c.get(RESOURCE_CLAIMS, "own") or {}).get("status")


async def test_a_pod_bound_by_hand_takes_its_allocated_claim() -> None:
    async with cluster() as c:
        await c.client.create(RESOURCE_CLAIMS, claim("own"))
        first = await c.client.create(PODS, pod("p", {"name": "own", "resourceClaimName": "own"}))
        await allocate(c, "own", first)
        by_hand = pod("q", {"name": "own", "resourceClaimName": "own"}, nodeName="n0")
        await c.client.create(PODS, by_hand)
        await c.settle()
        own = await c.get(RESOURCE_CLAIMS, "own") or {}
        assert [row["name"] for row in own["status"]["reservedFor"]] == ["p", "q"]


async def test_an_extended_resource_claim_nobody_uses_is_deleted() -> None:
    async with cluster() as c:
        owner = await c.client.create(PODS, pod("p"))
        for name in ("used", "left"):
            made = claim(name)
            made["metadata"] |= {
                "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
                "ownerReferences": [
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "name": "p",
                        "uid": owner["metadata"]["uid"],
                        "controller": True,
                    }
                ],
            }
            await c.client.create(RESOURCE_CLAIMS, made)
        mapping = {"containerName": "c", "resourceName": "example.com/gpu", "requestName": "r"}
        status = {"extendedResourceClaimStatus": {"resourceClaimName": "used", "requestMappings": [mapping]}}
        await c.client.patch(PODS, "p", {"status": status}, NS, subresource="status")
        await c.bind("p", "n0")
        await c.settle()
        assert [d["metadata"]["name"] for d in await c.list(RESOURCE_CLAIMS)] == ["used"]
