"""The state: what changes change, and what is forgotten and remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from drakit.allocator import Allocator, State
from drakit.errors import AllocationError, FailedOnNode
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

NODE = Node(metadata=ObjectMeta(name="node"))


def slice_of(*names: str, name: str = "slice", **fields: Any) -> ResourceSlice:
    return msgspec.convert(
        make.resource_slice(name, [make.device(n) for n in names], **fields), ResourceSlice
    )


def state_of(*slices: ResourceSlice, version: str = "1.37", gates: Mapping[str, bool] | None = None) -> State:
    state = State(profile_for(version, gates or {}))
    state.apply_class(msgspec.convert(make.device_class("any"), DeviceClass))
    for published in slices:
        state.apply_slice(published)
    return state


def claim_of(*requests: dict[str, Any], name: str = "c", **fields: Any) -> ResourceClaim:
    return msgspec.convert(make.claim(name, *requests, **fields), ResourceClaim)


def allocate(state: State, *requests: dict[str, Any], node: Node = NODE) -> list[str] | None:
    """The devices of one claim."""
    found = results(state, *requests, node=node)
    return None if found is None else [row.device for row in found[0].devices.results]


def results(state: State, *requests: dict[str, Any], node: Node = NODE) -> list[AllocationResult] | None:
    claim = claim_of(*(requests or (make.request("r"),)))
    return Allocator([claim], state, share_id=lambda: "share").allocate(node)


def take(state: State, uid: str, *requests: dict[str, Any]) -> AllocationResult:
    found = results(state, *requests)
    assert found is not None
    state.take(uid, found[0], f"default/{uid}")
    return found[0]


def test_take_and_release() -> None:
    state = state_of(slice_of("a", "b"))
    first = take(state, "one")
    assert allocate(state) == ["b"]
    assert state.holders(make.DRIVER, "pool", "a") == ("default/one",)
    take(state, "two")
    assert allocate(state) is None
    state.release("one")
    assert allocate(state) == ["a"]
    state.take("two", first, "default/two")
    assert allocate(state) == ["b"]


def test_revision_follows_changes() -> None:
    state = state_of(slice_of("a", "b"))
    revision = state.revision
    result = take(state, "one")
    assert state.revision == revision + 1
    state.take("one", result, "default/one")
    state.release("nobody")
    state.remove_slice("nothing")
    state.remove_class("nothing")
    state.remove_taint_rule("nothing")
    assert allocate(state) == ["b"]
    assert state.revision == revision + 1


def test_slices_come_and_go() -> None:
    state = state_of()
    assert allocate(state) is None
    state.apply_slice(slice_of("a"))
    assert allocate(state) == ["a"]
    state.apply_slice(slice_of("b"))
    assert allocate(state) == ["b"]
    state.apply_slice(slice_of("c", nodeName="other"))
    assert allocate(state) is None
    assert allocate(state, node=Node(metadata=ObjectMeta(name="other"))) == ["c"]
    state.remove_slice("slice")
    assert allocate(state, node=Node(metadata=ObjectMeta(name="other"))) is None


def test_slice_moves_to_another_pool() -> None:
    state = state_of(slice_of("a"))
    assert allocate(state) == ["a"]
    state.apply_slice(slice_of("a", pool="elsewhere"))
    found = results(state)
    assert found is not None
    assert found[0].devices.results[0].pool == "elsewhere"


def test_labels_decide_about_wide_pools() -> None:
    selector = {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
    }
    state = state_of(slice_of("a", nodeSelector=selector))
    assert allocate(state) is None
    inside = Node(metadata=ObjectMeta(name="node", labels={"zone": "a"}))
    assert allocate(state, node=inside) == ["a"]
    assert allocate(state) is None


def test_declared_features_decide_about_skipped_operations() -> None:
    state = state_of(slice_of("a", nodeName="node", skipNodeOperations=["*"]), gates={"all": True})
    assert allocate(state) is None
    declared = Node(
        metadata=ObjectMeta(name="node"), status={"declaredFeatures": ["DRAOptionalNodeOperations"]}
    )
    assert allocate(state, node=declared) == ["a"]
    assert allocate(state) is None


def test_class_changes() -> None:
    state = state_of(slice_of("a"))
    assert allocate(state) == ["a"]
    state.apply_class(msgspec.convert(make.device_class("any", "false"), DeviceClass))
    assert allocate(state) is None
    state.remove_class("any")
    with pytest.raises(
        AllocationError, match=r"claim default/c, request r: could not retrieve device class any"
    ):
        allocate(state)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, ["a"]),
        ({}, None),
        ({"device": "a"}, ["b"]),
        ({"driver": make.DRIVER}, None),
        ({"driver": "other"}, ["a"]),
        ({"pool": "pool", "device": "a"}, ["b"]),
        ({"pool": "other", "device": "a"}, ["a"]),
    ],
)
def test_taint_rules(selector: dict[str, str] | None, expected: list[str] | None) -> None:
    state = state_of(slice_of("a", "b"))
    spec: dict[str, Any] = {"taint": {"key": "k", "effect": "NoExecute"}}
    if selector is not None:
        spec["deviceSelector"] = selector
    rule = msgspec.convert({"metadata": {"name": "rule"}, "spec": spec}, DeviceTaintRule)
    state.apply_taint_rule(rule)
    assert allocate(state) == expected
    assert allocate(state, make.request("r", tolerations=[{"operator": "Exists"}])) == ["a"]
    state.remove_taint_rule("rule")
    assert allocate(state) == ["a"]


def test_taint_rules_need_their_gate() -> None:
    state = state_of(slice_of("a"), version="1.36")
    spec = {"deviceSelector": {}, "taint": {"key": "k", "effect": "NoExecute"}}
    state.apply_taint_rule(msgspec.convert({"metadata": {"name": "rule"}, "spec": spec}, DeviceTaintRule))
    assert allocate(state) == ["a"]


def test_vanished_device_keeps_its_counters() -> None:
    def devices(*names: str) -> ResourceSlice:
        rows = [make.device(n, consumesCounters=make.consumes("set", memory="1")) for n in names]
        return msgspec.convert(make.resource_slice("devices", rows, count=2), ResourceSlice)

    counters = make.resource_slice("counters", counters={"set": {"memory": "2"}}, count=2)
    state = state_of(devices("a", "b", "c"), msgspec.convert(counters, ResourceSlice))
    take(state, "one")
    state.apply_slice(devices("b", "c"))
    assert allocate(state) == ["b"]
    assert allocate(state, make.request("r", "any", 2)) is None
    state.release("one")
    assert allocate(state, make.request("r", "any", 2)) == ["b", "c"]


def test_shares() -> None:
    shared = make.device("a", capacity={"memory": "10"}, allowMultipleAllocations=True)
    state = state_of(msgspec.convert(make.resource_slice("slice", [shared]), ResourceSlice))
    ask = make.request("r", capacity={"requests": {"memory": "4"}})
    result = take(state, "one", ask)
    assert result.devices.results[0].consumed_capacity == {"memory": "4"}
    take(state, "two", ask)
    assert allocate(state, ask) is None
    assert allocate(state, make.request("r", capacity={"requests": {"memory": "2"}})) == ["a"]
    state.release("one")
    assert allocate(state, ask) == ["a"]
    assert state.holders(make.DRIVER, "pool", "a") == ("default/two",)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (make.resource_slice("s", [make.device("a"), make.device("a")]), "duplicate device name a"),
        (
            make.resource_slice("s", [make.device("a", consumesCounters=make.consumes("none", x="1"))]),
            "counter set none not found",
        ),
        (
            make.resource_slice(
                "s",
                [make.device("a")],
                nodeSelector={
                    "nodeSelectorTerms": [{"matchFields": [{"key": "x", "operator": "In", "values": ["y"]}]}]
                },
            ),
            None,
        ),
    ],
)
def test_broken_slice_breaks_only_its_pool(broken: dict[str, Any], message: str | None) -> None:
    state = state_of(msgspec.convert(broken, ResourceSlice), slice_of("good", name="other", pool="good"))
    assert allocate(state) == ["good"]
    take(state, "one")
    if message is None:
        assert allocate(state) is None
        return
    with pytest.raises(FailedOnNode, match=f"invalid resource pools were encountered: .*/pool: {message}"):
        allocate(state)


def test_prospects_follow_changes() -> None:
    nodes = {f"n{i}": Node(metadata=ObjectMeta(name=f"n{i}")) for i in range(4)}
    state = state_of(*(slice_of("a", name=name, pool=name, nodeName=name) for name in list(nodes)[:3]))
    claims = [claim_of(make.request("r"))]

    def prospects() -> set[str]:
        return set(Allocator(claims, state, share_id=str).prospects(nodes))

    assert prospects() == {"n0", "n1", "n2"}
    found = Allocator(claims, state, share_id=str).allocate(nodes["n1"])
    assert found is not None
    state.take("one", found[0])
    assert prospects() == {"n0", "n2"}
    state.apply_slice(slice_of("a", name="n3", pool="n3", nodeName="n3"))
    assert prospects() == {"n0", "n2", "n3"}
    state.release("one")
    assert prospects() == {"n0", "n1", "n2", "n3"}
    del nodes["n0"]
    assert prospects() == {"n1", "n2", "n3"}
    state.apply_slice(slice_of("everywhere", name="wide", pool="wide", allNodes=True))
    nodes["n9"] = Node(metadata=ObjectMeta(name="n9"))
    assert prospects() == {"n1", "n2", "n3", "n9"}
    state.remove_class("any")
    assert prospects() == set(nodes)
