"""The search against brute force on small clusters: the same devices, the same nothing, the same errors."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drakit.allocator import Allocator
from drakit.cli.allocate import Scenario
from drakit.errors import AllocationError
from drakit.model.meta import Node
from drakit.model.resource import AllocationResult
from drakit.profile import profile_for
from tests.allocator import make
from tests.allocator.checker import Checker
from tests.allocator.naive import Naive, Stopped

Document = dict[str, Any]
PROFILE = profile_for("1.37")
NUMA = f"{make.DRIVER}/numa"
ROOT = "resource.kubernetes.io/pcieRoot"
SELECTORS = [
    "true",
    f"device.attributes['{make.DRIVER}'].numa == 0",
    f"device.attributes['{make.DRIVER}'].kind != 'a'",
    f"device.attributes['{make.DRIVER}'].number in [0, 3, 4]",
    f"device.attributes['{make.DRIVER}'].number in [1, 2, 4]",
    f"device.attributes['{make.DRIVER}'].number > 1",
    "device.allowMultipleAllocations",
]


def cluster(random: Random) -> Document:
    """A node with up to nine devices in up to two pools, partly in use."""
    slices, held = [], []
    for number in range(random.choice([1, 1, 2])):
        pool = f"pool-{number}"
        has_counters = random.random() < 0.4
        devices = [
            one_device(random, index, has_counters) for index in range(random.randint(1, 6 - 2 * number))
        ]
        count = 1 + has_counters
        slices.append(make.resource_slice(f"{pool}-devices", devices, pool=pool, count=count))
        if has_counters:
            sets = {f"set-{i}": {"memory": str(random.randint(2, 5)), "cores": "4"} for i in range(2)}
            slices.append(make.resource_slice(f"{pool}-counters", counters=sets, pool=pool, count=count))
        held += [
            {"driver": make.DRIVER, "pool": pool, "device": d["name"]}
            for d in devices
            if random.random() < 0.15 and "consumesCounters" not in d
        ]
    claims = [one_claim(random, index) for index in range(random.choice([1, 1, 2, 3]))]
    return make.scenario(slices, claims, allocatedDevices=held)


def one_device(random: Random, index: int, has_counters: bool) -> Document:
    attributes: Document = {"kind": random.choice(["a", "b"]), "number": index}
    if random.random() < 0.9:
        attributes["numa"] = random.randint(0, 2)
    if random.random() < 0.9:
        attributes[ROOT] = random.choice(["x", "y", "z"])
    fields: Document = {}
    if random.random() < 0.15:
        fields["taints"] = [{"key": "k", "effect": random.choice(["NoSchedule", "None"])}]
    if random.random() < 0.25:
        fields |= {"allowMultipleAllocations": True, "capacity": {"memory": random.choice(["4", "6", "10"])}}
    if has_counters and random.random() < 0.8:
        counters = {"memory": str(random.randint(1, 3)), "cores": str(random.randint(0, 2))}
        fields["consumesCounters"] = make.consumes(f"set-{random.randint(0, 1)}", **counters)
    return make.device(f"dev-{index}", attributes=attributes, **fields)


def one_asked(random: Random, is_sub: bool) -> Document:
    fields: Document = {}
    if random.random() < 0.15:
        fields["tolerations"] = [{"operator": "Exists"}]
    if random.random() < 0.3:
        fields["capacity"] = {"requests": {"memory": random.choice(["1", "2", "3", "5"])}}
    if random.random() < 0.1:
        fields["allocationMode"] = "All"
    if random.random() < 0.1 and not is_sub:
        fields["adminAccess"] = True
    selectors = [random.choice(SELECTORS)] if random.random() < 0.4 else []
    return make.asked("any", random.choice([1, 1, 1, 2, 2, 3]), *selectors, **fields)


def one_claim(random: Random, index: int) -> Document:
    requests = []
    for number in range(random.choice([1, 1, 2, 3])):
        if random.random() < 0.25:
            subs = {f"s{i}": one_asked(random, True) for i in range(random.randint(1, 3))}
            requests.append(make.first_available(f"r{number}", **subs))
        else:
            requests.append({"name": f"r{number}", "exactly": one_asked(random, False)})
    constraints = []
    for _ in range(random.choice([0, 0, 1, 1, 2])):
        kind = random.choice(["matchAttribute", "matchAttribute", "distinctAttribute"])
        names = [r["name"] for r in requests if random.random() < 0.6] if random.random() < 0.5 else []
        constraints.append({kind: random.choice([NUMA, ROOT]), "requests": names})
    return make.claim(f"c{index}", *requests, constraints=constraints)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=True))
def test_brute_force(random: Random) -> None:
    check(cluster(random))


def answer(allocator: Allocator, node: Node) -> list[AllocationResult] | str | None:
    """The results, None, or the error's text."""
    try:
        return allocator.allocate(node)
    except AllocationError as error:
        return str(error)


def rows_of(found: list[AllocationResult] | str | None) -> object:
    if isinstance(found, list):
        return [[(row.request, row.device) for row in result.devices.results] for result in found]
    return None if found is None else "gave up" if "gave up" in found else "error"


def naive_rows(document: Document) -> object:
    try:
        return Naive(document).solve()
    except Stopped:
        return "error"


def check(document: Document) -> None:
    """The allocator must say what brute force says, and leave no trace of having been asked."""
    before = json.dumps(document)
    scenario = msgspec.convert(document, Scenario)
    state = scenario.state(scenario.profile(PROFILE))
    assert scenario.node is not None
    assert scenario.claims_to_allocate is not None
    revision = state.revision
    allocator = Allocator(scenario.claims_to_allocate, state, share_id=lambda: "share", step_limit=5000)
    for _ in range(2):
        found = answer(allocator, scenario.node)
        assert rows_of(found) == naive_rows(document), before
        if isinstance(found, list):
            Checker(document).check([msgspec.to_builtins(result) for result in found])
    assert state.revision == revision
    assert json.dumps(document) == before
