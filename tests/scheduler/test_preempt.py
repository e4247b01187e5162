"""Less important pods leave for more important ones."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.scheduler.budget import Budgets
from drakit.scheduler.cycle import Cycle
from drakit.scheduler.preempt import Eviction
from drakit.scheduler.reason import Failure
from tests.scheduler.cluster import cluster
from tests.scheduler.make import Document, node, pod
from tests.scheduler.test_cycle import World


def running(name: str, where: str, cpu: str, priority: int = 0, **more: Any) -> Document:
    made = pod(name, requests={"cpu": cpu}, nodeName=where, priority=priority, **more)
    return made | {"status": {"startTime": f"2026-11-22T00:00:{len(name):02}Z"}}


def asked(it: World, cpu: str = "4", priority: int = 10, **spec: Any) -> Eviction | None:
    it.put(pod("p", requests={"cpu": cpu}, priority=priority, **spec))
    entry = it.pop()
    outcome = it.cycle.decide(entry.pod)
    assert isinstance(outcome, Failure)
    return it.cycle.make_room(entry.pod, outcome)


def names(eviction: Eviction | None) -> tuple[str, list[str]] | None:
    return (eviction.node, [victim.name for victim in eviction.victims]) if eviction else None


CASES: dict[str, tuple[list[Document], tuple[str, list[str]] | None]] = {
    "nobody is less important": ([running("a", "n0", "8", 10), running("b", "n1", "8", 20)], None),
    "no more than needed, the least important first": (
        [running("a", "n0", "4", 5), running("b", "n0", "4", 1), running("c", "n1", "8", 20)],
        ("n0", ["b"]),
    ),
    "the node where the less important ones are": (
        [running("a", "n0", "8", 5), running("b", "n1", "8", 1)],
        ("n1", ["b"]),
    ),
    "the node that loses fewer": (
        [running("a", "n0", "4"), running("b", "n0", "2"), running("c", "n0", "2"), running("d", "n1", "8")],
        ("n1", ["d"]),
    ),
    "the one that started last": (
        [running("a", "n0", "8"), running("bbb", "n1", "8")],
        ("n1", ["bbb"]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_who_has_to_leave(name: str) -> None:
    others, expected = CASES[name]
    it = World(node("n0"), node("n1"), *others)
    used = {n: dict(it.inventory.get(n).used) for n in ("n0", "n1")}  # type: ignore[union-attr]
    assert names(asked(it)) == expected
    assert used == {n: it.inventory.get(n).used for n in ("n0", "n1")}  # type: ignore[union-attr]


def test_pods_that_a_budget_protects_stay_where_others_can_leave() -> None:
    budget = {
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"disruptionsAllowed": 1},
    }
    others = [
        running(name, where, "4") for name, where in (("a", "n0"), ("b", "n0"), ("c", "n1"), ("d", "n1"))
    ]
    for other in others[:3]:
        other["metadata"] = {**other["metadata"], "labels": {"app": "web"}}
    it = World(node("n0"), node("n1"), *others)
    it.cycle = Cycle(it.inventory, it.dynamic, it.metrics, budgets=Budgets(lambda: [budget]))
    # On n0 one of two may go and the other has to, too; on n1 both may.
    assert names(asked(it, cpu="8")) == ("n1", ["c", "d"])


NEVER: dict[str, dict[str, Any]] = {
    "a policy": {"preemptionPolicy": "Never"},
    "more than the node has": {"cpu": "9"},
    "another reason": {"nodeSelector": {"a": "b"}},
}


@pytest.mark.parametrize("name", NEVER)
def test_when_nobody_has_to_leave(name: str) -> None:
    assert asked(World(node("n0"), running("a", "n0", "8")), **NEVER[name]) is None


def test_while_some_are_leaving_nobody_else_has_to() -> None:
    leaving = running("a", "n0", "8")
    leaving["metadata"] = {**leaving["metadata"], "deletionTimestamp": "2026-11-22T00:01:00Z"}
    it = World(node("n0"), node("n1"), leaving, running("b", "n1", "8"))
    nominated = pod("p", requests={"cpu": "4"}, priority=10) | {"status": {"nominatedNodeName": "n0"}}
    it.put(nominated)
    entry = it.pop()
    outcome = it.cycle.decide(entry.pod)
    assert isinstance(outcome, Failure)
    assert it.cycle.make_room(entry.pod, outcome) is None


def test_room_that_is_promised_is_not_given_to_less_important_pods() -> None:
    it = World(node("n0"))
    promised = pod("p", requests={"cpu": "8"}, priority=10) | {"status": {"nominatedNodeName": "n0"}}
    it.put(promised)
    it.pop()
    it.put(pod("low", requests={"cpu": "1"}))
    assert isinstance(it.cycle.decide(it.pop().pod), Failure)
    it.remove(promised)
    it.put(pod("low2", requests={"cpu": "1"}))
    entry = it.queue.pop()
    assert entry is not None
    assert not isinstance(it.cycle.decide(entry.pod), Failure)


@pytest.mark.anyio
async def test_an_important_pod_takes_the_place_of_another() -> None:
    low = pod("low", requests={"cpu": "6"}, priority=0)
    async with cluster(node("n0"), low) as it:
        await it.settle()
        assert await it.node_of("low") == "n0"
        await it.put(
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": "high"},
                "value": 1000,
            },
            pod("high", requests={"cpu": "6"}, priorityClassName="high"),
        )
        await it.settle()
        assert "Preempted" in [event["reason"] for event in await it.events("low")]
        left = await it.find("Pod", "low")
        if left is not None:
            conditions = {row["type"]: row for row in left["status"]["conditions"]}
            assert conditions["DisruptionTarget"]["reason"] == "PreemptionByScheduler"
            assert (await it.get("Pod", "high"))["status"]["nominatedNodeName"] == "n0"
            await it.delete("Pod", "low")
        await it.settle(12)
        assert await it.node_of("high") == "n0"
