"""What a trace is told of devices that were not taken."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from drakit.allocator import Allocator, Candidate, FellShort, Refusal
from drakit.allocator.device import DeviceID
from drakit.cli.allocate import Scenario
from drakit.errors import AllocationError
from drakit.profile import profile_for
from tests.allocator import make


class Told:
    """A trace that remembers."""

    def __init__(self) -> None:
        self.refusals: dict[str, Refusal] = {}
        self.devices: list[str] = []
        self.shortages: list[tuple[Candidate, FellShort]] = []

    def turned_away(self, candidate: Candidate, device: DeviceID, refusal: Refusal) -> None:
        self.refusals[f"{candidate.request}:{device[2] or device[1]}"] = refusal

    def passed(self, candidate: Candidate, device: DeviceID) -> None:
        self.devices.append(f"{candidate.request}:{device[2]}")

    def fell_short(self, candidate: Candidate, event: FellShort) -> None:
        self.shortages.append((candidate, event))


def told(
    document: dict[str, Any], version: str = "1.37", gates: Mapping[str, bool] = MappingProxyType({})
) -> Told:
    scenario = msgspec.convert(document, Scenario)
    trace = Told()
    assert scenario.node is not None
    state = scenario.state(profile_for(version, gates))
    allocator = Allocator(scenario.claims_to_allocate or [], state, share_id=str, trace=trace)
    with contextlib.suppress(AllocationError):
        assert allocator.allocate(scenario.node) is None
    return trace


SHARED = make.device("a", capacity={"memory": "10"}, allowMultipleAllocations=True)
PARTITION = make.device("a", consumesCounters=make.consumes("set", memory="3"))


@pytest.mark.parametrize(
    ("devices", "request_", "fields", "expected"),
    [
        (
            [make.device("a")],
            make.request("r"),
            {"allocatedDevices": make.held("a")},
            {"check": "in-use", "holders": ("scenario/held-0",)},
        ),
        (
            [make.device("a")],
            make.request("r", "any", 1, "true", "device.driver == 'x'"),
            {},
            {"check": "selector", "is_class": False, "selector": 1, "expression": "device.driver == 'x'"},
        ),
        (
            [make.device("a")],
            make.request("r", "any", 1, "device.attributes['x'].y"),
            {},
            {"check": "selector", "reason": "no such key: y"},
        ),
        (
            [SHARED],
            make.request("r", capacity={"requests": {"memory": "4"}}),
            {"aggregatedCapacity": [{**make.held("a")[0], "capacity": {"memory": "7"}}]},
            {"check": "capacity", "name": "memory", "needed": "4", "left": "3"},
        ),
        (
            [SHARED],
            make.request("r", capacity={"requests": {"speed": "4"}}),
            {},
            {"check": "capacity", "name": "speed", "needed": "4"},
        ),
        (
            [make.device("a", taints=[{"key": "k", "effect": "NoSchedule"}])],
            make.request("r"),
            {},
            {"check": "taint"},
        ),
    ],
    ids=["in-use", "selector", "selector-fails", "capacity-left", "capacity-none", "taint"],
)
def test_first_check(
    devices: list[dict[str, Any]], request_: dict[str, Any], fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    trace = told(make.scenario([make.resource_slice("s", devices)], [make.claim("c", request_)], **fields))
    refusal = msgspec.structs.asdict(trace.refusals["r:a"])
    assert {key: refusal[key] for key in expected} == expected
    assert [event.check for _, event in trace.shortages] == ["count"]
    assert trace.shortages[0][0] == Candidate("node", "default/c", "r")


def test_counter_short() -> None:
    slices = [
        make.resource_slice("devices", [PARTITION], count=2),
        make.resource_slice("counters", counters={"set": {"memory": "2"}}, count=2),
    ]
    refusal = told(make.scenario(slices, [make.claim("c", make.request("r"))])).refusals["r:a"]
    assert (refusal.check, refusal.name, refusal.needed, refusal.left) == ("counter", "set/memory", "3", "2")


def test_what_can_be_had_at_once_is_tried_out() -> None:
    """Devices that do not go together are each to be had, which no sum of counters tells."""
    needs = [{**make.consumes("set", memory="1")[0], "compatibilityGroups": [name]} for name in ("A", "B")]
    devices = [make.device(f"d{i}", consumesCounters=[need]) for i, need in enumerate(needs)]
    slices = [
        make.resource_slice("devices", devices, count=2),
        make.resource_slice("counters", counters={"set": {"memory": "9"}}, count=2),
    ]
    document = make.scenario(slices, [make.claim("c", make.request("r", "any", 2))])
    ((_, event),) = told(document, gates={"all": True}).shortages
    assert (event.check, event.wanted, event.possible) == ("counter", 2, 1)


def test_pool_and_gate() -> None:
    binding = make.device("b", bindingConditions=["x"])
    slices = [
        make.resource_slice("s", [make.device("a")], count=2),
        make.resource_slice("t", [binding], pool="other"),
    ]
    trace = told(make.scenario(slices, [make.claim("c", make.request("r"))]), "1.35")
    assert trace.refusals["r:pool"].reason == "incomplete: 1 of 2 slices of generation 1"
    assert trace.refusals["r:b"].reason == "DRADeviceBindingConditions"


def test_constraint_without_enough_of_any_value() -> None:
    devices = [make.device(f"d{i}", attributes={"numa": i % 3}) for i in range(5)] + [make.device("none")]
    constraint = {"matchAttribute": f"{make.DRIVER}/numa"}
    claim = make.claim("c", make.request("r", "any", 3), constraints=[constraint])
    trace = told(make.scenario([make.resource_slice("s", devices)], [claim]))
    assert trace.refusals["r:none"].name == f"{make.DRIVER}/numa"
    ((_, event),) = trace.shortages
    assert (event.check, event.wanted, event.possible) == ("constraint", 3, 2)
    assert dict(event.best) == {"0": 2, "1": 2, "2": 1}


def test_competition() -> None:
    claims = [make.claim(f"c{i}", make.request("r")) for i in range(3)]
    trace = told(make.scenario([make.resource_slice("s", [make.device("a"), make.device("b")])], claims))
    ((_, event),) = trace.shortages
    assert (event.check, event.wanted, event.possible) == ("competition", 3, 2)


def test_alternatives_are_told_apart() -> None:
    request = make.first_available("r", big=make.asked("any", 3), small=make.asked("any", 2))
    trace = told(make.scenario([make.resource_slice("s", [make.device("a")])], [make.claim("c", request)]))
    assert [candidate.request for candidate, _ in trace.shortages] == ["r/big", "r/small"]
    assert trace.devices == ["r/big:a", "r/small:a"]
