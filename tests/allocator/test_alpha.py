"""Features that no recorded case covers: compatibility groups, derived attributes, node operations."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from drakit.cli.allocate import Scenario, run
from drakit.profile import profile_for
from tests.allocator import make


def outcome(document: dict[str, Any], features: str = "all") -> Any:
    """The devices of each claim; None or the error's text."""
    scenario = msgspec.convert({**document, "features": features}, Scenario)
    row = next(run(scenario, profile_for("1.37")))
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


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "device.attributes['x'].y",
            "claim default/c, request r: derived attribute example.com/half on device ",
        ),
        ("1 +", "claim default/c, request r: derived attribute example.com/half: CEL compile error: "),
    ],
)
def test_derived_attributes_that_fail(expression: str, message: str) -> None:
    request = make.request("r", "any", 2, derivedAttributes=derived(expression))
    claim = make.claim("c", request, constraints=[{"matchAttribute": "example.com/half"}])
    assert outcome(make.scenario([make.resource_slice("s", NUMBERED)], [claim])).startswith(message)


def test_derived_attributes_need_their_gate() -> None:
    claim = make.claim("c", make.request("r", derivedAttributes=derived("1")))
    error = outcome(make.scenario([make.resource_slice("s", NUMBERED)], [claim]), "default")
    assert error == (
        "claim default/c, request r: has derived attributes, but the DRADerivedAttributes feature is disabled"
    )


@pytest.mark.parametrize(("features", "expected"), [("all", ["*"]), ("default", None)])
def test_skipped_node_operations(features: str, expected: list[str] | None) -> None:
    published = make.resource_slice("s", [make.device("a")])
    published["spec"]["skipNodeOperations"] = ["*"]
    document = {**make.scenario([published], [make.claim("c", make.request("r"))]), "features": features}
    row = next(run(msgspec.convert(document, Scenario), profile_for("1.37")))
    assert row["results"][0]["devices"]["results"][0].get("skipNodeOperations") == expected
