"""Why a pod waits: the sentence, the tree, and changes that were tried before they are said."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.errors import UsageError
from drakit.planner.situation import Situation, wanted_by_claim, wanted_by_pod
from drakit.planner.why import Report, why
from tests.planner.make import H100, busy, claim, gpus, held, node, pod, snapshot

PCIE = "resource.kubernetes.io/pcieRoot"


def explain(wanted: dict[str, Any], **lists: Any) -> Report:
    parts = busy() | lists
    parts["resource_claims"] = [*parts["resource_claims"], wanted]
    parts.setdefault("pods", [pod("train", wanted["metadata"]["name"])])
    situation = Situation(snapshot(**parts))
    return why(situation, wanted_by_pod(situation, "default/train"))


def waiting_on(node: str, reason: str, message: str) -> dict[str, Any]:
    """A pod that is bound but whose container does not start."""
    document = pod("p", "eval", nodeName=node)
    state = {"waiting": {"reason": reason, "message": message}}
    document["status"] = {"phase": "Pending", "containerStatuses": [{"name": "c", "state": state}]}
    return document


def rows(report: Report) -> dict[str, tuple[int, str]]:
    return {line.cause: (line.count, line.detail) for line in report.sections[0].lines}


def test_every_device_has_its_reason_with_the_values() -> None:
    report = explain(claim("big", 8, H100, PCIE))
    assert report.sentence == (
        f"pod default/train is pending: no node has 8 free devices for request gpu (gpu.nvidia.com)"
        f" with the same {PCIE} (closest: node-0 with 4)"
    )
    section = report.sections[0]
    assert (section.claim, section.request, section.nodes, section.devices) == ("default/big", "gpu", 4, 32)
    assert section.wanted == f"8 x gpu.nvidia.com, matchAttribute {PCIE}"
    found = rows(report)
    assert found["selector #0"] == (16, "productName is 'A100-SXM4-40GB' (8), 'L4' (8), not 'H100'")
    assert found["allocated"] == (2, "claim ml/eval-2 (pod eval-2): node-1 gpu-0, gpu-1")
    assert found["taint"] == (2, "gpu.nvidia.com/xid=79:NoSchedule on node-1: not tolerated")
    assert found["free"][0] == 12
    assert sum(count for count, _ in found.values()) == 32


def test_changes_that_help_are_said_and_only_those() -> None:
    report = explain(claim("big", 8, H100, PCIE))
    assert [change.text for change in report.would_fit] == [
        "with count 4 (on node-0)",
        f"without matchAttribute {PCIE} (on node-0)",
    ]


def test_a_release_or_a_toleration_helps() -> None:
    parts = {
        "nodes": [node("node-1")],
        "resource_slices": [gpus("node-1", "H100", count=4, tainted=[3])],
        "resource_claims": [held("eval-2", "node-1", [0, 1])],
    }
    report = explain(claim("two", 2), **parts)
    texts = [change.text for change in report.would_fit]
    assert "with a toleration for gpu.nvidia.com/xid (on node-1)" in texts
    assert "if claim ml/eval-2 released gpu-0, gpu-1 (on node-1)" in texts
    again = explain(claim("two", 2), **parts)
    assert again == report


def test_a_value_nobody_publishes_gets_the_nearest_one() -> None:
    report = explain(claim("typo", 1, H100.replace("H100", "A100")))
    hint = "productName 'A100' is published nowhere; 8 devices have 'A100-SXM4-40GB'"
    assert report.hints == [hint]
    assert report.sentence == (
        "pod default/train is pending: no device matches the selectors of request gpu (1 x gpu.nvidia.com): "
        + hint
    )


def test_an_attribute_that_is_missing_stops_the_pod_and_is_named() -> None:
    report = explain(claim("broken", 1, "device.attributes['gpu.nvidia.com'].nope == 'x'"))
    assert "no such key: nope" in report.sentence


def test_a_misspelt_attribute_or_class_gets_the_right_one() -> None:
    report = explain(claim("broken", 1, "device.attributes['gpu.nvidia.com'].productNam == 'x'"))
    there = "attribute gpu.nvidia.com/productNam exists on 0 of 32 devices"
    assert report.hints == [f"{there}; did you mean gpu.nvidia.com/productName?"]
    wanted = claim("lost", 1)
    wanted["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] = "gpu.nvidia.org"
    assert explain(wanted).hints == ["no deviceclass is called gpu.nvidia.org: there is gpu.nvidia.com"]


def undeclared(name: str) -> dict[str, Any]:
    containers = [{"name": "c", "resources": {"claims": [{"name": name}]}}]
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": containers}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pods": [pod("p", "gone")]}, "pod default/p waits: resourceclaim default/gone does not exist"),
        (
            {"pods": [undeclared("gpu")]},
            "pod default/p waits: container c asks for claim 'gpu', which spec.resourceClaims of the pod does"
            " not declare",
        ),
        (
            {"pods": [waiting_on("node-0", "ErrImagePull", "no image x")]},
            "pod default/p is on node node-0 (Pending) and has its devices:"
            " container c: ErrImagePull, no image x; its events say more (kubectl describe pod)",
        ),
        (
            {"pods": [pod("p", "mine", nodeSelector={"disk": "ssd"})], "resource_claims": [claim("mine", 1)]},
            "no node is left to look at (4 node(s) didn't match Pod's node affinity/selector)",
        ),
        (
            {"pods": [pod("p", "mine")], "resource_claims": [claim("mine", 1)]},
            "pod default/p fits now, on node-0, node-1, node-2 and 1 more",
        ),
    ],
)
def test_other_states(change: dict[str, Any], said: str) -> None:
    situation = Situation(snapshot(**(busy() | change)))
    assert said in why(situation, wanted_by_pod(situation, "default/p")).sentence


def test_a_claim_alone() -> None:
    situation = Situation(snapshot(**busy()))
    assert why(situation, wanted_by_claim(situation, "ml/eval-2")).sentence == (
        "claim ml/eval-2 is allocated and reserved for eval-2"
    )
    broken = claim("x", 1, "device.attributes['gpu.nvidia.com'].nope == 'x'")
    situation = Situation(snapshot(**(busy() | {"resource_claims": [broken]})))
    told = why(situation, wanted_by_claim(situation, "default/x")).sentence
    assert told.startswith("claim default/x is pending: ")
    assert told.count("claim default/x") == 1
    with pytest.raises(UsageError, match="there is no resourceclaim ml/none"):
        wanted_by_claim(situation, "ml/none")


def test_an_object_that_cannot_be_read_is_named() -> None:
    broken = gpus("node-0", "H100")
    broken["spec"]["devices"][0]["attributes"] = 3
    with pytest.raises(UsageError, match=r"ResourceSlice node-0-gpus: .*attributes"):
        Situation(snapshot(**(busy() | {"resource_slices": [broken]})))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"nodes": [{"metadata": {"name": "n", "labels": {"zone": 3}}}]}, "Node n: .*labels"),
        ({"pods": [{"metadata": {"name": "train", "namespace": "default"}, "spec": 3}]}, "Pod train: .*spec"),
        ({"nodes": [{"metadata": {"name": "n", "labels": None}}]}, "Node n: metadata.labels is null"),
    ],
)
def test_a_snapshot_that_was_edited_badly_is_told_where(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        explain(claim("big", 1), **change)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ('"type" in device.attributes["gpu.nvidia.com"] && true', "no attribute gpu.nvidia.com/type (32)"),
        ('has(device.capacity["gpu.nvidia.com"].memry)', "no capacity gpu.nvidia.com/memry (32)"),
        ('"amd.com" in device.attributes', "no attribute of amd.com (32)"),
        (
            '!("productName" in device.attributes["gpu.nvidia.com"])',
            "has attribute gpu.nvidia.com/productName (32)",
        ),
        (
            "device.driver != 'gpu.nvidia.com'",
            "driver is 'gpu.nvidia.com' (32), which it must not be",
        ),
        (
            '!(device.driver == "gpu.nvidia.com")',
            "driver is 'gpu.nvidia.com' (32), unwanted: == \"gpu.nvidia.com\"",
        ),
        (
            '"a" < device.driver.lowerAscii() && "h" < device.driver',
            "driver is 'gpu.nvidia.com' (32), not \"h\" < driver",
        ),
    ],
)
def test_what_a_selector_asked_for_is_said_plainly(expression: str, told: str) -> None:
    assert rows(explain(claim("big", 8, expression)))["selector #0"] == (32, told)
