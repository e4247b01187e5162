"""The agent against what a real kubelet was recorded to do: statuses and events, their order and content."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from drakit.client.api import EVENTS, PODS
from drakit.client.clock import parse_timestamp
from drakit.node.pod_status import Progress, View, build
from drakit.node.runtime import Container
from drakit.transport import Document
from tests.node.make import NS, FakeDriver, TestNode, make_pod, running_node, until
from tests.recorded import CASES, cases

ROW = re.compile(
    r"[\d.]+ MODIFIED pod/(?P<name>\S+) node=localhost phase=(?P<phase>\S+) "
    r"cond=(?P<cond>\[.*?\]) cs=(?P<cs>.*)"
)
EVENT = re.compile(r"[\d.]+ EVENT (?P<type>\S+) (?P<reason>\S+) Pod/(?P<name>\S+) .*? :: (?P<message>.*)")
OBJECTS = {row["name"]: row["object"] for row in cases("kubelet/objects")}

Step = tuple[str, tuple[tuple[str, str], ...], str, str]
"""Phase, conditions, state of the container, names in allocatedResourcesStatus."""


def recorded_steps(name: str) -> list[Step]:
    """What was seen of a pod once it was bound, repetitions left out."""
    steps: list[Step] = []
    with gzip.open(CASES / "kubelet" / "timeline.txt.gz", "rt") as lines:
        for line in lines:
            match = ROW.match(line)
            if match and match["name"] == name and "ReadyToStart" in match["cond"]:
                conditions = tuple(sorted(re.findall(r"\('(\w+)', '(\w+)'\)", match["cond"])))
                state, resources = json.loads(match["cs"])[0]
                steps.append((match["phase"], conditions, *_shown(state, resources)))
    return _without_repetitions(steps)


def recorded_events(name: str) -> list[tuple[str, str, str]]:
    with gzip.open(CASES / "kubelet" / "timeline.txt.gz", "rt") as lines:
        found = [match for line in lines if (match := EVENT.match(line)) and match["name"] == name]
    events = [(match["type"], match["reason"], match["message"]) for match in found]
    return [event for event in events if event[1] != "Scheduled"]


def _shown(state: Document, resources: list[Document] | None) -> tuple[str, str]:
    kind, detail = next(iter(state.items()))
    names = ",".join(entry["name"] for entry in resources or [])
    return f"{kind} {detail.get('reason', '')} {detail.get('exitCode', '')}".strip(), names


def _without_repetitions(steps: list[Step]) -> list[Step]:
    return [step for index, step in enumerate(steps) if index == 0 or steps[index - 1] != step]


async def watched(node: TestNode, name: str, into: list[Step]) -> None:
    """Write down every status of the pod, as a client sees them, until a pod comes that is called "end"."""
    async for event in node.client.watch(PODS, NS):
        pod = event["object"]
        if pod["metadata"]["name"] == "end":
            return
        if event["type"] != "MODIFIED" or pod["metadata"]["name"] != name:
            continue
        status = pod.get("status") or {}
        conditions = tuple(sorted((c["type"], c["status"]) for c in status.get("conditions") or []))
        if any(kind == "PodReadyToStartContainers" for kind, _ in conditions):
            container = status["containerStatuses"][0]
            shown = _shown(container["state"], container.get("allocatedResourcesStatus"))
            into.append((status["phase"], conditions, *shown))


async def played(
    tmp_path: Path, name: str, *, exits: bool, late_driver: bool
) -> tuple[list[Step], list[Any]]:
    """The steps and events of the same story on our node."""
    driver, steps = FakeDriver("test-driver.cdi.k8s.io"), list[Step]()
    async with running_node(tmp_path) as node:
        watcher = asyncio.create_task(watched(node, name, steps))
        if not late_driver:
            await driver.start(node.paths)
            assert node.agent is not None
            agent = node.agent
            await until(lambda: agent.plugins.find(driver.name))
        spec: Document = {"restartPolicy": "Never" if exits else "Always"}
        pod = await node.create(make_pod(name, "r", bound=False, **spec))
        await node.add_claim("r", pod, driver=driver.name)
        if exits:
            node.runtime.exit_codes["c"] = 0
        target = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        await node.client.create(PODS, body, NS, name=name, subresource="binding")
        if late_driver:
            await node.until_event(name, "FailedPrepareDynamicResources")
            await driver.start(node.paths)
        await node.until_phase(name, "Succeeded" if exits else "Running")
        if name == "a":
            node.runtime.ignores_term = False
            await node.client.delete(PODS, name, NS)
            await node.until_gone(name)
            await node.until_event(name, "Killing")
        await node.until_event(name, "Started")
        items = (await node.client.list(EVENTS, NS)).items
        await node.create(make_pod("end", bound=False))
        async with asyncio.timeout(10):
            await watcher
    await driver.stop()
    events = [(e["type"], e["reason"], e["message"]) for e in items if e["involvedObject"]["name"] == name]
    return _without_repetitions(steps), events


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "exits", "late_driver"), [("done", True, False), ("a", False, False), ("b", False, True)]
)
async def test_order(tmp_path: Path, name: str, exits: bool, late_driver: bool) -> None:
    steps, events = await played(tmp_path, name, exits=exits, late_driver=late_driver)
    wanted = recorded_steps(name)
    if exits:  # our container ends within its start: it is never seen running
        wanted = [step for step in wanted if not step[2].startswith("running")]
    assert [_plain(step) for step in steps] == [_plain(step) for step in wanted]
    recorded = recorded_events(name)
    ours = [event for event in events if event[1] in {reason for _, reason, _ in recorded}]
    reasons = [reason for _, reason, _ in recorded if not (name == "b" and reason == "Killing")]
    assert [reason for _, reason, _ in ours] == reasons
    for (_, reason, message), (_, _, recorded_message) in zip(ours, recorded, strict=False):
        if reason != "Pulled":
            assert message == recorded_message


def _plain(step: Step) -> Step:
    """Without the exit code of a container that was killed: our runtime's ends at SIGTERM."""
    return (step[0], step[1], step[2].replace("143", "137"), step[3])


