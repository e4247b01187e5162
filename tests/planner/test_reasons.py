"""Every reason for which a pod waits has its sentence, and every change that is said to help does help."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drakit.planner.situation import Situation, wanted_by_pod
from drakit.planner.snapshot import Snapshot
from drakit.planner.whatif import Change
from drakit.planner.why import Report, why
from tests.planner.make import DRIVER, H100, busy, claim, gpus, held, node, pod, snapshot
from tests.property.test_allocator_features import everything

Document = dict[str, Any]
PCIE = "resource.kubernetes.io/pcieRoot"
PRODUCT = f"device.attributes['{DRIVER}'].productName == "


def asked(document: Document) -> Document:
    found: Document = document["spec"]["devices"]["requests"][0]["exactly"]
    return found


def changed(document: Document, **fields: Any) -> Document:
    asked(document).update(fields)
    return document


def holding(name: str, *devices: str, status: Document | None = None, **fields: Any) -> Document:
    """A claim that holds devices of node-1."""
    document = held(name, "node-1", [])
    rows = [{"request": "gpu", "driver": DRIVER, "pool": "node-1", "device": d, **fields} for d in devices]
    document["status"]["allocation"]["devices"]["results"] = rows
    document["status"] |= status or {}
    return document


def local(*slices: Document, claims: tuple[Document, ...] = ()) -> Document:
    return {"nodes": [node("node-1")], "resource_slices": list(slices), "resource_claims": list(claims)}


def with_devices(**fields: Any) -> Document:
    """Two GPUs of node-1 with more fields."""
    published = gpus("node-1", "H100", count=2)
    for device in published["spec"]["devices"]:
        device |= copy.deepcopy(fields)
    return published


def partitions() -> list[Document]:
    pool = {"name": "node-1", "generation": 1, "resourceSliceCount": 2}
    devices = [
        {
            "name": f"mig-{index}",
            "attributes": {"profile": {"string": profile}},
            "consumesCounters": [{"counterSet": "gpu-0", "counters": {"memory": {"value": memory}}}],
        }
        for index, (profile, memory) in enumerate([("3g", "20Gi"), ("3g", "20Gi"), ("7g", "40Gi")])
    ]
    sets = [{"name": "gpu-0", "counters": {"memory": {"value": "40Gi"}}}]
    spec = {"driver": DRIVER, "nodeName": "node-1", "pool": pool}
    return [
        {"metadata": {"name": "devices"}, "spec": {**spec, "devices": devices}},
        {"metadata": {"name": "counters"}, "spec": {**spec, "sharedCounters": sets}},
    ]


def incomplete() -> Document:
    published = gpus("node-1", "H100")
    published["spec"]["pool"]["resourceSliceCount"] = 2
    return published


def per_device() -> Document:
    published = gpus("node-1", "H100")
    del published["spec"]["nodeName"]
    published["spec"]["perDeviceNodeSelection"] = True
    for index, device in enumerate(published["spec"]["devices"]):
        device["nodeName"] = "node-1" if index < 2 else "node-9"
    return published


def alternatives() -> Document:
    document = claim("big", 1)
    subs = [
        {
            "name": model.lower(),
            "deviceClassName": DRIVER,
            "count": 9,
            "selectors": [{"cel": {"expression": f"{PRODUCT}'{model}'"}}],
        }
        for model in ("H100", "L4")
    ]
    document["spec"]["devices"]["requests"] = [{"name": "gpu", "firstAvailable": subs}]
    return document


def distinct(document: Document, attribute: str) -> Document:
    document["spec"]["devices"]["constraints"] = [{"distinctAttribute": attribute}]
    return document


def with_more(document: Document, name: str, count: int, expression: str = "") -> Document:
    """One more request in the claim."""
    more = asked(claim("other", count, expression))
    document["spec"]["devices"]["requests"].append({"name": name, "exactly": more})
    return document


def two_claims() -> Document:
    document = pod("train", "big")
    document["spec"]["resourceClaims"].append({"name": "h", "resourceClaimName": "more"})
    return document


SHARED = {"allowMultipleAllocations": True, "capacity": {"memory": {"value": "80Gi"}}}
SHARE = {"shareID": "00000000-0000-0000-0000-000000000001", "consumedCapacity": {"memory": "40Gi"}}
TEMPLATE = {
    "metadata": {"name": "t", "namespace": "default"},
    "spec": {
        "spec": {
            "devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": DRIVER, "count": 9}}]}
        }
    },
}
FROM_TEMPLATE = pod("train", "")
FROM_TEMPLATE["spec"]["resourceClaims"] = [{"name": "g", "resourceClaimTemplateName": "t"}]
FULL = [{"resource": "pods", "name": f"p{i}", "uid": f"u{i}"} for i in range(256)]

REASONS: dict[str, tuple[Document, Document, str, list[str]]] = {
    # what is wanted, what there is beside `busy()`, the sentence, the kinds of changes that would help
    "selector": (
        claim("big", 1, f"{PRODUCT}'A100'"),
        {},
        "no device matches the selectors of request gpu (1 x gpu.nvidia.com): productName 'A100' is published"
        " nowhere; 8 devices have 'A100-SXM4-40GB'",
        [],
    ),
    "class": (
        changed(claim("big", 1), deviceClassName="gpu.nvida.com"),
        {},
        'device class gpu.nvida.com: deviceclass.resource.k8s.io "gpu.nvida.com" not found',
        ["class"],
    ),
    "allocated": (
        claim("big", 1, H100),
        local(gpus("node-1", "H100", count=2), claims=(holding("a", "gpu-0", "gpu-1"),)),
        "every device that matches request gpu (1 x gpu.nvidia.com) is allocated",
        ["release"],
    ),
    "allocated, and too few": (
        claim("big", 3, H100),
        local(gpus("node-1", "H100", count=2), claims=(holding("a", "gpu-0", "gpu-1"),)),
        "no node has more than 2 devices that match request gpu (3 x gpu.nvidia.com), and all are allocated",
        [],
    ),
    "allocated by several": (
        claim("big", 4),
        local(
            gpus("node-1", "H100", count=4), claims=(holding("a", "gpu-0"), holding("b", "gpu-1", "gpu-2"))
        ),
        "no node has 4 free devices for request gpu (gpu.nvidia.com) (closest: node-1 with 1)",
        ["count", "release"],
    ),
    "counter": (
        claim("big", 1, f"device.attributes['{DRIVER}'].profile == '7g'"),
        local(*partitions(), claims=(holding("a", "mig-0"),)),
        "no device has 40Gi of gpu-0/memory left for request gpu (1 x gpu.nvidia.com): the most is 20Gi",
        ["release"],
    ),
    "capacity": (
        changed(claim("big", 1), capacity={"requests": {"memory": "60Gi"}}),
        local(with_devices(**SHARED), claims=(holding("a", "gpu-0", "gpu-1", **SHARE),)),
        "no device has 60Gi of memory left for request gpu (1 x gpu.nvidia.com): the most is 40Gi",
        ["capacity", "release"],
    ),
    "taint": (
        claim("big", 1),
        local(gpus("node-1", "H100", count=2, tainted=[0, 1])),
        "every device that request gpu (1 x gpu.nvidia.com) could have is tainted",
        ["toleration"],
    ),
    "constraint": (
        claim("big", 6, H100, PCIE),
        {},
        "no node has 6 free devices for request gpu (gpu.nvidia.com)"
        f" with the same {PCIE} (closest: node-0 with 4)",
        ["count", "constraint"],
    ),
    "pool": (
        claim("big", 1),
        local(incomplete()),
        "pool gpu.nvidia.com/node-1 is incomplete: 1 of 2 slices of generation 1,"
        " and there are no other devices",
        [],
    ),
    "different values": (
        distinct(claim("big", 3), PCIE),
        local(gpus("node-1", "H100")),
        f"no node has 3 free devices for request gpu (gpu.nvidia.com) with different values of {PCIE}"
        " (closest: node-1 with 2)",
        ["count", "constraint"],
    ),
    "one value for two requests": (
        with_more(claim("big", 3, match=PCIE), "more", count=2),
        local(gpus("node-1", "H100")),
        f"no node has 5 devices with the same {PCIE} for its requests gpu, more (closest: node-1 with 4)",
        ["count", "count", "constraint"],
    ),
    "each on another node": (
        with_more(claim("big", 2, H100), "more", count=2, expression=f"{PRODUCT}'L4'"),
        {},
        "no node can serve all its requests: node-0, the closest, has 0 of 2 devices for request more",
        [],
    ),
    "attribute": (
        claim("big", 1, match="gpu.nvidia.com/slot"),
        local(gpus("node-1", "H100")),
        "no device for request gpu (1 x gpu.nvidia.com) has attribute gpu.nvidia.com/slot, which a constraint"
        " of its claim needs",
        ["constraint"],
    ),
    "several causes": (
        claim("big", 1, H100),
        local(gpus("node-1", "H100", count=3, tainted=[2]), claims=(holding("a", "gpu-0", "gpu-1"),)),
        "no node has a free device for request gpu (1 x gpu.nvidia.com): of 3 that match 2 are allocated,"
        " 1 is tainted",
        ["toleration", "release"],
    ),
    "node of devices": (
        claim("big", 4),
        local(per_device()),
        "no node has 4 free devices for request gpu (gpu.nvidia.com) (closest: node-1 with 2)",
        ["count"],
    ),
    "feature": (
        claim("big", 1),
        {"version": "1.35", **local(with_devices(bindingConditions=["ready"]))},
        "request gpu (1 x gpu.nvidia.com) could have only devices that need DRADeviceBindingConditions,"
        " which is off",
        [],
    ),
    "limit": (
        claim("big", 40),
        {},
        "claim default/big: number of requested devices 40 exceeds the claim limit of 32",
        ["count"],
    ),
    "competition": (
        claim("big", 2),
        local(gpus("node-1", "H100", count=4), claims=(claim("more", 3),)) | {"pods": [two_claims()]},
        "its requests together want 5 devices, and node-1, the closest, has 4 for them",
        ["count", "count"],
    ),
    "alternatives": (
        alternatives(),
        {},
        "no alternative of request gpu can be had: h100 wants 9 x gpu.nvidia.com, closest node-0 with 8;"
        " l4 wants 9 x gpu.nvidia.com, closest node-3 with 8",
        ["count", "count"],
    ),
    "all": (
        changed(claim("big", 1), allocationMode="All"),
        local(gpus("node-1", "H100"), claims=(holding("a", "gpu-0"),)),
        "request gpu wants all gpu.nvidia.com of a node, and not all of them can be had"
        " (closest: node-1 with 7 of 8)",
        ["release"],
    ),
    "expression": (
        claim("big", 1, f"device.attributes['{DRIVER}'].nope == 'x'"),
        {},
        "no such key: nope",
        [],
    ),
    "template": (
        claim("other", 1),
        {"pods": [FROM_TEMPLATE]},
        "resourceclaimtemplate default/t does not exist",
        [],
    ),
    "not created": (
        claim("other", 1),
        {"pods": [FROM_TEMPLATE], "resource_claim_templates": [TEMPLATE]},
        "no node has 9 free devices for request gpu (gpu.nvidia.com) (closest: node-0 with 8)",
        ["count"],
    ),
    "no claim": (claim("other", 1), {}, "resourceclaim default/big does not exist", []),
    "deleted": (
        claim("big", 1)
        | {"metadata": claim("big", 1)["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {},
        "resourceclaim default/big is being deleted",
        [],
    ),
    "reserved": (
        claim("big", 1) | {"status": holding("big", "gpu-5", status={"reservedFor": FULL})["status"]},
        {},
        "resourceclaim default/big is reserved for 256 pods, the most there can be",
        [],
    ),
    "binding": (
        claim("big", 1) | {"status": holding("big", "gpu-5", bindingConditions=["ready"])["status"]},
        {},
        "resourceclaim default/big is allocated, its driver has yet to say ready:"
        " gpu.nvidia.com/node-1/gpu-5: ready",
        [],
    ),
    "gated": (
        claim("big", 1),
        {"pods": [pod("train", "big", schedulingGates=[{"name": "example.com/wait"}])]},
        "its scheduling gates are still there: example.com/wait",
        [],
    ),
    "cordoned": (
        claim("big", 1),
        {"nodes": [{**node("node-1"), "spec": {"unschedulable": True}}]},
        "no node is left to look at (1 node(s) were unschedulable)",
        [],
    ),
}


def taken(wanted: Document, lists: Document) -> Snapshot:
    parts = {**busy(), "pods": [pod("train", "big")], **lists}
    parts["resource_claims"] = [*parts["resource_claims"], wanted]
    return snapshot(**parts)


def report_on(taken: Snapshot) -> Report:
    situation = Situation(taken)
    return why(situation, wanted_by_pod(situation, "default/train"))


@pytest.mark.parametrize("reason", REASONS)
def test_the_sentence_names_the_reason(reason: str) -> None:
    wanted, lists, sentence, kinds = REASONS[reason]
    before = taken(wanted, lists)
    report = report_on(before)
    assert sentence in report.sentence
    assert report.is_pending
    assert [change.kind for change in report.would_fit] == kinds
    for change in report.would_fit:
        check(before, change)


def test_two_taints_of_one_device_need_a_toleration_for_all() -> None:
    taints = [{"key": key, "effect": "NoSchedule"} for key in ("a", "b")]
    report = report_on(taken(claim("big", 1), local(with_devices(taints=taints))))
    (change,) = report.would_fit
    assert change.text == "with a toleration for all taints (on node-1)"
    check(taken(claim("big", 1), local(with_devices(taints=taints))), change)


def test_an_attribute_that_no_device_has_is_hinted_at() -> None:
    report = report_on(taken(claim("big", 2, match="gpu.nvidia.com/productname"), {}))
    assert report.hints == [
        "no device has attribute gpu.nvidia.com/productname; did you mean gpu.nvidia.com/productName?"
    ]


def test_of_claims_that_may_go_the_smallest_is_named() -> None:
    lists = local(
        gpus("node-1", "H100", count=4), claims=(holding("a", "gpu-0", "gpu-1"), holding("b", "gpu-2"))
    )
    report = report_on(taken(claim("big", 2), lists))
    assert [change.released for change in report.would_fit if change.released] == [["ml/b"]]


def test_a_pod_is_not_told_to_release_its_own_claim() -> None:
    mine = holding("mine", "gpu-0")
    mine["metadata"]["namespace"] = "default"
    lists = local(gpus("node-1", "H100", count=1), claims=(mine,))
    waiting = pod("train", "big")
    waiting["spec"]["resourceClaims"].append({"name": "h", "resourceClaimName": "mine"})
    lists["resource_claims"][0]["status"]["reservedFor"] = []
    assert report_on(taken(claim("big", 1), lists | {"pods": [waiting]})).would_fit == []


def test_nothing_helps_while_another_node_stops_the_pod() -> None:
    """A selector that fails on one node fails the pod, so no change is said to help on another."""
    strange = gpus("node-2", "H100")
    for device in strange["spec"]["devices"]:
        del device["attributes"]["productName"]
    lists = {
        "nodes": [node("node-1"), node("node-2")],
        "resource_slices": [gpus("node-1", "H100", count=1), strange],
    }
    report = report_on(taken(claim("big", 2, H100), lists))
    assert "(this stops it on every node)" in report.sentence
    assert report.would_fit == []


def test_a_device_of_one_node_that_another_cannot_use_counts_once() -> None:
    lists = local(per_device())
    lists["nodes"].append(node("node-9"))
    report = report_on(taken(claim("big", 7), lists))
    assert [(line.cause, line.count) for line in report.sections[0].lines] == [("free", 8)]
    assert "closest: node-9 with 6" in report.sentence


def test_a_claim_that_is_not_there_yet_is_noted() -> None:
    wanted, lists, _, _ = REASONS["not created"]
    assert report_on(taken(wanted, lists)).hints == [
        "claim default/train-g is not created yet: this is about what template default/t will make"
    ]


def check(before: Snapshot, change: Change) -> None:
    """With the change made to the documents the claims fit, on the nodes that were named."""
    after = report_on(applied(before, change))
    assert not after.is_pending, (change, after.sentence)
    assert set(change.nodes) <= set(after.fits_on), (change, after.fits_on)


def applied(before: Snapshot, change: Change) -> Snapshot:
    """The snapshot as it would be, changed by hand."""
    after = copy.deepcopy(before)
    specs = {
        f"{row['metadata']['namespace']}/{row['metadata']['name']}": row["spec"]
        for row in after.resource_claims
    }
    for template in after.resource_claim_templates:
        specs["default/train-g"] = template["spec"]["spec"]
    if change.kind == "release":
        for row in after.resource_claims:
            if f"{row['metadata']['namespace']}/{row['metadata']['name']}" in change.released:
                row["status"] = {}
        return after
    devices = specs[change.claim]["devices"]
    if change.kind == "constraint":
        assert change.index is not None
        del devices["constraints"][change.index]
        return after
    main, _, sub = change.request.partition("/")
    request = next(row for row in devices["requests"] if row["name"] == main)
    row = next(s for s in request["firstAvailable"] if s["name"] == sub) if sub else request["exactly"]
    if change.kind == "count":
        row["count"] = change.count
    elif change.kind == "class":
        row["deviceClassName"] = change.device_class
    elif change.kind == "capacity":
        requests = row.get("capacity", {}).get("requests", {})
        row["capacity"] = {"requests": {**requests, **change.capacity}}
    else:
        assert change.kind == "toleration"
        row["tolerations"] = [*row.get("tolerations", []), {"key": change.key, "operator": "Exists"}]
    return after


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=True))
def test_changes_help_whatever_the_reason(random: Random) -> None:
    before = of_scenario(everything(random))
    report = report_on(before)
    for change in report.would_fit:
        check(before, change)


def of_scenario(document: Document) -> Snapshot:
    """A scenario of `dra allocate` as a snapshot with a pod that wants its claims."""
    rows = [(row, {}) for row in document["allocatedDevices"]]
    for number, row in enumerate(document["aggregatedCapacity"]):
        share = f"00000000-0000-0000-0000-{number:012}"
        rows.append((row, {"shareID": share, "consumedCapacity": row["capacity"]}))
    claims = [*document["claimsToAllocate"]]
    for number, (row, fields) in enumerate(rows):
        owner = held(f"held-{number}", "", [])
        result = {"request": "gpu", **{key: row[key] for key in ("driver", "pool", "device")}, **fields}
        owner["status"]["allocation"]["devices"]["results"] = [result]
        claims.append(owner)
    waiting = pod("train", "")
    waiting["spec"]["resourceClaims"] = [
        {"name": row["metadata"]["name"], "resourceClaimName": row["metadata"]["name"]}
        for row in document["claimsToAllocate"]
    ]
    return snapshot(
        feature_gates={"all": True},
        nodes=[document["node"]],
        device_classes=document["deviceClasses"],
        resource_slices=document["resourceSlices"],
        resource_claims=claims,
        pods=[waiting],
    )
