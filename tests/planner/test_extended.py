"""Why a pod waits that asks for devices by the name of an extended resource."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.planner.manifest import put_in
from drakit.planner.situation import Situation, wanted_by_pod
from drakit.planner.why import Report, why
from tests.planner.make import DRIVER, gpus, held, node, snapshot

WIDGET = "example.com/widget"
IMPLICIT = f"deviceclass.resource.kubernetes.io/{DRIVER}"
CLASS = {
    "metadata": {"name": DRIVER},
    "spec": {
        "selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}],
        "extendedResourceName": WIDGET,
    },
}
TAKEN = [held("eval", "node-0", [0, 1])]
OTHER_PLUGIN = "node(s) with other resources from device plugins, where it does not fit either"


def asking(**limits: str) -> dict[str, Any]:
    """A pod of a manifest, whose requests nobody has filled in."""
    container = {"name": "c", "resources": {"limits": limits}}
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": "uid-p"},
        "spec": {"containers": [container]},
    }


def counting(name: str, **counted: str) -> dict[str, Any]:
    """A node with a device plugin."""
    return node(name) | {"status": {"allocatable": {"pods": "10", **counted}}}


def explain(pod: dict[str, Any], **lists: Any) -> Report:
    parts: dict[str, Any] = {
        "nodes": [node("node-0")],
        "resource_slices": [gpus("node-0", "H100", count=2)],
        "device_classes": [CLASS],
    }
    situation = Situation(snapshot(**parts | lists, pods=[pod]))
    return why(situation, wanted_by_pod(situation, "default/p"))


@pytest.mark.parametrize("resource", [WIDGET, IMPLICIT])
def test_devices_behind_an_extended_resource_are_told_like_those_of_a_claim(resource: str) -> None:
    report = explain(asking(**{resource: "1"}), resource_claims=TAKEN)
    assert report.is_pending
    assert report.sentence == (
        f"pod default/p is pending: every device that matches extended resource {resource}"
        f" (1 x {DRIVER}) is allocated"
    )
    section = report.sections[0]
    assert (section.claim, section.devices) == (f"extended resource {resource}", 2)
    assert [change.text for change in report.would_fit] == [
        "if claim ml/eval released gpu-0, gpu-1 (on node-0)"
    ]
    assert "fits now, on node-0" in explain(asking(**{resource: "2"})).sentence


def test_fewer_devices_are_offered_but_no_toleration() -> None:
    slices = [gpus("node-0", "H100", count=2, tainted=[1])]
    report = explain(asking(**{WIDGET: "2"}), resource_slices=slices)
    assert [change.text for change in report.would_fit] == ["with count 1 (on node-0)"]


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([counting("node-0", **{WIDGET: "1"})], "fits now, on node-0"),
        ([counting("node-0", **{WIDGET: "0"})], f"every device that matches extended resource {WIDGET}"),
        ([node("node-0"), counting("node-1", **{WIDGET: "1"})], "fits now, on node-1"),
    ],
)
def test_a_node_that_counts_the_resource_itself_needs_no_device(
    nodes: list[dict[str, Any]], said: str
) -> None:
    report = explain(asking(**{WIDGET: "1"}), nodes=nodes, resource_claims=TAKEN)
    assert said in report.sentence
    assert report.excluded == {}


def test_a_node_with_too_few_of_its_own_is_not_helped_by_devices() -> None:
    nodes = [counting("node-0", **{WIDGET: "1"})]
    report = explain(asking(**{WIDGET: "2"}), nodes=nodes)
    assert "no node is left to look at (1 Insufficient example.com/widget)" in report.sentence


def test_nodes_that_count_other_resources_are_left_over() -> None:
    nodes = [node("node-0"), node("node-2"), counting("node-1", **{WIDGET: "1"})]
    report = explain(asking(**{WIDGET: "1", IMPLICIT: "1"}), nodes=nodes, resource_claims=TAKEN)
    assert report.excluded == {OTHER_PLUGIN: 1}
    assert report.sections[0].claim == f"extended resources {IMPLICIT}, {WIDGET}"


@pytest.mark.parametrize(
    ("resource", "gates", "said"),
    [
        (
            "deviceclass.resource.kubernetes.io/none",
            {},
            "deviceclass none of resource deviceclass.resource.kubernetes.io/none does not exist",
        ),
        (
            "example.com/none",
            {},
            "no node has resource example.com/none and no deviceclass stands behind it",
        ),
        (
            WIDGET,
            {"DRAExtendedResource": False},
            f"no node has resource {WIDGET} and no deviceclass stands behind it"
            " (feature DRAExtendedResource is off)",
        ),
    ],
)
def test_what_nobody_offers_is_said(resource: str, gates: dict[str, bool], said: str) -> None:
    report = explain(asking(**{resource: "1"}), feature_gates=gates)
    assert (report.sentence, report.is_pending) == (f"pod default/p waits: {said}", True)


def test_a_pod_without_such_resources_asks_for_no_devices() -> None:
    assert explain(asking(cpu="1")).sentence == "pod default/p asks for no devices"


def test_the_class_of_a_manifest_is_newer_than_those_that_exist() -> None:
    old = {"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": CLASS["spec"]}
    new = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", **CLASS}
    taken = snapshot(
        nodes=[node("node-0")],
        resource_slices=[gpus("node-0", "H100", count=1)],
        device_classes=[old],
        pods=[asking(**{WIDGET: "2"})],
    )
    taken, _ = put_in(taken, [new], "file", "default")
    situation = Situation(taken)
    report = why(situation, wanted_by_pod(situation, "default/p"))
    assert report.sections[0].wanted == f"2 x {DRIVER}"
