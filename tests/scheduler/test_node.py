"""What a pod needs, and why a node may not take it."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.scheduler.node import NodeInfo
from drakit.scheduler.pod import read_pod
from drakit.scheduler.reason import Rejection, Wake, amount_text, describe
from drakit.scheduler.request import pod_requests
from tests.scheduler.make import node, pod, stored


def container(**requests: str) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": requests}}


REQUESTS = {
    "containers add up": (
        {"containers": [container(cpu="250m", memory="1Gi"), container(cpu="1")]},
        {"cpu": 1250, "memory": 1 << 30},
    ),
    "the largest init container counts where it is larger": (
        {
            "containers": [container(cpu="1", memory="1Mi")],
            "initContainers": [container(cpu="3"), container(cpu="2")],
        },
        {"cpu": 3000, "memory": 1 << 20},
    ),
    "sidecars run beside containers and later init containers": (
        {
            "containers": [container(cpu="1")],
            "initContainers": [
                container(cpu="2"),
                container(cpu="500m") | {"restartPolicy": "Always"},
                container(cpu="1200m"),
            ],
        },
        {"cpu": 2000},
    ),
    "overhead is on top": (
        {"containers": [container(cpu="1")], "overhead": {"cpu": "100m", "memory": "10Mi"}},
        {"cpu": 1100, "memory": 10 << 20},
    ),
    "requests of the whole pod take the place of the containers'": (
        {
            "containers": [container(cpu="1", memory="1Gi", **{"example.com/x": "2"})],
            "resources": {"requests": {"cpu": "4"}},
        },
        {"cpu": 4000, "memory": 1 << 30, "example.com/x": 2},
    ),
    "amounts are rounded up": (
        {"containers": [container(cpu="0.1m", memory="0.5")]},
        {"cpu": 1, "memory": 1},
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(name: str) -> None:
    spec, expected = REQUESTS[name]
    assert pod_requests(spec) == expected


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    return {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    }


def key(name: str, operator: str, *values: str) -> dict[str, Any]:
    return (
        {"key": name, "operator": operator, "values": list(values)}
        if values
        else {"key": name, "operator": operator}
    )


TAINT = {"key": "maintenance", "value": "soon", "effect": "NoSchedule"}
WRONG_NODE = "node(s) didn't match Pod's node affinity/selector"
FITS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "nothing asked": ({}, {}, []),
    "cordoned": ({}, {"unschedulable": True}, ["node(s) were unschedulable"]),
    "cordoned, tolerated": (
        {"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]},
        {"unschedulable": True},
        [],
    ),
    "taint": ({}, {"taints": [TAINT]}, ["node(s) had untolerated taint {maintenance: soon}"]),
    "taint tolerated by value": (
        {"tolerations": [{"key": "maintenance", "value": "soon", "effect": "NoSchedule"}]},
        {"taints": [TAINT]},
        [],
    ),
    "taint with another value": (
        {"tolerations": [{"key": "maintenance", "value": "later"}]},
        {"taints": [TAINT]},
        ["node(s) had untolerated taint {maintenance: soon}"],
    ),
    "everything tolerated": ({"tolerations": [{"operator": "Exists"}]}, {"taints": [TAINT]}, []),
    "soft taint": ({}, {"taints": [TAINT | {"effect": "PreferNoSchedule"}]}, []),
    "selector holds": ({"nodeSelector": {"kubernetes.io/hostname": "n"}}, {}, []),
    "selector fails": ({"nodeSelector": {"disk": "ssd"}}, {}, [WRONG_NODE]),
    "affinity holds": (
        {
            "affinity": affinity(
                {"matchExpressions": [key("nope", "Exists")]},
                {"matchFields": [key("metadata.name", "In", "n")]},
            )
        },
        {},
        [],
    ),
    "affinity fails": (
        {"affinity": affinity({"matchExpressions": [key("kubernetes.io/hostname", "NotIn", "n")]})},
        {},
        [WRONG_NODE],
    ),
    "affinity without terms": ({"affinity": affinity()}, {}, [WRONG_NODE]),
    "too much cpu and memory": (
        {"requests": {"cpu": "9", "memory": "33Gi"}},
        {},
        ["Insufficient cpu", "Insufficient memory"],
    ),
    "extended resource that no node has": (
        {"requests": {"example.com/gpu": "1"}},
        {},
        ["Insufficient example.com/gpu"],
    ),
    "no room for pods": ({}, {"pods": "0"}, ["Too many pods"]),
}


@pytest.mark.parametrize("name", FITS)
def test_fit(name: str) -> None:
    spec, about, expected = FITS[name]
    info = NodeInfo("n")
    info.update(node("n", **about))
    assert [reason.text for reason in info.reject(read_pod(stored(pod("p", **spec))))] == expected


def test_what_pods_use_is_counted_once_and_given_back() -> None:
    info = NodeInfo("n")
    info.update(node("n", cpu="2"))
    first = read_pod(stored(pod("a", requests={"cpu": "1500m"})))
    second = read_pod(stored(pod("b", requests={"cpu": "1"})))
    info.add(first)
    info.add(first)
    (reason,) = info.reject(second)
    assert (reason.text, reason.wanted, reason.free) == ("Insufficient cpu", 1000, 500)
    info.remove(first.uid)
    info.remove(first.uid)
    assert info.reject(second) == ()
    assert info.used == {"cpu": 0}


PORTS = {
    "same port": ({"hostPort": 80}, {"hostPort": 80}, False),
    "other protocol": ({"hostPort": 80}, {"hostPort": 80, "protocol": "UDP"}, True),
    "other address": ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80, "hostIP": "10.0.0.2"}, True),
    "all addresses": ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80, "hostIP": "0.0.0.0"}, False),
}


@pytest.mark.parametrize("name", PORTS)
def test_host_ports(name: str) -> None:
    mine, theirs, fits = PORTS[name]
    info = NodeInfo("n")
    info.update(node("n"))
    rows = []
    for pod_name, port in (("a", theirs), ("b", mine)):
        document = stored(pod(pod_name))
        document["spec"]["containers"][0]["ports"] = [port]
        rows.append(read_pod(document))
    info.add(rows[0])
    assert (info.reject(rows[1]) == ()) is fits
    info.remove(rows[0].uid)
    assert info.reject(rows[1]) == ()


def test_a_resource_that_devices_stand_behind_is_no_matter_of_the_node_unless_it_counts_it() -> None:
    wanted = read_pod(stored(pod("p", requests={"example.com/gpu": "3"})))
    info = NodeInfo("n")
    info.update(node("n"))
    assert info.reject(wanted, {"example.com/gpu"}) == ()
    info.update(node("n", **{"example.com/gpu": "2"}))
    (reason,) = info.reject(wanted, {"example.com/gpu"})
    assert (reason.wanted, reason.free) == (3, 2)


def test_unreadable_affinity_is_named_with_the_pod() -> None:
    document = stored(pod("p", affinity=affinity({"matchExpressions": [key("a", "Like", "b")]})))
    assert "pod default/p: spec.affinity.nodeAffinity" in read_pod(document).problem


def test_the_line_counts_nodes_by_reason() -> None:
    lack = [Rejection("Insufficient cpu", Wake.NODE, "cpu", 2000, free) for free in (0, 500)]
    rejections = {"a": [lack[0]], "b": [lack[1]], "c": [Rejection(WRONG_NODE, Wake.NODE)]}
    assert describe(rejections, ["claim default/c: released"]) == (
        "0/3 nodes are available: 2 Insufficient cpu (2 wanted, at most 500m free), "
        f"1 {WRONG_NODE}. claim default/c: released."
    )
    assert describe({}) == "no nodes available to schedule pods."


AMOUNTS = [
    ("cpu", 1500, "1500m"),
    ("cpu", 2000, "2"),
    ("memory", 3 << 30, "3Gi"),
    ("memory", 1536 << 20, "1536Mi"),
    ("memory", 0, "0"),
    ("memory", 5, "5"),
    ("memory", (1 << 30) + 1, "1024Mi"),
    ("example.com/gpu", 3, "3"),
]


@pytest.mark.parametrize(("resource", "amount", "text"), AMOUNTS)
def test_amounts_in_words(resource: str, amount: int, text: str) -> None:
    assert amount_text(resource, amount) == text
