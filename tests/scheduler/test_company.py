"""Pods that mind other pods: affinity, anti-affinity and topology spread."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.scheduler.decision import Decision
from drakit.scheduler.reason import Failure
from tests.scheduler.make import Document, node, pod
from tests.scheduler.test_cycle import World

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
ZONES = {"n0": "a", "n1": "a", "n2": "b"}


def labelled(document: Document, **labels: str) -> Document:
    meta = document["metadata"]
    return {**document, "metadata": {**meta, "labels": {**meta.get("labels", {}), **labels}}}


def term(app: str, key: str = "zone", **more: Any) -> Document:
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}, **more}


def near(*terms: Document) -> Document:
    return {"podAffinity": {REQUIRED: list(terms)}}


def apart(*terms: Document) -> Document:
    return {"podAntiAffinity": {REQUIRED: list(terms)}}


def running(name: str, where: str, app: str, **spec: Any) -> Document:
    return labelled(pod(name, nodeName=where, **spec), app=app)


def world(*documents: Document) -> World:
    return World(*(labelled(node(name), zone=zone) for name, zone in ZONES.items()), *documents)


def places(it: World, document: Document) -> set[str]:
    """Every node the pod can go to, found by filling up one after the other."""
    found: set[str] = set()
    it.put(document)
    entry = it.pop()
    for name in ZONES:
        others = [it.inventory.get(other) for other in ZONES if other != name]
        for other in others:
            assert other is not None
            other.is_unschedulable = True
        if isinstance(it.cycle.decide(entry.pod), Decision):
            found.add(name)
        for other in others:
            assert other is not None
            other.is_unschedulable = False
    return found


BESIDE: dict[str, tuple[list[Document], Document, set[str]]] = {
    "near one in its zone": ([running("x", "n0", "web")], near(term("web")), {"n0", "n1"}),
    "near one on its node": (
        [running("x", "n0", "web")],
        near(term("web", "kubernetes.io/hostname")),
        {"n0"},
    ),
    "near nobody": ([running("x", "n0", "db")], near(term("web")), set()),
    "both terms must pick one pod": (
        [running("x", "n0", "web"), running("y", "n2", "db")],
        near(term("web"), term("db")),
        set(),
    ),
    "apart in the zone": ([running("x", "n0", "web")], apart(term("web")), {"n2"}),
    "apart without such a label on nodes": (
        [running("x", "n0", "web")],
        apart(term("web", "rack")),
        set(ZONES),
    ),
    "in other namespaces nobody counts": (
        [running("x", "n0", "web")],
        near(term("web", namespaces=["other"])),
        set(),
    ),
    "in all namespaces": ([running("x", "n0", "web")], apart(term("web", namespaceSelector={})), {"n2"}),
    "one who is there wants to be alone": (
        [running("x", "n0", "web", affinity=apart(term("p")))],
        {},
        {"n2"},
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_where_a_pod_may_be(name: str) -> None:
    others, affinity, expected = BESIDE[name]
    assert places(world(*others), labelled(pod("p", affinity=affinity), app="p")) == expected


def test_the_first_of_a_group_that_wants_to_be_together_goes_anywhere() -> None:
    it = world()
    assert places(it, labelled(pod("p", affinity=near(term("p"))), app="p")) == set(ZONES)


def test_a_pod_is_put_beside_whom_it_likes() -> None:
    wish = {PREFERRED: [{"weight": 10, "podAffinityTerm": term("web")}]}
    for kind, expected in (("podAffinity", {"n2"}), ("podAntiAffinity", {"n0", "n1"})):
        it = world(running("x", "n2", "web"), labelled(pod("p", affinity={kind: wish}), app="p"))
        outcome = it.cycle.decide(it.pop().pod)
        assert isinstance(outcome, Decision)
        assert outcome.node in expected


def spread(key: str = "zone", **more: Any) -> list[Document]:
    selector = {"matchLabels": {"app": "p"}}
    row = {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}
    return [row | more]


SPREAD: dict[str, tuple[list[str], list[Document], dict[str, Any], set[str]]] = {
    "into the emptier zone": (["n0"], spread(), {}, {"n2"}),
    "anywhere while even": (["n0", "n2"], spread(), {}, set(ZONES)),
    "with a larger skew": (["n0"], spread(maxSkew=2), {}, set(ZONES)),
    "too few domains count as empty": (["n0", "n2"], spread(minDomains=3), {}, set()),
    "nodes of other zones do not count": (
        ["n0", "n0"],
        spread("kubernetes.io/hostname"),
        {"nodeSelector": {"zone": "a"}},
        {"n1"},
    ),
    "only a wish": (["n0"], spread(whenUnsatisfiable="ScheduleAnyway"), {}, set(ZONES)),
    "a label no node has": ([], spread("rack"), {}, set()),
}


@pytest.mark.parametrize("name", SPREAD)
def test_pods_are_spread(name: str) -> None:
    where, constraints, spec, expected = SPREAD[name]
    others = [running(f"x{i}", place, "p") for i, place in enumerate(where)]
    asking = labelled(pod("p", topologySpreadConstraints=constraints, **spec), app="p")
    assert places(world(*others), asking) == expected


def test_a_wish_to_spread_is_followed() -> None:
    it = world(running("x", "n0", "p"), running("y", "n2", "other"))
    asking = pod("p", topologySpreadConstraints=spread(whenUnsatisfiable="ScheduleAnyway"))
    it.put(labelled(asking, app="p"))
    outcome = it.cycle.decide(it.pop().pod)
    assert isinstance(outcome, Decision)
    assert outcome.node == "n2"


def test_the_reasons_are_said_and_a_pod_that_comes_wakes() -> None:
    it = world(labelled(pod("p", affinity=near(term("web"))), app="p"))
    entry = it.pop()
    outcome = it.cycle.decide(entry.pod)
    assert isinstance(outcome, Failure)
    assert outcome.message == "0/3 nodes are available: 3 node(s) didn't match pod affinity rules."
    it.queue.park(entry, outcome.wakes)
    it.put(running("x", "n1", "web"))
    it.clock.turn(20)
    assert it.pop() is entry
    assert isinstance(it.cycle.decide(entry.pod), Decision)


def test_a_selector_that_is_broken_is_named() -> None:
    rule = {"topologyKey": "zone", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}
    it = world(pod("p", affinity=near(rule)))
    outcome = it.cycle.decide(it.pop().pod)
    assert isinstance(outcome, Failure)
    assert outcome.message == (
        'pod default/p: a label selector in its spec: "Like" is not a valid label selector operator'
    )
