from __future__ import annotations

from typing import Any

import pytest

from drakit.client.api import DEVICE_TAINT_RULES, LEASES, NODES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from drakit.client.clock import micro_timestamp, timestamp
from drakit.controllers.pod import condition
from drakit.controllers.toleration import FOREVER, eviction_time, tolerates
from drakit.model.resource import FINALIZER
from drakit.transport import Document
from tests.controllers.cluster import NS, Cluster, claim, cluster, pod

pytestmark = pytest.mark.anyio

TAINT: Document = {"key": "example.com/bad", "effect": "NoExecute"}


def resource_slice(*taints: Document, generation: int = 1) -> Document:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"s{generation}"},
        "spec": {
            "driver": "d.example.com",
            "nodeName": "n0",
            "pool": {"name": "p", "generation": generation, "resourceSliceCount": 1},
            "devices": [{"name": "x", "taints": list(taints)}, {"name": "y"}],
        },
    }


def rule(effect: str = "NoExecute", **selector: str) -> Document:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceTaintRule",
        "metadata": {"name": "rule"},
        "spec": {"deviceSelector": selector, "taint": {"key": "example.com/bad", "effect": effect}},
    }


async def user(c: Cluster, name: str = "p", device: str = "x", **toleration: Any) -> None:
    """A pod that runs with the device."""
    await c.client.create(RESOURCE_CLAIMS, claim(name))
    made = await c.client.create(PODS, pod(name, {"name": "r", "resourceClaimName": name}))
    await c.client.patch(RESOURCE_CLAIMS, name, {"metadata": {"finalizers": [FINALIZER]}}, NS)
    result: Document = {"request": "r", "driver": "d.example.com", "pool": "p", "device": device}
    if toleration:
        result["tolerations"] = [{"key": "example.com/bad", "operator": "Exists", **toleration}]
    reserved = [{"resource": "pods", "name": name, "uid": made["metadata"]["uid"]}]
    status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": reserved}
    await c.client.patch(RESOURCE_CLAIMS, name, {"status": status}, NS, subresource="status")
    await c.bind(name, "n0")
    await c.set_pod(name, phase="Running")
    await c.settle()


async def with_node(c: Cluster) -> None:
    await c.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n0"}})


async def is_going(c: Cluster, name: str = "p") -> bool:
    found = await c.get(PODS, name)
    return found is None or "deletionTimestamp" in found["metadata"]


async def rule_condition(c: Cluster) -> Document:
    found = condition(await c.get(DEVICE_TAINT_RULES, "rule") or {}, "EvictionInProgress")
    assert found is not None
    return found


# --- devices ----------------------------------------------------------------------------------------


async def test_a_tainted_device_evicts_its_user_only() -> None:
    async with cluster() as c:
        await with_node(c)
        await c.client.create(RESOURCE_SLICES, resource_slice())
        await user(c, "p", "x")
        await user(c, "q", "y")
        assert not await is_going(c, "p")
        spec = resource_slice(TAINT)["spec"]
        await c.client.patch(RESOURCE_SLICES, "s1", {"spec": spec})
        await c.settle()
        assert await is_going(c, "p")
        assert not await is_going(c, "q")
        assert "DeviceTaintManagerEviction" in await c.reasons("p")
        row = condition(await c.get(PODS, "p") or {}, "DisruptionTarget") or {}
        assert row["reason"] == "DeletionByDeviceTaintManager"


@pytest.mark.parametrize(
    ("toleration", "after", "goes"),
    [
        ({}, 0, True),
        ({"effect": "NoExecute"}, 1000, False),
        ({"effect": "NoExecute", "tolerationSeconds": 60}, 40, False),
        ({"effect": "NoExecute", "tolerationSeconds": 60}, 80, True),
        ({"effect": "NoSchedule"}, 0, True),
    ],
)
async def test_tolerations(toleration: Document, after: float, goes: bool) -> None:
    async with cluster() as c:
        await with_node(c)
        await c.client.create(RESOURCE_SLICES, resource_slice())
        await user(c, **toleration)
        await c.client.create(DEVICE_TAINT_RULES, rule(driver="d.example.com"))
        await c.settle()
        await c.settle(after)
        assert await is_going(c) == goes


