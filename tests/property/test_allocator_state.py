"""A state that lived through many changes answers like one made from what is left of them."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drakit.allocator import Allocator, State
from drakit.errors import AllocationError
from drakit.model.meta import Node, ObjectMeta
from drakit.model.resource import (
    AllocationResult,
    DeviceClass,
    DeviceTaintRule,
    ResourceClaim,
    ResourceSlice,
)
from drakit.profile import profile_for
from tests.allocator import make
from tests.property.test_allocator_search import one_claim, one_device

PROFILE = profile_for("1.37")
NODES = {name: Node(metadata=ObjectMeta(name=name, labels={"zone": name[-1]})) for name in ("n0", "n1", "n2")}
WHERE = [
    {"nodeName": "n0"},
    {"nodeName": "n0"},
    {"nodeName": "n1"},
    {"nodeName": "n2"},
    {"allNodes": True},
    {
        "nodeSelector": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["1"]}]}]
        }
    },
]


class History:
    """The state that is changed, and all it was told that still holds."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.state = State(PROFILE)
        self.slices: dict[str, ResourceSlice] = {}
        self.rules: dict[str, DeviceTaintRule] = {}
        self.taken: dict[str, AllocationResult] = {}
        self.any = msgspec.convert(make.device_class("any"), DeviceClass)
        self.state.apply_class(self.any)

    def change(self) -> None:
        self.random.choice(
            [self.publish, self.publish, self.withdraw, self.taint, self.take, self.take, self.release]
        )()

    def publish(self) -> None:
        random = self.random
        name = f"slice-{random.randint(0, 4)}"
        devices = [one_device(random, index, False) for index in range(random.randint(0, 3))]
        document = make.resource_slice(
            name,
            devices,
            pool=f"pool-{random.randint(0, 2)}",
            count=random.choice([1, 1, 1, 2]),
            generation=random.choice([1, 1, 2]),
            **random.choice(WHERE),
        )
        self.slices[name] = msgspec.convert(document, ResourceSlice)
        self.state.apply_slice(self.slices[name])

    def withdraw(self) -> None:
        name = f"slice-{self.random.randint(0, 4)}"
        self.slices.pop(name, None)
        self.state.remove_slice(name)

    def taint(self) -> None:
        name = f"rule-{self.random.randint(0, 1)}"
        if self.rules.pop(name, None) is not None:
            self.state.remove_taint_rule(name)
            return
        selector = {"device": f"dev-{self.random.randint(0, 2)}"}
        spec = {"deviceSelector": selector, "taint": {"key": name, "effect": "NoSchedule"}}
        self.rules[name] = msgspec.convert({"metadata": {"name": name}, "spec": spec}, DeviceTaintRule)
        self.state.apply_taint_rule(self.rules[name])

    def take(self) -> None:
        claims = [msgspec.convert(make.claim("c", make.request("r")), ResourceClaim)]
        found = answers(self.state, claims, [self.random.choice(list(NODES.values()))])[0]
        if isinstance(found, list):
            uid = f"uid-{self.random.randint(0, 5)}"
            self.taken[uid] = found[0]
            self.state.take(uid, found[0])

    def release(self) -> None:
        uid = f"uid-{self.random.randint(0, 5)}"
        self.taken.pop(uid, None)
        self.state.release(uid)

    def fresh(self) -> State:
        """The same cluster, seen for the first time."""
        state = State(PROFILE)
        for uid, result in self.taken.items():
            state.take(uid, result)
        for rule in self.rules.values():
            state.apply_taint_rule(rule)
        for published in self.slices.values():
            state.apply_slice(published)
        state.apply_class(self.any)
        return state


def answers(
    state: State, claims: list[ResourceClaim], nodes: list[Node]
) -> list[list[AllocationResult] | str | None]:
    found: list[list[AllocationResult] | str | None] = []
    for node in nodes:
        try:
            found.append(Allocator(claims, state, share_id=lambda: "share").allocate(node))
        except AllocationError as error:
            found.append(str(error))
    return found


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=True))
def test_history_does_not_matter(random: Random) -> None:
    history = History(random)
    documents = [one_claim(random, index) for index in range(3)]
    asked = [[msgspec.convert(document, ResourceClaim)] for document in documents]
    nodes = list(NODES.values())
    for _ in range(25):
        history.change()
        claims = random.choice(asked)
        fresh = history.fresh()
        expected = answers(fresh, claims, nodes)
        assert answers(history.state, claims, nodes) == expected
        names = {node.metadata.name for node, found in zip(nodes, expected, strict=True) if found is not None}
        invalid = {
            node.metadata.name
            for node, found in zip(nodes, expected, strict=True)
            if isinstance(found, str) and "invalid resource pools" in found
        }
        assert Allocator(claims, history.state, share_id=str).prospects(NODES) == names - invalid
