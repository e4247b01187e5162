from __future__ import annotations

from typing import Any

import pytest

from drakit.client.api import DAEMON_SETS, DEPLOYMENTS, JOBS, NODES, PODS, REPLICA_SETS
from drakit.controllers.pod import condition
from drakit.controllers.workload import portion, template_hash
from drakit.transport import Document
from tests.controllers.cluster import NS, Cluster, cluster

pytestmark = pytest.mark.anyio

LABELS = {"app": "x"}


def template(image: str = "one", **spec: Any) -> Document:
    container = {"name": "c", "image": image}
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [container], **spec}}


def workload(api_version: str, kind: str, **spec: Any) -> Document:
    spec = {"selector": {"matchLabels": LABELS}, "template": template()} | spec
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "w", "namespace": NS},
        "spec": spec,
    }


def deployment(**spec: Any) -> Document:
    return workload("apps/v1", "Deployment", **spec)


async def add_node(c: Cluster, name: str, **labels: str) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    await c.client.create(NODES, node)


def meant_for(pod: Document) -> str:
    """The node a daemon's pod is tied to, n0 for other pods."""
    rules = (pod["spec"].get("affinity") or {}).get("nodeAffinity")
    if not rules:
        return "n0"
    (term,) = rules["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return str(term["matchFields"][0]["values"][0])


async def run_pods(c: Cluster, **status: Any) -> list[Document]:
    """What nodes do: pods that do not run yet are bound, run and ready."""
    for pod in await c.list(PODS):
        name = pod["metadata"]["name"]
        if pod["metadata"].get("deletionTimestamp"):
            await c.client.delete(PODS, name, NS, grace_period_seconds=0)
        elif (pod.get("status") or {}).get("phase") == "Pending":
            if not pod["spec"].get("nodeName"):
                await c.bind(name, meant_for(pod))
            await c.set_pod(name, **(status or {"phase": "Running"}))
    await c.settle()
    return await c.list(PODS)


async def images(c: Cluster) -> list[str]:
    return sorted(p["spec"]["containers"][0]["image"] for p in await c.list(PODS))


async def status_of(c: Cluster, resource: Any, name: str = "w") -> Document:
    return (await c.get(resource, name) or {}).get("status") or {}


# --- deployments and replica sets -------------------------------------------------------------------


async def test_a_deployment_comes_up() -> None:
    async with cluster() as c:
        await c.client.create(DEPLOYMENTS, deployment(replicas=3))
        await c.settle()
        assert len(await c.list(PODS)) == 3
        status = await status_of(c, DEPLOYMENTS)
        assert (status["replicas"], status["updatedReplicas"], status["unavailableReplicas"]) == (3, 3, 3)
        await run_pods(c)
        status = await status_of(c, DEPLOYMENTS)
        assert (status["readyReplicas"], status["availableReplicas"]) == (3, 3)
        assert "unavailableReplicas" not in status
        assert status["observedGeneration"] == 1
        reasons = {row["type"]: (row["status"], row["reason"]) for row in status["conditions"]}
        assert reasons == {
            "Available": ("True", "MinimumReplicasAvailable"),
            "Progressing": ("True", "NewReplicaSetAvailable"),
        }
        (replica_set,) = await c.list(REPLICA_SETS)
        assert replica_set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
        assert set(await c.reasons("w")) == {"ScalingReplicaSet"}


async def test_a_pod_that_goes_is_replaced_and_scaling_works() -> None:
    async with cluster() as c:
        await c.client.create(DEPLOYMENTS, deployment(replicas=2))
        await c.settle()
        first = (await run_pods(c))[0]["metadata"]["name"]
        await c.client.delete(PODS, first, NS, grace_period_seconds=0)
        await c.settle()
        assert len(await run_pods(c)) == 2
        for replicas in (5, 0, 1):
            await c.client.patch(DEPLOYMENTS, "w", {"spec": {"replicas": replicas}}, NS)
            await c.settle()
            assert len(await run_pods(c)) >= replicas
            assert len(await run_pods(c)) == replicas
        assert (await status_of(c, DEPLOYMENTS))["observedGeneration"] == 4


async def test_a_rolling_update_keeps_its_limits() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
        await c.client.create(DEPLOYMENTS, deployment(replicas=4, strategy=strategy))
        await c.settle()
        await run_pods(c)
        await c.client.patch(DEPLOYMENTS, "w", {"spec": {"template": template("two")}}, NS)
        for _ in range(12):
            await c.settle()
            live = [p for p in await c.list(PODS) if not p["metadata"].get("deletionTimestamp")]
            assert len(live) <= 5
            ready = [p for p in live if (condition(p, "Ready") or {}).get("status") == "True"]
            assert len(ready) >= 3
            await run_pods(c)
        assert await images(c) == ["two"] * 4
        status = await status_of(c, DEPLOYMENTS)
        assert (status["updatedReplicas"], status["replicas"]) == (4, 4)
        assert len(await c.list(REPLICA_SETS)) == 2
        await c.client.patch(DEPLOYMENTS, "w", {"spec": {"template": template("one")}}, NS)
        for _ in range(12):
            await c.settle()
            await run_pods(c)
        assert await images(c) == ["one"] * 4
        assert len(await c.list(REPLICA_SETS)) == 2
        annotations = (await c.get(DEPLOYMENTS, "w") or {})["metadata"]["annotations"]
        assert annotations["deployment.kubernetes.io/revision"] == "3"


async def test_an_update_that_never_gets_ready_stops_and_says_so() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        await c.client.create(DEPLOYMENTS, deployment(replicas=4, progressDeadlineSeconds=60))
        await c.settle()
        await run_pods(c)
        await c.client.patch(DEPLOYMENTS, "w", {"spec": {"template": template("broken")}}, NS)
        await c.settle()
        assert (await images(c)).count("one") >= 3
        await c.settle(70)
        rows = (await status_of(c, DEPLOYMENTS))["conditions"]
        (row,) = [row for row in rows if row["type"] == "Progressing"]
        assert (row["status"], row["reason"]) == ("False", "ProgressDeadlineExceeded")


async def test_recreate_stops_the_old_before_the_new() -> None:
    async with cluster() as c:
        await c.client.create(DEPLOYMENTS, deployment(replicas=2, strategy={"type": "Recreate"}))
        await c.settle()
        await run_pods(c)
        await c.client.patch(DEPLOYMENTS, "w", {"spec": {"template": template("two")}}, NS)
        for _ in range(4):
            await c.settle()
            assert len(set(await images(c))) <= 1
            await run_pods(c)
        assert await images(c) == ["two"] * 2


async def test_old_replica_sets_are_kept_as_far_as_asked() -> None:
    async with cluster() as c:
        await c.client.create(DEPLOYMENTS, deployment(replicas=1, revisionHistoryLimit=1))
        await c.settle()
        for image in ("two", "three", "four"):
            await c.client.patch(DEPLOYMENTS, "w", {"spec": {"template": template(image)}}, NS)
            for _ in range(3):
                await c.settle()
                await run_pods(c)
        assert len(await c.list(REPLICA_SETS)) == 2


async def test_deleting_a_deployment_takes_everything_along() -> None:
    async with cluster() as c:
        await c.client.create(DEPLOYMENTS, deployment(replicas=2))
        await c.settle()
        await c.client.delete(DEPLOYMENTS, "w", NS)
        await c.settle()
        assert await c.list(REPLICA_SETS) == []
        assert await c.list(PODS) == []


async def test_a_restart_in_the_middle_makes_no_pod_too_many() -> None:
    async with cluster() as c:
        await c.client.create(DEPLOYMENTS, deployment(replicas=20))
        for _ in range(30):
            await c.clock.advance(0)
        await c.stop()
        c.start()
        await c.settle()
        assert len(await c.list(PODS)) == 20


# --- daemon sets ------------------------------------------------------------------------------------


def daemon_set(**spec: Any) -> Document:
    return workload("apps/v1", "DaemonSet", **spec)


async def test_a_daemon_on_every_node_that_fits() -> None:
    async with cluster() as c:
        await add_node(c, "n0", gpu="yes")
        await add_node(c, "n1", gpu="yes")
        await add_node(c, "n2")
        pods = template(nodeSelector={"gpu": "yes"})
        await c.client.create(DAEMON_SETS, daemon_set(template=pods))
        await c.settle()
        assert len(await c.list(PODS)) == 2
        status = await status_of(c, DAEMON_SETS)
        assert (status["desiredNumberScheduled"], status["numberReady"]) == (2, 0)
        await run_pods(c)
        status = await status_of(c, DAEMON_SETS)
        assert status["numberReady"] == status["numberAvailable"] == status["updatedNumberScheduled"] == 2
        assert status["observedGeneration"] == 1
        await add_node(c, "n3", gpu="yes")
        await c.settle()
        assert len(await c.list(PODS)) == 3
        await c.client.patch(NODES, "n1", {"metadata": {"labels": {"gpu": None}}})
        await c.settle()
        await run_pods(c)
        assert len(await c.list(PODS)) == 2


async def test_daemons_tolerate_what_daemons_must() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        await add_node(c, "n1")
        taints = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
        await c.client.patch(NODES, "n0", {"spec": {"unschedulable": True, "taints": taints}})
        await c.client.patch(NODES, "n1", {"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}})
        await c.client.create(DAEMON_SETS, daemon_set())
        await c.settle()
        assert len(await c.list(PODS)) == 1


async def test_a_daemon_that_failed_is_replaced() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        await c.client.create(DAEMON_SETS, daemon_set())
        await c.settle()
        (first,) = await run_pods(c)
        await c.set_pod(first["metadata"]["name"], phase="Failed")
        await c.settle()
        await run_pods(c)
        (second,) = await c.list(PODS)
        assert second["metadata"]["uid"] != first["metadata"]["uid"]


async def test_a_daemon_update_goes_node_by_node() -> None:
    async with cluster() as c:
        for name in ("n0", "n1", "n2"):
            await add_node(c, name)
        await c.client.create(DAEMON_SETS, daemon_set())
        await c.settle()
        await run_pods(c)
        await c.client.patch(DAEMON_SETS, "w", {"spec": {"template": template("two")}}, NS)
        seen = []
        for _ in range(10):
            await c.settle()
            going = [p for p in await c.list(PODS) if p["metadata"].get("deletionTimestamp")]
            ready = [p for p in await c.list(PODS) if (condition(p, "Ready") or {}).get("status") == "True"]
            assert len(ready) - len(going) >= 2
            assert len({meant_for(p) for p in await c.list(PODS)}) == len(await c.list(PODS))
            await run_pods(c)
            seen.append((await images(c)).count("two"))
        assert seen == sorted(seen)
        assert await images(c) == ["two"] * 3


# --- jobs -------------------------------------------------------------------------------------------


def job(**spec: Any) -> Document:
    document = workload("batch/v1", "Job", **({"template": template(restartPolicy="Never")} | spec))
    del document["spec"]["selector"]
    return document


async def finish(c: Cluster, phase: str = "Succeeded") -> None:
    for pod in await c.list(PODS):
        if (pod.get("status") or {}).get("phase") == "Pending":
            await c.bind(pod["metadata"]["name"], "n0")
            await c.set_pod(pod["metadata"]["name"], phase=phase)
    await c.settle()


async def test_a_job_completes() -> None:
    async with cluster() as c:
        await c.client.create(JOBS, job(completions=3, parallelism=2))
        await c.settle()
        assert len(await c.list(PODS)) == 2
        status = await status_of(c, JOBS)
        assert status["active"] == 2
        await finish(c)
        assert len(await c.list(PODS)) == 3
        await finish(c)
        status = await status_of(c, JOBS)
        assert status["succeeded"] == 3
        assert status["completionTime"]
        assert {row["type"] for row in status["conditions"]} == {"SuccessCriteriaMet", "Complete"}
        assert "active" not in status
        assert all(not p["metadata"].get("finalizers") for p in await c.list(PODS))
        assert "Completed" in await c.reasons("w")


async def test_pods_count_once_even_when_they_are_deleted() -> None:
    async with cluster() as c:
        await c.client.create(JOBS, job(completions=4, parallelism=1))
        for done in range(1, 5):
            await c.settle()
            await finish(c)
            for pod in await c.list(PODS):
                if (pod.get("status") or {}).get("phase") == "Succeeded":
                    await c.client.delete(PODS, pod["metadata"]["name"], NS)
            await c.settle()
            assert (await status_of(c, JOBS))["succeeded"] == done
        assert condition(await c.get(JOBS, "w") or {}, "Complete") is not None


async def test_a_job_backs_off_and_gives_up() -> None:
    async with cluster() as c:
        await c.client.create(JOBS, job(backoffLimit=1))
        await c.settle()
        await finish(c, "Failed")
        assert len(await c.list(PODS)) == 1
        await c.settle(12)
        assert len(await c.list(PODS)) == 2
        await finish(c, "Failed")
        status = await status_of(c, JOBS)
        assert status["failed"] == 2
        (row,) = [row for row in status["conditions"] if row["type"] == "Failed"]
        assert row["reason"] == "BackoffLimitExceeded"


async def test_a_job_that_takes_too_long_is_stopped() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        await c.client.create(JOBS, job(activeDeadlineSeconds=60))
        await c.settle()
        await run_pods(c)
        await c.settle(70)
        await run_pods(c)
        (row,) = [r for r in (await status_of(c, JOBS))["conditions"] if r["type"] == "Failed"]
        assert row["reason"] == "DeadlineExceeded"


async def test_a_finished_job_goes_when_its_time_is_over() -> None:
    async with cluster() as c:
        await add_node(c, "n0")
        await c.client.create(JOBS, job(ttlSecondsAfterFinished=100))
        await c.settle()
        await finish(c)
        await c.settle(50)
        assert await c.get(JOBS, "w") is not None
        await c.settle(60)
        await c.settle()
        assert await c.get(JOBS, "w") is None
        assert await c.list(PODS) == []


async def test_indexed_jobs() -> None:
    async with cluster() as c:
        await c.client.create(JOBS, job(completions=3, parallelism=3, completionMode="Indexed"))
        await c.settle()
        pods = await c.list(PODS)
        indexes = {p["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] for p in pods}
        assert indexes == {"0", "1", "2"}
        (variable,) = pods[0]["spec"]["containers"][0]["env"]
        assert variable["name"] == "JOB_COMPLETION_INDEX"
        await finish(c)
        assert (await status_of(c, JOBS))["completedIndexes"] == "0-2"


async def test_suspend_and_resume() -> None:
    async with cluster() as c:
        await c.client.create(JOBS, job(suspend=True))
        await c.settle()
        assert await c.list(PODS) == []
        await c.client.patch(JOBS, "w", {"spec": {"suspend": False}}, NS)
        await c.settle()
        assert len(await c.list(PODS)) == 1
        await run_pods(c)
        await c.client.patch(JOBS, "w", {"spec": {"suspend": True}}, NS)
        await c.settle()
        await run_pods(c)
        assert await c.list(PODS) == []
        assert "failed" not in await status_of(c, JOBS)


async def test_deleting_a_job_leaves_no_pod_hanging() -> None:
    async with cluster() as c:
        await c.client.create(JOBS, job())
        await c.settle()
        await c.client.delete(JOBS, "w", NS, propagation="Background")
        await c.settle()
        await c.settle()
        assert await c.list(PODS) == []


# --- small parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "whole", "up", "expected"),
    [(2, 10, True, 2), ("25%", 10, True, 3), ("25%", 10, False, 2), ("0%", 10, True, 0), (None, 3, True, 0)],
)
def test_portion(value: Any, whole: int, up: bool, expected: int) -> None:
    assert portion(value, whole, up=up) == expected


def test_equal_templates_have_equal_hashes() -> None:
    assert template_hash({"a": 1, "b": {"c": 2, "d": 3}}) == template_hash({"b": {"d": 3, "c": 2}, "a": 1})
    assert template_hash({"a": 1}) != template_hash({"a": 2})