@pytest.mark.parametrize("name", ["pod_a", "pod_completed", "pod_b_driver_gone"])
def test_status(name: str) -> None:
    recorded: Document = OBJECTS[name]
    status = recorded["status"]
    ours = build(recorded, _progress(recorded))
    assert {key: ours[key] for key in ("phase", "qosClass", "startTime", "observedGeneration")} == {
        key: status[key] for key in ("phase", "qosClass", "startTime", "observedGeneration")
    }
    for condition in status["conditions"]:
        mine = next(c for c in ours["conditions"] if c["type"] == condition["type"])
        if condition["type"] == "PodScheduled":
            continue
        assert mine == condition
    assert ours["containerStatuses"] == status["containerStatuses"]


def _progress(pod: Document) -> Progress:
    """What our agent would have known when the status was recorded."""
    status = pod["status"]
    views = []
    for spec, recorded in zip(pod["spec"]["containers"], status["containerStatuses"], strict=True):
        kind, detail = next(iter(recorded["state"].items()))
        current = None
        if kind != "waiting":
            current = Container(
                id=recorded["containerID"].partition("://")[2],
                pod_uid="",
                pod_namespace="",
                pod_name="",
                name=spec["name"],
                attempt=0,
                image=spec["image"],
                image_id=recorded["imageID"],
                log_path="",
                state="running" if kind == "running" else "exited",
                pid=1,
                exit_code=detail.get("exitCode", 0),
                started_at=parse_timestamp(detail["startedAt"]),
                finished_at=parse_timestamp(detail.get("finishedAt", detail["startedAt"])),
            )
        views.append(
            View(
                spec=spec,
                current=current,
                is_ready=recorded["ready"],
                is_started=recorded["started"],
                resources_status=recorded.get("allocatedResourcesStatus") or [],
            )
        )
    return Progress(
        inits=[],
        mains=views,
        conditions=status["conditions"],
        runtime_name="containerd",
        host_ip=status["hostIP"],
        pod_ip="",
        start_time=status["startTime"],
        now=0.0,
        has_sandbox=bool(status.get("podIP")) and status["phase"] == "Running",
        is_over=status["phase"] == "Succeeded",
    )