async def test_a_taint_that_goes_in_time_evicts_nobody() -> None:
    async with cluster() as c:
        await with_node(c)
        await c.client.create(RESOURCE_SLICES, resource_slice())
        await user(c, effect="NoExecute", tolerationSeconds=60)
        await c.client.create(DEVICE_TAINT_RULES, rule())
        await c.settle(30)
        await c.client.delete(DEVICE_TAINT_RULES, "rule")
        await c.settle(60)
        assert not await is_going(c)
        assert "DeviceTaintManagerEviction" in await c.reasons("p")


async def test_slices_of_an_older_generation_do_not_count() -> None:
    async with cluster() as c:
        await with_node(c)
        await c.client.create(RESOURCE_SLICES, resource_slice(generation=2))
        await user(c)
        await c.client.create(RESOURCE_SLICES, resource_slice(TAINT, generation=1))
        await c.settle()
        assert not await is_going(c)


async def test_a_rule_tells_what_it_does() -> None:
    async with cluster() as c:
        await with_node(c)
        await c.client.create(RESOURCE_SLICES, resource_slice())
        await user(c, "p")
        await user(c, "q", "y", effect="NoExecute", tolerationSeconds=60)
        await c.client.create(DEVICE_TAINT_RULES, rule(driver="d.example.com"))
        await c.settle()
        row = await rule_condition(c)
        assert (row["status"], row["reason"]) == ("True", "PodsPendingEviction")
        await c.settle(70)
        for name in ("p", "q"):
            await c.client.delete(PODS, name, NS, grace_period_seconds=0)
        await c.settle()
        row = await rule_condition(c)
        assert (row["status"], row["reason"]) == ("False", "Completed")
        assert row["message"] == "2 pods evicted since starting the controller."


@pytest.mark.parametrize("version", ["1.33", "1.34", "1.35", "1.36", "1.37"])
async def test_rules_in_every_version(version: str) -> None:
    async with cluster(version, DRADeviceTaints=True, DRADeviceTaintRules=True) as c:
        await with_node(c)
        await c.client.create(RESOURCE_SLICES, resource_slice())
        await user(c)
        await c.client.create(DEVICE_TAINT_RULES, rule(driver="d.example.com"))
        await c.settle()
        assert await is_going(c)


async def test_effect_none_is_a_dry_run() -> None:
    async with cluster() as c:
        await with_node(c)
        await c.client.create(RESOURCE_SLICES, resource_slice())
        await user(c)
        await c.client.create(DEVICE_TAINT_RULES, rule("None", device="x"))
        await c.settle()
        row = await rule_condition(c)
        assert row["status"] == "False"
        assert row["message"].startswith(
            "1 published device selected. 1 allocated device selected. "
            "1 pod would be evicted in 1 namespace if the effect was NoExecute. "
        )
        assert not await is_going(c)


async def test_no_eviction_where_the_gate_is_off() -> None:
    async with cluster(version="1.35") as c:
        await with_node(c)
        await c.client.create(RESOURCE_SLICES, resource_slice(TAINT))
        await user(c)
        assert not await is_going(c)


# --- nodes ------------------------------------------------------------------------------------------


async def renew(c: Cluster) -> None:
    now = micro_timestamp(c.clock.now())
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "n0", "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": "n0", "renewTime": now},
    }
    if await c.client.list(LEASES, "kube-node-lease", field_selector="metadata.name=n0") and (
        (await c.client.list(LEASES, "kube-node-lease")).items
    ):
        await c.client.patch(LEASES, "n0", {"spec": {"renewTime": now}}, "kube-node-lease")
    else:
        await c.client.create(LEASES, lease)


