"""What allocators get wrong: small scenarios that went wrong somewhere once, each with the right answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from drakit.allocator import Allocator
from drakit.cli.allocate import Scenario
from drakit.errors import FailedOnNode
from drakit.model.meta import Node
from drakit.profile import profile_for
from tests.allocator import make
from tests.allocator.solve import solve

ADMIN: dict[str, Any] = {"adminAccess": True}
EVERY: dict[str, Any] = {"allocationMode": "All"}


def partitions(*needs: str, total: str, **fields: Any) -> list[make.Document]:
    devices = [
        make.device(f"part-{number}", consumesCounters=make.consumes("gpu", memory=need), **fields)
        for number, need in enumerate(needs)
    ]
    return [
        make.resource_slice("counters", counters={"gpu": {"memory": total}}, count=2),
        make.resource_slice("devices", devices, count=2),
    ]


INVALID = "invalid resource pools were encountered: gpu.example.com/pool: "

NEGATIVE: dict[str, tuple[make.Document, list[str]]] = {
    "a device that gives back what it never took makes no room": (
        make.scenario(partitions("-4", "8", total="4"), [make.claim("a", make.request("r", "any", 2))]),
        [f"{INVALID}device part-0 consumes less than nothing of counter gpu/memory"],
    ),
    "one in use neither": (
        make.scenario(
            partitions("-4", "8", total="4"),
            [make.claim("a", make.request("r", "any"))],
            allocatedDevices=make.held("part-0"),
        ),
        [f"{INVALID}device part-0 consumes less than nothing of counter gpu/memory"],
    ),
    "counters below zero": (
        make.scenario(partitions("0", total="-1"), [make.claim("a", make.request("r", "any"))]),
        [f"{INVALID}counter set gpu, counter memory is less than nothing"],
    ),
    "other pools are as good as ever": (
        make.scenario(
            [
                *partitions("-4", "8", total="4"),
                make.resource_slice("other", [make.device("fine")], pool="other"),
            ],
            [make.claim("a", make.request("r", "any"))],
        ),
        ["fine"],
    ),
}


def said(*counts: int) -> list[make.Document]:
    """Slices of one pool, each with a device and what it says is the number of slices."""
    return [
        make.resource_slice(f"slice-{n}", [make.device(f"device-{n}")], count=c) for n, c in enumerate(counts)
    ]


def answer(scenario: make.Document) -> list[str]:
    """The devices of all claims, or the outcome when there are none."""
    row = solve(scenario)
    if row["outcome"] != "allocated":
        return [row.get("error") or row["outcome"]]
    return [r["device"] for result in row["results"] for r in result["devices"]["results"]]


ADMIN_ACCESS: dict[str, tuple[make.Document, list[str]]] = {
    "a partition in use needs its counters once more": (
        make.scenario(
            partitions("3", "1", total="4"),
            [make.claim("a", make.request("r", "any", **ADMIN))],
            allocatedDevices=make.held("part-0"),
        ),
        ["part-1"],
    ),
    "what another claim of the pod has got is not like what is free": (
        make.scenario(
            [
                make.resource_slice(
                    "s",
                    [
                        make.device("one"),
                        make.device("two", attributes={"kind": "x"}),
                        make.device("three"),
                    ],
                )
            ],
            [
                make.claim("a", make.request("r", "any", 1, f"'kind' in device.attributes['{make.DRIVER}']")),
                make.claim("b", make.request("look", "any", **ADMIN), make.request("work", "any", 2)),
            ],
        ),
        ["two", "two", "one", "three"],
    ),
}


FULL = f"{make.DRIVER}/memory"


def shared(
    consumed: str | None, *wanted: str, asked: str = "memory", offered: str = "memory", used: str = "memory"
) -> make.Document:
    """One device of 4 that may be shared, one share of it in use. What is asked for, offered and used may be
    called by different names."""
    where = {"driver": make.DRIVER, "pool": "pool", "device": "device"}
    requests = [
        make.request(f"r{n}", "any", capacity={"requests": {asked: want}}) for n, want in enumerate(wanted)
    ]
    return make.scenario(
        [
            make.resource_slice(
                "s", [make.device("device", capacity={offered: "4"}, allowMultipleAllocations=True)]
            )
        ],
        [make.claim("a", *requests)],
        aggregatedCapacity=[{**where, "capacity": {used: consumed}}] if consumed else [],
    )


SHARES: dict[str, tuple[make.Document, list[str]]] = {
    "what is consumed is not given again": (shared("3", "2"), ["none"]),
    "less than nothing consumed makes no room": (shared("-1", "1"), ["none"]),
    "whoever consumes what cannot be read": (shared("much", "1"), ["none"]),
    "two requests of one claim": (shared("1", "1", "2"), ["device", "device"]),
    "asked for with the driver's domain": (shared(None, "3", asked=FULL), ["device"]),
    "too much asked for with the driver's domain": (shared(None, "5", asked=FULL), ["none"]),
    "offered with the driver's domain": (shared("1", "3", offered=FULL), ["device"]),
    "used up with the driver's domain": (shared("2", "3", used=FULL), ["none"]),
    "offered with it now, used without it": (shared("2", "3", offered=FULL), ["none"]),
    "asked for with another domain": (shared(None, "1", asked="other.example.com/memory"), ["none"]),
}

POOLS: dict[str, tuple[make.Document, list[str]]] = {
    f"slices that say {' and '.join(map(str, counts))}, {mode or 'one device'}": (
        make.scenario(said(*counts), [make.claim("a", make.request("r", "any", **mode))]),
        [
            "claim default/a, request r: asks for all devices, but resource pool gpu.example.com/pool is "
            "currently being updated"
            if mode
            else "none"
        ],
    )
    for counts in [(1, 2), (2, 1), (2, 3)]
    for mode in [{}, EVERY]
}


@pytest.mark.parametrize(
    ("scenario", "wanted"),
    [*ADMIN_ACCESS.values(), *NEGATIVE.values(), *SHARES.values(), *POOLS.values()],
    ids=[*ADMIN_ACCESS, *NEGATIVE, *SHARES, *POOLS],
)
def test_answer(scenario: make.Document, wanted: list[str]) -> None:
    assert answer(scenario) == wanted


def test_a_selector_of_two_terms_fails_on_its_node_only() -> None:
    """Older servers let it through; the pod may still go elsewhere."""
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    device = make.device("device", nodeSelector={"nodeSelectorTerms": [term, term]})
    slices = [
        make.resource_slice("broken", [device], perDeviceNodeSelection=True),
        make.resource_slice("fine", [make.device("device")], pool="other", nodeName="other"),
    ]
    scenario = msgspec.convert(make.scenario(slices, [make.claim("a", make.request("r", "any"))]), Scenario)
    state = scenario.state(profile_for("1.37"))
    assert scenario.node is not None
    allocator = Allocator(scenario.claims_to_allocate or [], state, share_id=str)
    with pytest.raises(FailedOnNode, match="NodeSelector with 2 terms"):
        allocator.allocate(scenario.node)
    other = msgspec.convert({"metadata": {"name": "other"}}, Node)
    results = allocator.allocate(other)
    assert results is not None
    assert results[0].devices.results[0].pool == "other"
