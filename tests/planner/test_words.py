"""The one sentence in events and in `dra why` when requests of a pod take each other's devices."""

from __future__ import annotations

from typing import Any

import msgspec

from drakit.cli.why import text
from drakit.model.resource import ResourceClaim
from drakit.planner.situation import Situation, wanted_by_pod
from drakit.planner.why import why
from drakit.scheduler.explain import explain
from tests.planner.make import DRIVER, claim, gpus, held, node, pod, snapshot


def test_requests_that_compete_are_counted_together() -> None:
    wanted = claim("train", 2)
    requests = wanted["spec"]["devices"]["requests"]
    requests.append({"name": "render", "exactly": {"deviceClassName": DRIVER}})
    taken = snapshot(
        nodes=[node("node-0")],
        resource_slices=[gpus("node-0", "H100", count=2)],
        resource_claims=[wanted],
        pods=[pod("p", "train")],
    )
    situation = Situation(taken)
    report = why(situation, wanted_by_pod(situation, "default/p"))
    assert report.sentence == (
        "pod default/p is pending: its requests together want 3 devices,"
        " and node-0, the closest, has 2 for them"
    )
    nodes = [info.node for info in situation.nodes.values()]
    texts = explain([msgspec.convert(wanted, ResourceClaim)], situation.state, nodes)
    assert texts == {
        "node-0": "cannot serve claim default/train request gpu: 2 devices wanted, 2 free"
        " (the requests together want 3, of which 2 can be had at once)"
    }


def explained(wanted: dict[str, Any], **lists: Any) -> dict[str, str]:
    situation = Situation(snapshot(resource_claims=[wanted], **lists))
    nodes = [info.node for info in situation.nodes.values()]
    return explain([msgspec.convert(wanted, ResourceClaim)], situation.state, nodes)


def test_what_is_said_of_several_nodes_is_true_of_the_closest() -> None:
    slices = [gpus("node-0", "H100", count=2), gpus("node-1", "H100", count=4)]
    texts = explained(claim("big", 8), nodes=[node("node-0"), node("node-1")], resource_slices=slices)
    said = "cannot serve claim default/big request gpu: 8 devices wanted, 6 free (at most 4 on one node)"
    assert texts == {"node-0": said, "node-1": said}


def test_alternatives_are_blamed_only_when_none_can_be_had() -> None:
    wanted = claim("big", 1)
    subs = [{"name": f"a{count}", "deviceClassName": DRIVER, "count": count} for count in (4, 3)]
    requests = wanted["spec"]["devices"]["requests"]
    requests.append({"name": "more", "firstAvailable": subs})
    lists = {"nodes": [node("node-0")], "resource_slices": [gpus("node-0", "H100", count=2)]}
    assert explained(wanted, **lists) == {
        "node-0": "cannot serve claim default/big request more/a4: 4 devices wanted, 2 free,"
        " nor can its other alternatives be had"
    }
    requests[1]["firstAvailable"][1]["count"] = 2
    assert (
        "request gpu: 1 device wanted, 2 free (the requests together want 3"
        in explained(wanted, **lists)["node-0"]
    )


def test_requests_of_one_fate_are_told_together_and_many_taints_share_a_line() -> None:
    published = gpus("node-0", "H100")
    for index, device in enumerate(published["spec"]["devices"]):
        device["taints"] = [{"key": f"k{index}", "effect": "NoSchedule"}]
    wanted = claim("big", 1)
    requests = wanted["spec"]["devices"]["requests"]
    requests += [{**requests[0], "name": f"r{index}"} for index in range(6)]
    lists = {"nodes": [node("node-0")], "resource_slices": [published], "resource_claims": [wanted]}
    situation = Situation(snapshot(**lists, pods=[pod("p", "big")]))
    report = why(situation, wanted_by_pod(situation, "default/p"))
    assert all(sum(line.count for line in part.lines) == part.devices == 8 for part in report.sections)
    told = text(report).splitlines()
    assert told[1] == f"claim default/big, requests gpu, r0, r1, r2 and 3 more: 1 x {DRIVER}"
    assert told[3:] == [
        *(f"      1  taint  k{index}:NoSchedule on node-0: not tolerated" for index in range(4)),
        "      4  taint  4 more kinds: k4:NoSchedule, k5:NoSchedule, k6:NoSchedule and 1 more",
        "would fit: with no single change that was tried",
    ]


def test_a_device_that_is_held_but_published_no_more_is_named() -> None:
    """What it draws on its pool's counters nobody can know."""
    pool = {"name": "node-0", "generation": 1, "resourceSliceCount": 2}
    needs = [{"counterSet": "set", "counters": {"memory": {"value": "1Gi"}}}]
    sets = [{"name": "set", "counters": {"memory": {"value": "4Gi"}}}]
    spec = {"driver": DRIVER, "nodeName": "node-0", "pool": pool}
    slices = [
        {"metadata": {"name": "d"}, "spec": spec | {"devices": [{"name": "a", "consumesCounters": needs}]}},
        {"metadata": {"name": "c"}, "spec": spec | {"sharedCounters": sets}},
    ]
    wanted = claim("big", 1)
    lists = {
        "nodes": [node("node-0")],
        "resource_slices": slices,
        "resource_claims": [wanted, held("x", "node-0", [9])],
    }
    situation = Situation(snapshot(**lists, pods=[pod("p", "big")]))
    report = why(situation, wanted_by_pod(situation, "default/p"))
    assert [(line.cause, line.detail) for line in report.sections[0].lines] == [
        ("counter", "a claim holds a device of the pool that is not published any more, on node-0")
    ]
