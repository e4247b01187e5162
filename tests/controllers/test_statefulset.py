"""StatefulSets: names, order, updates."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.client.api import PODS
from drakit.controllers.history import CONTROLLER_REVISIONS
from drakit.controllers.statefulset import STATEFUL_SETS
from drakit.transport import Document
from tests.controllers.cluster import NS, Cluster, cluster
from tests.controllers.test_workload import LABELS, add_node, run_pods, status_of, template, workload

pytestmark = pytest.mark.anyio


def stateful_set(**spec: Any) -> Document:
    return workload("apps/v1", "StatefulSet", serviceName="s", **spec)


async def names(c: Cluster) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in await c.list(PODS))


async def image_of(c: Cluster) -> dict[str, str]:
    return {p["metadata"]["name"]: p["spec"]["containers"][0]["image"] for p in await c.list(PODS)}


async def ready(c: Cluster, rounds: int = 4) -> None:
    for _ in range(rounds):
        await c.settle()
        await run_pods(c)


async def test_pods_come_and_go_in_order() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        await c.client.create(STATEFUL_SETS, stateful_set(replicas=3, ordinals={"start": 5}))
        for count in (1, 2, 3):
            await c.settle()
            assert await names(c) == [f"w-{5 + n}" for n in range(count)]
            await run_pods(c)
        pod = (await c.get(PODS, "w-6")) or {}
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("w-6", "s")
        labels = pod["metadata"]["labels"]
        assert labels["apps.kubernetes.io/pod-index"] == "6"
        assert labels["statefulset.kubernetes.io/pod-name"] == "w-6"
        status = await status_of(c, STATEFUL_SETS)
        assert (status["readyReplicas"], status["updatedReplicas"], status["availableReplicas"]) == (3, 3, 3)
        assert status["currentRevision"] == status["updateRevision"]
        await c.client.patch(STATEFUL_SETS, "w", {"spec": {"replicas": 1}}, NS)
        await c.settle()
        going = [p["metadata"]["name"] for p in await c.list(PODS) if p["metadata"].get("deletionTimestamp")]
        assert going == ["w-7"]
        await ready(c)
        assert await names(c) == ["w-5"]


async def test_in_parallel_nobody_waits() -> None:
    async with cluster() as c:
        await c.client.create(STATEFUL_SETS, stateful_set(replicas=3, podManagementPolicy="Parallel"))
        await c.settle()
        assert await names(c) == ["w-0", "w-1", "w-2"]


async def test_an_update_goes_down_to_the_partition() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
        await c.client.create(STATEFUL_SETS, stateful_set(replicas=3, updateStrategy=rolling))
        await ready(c)
        await c.client.patch(STATEFUL_SETS, "w", {"spec": {"template": template("two")}}, NS)
        seen: list[int] = []
        for _ in range(6):
            await c.settle()
            alive = [p for p in await c.list(PODS) if not p["metadata"].get("deletionTimestamp")]
            assert len(alive) >= 2
            await run_pods(c)
            seen.append(sorted((await image_of(c)).values()).count("two"))
        assert seen == sorted(seen)
        assert await image_of(c) == {"w-0": "one", "w-1": "two", "w-2": "two"}
        status = await status_of(c, STATEFUL_SETS)
        assert status["currentRevision"] != status["updateRevision"]
        assert (status["currentReplicas"], status["updatedReplicas"]) == (1, 2)
        # A pod below the partition that goes comes back as it was.
        await c.client.delete(PODS, "w-0", NS, grace_period_seconds=0)
        await ready(c, 2)
        assert (await image_of(c))["w-0"] == "one"
        strategy = {"rollingUpdate": {"partition": 0}}
        await c.client.patch(STATEFUL_SETS, "w", {"spec": {"updateStrategy": strategy}}, NS)
        await ready(c)
        assert set((await image_of(c)).values()) == {"two"}
        status = await status_of(c, STATEFUL_SETS)
        assert status["currentRevision"] == status["updateRevision"]
        assert [r["revision"] for r in await c.list(CONTROLLER_REVISIONS)] in ([1, 2], [2, 1])


async def test_a_failed_pod_is_made_anew_and_one_taken_aside_is_let_go() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        await c.client.create(STATEFUL_SETS, stateful_set(replicas=1))
        await ready(c, 2)
        first = (await c.get(PODS, "w-0") or {})["metadata"]["uid"]
        await c.set_pod("w-0", phase="Failed")
        await ready(c)
        second = (await c.get(PODS, "w-0") or {})["metadata"]
        assert second["uid"] != first
        assert "RecreatingFailedPod" in await c.reasons("w")
        await c.client.patch(PODS, "w-0", {"metadata": {"labels": {"app": "aside"}}}, NS)
        await c.settle()
        assert "ownerReferences" not in (await c.get(PODS, "w-0") or {})["metadata"]
        await c.client.patch(PODS, "w-0", {"metadata": {"labels": LABELS}}, NS)
        await c.settle()
        assert (await c.get(PODS, "w-0") or {})["metadata"]["ownerReferences"][0]["name"] == "w"


async def test_volumes_are_refused_in_words() -> None:
    async with cluster() as c:
        claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
        claim["spec"]["resources"] = {"requests": {"storage": "1Gi"}}
        await c.client.create(STATEFUL_SETS, stateful_set(volumeClaimTemplates=[claim]))
        await c.settle()
        assert await names(c) == []
        assert await c.reasons("w") == ["FailedCreate"]
