"""Features that no recorded case covers: compatibility groups, derived attributes, node operations."""

from __future__ import annotations

from typing import Any

import pytest

from tests.allocator import make
from tests.allocator.solve import solve


def outcome(document: dict[str, Any], features: str = "all") -> Any:
    """The devices of each claim; None or the error's text."""
    row = solve({**document, "features": features})
    if row["outcome"] == "allocated":
        return [[r["device"] for r in result["devices"]["results"]] for result in row["results"]]
    return row.get("error")


def partition(name: str, *groups: str) -> dict[str, Any]:
    (need,) = make.consumes("set", memory="1")
    return make.device(
        name, consumesCounters=[{**need, "compatibilityGroups": list(groups)} if groups else need]
    )


def partitions(*devices: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        make.resource_slice("devices", list(devices), count=2),
        make.resource_slice("counters", counters={"set": {"memory": "9"}}, count=2),
    ]


A, B, AB, PLAIN, OTHER = (
    partition("a", "A"),
    partition("b", "B"),
    partition("ab", "A", "B"),
    partition("plain"),
    partition("other"),
)


@pytest.mark.parametrize(
    ("devices", "count", "expected"),
    [
        ([A, B, AB], 2, [["a", "ab"]]),
        ([A, B], 2, None),
        ([AB, A, B], 2, [["ab", "a"]]),
        ([AB, A, B], 3, None),
        ([A, PLAIN], 2, None),
        ([PLAIN, A, OTHER], 2, [["plain", "other"]]),
    ],
)
def test_groups(devices: list[dict[str, Any]], count: int, expected: Any) -> None:
    claim = make.claim("c", make.request("r", "any", count))
    assert outcome(make.scenario(partitions(*devices), [claim])) == expected


@pytest.mark.parametrize(
    ("held", "others", "expected"),
    [
        (A, [B, AB, OTHER], [["ab"]]),
        (B, [A, AB, OTHER], [["ab"]]),
        (AB, [OTHER, A], [["a"]]),
        (PLAIN, [A, OTHER], [["other"]]),
        (A, [B, OTHER], None),
    ],
)
@pytest.mark.parametrize("features", ["all", "default"])
def test_groups_of_allocated_claims(
    held: dict[str, Any], others: list[dict[str, Any]], expected: Any, features: str
) -> None:
    """Groups are those that slices have now. Without the gate nobody can check them: their sets are left."""
    claim = make.claim("c", make.request("r"))
    document = make.scenario(partitions(held, *others), [claim], allocatedDevices=make.held(held["name"]))
    if features == "default" and held is not PLAIN:
        expected = None
    assert outcome(document, features) == expected


def test_groups_need_their_gate() -> None:
    claim = make.claim("c", make.request("r"))
    assert outcome(make.scenario(partitions(A, PLAIN), [claim]), "default") == [["plain"]]


def derived(expression: str) -> list[dict[str, str]]:
    return [{"name": "example.com/half", "expression": expression}]


NUMBERED = [make.device(f"d{i}", attributes={"index": i}) for i in range(6)]
INDEX = f"device.attributes['{make.DRIVER}'].index"


@pytest.mark.parametrize(
    ("expression", "kind", "count", "expected"),
    [
        (f"{INDEX} / 2", "matchAttribute", 2, [["d0", "d1"]]),
        (f"{INDEX} % 3", "matchAttribute", 2, [["d0", "d3"]]),
        (f"{INDEX} % 3", "matchAttribute", 3, None),
        (f"{INDEX} / 2", "distinctAttribute", 3, [["d0", "d2", "d4"]]),
        (f"{INDEX} / 2", "distinctAttribute", 4, None),
        (f"[int({INDEX}), int({INDEX}) + 1]", "matchAttribute", 2, [["d0", "d1"]]),
        (f"[int({INDEX}), int({INDEX}) + 1]", "distinctAttribute", 3, [["d0", "d2", "d4"]]),
        ("device.driver", "matchAttribute", 3, [["d0", "d1", "d2"]]),
    ],
)
def test_derived_attributes(expression: str, kind: str, count: int, expected: Any) -> None:
    request = make.request("r", "any", count, derivedAttributes=derived(expression))
    claim = make.claim("c", request, constraints=[{kind: "example.com/half"}])
    assert outcome(make.scenario([make.resource_slice("s", NUMBERED)], [claim])) == expected


def test_derived_attributes_hide_published_ones() -> None:
    devices = [make.device(f"d{i}", attributes={"example.com/half": 7, "index": i}) for i in range(4)]
    plain = make.request("plain", "any", 1)
    request = make.request("r", "any", 1, derivedAttributes=derived(f"{INDEX} + 5"))
    claim = make.claim("c", plain, request, constraints=[{"matchAttribute": "example.com/half"}])
    assert outcome(make.scenario([make.resource_slice("s", devices)], [claim])) == [["d0", "d2"]]


