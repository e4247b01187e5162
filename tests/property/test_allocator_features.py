"""The search against brute force with every feature at once, and on nodes whose parts look alike."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.allocator import make
from tests.property.test_allocator_search import ROOT, check

Document = dict[str, Any]
NUMA = f"{make.DRIVER}/numa"
NEAR = f"{make.DRIVER}/near"
HALF = "example.com/half"
OF_NUMA = f"device.attributes['{make.DRIVER}'].numa"
SELECTORS = ["true", f"{OF_NUMA} < 2", f"device.attributes['{make.DRIVER}'].kind == 'a'"]
DERIVED = [
    f"{OF_NUMA} / 2",
    f"device.attributes['{make.DRIVER}'].kind",
    f"[int({OF_NUMA}), int({OF_NUMA}) + 1]",
]
POLICIES: list[Document] = [
    {"default": "2", "validValues": ["2", "4"]},
    {"default": "1", "validRange": {"min": "1", "step": "2", "max": "5"}},
    {"default": "3", "validRange": {"min": "2"}},
]


def everything(random: Random) -> Document:
    """A node with up to eight devices in up to two pools that use any features."""
    slices, held, shared = [], [], []
    for number in range(random.choice([1, 1, 2])):
        pool = f"pool-{number}"
        has_counters, per_device = random.random() < 0.6, random.random() < 0.2
        devices = [
            device(random, i, has_counters, per_device) for i in range(random.randint(1, 6 - 2 * number))
        ]
        where: Document = {"perDeviceNodeSelection": True} if per_device else {"nodeName": "node"}
        count = 1 + has_counters
        slices.append(make.resource_slice(f"{pool}-d", devices, pool=pool, count=count, **where))
        if has_counters:
            sets = {f"set-{i}": {"memory": str(random.randint(2, 6)), "cores": "4"} for i in range(2)}
            slices.append(make.resource_slice(f"{pool}-c", counters=sets, pool=pool, count=count))
        for one in devices:
            if random.random() < 0.15 and not one.get("allowMultipleAllocations"):
                held += make.held(one["name"], pool=pool)
            elif random.random() < 0.3 and one.get("allowMultipleAllocations"):
                capacity = {name: "1" for name in one["capacity"]}
                shared.append({**make.held(one["name"], pool=pool)[0], "capacity": capacity})
    claims = [claim(random, index) for index in range(random.choice([1, 1, 2, 3]))]
    return make.scenario(slices, claims, allocatedDevices=held, aggregatedCapacity=shared, features="all")


def device(random: Random, index: int, has_counters: bool, per_device: bool) -> Document:
    numa = random.randint(0, 2)
    attributes: Document = {"kind": random.choice(["a", "b"]), "numa": numa}
    if random.random() < 0.8:
        attributes[ROOT] = random.choice(["x", "y", "z"])
    if random.random() < 0.8:
        attributes[NEAR] = sorted(random.sample(["0", "1", "2", "3"], random.randint(1, 3)))
    fields: Document = {}
    if random.random() < 0.15:
        fields["taints"] = [
            {"key": "k", "value": "v", "effect": random.choice(["NoSchedule", "NoExecute", "None"])}
        ]
    if random.random() < 0.1:
        fields["bindingConditions"] = ["ready"]
    if random.random() < 0.4:
        value = random.choice(["4", "6", "10"])
        memory: Document = {"value": value}
        if random.random() < 0.4:
            memory["requestPolicy"] = random.choice(POLICIES)
        fields["capacity"] = {"memory": memory}
        if random.random() < 0.3:
            fields["capacity"]["cores"] = {"value": random.choice(["2", "3"])}
        fields["allowMultipleAllocations"] = random.random() < 0.8
    if has_counters and random.random() < 0.8:
        fields["consumesCounters"] = [
            need(random, f"set-{i}") for i in random.sample([0, 1], random.choice([1, 1, 2]))
        ]
    if per_device:
        fields |= random.choice([{"nodeName": "node"}, {"nodeName": "other"}, {"allNodes": True}])
    return make.device(f"dev-{index}", attributes=attributes, **fields)


def need(random: Random, counter_set: str) -> Document:
    (found,) = make.consumes(counter_set, memory=str(random.randint(1, 3)), cores=str(random.randint(0, 2)))
    if random.random() < 0.4:
        found["compatibilityGroups"] = random.sample(["A", "B", "C"], random.choice([1, 2]))
    return found


def asked(random: Random, is_sub: bool, derived: str) -> Document:
    fields: Document = {}
    if random.random() < 0.2:
        fields["tolerations"] = [random.choice([{"operator": "Exists"}, {"key": "k", "value": "v"}])]
    if random.random() < 0.3:
        fields["capacity"] = {"requests": {"memory": random.choice(["1", "2", "3", "5"])}}
    if random.random() < 0.1:
        fields["allocationMode"] = "All"
    if random.random() < 0.1 and not is_sub:
        fields["adminAccess"] = True
    if derived and random.random() < 0.7:
        fields["derivedAttributes"] = [{"name": derived, "expression": random.choice(DERIVED)}]
    selectors = [random.choice(SELECTORS)] if random.random() < 0.3 else []
    return make.asked("any", random.choice([1, 1, 1, 2, 2, 3]), *selectors, **fields)


def claim(random: Random, index: int) -> Document:
    names = [random.choice([NUMA, ROOT, NEAR, HALF]) for _ in range(random.choice([0, 0, 1, 1, 2]))]
    derived = HALF if HALF in names else NUMA if NUMA in names and random.random() < 0.3 else ""
    requests = []
    for number in range(random.choice([1, 1, 2, 3])):
        if random.random() < 0.25:
            subs = {f"s{i}": asked(random, True, derived) for i in range(random.randint(1, 3))}
            requests.append(make.first_available(f"r{number}", **subs))
        else:
            requests.append({"name": f"r{number}", "exactly": asked(random, False, derived)})
    constraints = []
    for name in names:
        kind = random.choice(["matchAttribute", "matchAttribute", "distinctAttribute"])
        some = [r["name"] for r in requests if random.random() < 0.6] if random.random() < 0.5 else []
        constraints.append({kind: name, "requests": some})
    return make.claim(f"c{index}", *requests, constraints=constraints)


def twins(random: Random) -> Document:
    """NUMA nodes alike, each with plain devices and one that can be shared, or GPUs with partitions."""
    devices = []
    for node in range(random.choice([2, 3, 3])):
        shape = Random(random.random() < 0.2)
        for number in range(shape.choice([1, 2])):
            devices.append(make.device(f"d{node}{number}", attributes={"numa": node, "kind": "a"}))
        memory = random.choice(["2", "2", "3"])
        fields: Document = {"allowMultipleAllocations": True, "capacity": {"memory": memory}}
        devices.append(make.device(f"s{node}", attributes={"numa": node, "kind": "b"}, **fields))
    random.shuffle(devices)
    claims = []
    for index in range(random.choice([1, 2, 3])):
        requests = [small(random, f"r{number}") for number in range(random.choice([1, 2, 3]))]
        constraints = [{"matchAttribute": NUMA}] if random.random() < 0.8 else []
        claims.append(make.claim(f"c{index}", *requests, constraints=constraints))
    return make.scenario([make.resource_slice("s", devices)], claims)


def small(random: Random, name: str) -> Document:
    kind = random.choice(["a", "a", "b", "b", ""])
    selectors = [f"device.attributes['{make.DRIVER}'].kind == '{kind}'"] if kind else []
    capacity = {"capacity": {"requests": {"memory": random.choice(["1", "2"])}}} if kind == "b" else {}
    return make.request(name, "any", 1 if kind else random.choice([1, 2]), *selectors, **capacity)


def tight(random: Random) -> Document:
    """GPUs that can be shared or partitioned, and requests that fill them, or nearly so."""
    each = random.randint(2, 3)
    sizes = [random.randint(1, 5) for _ in range(each * 2)]
    total = max(5, -(-sum(sizes) // each) + random.choice([0, 0, 1]))
    requests = []
    if random.random() < 0.5:
        shared = {"allowMultipleAllocations": True, "capacity": {"memory": str(total)}}
        slices = [make.resource_slice("s", [make.device(f"g{i}", **shared) for i in range(each)])]
        for number, size in enumerate(sizes):
            requests.append(make.request(f"r{number}", capacity={"requests": {"memory": str(size)}}))
    else:
        devices = [
            make.device(
                f"g{i}-{size}",
                attributes={"size": size},
                consumesCounters=make.consumes(f"g{i}", m=str(size)),
            )
            for i in range(each)
            for size in sorted(set(sizes))
        ]
        counters = {f"g{i}": {"m": str(total)} for i in range(each)}
        slices = [
            make.resource_slice("s", devices, count=2),
            make.resource_slice("c", counters=counters, count=2),
        ]
        for number, size in enumerate(sizes):
            requests.append(
                make.request(f"r{number}", "any", 1, f"device.attributes['{make.DRIVER}'].size == {size}")
            )
    claims = [make.claim("c", *requests)]
    if random.random() < 0.5:
        claims = [make.claim(f"c{number}", request) for number, request in enumerate(requests)]
    return make.scenario(slices, claims)


@pytest.mark.parametrize(("build", "examples"), [(everything, 200), (twins, 120), (tight, 50)])
def test_brute_force(build: Any, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=True))
    def agrees(random: Random) -> None:
        check(build(random))

    agrees()
