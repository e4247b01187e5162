"""What workloads do with labels, with templates of old, and when they are scaled in between."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.client.api import DAEMON_SETS, DEPLOYMENTS, PODS, REPLICA_SETS
from drakit.controllers.history import CONTROLLER_REVISIONS
from tests.controllers.cluster import NS, Cluster, cluster, pod
from tests.controllers.test_workload import (
    LABELS,
    add_node,
    deployment,
    images,
    meant_for,
    run_pods,
    status_of,
    template,
    workload,
)

pytestmark = pytest.mark.anyio


async def rounds(c: Cluster, count: int = 4) -> None:
    for _ in range(count):
        await c.settle()
        await run_pods(c)


async def test_a_replica_set_takes_in_what_fits_and_lets_go_what_does_not() -> None:
    async with cluster() as c:
        mine = pod("mine")
        mine["metadata"]["labels"] = LABELS
        await c.client.create(PODS, mine)
        await c.client.create(REPLICA_SETS, workload("apps/v1", "ReplicaSet", replicas=2))
        await c.settle()
        pods = await c.list(PODS)
        assert len(pods) == 2
        assert {p["metadata"]["ownerReferences"][0]["name"] for p in pods} == {"w"}
        await c.client.patch(PODS, "mine", {"metadata": {"labels": {"app": "aside"}}}, NS)
        await c.settle()
        assert "ownerReferences" not in (await c.get(PODS, "mine") or {})["metadata"]
        assert len(await c.list(PODS)) == 3


async def test_a_deployment_made_anew_takes_its_replica_set_back() -> None:
    async with cluster() as c:
        await c.client.create(DEPLOYMENTS, deployment(replicas=2))
        await c.settle()
        before = [p["metadata"]["uid"] for p in await c.list(PODS)]
        await c.client.delete(DEPLOYMENTS, "w", NS, propagation="Orphan")
        await c.settle()
        assert await c.get(DEPLOYMENTS, "w") is None
        (orphan,) = await c.list(REPLICA_SETS)
        assert not orphan["metadata"].get("ownerReferences")
        await c.client.create(DEPLOYMENTS, deployment(replicas=2))
        await c.settle()
        (replica_set,) = await c.list(REPLICA_SETS)
        assert replica_set["metadata"]["ownerReferences"][0]["kind"] == "Deployment"
        assert sorted(p["metadata"]["uid"] for p in await c.list(PODS)) == sorted(before)


async def sizes(c: Cluster) -> dict[str, int]:
    """Wanted pods by the image of the replica set."""
    return {
        s["spec"]["template"]["spec"]["containers"][0]["image"]: s["spec"]["replicas"]
        for s in await c.list(REPLICA_SETS)
    }


async def test_scaled_in_the_middle_of_an_update_each_set_gets_its_share() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
        await c.client.create(DEPLOYMENTS, deployment(replicas=10, strategy=strategy))
        await rounds(c, 2)
        await c.client.patch(DEPLOYMENTS, "w", {"spec": {"template": template("broken")}}, NS)
        await c.settle()
        assert await sizes(c) == {"one": 8, "broken": 5}
        await c.client.patch(DEPLOYMENTS, "w", {"spec": {"replicas": 15}}, NS)
        await c.settle()
        assert await sizes(c) == {"one": 11, "broken": 7}


async def test_a_paused_deployment_scales_but_does_not_update() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        await c.client.create(DEPLOYMENTS, deployment(replicas=2))
        await rounds(c, 2)
        await c.client.patch(
            DEPLOYMENTS, "w", {"spec": {"paused": True, "replicas": 3, "template": template("two")}}, NS
        )
        await rounds(c, 2)
        assert await images(c) == ["one"] * 3
        await c.client.patch(DEPLOYMENTS, "w", {"spec": {"paused": False}}, NS)
        await rounds(c, 5)
        assert await images(c) == ["two"] * 3


def daemon_set(**strategy: Any) -> dict[str, Any]:
    return workload(
        "apps/v1", "DaemonSet", updateStrategy={"type": "RollingUpdate", "rollingUpdate": strategy}
    )


async def test_a_daemon_that_surges_is_never_away() -> None:
    async with cluster() as c:
        for name in ("n0", "n1", "n2"):
            await add_node(c, name)
        await c.client.create(DAEMON_SETS, daemon_set(maxSurge=1, maxUnavailable=0))
        await rounds(c, 2)
        await c.client.patch(DAEMON_SETS, "w", {"spec": {"template": template("two")}}, NS)
        for _ in range(8):
            await c.settle()
            alive = [p for p in await c.list(PODS) if not p["metadata"].get("deletionTimestamp")]
            assert {meant_for(p) for p in alive} == {"n0", "n1", "n2"}
            assert len(alive) <= 4
            await run_pods(c)
        assert await images(c) == ["two"] * 3
        assert (await status_of(c, DAEMON_SETS))["updatedNumberScheduled"] == 3


async def test_templates_of_daemons_are_kept_and_come_back() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        made = daemon_set(maxUnavailable=1)
        made["spec"]["revisionHistoryLimit"] = 1
        await c.client.create(DAEMON_SETS, made)
        for image in ("two", "three", "two"):
            await rounds(c)
            await c.client.patch(DAEMON_SETS, "w", {"spec": {"template": template(image)}}, NS)
        await rounds(c)
        revisions = {
            r["data"]["spec"]["template"]["spec"]["containers"][0]["image"]: r["revision"]
            for r in await c.list(CONTROLLER_REVISIONS)
        }
        assert revisions == {"two": 4, "three": 3}
        assert await images(c) == ["two"]


async def test_on_delete_people_decide() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        await c.client.create(
            DAEMON_SETS, workload("apps/v1", "DaemonSet", updateStrategy={"type": "OnDelete"})
        )
        await rounds(c, 2)
        await c.client.patch(DAEMON_SETS, "w", {"spec": {"template": template("two")}}, NS)
        await rounds(c, 2)
        assert await images(c) == ["one"]
        (only,) = await c.list(PODS)
        await c.client.delete(PODS, only["metadata"]["name"], NS, grace_period_seconds=0)
        await rounds(c, 2)
        assert await images(c) == ["two"]
