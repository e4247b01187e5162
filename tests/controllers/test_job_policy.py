"""Jobs that say themselves what counts as failure and as success."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.client.api import JOBS, PODS
from drakit.controllers.job_count import read_indexes, write_indexes
from drakit.controllers.pod import condition
from drakit.transport import Document
from tests.controllers.cluster import NS, Cluster, cluster
from tests.controllers.test_workload import job, status_of, template

pytestmark = pytest.mark.anyio


async def end(c: Cluster, code: int = 0, index: int | None = None, **status: Any) -> None:
    """Every pod that waits (of an index) ends with an exit code."""
    for pod in await c.list(PODS):
        meta = pod["metadata"]
        if (pod.get("status") or {}).get("phase") != "Pending" or meta.get("deletionTimestamp"):
            continue
        if index is not None and meta["annotations"]["batch.kubernetes.io/job-completion-index"] != str(
            index
        ):
            continue
        if not pod["spec"].get("nodeName"):
            await c.bind(meta["name"], "n0")
        ended = {"state": {"terminated": {"exitCode": code, "reason": "x", "finishedAt": None}}}
        row = {"name": "c", "image": "one", "imageID": "", "ready": False, "restartCount": 0, **ended}
        phase = "Failed" if code else "Succeeded"
        await c.set_pod(meta["name"], phase=phase, containerStatuses=[row], **status)
    await c.settle()
    await c.settle()


async def failure(c: Cluster) -> tuple[str, str] | None:
    row = condition(await c.get(JOBS, "w") or {}, "Failed")
    return (row["reason"], row["message"]) if row else None


def rule(action: str, *codes: int, operator: str = "In") -> Document:
    return {"action": action, "onExitCodes": {"operator": operator, "values": list(codes)}}


async def test_some_exit_codes_fail_the_job_and_others_do_not_count() -> None:
    async with cluster() as c:
        policy = {"rules": [rule("Ignore", 1, 2), rule("FailJob", 42)]}
        await c.client.create(JOBS, job(podFailurePolicy=policy, backoffLimit=0))
        await c.settle()
        await end(c, 2)
        await c.settle(30)
        assert await failure(c) is None
        assert "failed" not in await status_of(c, JOBS)
        await end(c, 42)
        reason, message = await failure(c) or ("", "")
        assert reason == "PodFailurePolicy"
        assert message.endswith("failed with exit code 42 matching FailJob rule at index 1")


async def test_a_condition_of_the_pod_counts() -> None:
    async with cluster() as c:
        policy = {"rules": [{"action": "FailJob", "onPodConditions": [{"type": "Bad", "status": "True"}]}]}
        await c.client.create(JOBS, job(podFailurePolicy=policy))
        await c.settle()
        await end(c, 1, conditions=[{"type": "Bad", "status": "True"}])
        assert (await failure(c) or ("", ""))[0] == "PodFailurePolicy"


async def test_each_index_has_its_own_patience() -> None:
    async with cluster() as c:
        spec = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1}
        await c.client.create(JOBS, job(**spec))
        await c.settle()
        await end(c, 0, index=0)
        await end(c, 1, index=1)
        await c.settle(40)
        retried = [p for p in await c.list(PODS) if (p.get("status") or {}).get("phase") == "Pending"]
        marks = {
            p["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]: p["metadata"][
                "annotations"
            ]["batch.kubernetes.io/job-index-failure-count"]
            for p in retried
        }
        assert marks == {"1": "1", "2": "0"}
        await end(c, 1, index=1)
        await c.settle(40)
        status = await status_of(c, JOBS)
        assert (status["completedIndexes"], status["failedIndexes"]) == ("0", "1")
        assert await failure(c) is None
        await end(c, 0, index=2)
        assert await failure(c) == ("FailedIndexes", "Job has failed indexes")
        assert (await status_of(c, JOBS))["succeeded"] == 2


async def test_too_many_failed_indexes_end_it_early() -> None:
    async with cluster() as c:
        spec = {"completions": 4, "parallelism": 4, "completionMode": "Indexed"}
        await c.client.create(JOBS, job(**spec, backoffLimitPerIndex=0, maxFailedIndexes=1))
        await c.settle()
        await end(c, 1, index=0)
        assert await failure(c) is None
        await end(c, 1, index=3)
        for pod in await c.list(PODS):
            if pod["metadata"].get("deletionTimestamp"):
                await c.client.delete(PODS, pod["metadata"]["name"], NS, grace_period_seconds=0)
        await c.settle()
        assert (await failure(c) or ("", ""))[0] == "MaxFailedIndexesExceeded"


async def test_success_can_come_early() -> None:
    async with cluster() as c:
        policy = {"rules": [{"succeededIndexes": "0"}, {"succeededCount": 3}]}
        spec = {"completions": 4, "parallelism": 4, "completionMode": "Indexed", "successPolicy": policy}
        await c.client.create(JOBS, job(**spec))
        await c.settle()
        await end(c, 0, index=2)
        assert "SuccessCriteriaMet" not in str(await status_of(c, JOBS))
        await end(c, 0, index=0)
        await c.settle()
        rows = {r["type"]: (r["reason"], r["message"]) for r in (await status_of(c, JOBS))["conditions"]}
        assert rows["SuccessCriteriaMet"] == ("SuccessPolicy", "Matched rules at index 0")
        assert rows["Complete"] == ("SuccessPolicy", "Matched rules at index 0")


async def test_containers_that_start_anew_count_as_failures() -> None:
    async with cluster() as c:
        await c.client.create(JOBS, job(backoffLimit=2, template=template(restartPolicy="OnFailure")))
        await c.settle()
        (pod,) = await c.list(PODS)
        await c.bind(pod["metadata"]["name"], "n0")
        row = {"name": "c", "image": "one", "imageID": "", "ready": False, "restartCount": 2}
        await c.set_pod(pod["metadata"]["name"], phase="Running", containerStatuses=[row])
        await c.settle()
        for found in await c.list(PODS):
            await c.client.delete(PODS, found["metadata"]["name"], NS, grace_period_seconds=0)
        await c.settle()
        assert (await failure(c) or ("", ""))[0] == "BackoffLimitExceeded"


async def test_a_job_of_another_controller_is_left_alone() -> None:
    async with cluster() as c:
        await c.client.create(JOBS, job(managedBy="example.com/mine"))
        await c.settle()
        assert await c.list(PODS) == []


@pytest.mark.parametrize("text", ["", "0", "0,1", "0-2,5", "3,5,7-9"])
def test_indexes_in_words(text: str) -> None:
    assert write_indexes(read_indexes(text)) == text