FAILS = "device.attributes['x'].y"
NO_TEXT = "1 +"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            FAILS,
            f"evaluate derived attribute example.com/half on device {make.DRIVER}/pool/d0 failed: ",
        ),
        (NO_TEXT, "compile derived attribute example.com/half failed: compilation failed: ERROR"),
    ],
)
@pytest.mark.parametrize("mode", [{"count": 2}, {"allocationMode": "All"}])
def test_derived_attributes_that_fail(expression: str, message: str, mode: dict[str, Any]) -> None:
    request = make.request("r", derivedAttributes=derived(expression), **mode)
    claim = make.claim("c", request, constraints=[{"matchAttribute": "example.com/half"}])
    assert outcome(make.scenario([make.resource_slice("s", NUMBERED)], [claim])).startswith(message)


SHARED = {"allowMultipleAllocations": True, "capacity": {"memory": "8"}}
NOT_REACHED = {
    "no constraint": ({}, {}, [], [["d"]]),
    "constraint of another request": (
        {},
        {},
        [{"matchAttribute": "example.com/half", "requests": ["x"]}],
        [["d"]],
    ),
    "earlier constraint": (
        {},
        {},
        [{"matchAttribute": "example.com/none"}, {"matchAttribute": "example.com/half"}],
        None,
    ),
    "taint": (
        {"taints": [{"key": "k", "effect": "NoSchedule"}]},
        {},
        [{"matchAttribute": "example.com/half"}],
        None,
    ),
    "capacity": (
        SHARED,
        {"capacity": {"requests": {"memory": "9"}}},
        [{"matchAttribute": "example.com/half"}],
        None,
    ),
}


@pytest.mark.parametrize("case", NOT_REACHED)
@pytest.mark.parametrize("expression", [FAILS, NO_TEXT])
def test_derived_attributes_fail_where_they_are_asked_for(case: str, expression: str) -> None:
    """They are evaluated when a constraint looks at the device, after everything else."""
    device, asked, constraints, expected = NOT_REACHED[case]
    request = make.request("r", derivedAttributes=derived(expression), **asked)
    claim = make.claim("c", request, constraints=constraints)
    document = make.scenario([make.resource_slice("s", [make.device("d", **device)])], [claim])
    assert outcome(document) == expected


def test_derived_attributes_need_their_gate() -> None:
    sub = make.asked(derivedAttributes=derived("1"))
    claim = make.claim("c", make.first_available("r", s=sub))
    error = outcome(make.scenario([make.resource_slice("s", NUMBERED)], [claim]), "default")
    assert error == (
        "claim default/c, request s: cannot handle request with derived attributes, the feature is disabled"
    )


DECLARED = {"declaredFeatures": ["DRAOptionalNodeOperations"]}


@pytest.mark.parametrize(
    ("features", "status", "mode", "expected"),
    [
        ("all", DECLARED, {}, ["skips"]),
        ("all", {}, {}, ["plain"]),
        ("default", DECLARED, {}, ["plain"]),
        ("all", DECLARED, {"allocationMode": "All"}, ["skips", "plain"]),
        ("all", {}, {"allocationMode": "All"}, ["plain"]),
        ("default", DECLARED, {"allocationMode": "All"}, ["plain"]),
    ],
)
def test_skipped_node_operations(
    features: str, status: dict[str, Any], mode: dict[str, Any], expected: list[str]
) -> None:
    """Devices whose slices let kubelets skip calls are only for nodes that say they do; elsewhere they
    are not among all devices."""
    skips = make.resource_slice("a", [make.device("skips")], count=2)
    skips["spec"]["skipNodeOperations"] = ["*"]
    plain = make.resource_slice("b", [make.device("plain")], count=2)
    document = make.scenario([skips, plain], [make.claim("c", make.request("r", **mode))])
    document["node"]["status"] = status
    document["features"] = features
    row = solve(document)
    results = row.get("results") and row["results"][0]["devices"]["results"]
    assert (results and [result["device"] for result in results]) == expected
    for result in results or ():
        assert result.get("skipNodeOperations") == (["*"] if result["device"] == "skips" else None)


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([A, PLAIN], [["ab"]]),
        ([PLAIN, A], [["other"]]),
        ([A, B], None),
    ],
)
def test_groups_of_allocated_claims_that_do_not_go_together(
    held: list[dict[str, Any]], expected: Any
) -> None:
    """A slice that changed after its devices were allocated: the first of them decides."""
    claim = make.claim("c", make.request("r"))
    names = [device["name"] for device in held]
    document = make.scenario(partitions(*held, AB, OTHER), [claim], allocatedDevices=make.held(*names))
    assert outcome(document) == expected


@pytest.mark.parametrize(("is_shared", "expected"), [(True, [["a"]]), (False, None)])
def test_groups_matter_once_for_a_shared_device(is_shared: bool, expected: Any) -> None:
    """Without the gate a device with groups is left alone; a further share of it draws on nothing."""
    shared = {**A, "allowMultipleAllocations": True}
    row = {"driver": make.DRIVER, "pool": "pool", "device": "a", "shareID": "s"}
    document = make.scenario(partitions(shared), [make.claim("c", make.request("r"))])
    document["allocatedSharedDeviceIDs"] = [row] if is_shared else []
    assert outcome(document, "default") == expected