async def report(c: Cluster, status: str) -> None:
    row = {
        "type": "Ready",
        "status": status,
        "reason": "KubeletReady",
        "lastTransitionTime": timestamp(c.clock.now()),
    }
    await c.client.patch(NODES, "n0", {"status": {"conditions": [row]}}, subresource="status")


async def taint_keys(c: Cluster) -> list[str]:
    node = await c.get(NODES, "n0") or {}
    return [f"{t['key']}:{t['effect']}" for t in (node.get("spec") or {}).get("taints") or ()]


async def test_a_silent_node_becomes_unknown_and_comes_back() -> None:
    async with cluster() as c:
        await with_node(c)
        await report(c, "True")
        await renew(c)
        for _ in range(4):
            await c.settle(20)
            await renew(c)
        assert await taint_keys(c) == []
        await c.settle(60)
        node = await c.get(NODES, "n0") or {}
        assert (condition(node, "Ready") or {})["status"] == "Unknown"
        unreachable = "node.kubernetes.io/unreachable"
        assert await taint_keys(c) == [f"{unreachable}:NoSchedule", f"{unreachable}:NoExecute"]
        await renew(c)
        await report(c, "True")
        await c.settle()
        assert await taint_keys(c) == []


async def test_a_node_that_is_not_ready_is_tainted() -> None:
    async with cluster() as c:
        await with_node(c)
        taints = [{"key": "example.com/own", "effect": "NoSchedule"}]
        await c.client.patch(NODES, "n0", {"spec": {"taints": taints}})
        await report(c, "False")
        await c.settle()
        not_ready = "node.kubernetes.io/not-ready"
        assert await taint_keys(c) == [
            "example.com/own:NoSchedule",
            f"{not_ready}:NoSchedule",
            f"{not_ready}:NoExecute",
        ]


async def test_nodes_without_a_lease_are_left_alone() -> None:
    async with cluster() as c:
        await with_node(c)
        await report(c, "True")
        await c.settle(1000)
        assert await taint_keys(c) == []


async def test_pods_leave_a_silent_node_after_five_minutes() -> None:
    async with cluster() as c:
        await with_node(c)
        await report(c, "True")
        await renew(c)
        await c.client.create(PODS, pod("p"))
        await c.bind("p", "n0")
        await c.set_pod("p", phase="Running")
        await c.settle(300)
        assert not await is_going(c)
        await c.settle(100)
        assert await is_going(c)
        assert "TaintManagerEviction" in await c.reasons("p")


async def test_pods_of_a_vanished_node_are_deleted() -> None:
    async with cluster() as c:
        await with_node(c)
        await c.client.create(PODS, pod("p"))
        await c.bind("p", "n0")
        await c.settle()
        await c.client.delete(NODES, "n0")
        await c.settle(20)
        assert await c.get(PODS, "p") is not None
        await c.settle(30)
        assert await c.get(PODS, "p") is None


# --- rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "operator": "Equal", "value": "w"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "l", "operator": "Exists"}, False),
        ({"value": "v"}, False),
    ],
)
def test_tolerates(toleration: Document, expected: bool) -> None:
    assert tolerates(toleration, {"key": "k", "value": "v", "effect": "NoExecute"}) is expected


def test_the_shortest_toleration_decides() -> None:
    taints = [{"key": "k", "effect": "NoExecute", "timeAdded": "1970-01-01T00:01:40Z"}]
    cases: list[tuple[list[Document], float]] = [
        ([], 100),
        ([{"operator": "Exists"}], FOREVER),
        ([{"operator": "Exists", "tolerationSeconds": 5}], 105),
        ([{"operator": "Exists", "tolerationSeconds": -5}], 100),
        ([{"operator": "Exists", "tolerationSeconds": 9}, {"key": "k", "tolerationSeconds": 3}], 103),
        ([{"operator": "Exists"}, {"operator": "Exists", "tolerationSeconds": 3}], FOREVER),
    ]
    for tolerations, expected in cases:
        assert eviction_time(taints, tolerations, 0) == expected
    assert eviction_time([{"key": "k", "effect": "NoSchedule"}], [], 0) == FOREVER
