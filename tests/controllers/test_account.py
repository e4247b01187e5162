"""Quotas and pool status: what is used, and what is left."""

from __future__ import annotations

import asyncio

import pytest

from drakit.client.api import NAMESPACES, RESOURCE_CLAIMS, RESOURCE_SLICES, SECRETS
from drakit.controllers.poolstatus import POOL_STATUS_REQUESTS
from drakit.controllers.quota import RESOURCE_QUOTAS
from drakit.errors import Forbidden
from drakit.model.quota import devices_of
from drakit.transport import Document
from tests.controllers.cluster import NS, Cluster, claim, cluster

pytestmark = pytest.mark.anyio

DEVICES = "c.deviceclass.resource.k8s.io/devices"


async def used(c: Cluster) -> Document:
    status: Document = (await c.get(RESOURCE_QUOTAS, "q") or {}).get("status") or {}
    return status.get("used") or {}


async def test_a_quota_counts_devices_and_objects() -> None:
    async with cluster() as c:
        hard = {DEVICES: "3", "count/resourceclaims.resource.k8s.io": "5", "requests.cpu": "4"}
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": NS},
            "spec": {"hard": hard},
        }
        await c.client.create(RESOURCE_QUOTAS, quota)
        await c.settle()
        assert await used(c) == {**dict.fromkeys(hard, "0")}
        for name in ("a", "b"):
            await c.client.create(RESOURCE_CLAIMS, claim(name))
        await c.settle()
        assert await used(c) == {**dict.fromkeys(hard, "2"), "requests.cpu": "0"}
        await c.client.delete(RESOURCE_CLAIMS, "a", NS)
        await c.settle()
        assert (await used(c))[DEVICES] == "1"
        await c.client.patch(RESOURCE_QUOTAS, "q", {"spec": {"hard": {DEVICES: None}}}, NS)
        await c.settle()
        assert await used(c) == {"count/resourceclaims.resource.k8s.io": "1", "requests.cpu": "0"}


async def test_what_exceeds_a_quota_is_refused() -> None:
    async with cluster() as c:
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": NS},
            "spec": {"hard": {DEVICES: "2", "count/secrets": "1"}},
        }
        await c.client.create(RESOURCE_QUOTAS, quota)
        answers = await asyncio.gather(
            *(c.client.create(RESOURCE_CLAIMS, claim(f"c{n}")) for n in range(5)), return_exceptions=True
        )
        refused = [str(answer) for answer in answers if isinstance(answer, Forbidden)]
        assert len(refused) == 3
        assert refused[0].endswith(
            f'"c2" is forbidden: exceeded quota: q, requested: {DEVICES}=1, used: {DEVICES}=2, '
            f"limited: {DEVICES}=2"
        )
        await c.client.delete(RESOURCE_CLAIMS, "c0", NS)
        await c.client.create(RESOURCE_CLAIMS, claim("c9"))
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": NS}}
        await c.client.create(SECRETS, secret)
        with pytest.raises(Forbidden, match="count/secrets=1"):
            await c.client.create(SECRETS, secret | {"metadata": {"name": "t", "namespace": NS}})


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([], {}),
        (
            [{"exactly": {"deviceClassName": "a", "count": 3}}, {"exactly": {"deviceClassName": "a"}}],
            {"a": 4},
        ),
        ([{"exactly": {"deviceClassName": "a", "allocationMode": "All"}}], {"a": 32}),
        (
            [
                {
                    "firstAvailable": [
                        {"deviceClassName": "a", "count": 2},
                        {"deviceClassName": "b", "count": 1},
                        {"deviceClassName": "a", "count": 5},
                    ]
                }
            ],
            {"a": 5, "b": 1},
        ),
    ],
)
def test_devices_of(requests: list[Document], expected: dict[str, int]) -> None:
    assert devices_of({"spec": {"devices": {"requests": requests}}}) == expected


def resource_slice(name: str, pool: str, *devices: Document, count: int = 1, **spec: object) -> Document:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": {
            "driver": "d.example.com",
            "nodeName": "n0",
            "pool": {"name": pool, "generation": 1, "resourceSliceCount": count},
            "devices": list(devices),
            **spec,
        },
    }


async def allocate(c: Cluster, name: str, pool: str, device: str, **more: object) -> None:
    await c.client.create(RESOURCE_CLAIMS, claim(name))
    result = {"request": "r", "driver": "d.example.com", "pool": pool, "device": device, **more}
    status = {"allocation": {"devices": {"results": [result]}}}
    await c.client.patch(RESOURCE_CLAIMS, name, {"status": status}, NS, subresource="status")


async def ask(c: Cluster, **spec: object) -> None:
    document = {
        "apiVersion": "resource.k8s.io/v1alpha3",
        "kind": "ResourcePoolStatusRequest",
        "metadata": {"name": "q"},
        "spec": {"driver": "d.example.com", **spec},
    }
    await c.client.create(POOL_STATUS_REQUESTS, document)


async def test_pool_status() -> None:
    async with cluster(DRAResourcePoolStatus=True) as c:
        label = {"resource.kubernetes.io/admin-access": "true"}
        await c.client.patch(NAMESPACES, NS, {"metadata": {"labels": label}})
        taint = {"key": "k", "effect": "NoSchedule"}
        devices = [{"name": "a"}, {"name": "b"}, {"name": "t", "taints": [taint]}]
        await c.client.create(RESOURCE_SLICES, resource_slice("s1", "p1", *devices))
        await c.client.create(RESOURCE_SLICES, resource_slice("s2", "p2", {"name": "a"}, count=2))
        await allocate(c, "one", "p1", "a")
        await allocate(c, "admin", "p1", "b", adminAccess=True)
        await c.settle()
        await ask(c)
        await c.settle(20)
        status = (await c.get(POOL_STATUS_REQUESTS, "q", None) or {})["status"]
        assert status["poolCount"] == 2
        (row,) = status["conditions"]
        assert (row["type"], row["status"]) == ("Complete", "True")
        first, second = status["pools"]
        assert first == {
            "driver": "d.example.com",
            "poolName": "p1",
            "generation": 1,
            "nodeName": "n0",
            "resourceSliceCount": 1,
            "totalDevices": 3,
            "allocatedDevices": 1,
            "unavailableDevices": 1,
            "availableDevices": 1,
        }
        assert second["validationError"].startswith("PoolIncomplete: 1 of 2 slices")
        await c.settle(3700)
        assert await c.get(POOL_STATUS_REQUESTS, "q", None) is None
