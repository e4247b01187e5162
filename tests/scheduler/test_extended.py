"""Requests and mappings of the special claim for extended resources."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.scheduler.extended import ExtendedResources
from drakit.scheduler.pod import read_pod
from tests.scheduler.cluster import cluster
from tests.scheduler.make import DRIVER, claim, device_class, node, pod, resource_slice, stored

GPU = "example.com/gpu"


def resources() -> ExtendedResources:
    found = ExtendedResources()
    found.put("gpu-class", "2026-01-01T00:00:00Z", GPU)
    found.put("nic-class", "2026-01-01T00:00:00Z", None)
    return found


def container(name: str, gpus: int | None = None, **more: Any) -> dict[str, Any]:
    requests = {} if gpus is None else {"cpu": "1", GPU: str(gpus)}
    return {"name": name, "resources": {"requests": requests}, **more}


CASES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int], list[tuple[str, str]]]] = {
    "one container": (
        [],
        [container("a", 2)],
        {"container-0-request-1": 2},
        [("a", "container-0-request-1")],
    ),
    "containers beside each other have requests of their own": (
        [],
        [container("a", 2), container("b"), container("c", 1)],
        {"container-0-request-1": 2, "container-2-request-1": 1},
        [("a", "container-0-request-1"), ("c", "container-2-request-1")],
    ),
    "an init container uses what later containers have": (
        [container("i", 2)],
        [container("a", 2)],
        {"container-1-request-1": 2},
        [("a", "container-1-request-1"), ("i", "container-1-request-1")],
    ),
    "init containers share one request for what is missing": (
        [container("i", 3), container("j", 5)],
        [container("a", 2)],
        {"container-1-request-1": 3, "container-2-request-1": 2},
        [
            ("a", "container-2-request-1"),
            ("i", "container-2-request-1"),
            ("i", "container-1-request-1"),
            ("j", "container-2-request-1"),
            ("j", "container-1-request-1"),
        ],
    ),
    "a sidecar that started earlier keeps its own": (
        [container("side", 1, restartPolicy="Always"), container("i", 1)],
        [container("a")],
        {"container-0-request-1": 1, "container-1-request-1": 1},
        [("side", "container-0-request-1"), ("i", "container-1-request-1")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_requests_and_mappings(name: str) -> None:
    inits, containers, requests, mappings = CASES[name]
    document = stored(pod("p"))
    document["spec"] |= {"initContainers": inits, "containers": containers}
    found, mapped = resources().requests(read_pod(document), [GPU])
    assert {row["name"]: row["exactly"]["count"] for row in found} == requests
    assert {row["exactly"]["deviceClassName"] for row in found} == {"gpu-class"}
    assert [(row["containerName"], row["requestName"]) for row in mapped] == mappings
    assert {row["resourceName"] for row in mapped} == {GPU}


def test_the_newest_class_stands_behind_a_name_and_of_equals_the_first() -> None:
    found = ExtendedResources()
    found.put("old", "2025-01-01T00:00:00Z", GPU)
    found.put("b", "2026-01-01T00:00:00Z", GPU)
    found.put("a", "2026-01-01T00:00:00Z", GPU)
    assert found.device_class(GPU) == "a"
    found.remove("a")
    assert found.device_class(GPU) == "b"
    found.remove("b")
    assert found.device_class(GPU) == "old"
    found.put("old", "2025-01-01T00:00:00Z", None)
    assert found.device_class(GPU) is None


def test_every_class_has_an_implicit_name() -> None:
    found = resources()
    assert found.device_class("deviceclass.resource.kubernetes.io/nic-class") == "nic-class"
    assert "deviceclass.resource.kubernetes.io/other" not in found
    assert "cpu" not in found


@pytest.mark.anyio
async def test_a_special_claim_that_another_pod_took_is_not_taken_away() -> None:
    resource = "example.com/gpu"
    objects = [device_class(extended=resource), node("n0"), resource_slice("n0", 2)]
    async with cluster(*objects, start=False) as it:
        await it.put(pod("p", requests={resource: "1"}))
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "controller": True}
        owner["uid"] = (await it.get("Pod", "p"))["metadata"]["uid"]
        special = claim("special")
        special["metadata"] |= {
            "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
            "ownerReferences": [owner],
        }
        await it.put(special, pod("thief", claims=["special"], priority=0))
        made = await it.get("ResourceClaim", "special")
        thief = (await it.get("Pod", "thief"))["metadata"]["uid"]
        row = {"request": "r", "driver": DRIVER, "pool": "n0", "device": "d0"}
        status = {
            "allocation": {"devices": {"results": [row]}},
            "reservedFor": [{"resource": "pods", "name": "thief", "uid": thief}],
        }
        await it.set_status("ResourceClaim", made["metadata"]["name"], status)
        await it.start()
        await it.settle(12)
        assert await it.find("ResourceClaim", "special") is not None
        assert await it.node_of("thief") == "n0"
        assert "is in use by thief" in (await it.condition("p"))["message"]
