"""Devices that stand for a node's own cpu and memory."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.scheduler.nodeshare import NodeShares
from drakit.scheduler.request import pod_requests
from tests.scheduler.cluster import cluster
from tests.scheduler.make import DRIVER, Document, claim, device, device_class, node, pod, resource_slice

pytestmark = pytest.mark.anyio

GATES = {"DRANodeAllocatableResources": True}
CORES = device("d0", nodeAllocatableResources={"cpu": {"mapping": {"deviceMultiplier": "6"}}})


def shares_of(device: Document, **result: Any) -> Document | None:
    shares = NodeShares(is_on=True)
    shares.put_slice(resource_slice("n0", [device]))
    row = {"driver": DRIVER, "pool": "n0", "device": device["name"], **result}
    found = shares.of_claim("uid", "c", [row], ["main"])
    return found.status if found else None


MAPPED: dict[str, tuple[Document, dict[str, Any], Document | None]] = {
    "nothing": ({}, {}, None),
    "nothing for admin access": (
        {"cpu": {"mapping": {"deviceMultiplier": "2"}}},
        {"adminAccess": True},
        None,
    ),
    "so much for each device": (
        {"cpu": {"mapping": {"deviceMultiplier": "2"}}},
        {},
        {"mapping": [{"name": "cpu", "quantity": "2"}]},
    ),
    "as much as is consumed": (
        {"memory": {"mapping": {"capacityKey": "mem", "capacityMultiplier": "2"}}},
        {"consumedCapacity": {"mem": "3Gi"}},
        {"mapping": [{"name": "memory", "quantity": "6Gi"}]},
    ),
    "half of what is consumed, by the full name": (
        {"cpu": {"mapping": {"capacityKey": f"{DRIVER}/threads", "capacityMultiplier": "0.5"}}},
        {"consumedCapacity": {"threads": "3"}},
        {"mapping": [{"name": "cpu", "quantity": "1500m"}]},
    ),
    "a capacity that was not consumed": (
        {"cpu": {"mapping": {"capacityKey": "threads", "capacityMultiplier": "1"}}},
        {"consumedCapacity": {"other": "3"}},
        None,
    ),
    "overhead": (
        {"memory": {"overhead": {"perPod": "1Gi", "perContainer": "512Mi"}}},
        {},
        {"overhead": [{"name": "memory", "perPod": "1Gi", "perContainer": "512Mi"}]},
    ),
}


@pytest.mark.parametrize("name", MAPPED)
def test_what_a_device_stands_for(name: str) -> None:
    resources, result, expected = MAPPED[name]
    found = shares_of(device("d0", nodeAllocatableResources=resources), **result)
    assert found == (
        {"resourceClaimName": "c", "containers": ["main"], **expected} if expected is not None else None
    )


def test_overhead_of_containers_counts_while_they_run() -> None:
    def container(name: str, cpu: str) -> Document:
        return {"name": name, "resources": {"requests": {"cpu": cpu}}}

    spec = {"containers": [container("a", "1"), container("b", "1")], "initContainers": [container("i", "3")]}
    row = {
        "resourceClaimName": "c",
        "containers": ["a", "i", "gone"],
        "mapping": [{"name": "memory", "quantity": "1Gi"}],
        "overhead": [{"name": "cpu", "perPod": "100m", "perContainer": "500m"}],
    }
    # The init container is the peak: 3 + 0.5; on top 0.1, and 0.5 for the container nobody knows.
    assert pod_requests(spec, [row]) == {"cpu": 4100, "memory": 1 << 30}


def test_a_slice_that_goes_takes_its_devices_along() -> None:
    shares = NodeShares(is_on=True)
    document = resource_slice("n0", [CORES])
    shares.put_slice(document)
    assert shares
    shares.remove_slice(document["metadata"]["name"])
    assert not shares
    off = NodeShares(is_on=False)
    off.put_slice(document)
    assert not off


async def test_what_devices_stand_for_is_written_and_counted() -> None:
    objects = [device_class(), node("n0"), resource_slice("n0", [CORES]), claim("c"), pod("p", claims=["c"])]
    async with cluster(*objects, gates=GATES) as it:
        await it.settle()
        assert await it.node_of("p") == "n0"
        status = (await it.get("Pod", "p"))["status"]["nodeAllocatableResourceClaimStatuses"]
        mapped = [{"name": "cpu", "quantity": "6"}]
        assert status == [{"resourceClaimName": "c", "containers": ["c"], "mapping": mapped}]
        await it.put(pod("big", requests={"cpu": "3"}), pod("small", requests={"cpu": "2"}))
        await it.settle()
        assert (await it.node_of("big"), await it.node_of("small")) == (None, "n0")
        assert "Insufficient cpu" in (await it.condition("big"))["message"]
        await it.delete("Pod", "small")
        await it.stop()
        await it.start()
        await it.settle(12)
        assert await it.node_of("big") is None
        await it.delete("Pod", "p")
        await it.settle(12)
        assert await it.node_of("big") == "n0"


async def test_a_node_with_too_little_left_is_not_taken() -> None:
    slices = [resource_slice(name, [CORES]) for name in ("n0", "n1")]
    busy = pod("busy", requests={"cpu": "4"}, nodeName="n0")
    objects = [device_class(), node("n0"), node("n1"), *slices, busy, claim("c"), pod("p", claims=["c"])]
    async with cluster(*objects, gates=GATES) as it:
        await it.settle()
        assert await it.node_of("p") == "n1"
        await it.put(claim("c2"), pod("p2", claims=["c2"]))
        await it.settle()
        assert "Insufficient cpu (6 wanted, at most 4 free)" in (await it.condition("p2"))["message"]


async def test_a_mapped_claim_is_not_shared_and_pods_as_a_whole_must_have_room() -> None:
    small = pod("tight", claims=["c2"], resources={"requests": {"cpu": "1"}})
    slices = [resource_slice("n0", [CORES]), resource_slice("n1", [CORES])]
    objects = [device_class(), node("n0"), node("n1"), *slices, claim("c"), claim("c2")]
    async with cluster(*objects, pod("p", claims=["c"]), small, gates=GATES) as it:
        await it.settle()
        await it.put(pod("second", claims=["c"]))
        await it.settle(2)
        assert "cannot be shared across pods" in (await it.condition("second"))["message"]
        assert "pod level request for cpu is insufficient" in (await it.condition("tight"))["message"]


async def test_the_form_of_1_36() -> None:
    old = device("d0", nodeAllocatableResourceMappings={"cpu": {"allocationMultiplier": "6"}})
    objects = [device_class(), node("n0"), resource_slice("n0", [old]), claim("c"), pod("p", claims=["c"])]
    async with cluster(*objects, version="1.36", gates=GATES) as it:
        await it.settle()
        status = (await it.get("Pod", "p"))["status"]["nodeAllocatableResourceClaimStatuses"]
        assert status == [{"resourceClaimName": "c", "containers": ["c"], "resources": {"cpu": "6"}}]
