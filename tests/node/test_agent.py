"""The agent with a runtime in memory: what it does with pods, in which order, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drakit.client.api import CONFIG_MAPS, PODS
from drakit.errors import BadRequest, NotFound
from drakit.node.runtime import RuntimeFailed, UnresolvableCDI
from drakit.podio import LogOptions
from drakit.transport import Document
from tests.node.make import NODE, NS, make_pod, running_node, until

pytestmark = pytest.mark.anyio


async def test_the_node_is_registered(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        found = await node.node()
        assert found["metadata"]["labels"]["kubernetes.io/hostname"] == NODE
        ready = next(c for c in found["status"]["conditions"] if c["type"] == "Ready")
        assert ready["status"] == "True"
        assert found["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.37.")
        assert found["status"]["allocatable"]["pods"] == "110"


async def test_a_pod_runs_and_says_so_in_order(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        await node.create(make_pod("a"))
        pod = await node.until_phase("a", "Running")
        status = pod["status"]["containerStatuses"][0]
        assert (status["ready"], status["started"], status["restartCount"]) == (True, True, 0)
        assert node.runtime.calls == ["sandbox a", "create c.0", "start c.0"]
        await node.until_event("a", "Started")
        assert [reason for reason, _ in await node.events("a")] == ["Pulled", "Created", "Started"]


async def test_a_pod_that_completes(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.exit_codes["c"] = 0
        await node.create(make_pod("a", restartPolicy="Never"))
        pod = await node.until_phase("a", "Succeeded")
        terminated = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (terminated["exitCode"], terminated["reason"]) == (0, "Completed")
        ready = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "PodCompleted")
        await until(lambda: not node.runtime.found and not node.runtime.pods)


async def test_a_pod_that_fails(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.exit_codes["c"] = 7
        await node.create(make_pod("a", restartPolicy="Never"))
        pod = await node.until_phase("a", "Failed")
        assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7


async def test_on_failure_starts_again_until_it_works(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.exit_codes["c"] = [1, 0]
        await node.create(make_pod("a", restartPolicy="OnFailure"))
        pod = await node.until_phase("a", "Succeeded")
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 1


async def test_a_crash_loop_backs_off(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.exit_codes["c"] = 3
        await node.create(make_pod("a"))
        pod = await node.until_state("a", "waiting", "CrashLoopBackOff")
        status = pod["status"]["containerStatuses"][0]
        assert status["restartCount"] == 1, "the first restart is at once, the second waits"
        assert status["lastState"]["terminated"]["exitCode"] == 3
        assert pod["status"]["phase"] == "Running"
        assert "Back-off restarting" in await node.until_event("a", "BackOff")


async def test_init_containers_run_one_after_the_other(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.exit_codes |= {"one": 0, "two": 0}
        inits = [{"name": name, "image": "busybox"} for name in ("one", "two")]
        await node.create(make_pod("a", initContainers=inits))
        await node.until_phase("a", "Running")
        starts = [call for call in node.runtime.calls if call.startswith("start")]
        assert starts == ["start one.0", "start two.0", "start c.0"]


async def test_a_failing_init_container_fails_the_pod(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.exit_codes["one"] = 1
        init = {"name": "one", "image": "busybox"}
        await node.create(make_pod("a", initContainers=[init], restartPolicy="Never"))
        pod = await node.until_phase("a", "Failed")
        assert "start c.0" not in node.runtime.calls
        assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 1


async def test_a_sidecar_does_not_keep_the_pod_from_ending(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.exit_codes["c"] = 0
        side = {"name": "side", "image": "busybox", "restartPolicy": "Always"}
        await node.create(make_pod("a", initContainers=[side], restartPolicy="Never"))
        await node.until_phase("a", "Succeeded")
        assert "stop side.0 1" in node.runtime.calls


@pytest.mark.parametrize(
    ("image", "reason"),
    [("nowhere/app:1", "ErrImagePull")],
)
async def test_an_image_that_is_not_there(tmp_path: Path, image: str, reason: str) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.missing_images.add(image)
        pod = make_pod("a")
        pod["spec"]["containers"][0]["image"] = image
        await node.create(pod)
        await node.until_state("a", "waiting", reason)
        assert "local image store" in await node.until_event("a", "Failed")


async def test_a_container_that_cannot_start_fails_the_pod(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.errors["c"] = RuntimeFailed("no such program")
        await node.create(make_pod("a", restartPolicy="Never"))
        pod = await node.until_phase("a", "Failed")
        terminated = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (terminated["exitCode"], terminated["reason"]) == (128, "StartError")
        assert terminated["message"] == "no such program"


async def test_a_device_that_cannot_be_resolved_keeps_the_pod_waiting(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.errors["c"] = UnresolvableCDI("unresolvable CDI devices x/y=z")
        await node.create(make_pod("a", restartPolicy="Never"))
        await node.until_state("a", "waiting", "CreateContainerError")


async def test_a_missing_config_map_is_waited_for(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        pod = make_pod("a")
        ref = {"configMapKeyRef": {"name": "settings", "key": "k"}}
        pod["spec"]["containers"][0]["env"] = [{"name": "K", "valueFrom": ref}]
        await node.create(pod)
        await node.until_state("a", "waiting", "CreateContainerConfigError")
        meta = {"name": "settings", "namespace": NS}
        await node.client.create(
            CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"k": "v"}}
        )
        await node.until_phase("a", "Running")
        assert "K=v" in next(iter(node.runtime.specs.values())).env


async def test_a_volume_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        await node.create(make_pod("a", volumes=[{"name": "v", "secret": {"secretName": "none"}}]))
        assert 'secret "none" not found' in await node.until_event("a", "FailedMount")


async def test_deletion_stops_with_grace_and_deletes_the_pod(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        await node.create(make_pod("a", terminationGracePeriodSeconds=5))
        await node.until_phase("a", "Running")
        await node.client.delete(PODS, "a", NS)
        await node.until_gone("a")
        assert "stop c.0 5" in node.runtime.calls
        assert ("Killing", "Stopping container c") in await node.events("a")
        await until(lambda: not node.runtime.pods and not list(node.paths.logs.iterdir()))


async def test_a_shorter_grace_counts_at_once(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.ignores_term = True
        await node.create(make_pod("a", terminationGracePeriodSeconds=600))
        await node.until_phase("a", "Running")
        await node.client.delete(PODS, "a", NS)
        await until(lambda: "stop c.0 600" in node.runtime.calls)
        await node.client.delete(PODS, "a", NS, grace_period_seconds=0)
        await node.until_gone("a")
        await until(lambda: not node.runtime.found)


async def test_pre_stop_runs_first(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        pod = make_pod("a")
        pod["spec"]["containers"][0]["lifecycle"] = {"preStop": {"exec": {"command": ["say", "bye"]}}}
        await node.create(pod)
        await node.until_phase("a", "Running")
        await node.client.delete(PODS, "a", NS)
        await node.until_gone("a")
        calls = node.runtime.calls
        assert calls.index("exec say bye") < next(
            i for i, call in enumerate(calls) if call.startswith("stop")
        )


async def test_the_deadline_of_a_pod(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        await node.create(make_pod("a", activeDeadlineSeconds=1))
        pod = await node.until_phase("a", "Failed")
        assert pod["status"]["reason"] == "DeadlineExceeded"


async def test_readiness_and_liveness(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.exec_code = 1
        probe = {"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1}
        pod = make_pod("a")
        pod["spec"]["containers"][0] |= {"readinessProbe": probe, "livenessProbe": probe}
        await node.create(pod)
        assert "Readiness probe failed: check" in await node.until_event("a", "Unhealthy")
        await until(lambda: "create c.1" in node.runtime.calls, "the container is not started again")
        assert "failed liveness probe" in await node.until_event("a", "Killing")


async def test_logs_and_exec(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        await node.create(make_pod("a"))
        pod = await node.until_phase("a", "Running")
        assert node.agent is not None
        text = [chunk async for chunk in node.agent.logs(pod, LogOptions(container="c"))]
        assert text == [b"hello\n"]
        session = await node.agent.exec(pod, "c", ["date"], stdin=False, tty=False)
        assert await session.read() == (1, b"date")
        with pytest.raises(BadRequest, match="previous terminated container"):
            [chunk async for chunk in node.agent.logs(pod, LogOptions(container="c", previous=True))]
        with pytest.raises(BadRequest, match="is not valid for pod"):
            await node.agent.exec(pod, "x", ["date"], stdin=False, tty=False)


async def test_exec_needs_a_running_container(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.exit_codes["c"] = 0
        await node.create(make_pod("a", restartPolicy="Never"))
        pod = await node.until_phase("a", "Succeeded")
        assert node.agent is not None
        with pytest.raises(NotFound, match="container not found"):
            await node.agent.exec(pod, "c", ["date"], stdin=False, tty=False)
        text = [chunk async for chunk in node.agent.logs(pod, LogOptions(container="c"))]
        assert text == [b"hello\n"], "the log outlives the container"


async def test_a_new_agent_takes_over_what_runs(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        await node.create(make_pod("a"))
        before = await node.until_phase("a", "Running")
        await node.stop()
        calls = list(node.runtime.calls)
        await node.start()
        cid = next(iter(node.runtime.found))
        node.runtime.end(cid, 9)
        pod = await node.until_state("a", "running")
        await until(lambda: "start c.1" in node.runtime.calls)
        assert node.runtime.calls[: len(calls)] == calls
        assert pod["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_pod_deleted_while_no_agent_ran(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        await node.create(make_pod("gone"))
        await node.create(make_pod("told"))
        await node.until_phase("gone", "Running")
        await node.until_phase("told", "Running")
        await node.stop()
        await node.client.delete(PODS, "gone", NS, grace_period_seconds=0)
        await node.client.delete(PODS, "told", NS)
        await node.start()
        await node.until_gone("told")
        await until(lambda: not node.runtime.found and not node.runtime.pods)
        assert not [path for path in node.paths.logs.iterdir() if path.name.startswith(f"{NS}_gone")]


async def test_a_bug_in_one_pod_leaves_the_others_alone(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.errors["bad"] = ZeroDivisionError("a bug")
        bad = make_pod("bad")
        bad["spec"]["containers"][0]["name"] = "bad"
        await node.create(bad)
        await node.create(make_pod("good"))
        await node.until_phase("good", "Running")
        del node.runtime.errors["bad"]
        await node.until_phase("bad", "Running")


def _with(container: Document, **more: Any) -> Document:
    return make_pod(
        "a", containers=[{"name": "c", "image": "busybox", "command": ["sh"], **container}], **more
    )


async def test_a_container_whose_post_start_hook_fails_is_ended(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        node.runtime.exec_code = 1
        hook = {"postStart": {"exec": {"command": ["prepare", "it"]}}}
        await node.create(_with({"lifecycle": hook}, restartPolicy="Never"))
        assert "prepare it" in await node.until_event("a", "FailedPostStartHook")
        await node.until_phase("a", "Failed")


async def test_sidecars_end_after_the_containers_they_serve(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        sidecars = [
            {"name": name, "image": "busybox", "command": ["sh"], "restartPolicy": "Always"}
            for name in ("first", "second")
        ]
        hook = {"preStop": {"exec": {"command": ["say", "goodbye"]}}}
        await node.create(_with({"lifecycle": hook}, initContainers=sidecars))
        await node.until_phase("a", "Running")
        node.runtime.calls.clear()
        await node.client.delete(PODS, "a", NS)
        await node.until_gone("a")
        ended = [call.rsplit(" ", 1)[0] for call in node.runtime.calls if call.startswith(("exec", "stop"))]
        assert ended == ["exec say", "stop c.0", "stop second.0", "stop first.0"]


async def test_an_ephemeral_container_joins_and_is_not_started_again(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        await node.create(make_pod("a"))
        pod = await node.until_phase("a", "Running")
        node.runtime.exit_codes["debug"] = 3
        debugger = {"name": "debug", "image": "busybox", "command": ["sh"], "targetContainerName": "c"}
        pod["spec"]["ephemeralContainers"] = [debugger]
        await node.client.update(PODS, pod, subresource="ephemeralcontainers")

        async def ended() -> Document | None:
            found = await node.get("a")
            statuses = (found or {}).get("status", {}).get("ephemeralContainerStatuses") or [{}]
            return statuses[0] if "terminated" in (statuses[0].get("state") or {}) else None

        status = await until(ended)
        assert (status["state"]["terminated"]["exitCode"], status["restartCount"]) == (3, 0)
        assert (await node.get("a") or {})["status"]["phase"] == "Running"
        spec = next(spec for spec in node.runtime.specs.values() if spec.name == "debug")
        target = next(c for c in node.runtime.found.values() if c.name == "c")
        assert spec.sees_processes_of == target.id


@pytest.mark.parametrize("name", ["kernel.panic", "net.core.somaxconn"])
async def test_a_sysctl_that_is_the_machines_is_refused(tmp_path: Path, name: str) -> None:
    async with running_node(tmp_path) as node:
        sysctls = {"securityContext": {"sysctls": [{"name": name, "value": "1"}]}, "hostNetwork": True}
        await node.create(make_pod("a", **sysctls))
        assert "is not the pod's own" in await node.until_event("a", "FailedMount")


async def test_attach_and_connect(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        assert node.agent is not None
        pod = await node.create(make_pod("a"))
        await node.until_phase("a", "Running")
        session = await node.agent.attach(pod, "c", stdin=True, tty=False)
        assert await session.read() == (1, b"attached")
        with pytest.raises(BadRequest, match="error forwarding port 1 to pod a"):
            await node.agent.connect(pod, 1)
        with pytest.raises(NotFound):
            await node.agent.connect(make_pod("b") | {"metadata": {"name": "b", "uid": "x"}}, 1)
