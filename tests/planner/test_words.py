"""The one sentence in events and in `dra why` when requests of a pod take each other's devices."""

from __future__ import annotations

import msgspec

from drakit.model.resource import ResourceClaim
from drakit.planner.situation import Situation, wanted_by_pod
from drakit.planner.why import why
from drakit.scheduler.explain import explain
from tests.planner.make import DRIVER, claim, gpus, node, pod, snapshot


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
        " and no node has more than 2 for them (closest: node-0)"
    )
    nodes = [info.node for info in situation.nodes.values()]
    texts = explain([msgspec.convert(wanted, ResourceClaim)], situation.state, nodes)
    assert texts == {
        "node-0": "claim default/train request gpu: 2 devices wanted, 2 free"
        " (the requests together want 3, of which 2 can be had at once)"
    }
