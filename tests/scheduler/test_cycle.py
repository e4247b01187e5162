"""Decisions over documents as the informers would bring them, without any API."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from drakit.allocator import State
from drakit.profile import profile_for
from drakit.scheduler.claim import Claims
from drakit.scheduler.cycle import Cycle
from drakit.scheduler.decision import Decision
from drakit.scheduler.dynamic import DynamicResources
from drakit.scheduler.extended import ExtendedResources
from drakit.scheduler.feed import Feed
from drakit.scheduler.inventory import Inventory, enough
from drakit.scheduler.metrics import Metrics
from drakit.scheduler.queue import Entry, Place, SchedulingQueue
from drakit.scheduler.reason import Failure, Wake
from tests.scheduler.make import (
    DRIVER,
    Document,
    Hands,
    claim,
    device,
    device_class,
    node,
    pod,
    request,
    resource_slice,
    stored,
)


class World:
    """Everything a run has except the loop and the API: `put` and `remove` play the informers."""

    def __init__(self, *documents: Document) -> None:
        self.clock = Hands()
        self.documents: dict[tuple[str, str], Document] = {}
        self.metrics = Metrics()
        state = State(profile_for("1.37"))
        self.queue = SchedulingQueue(self.clock, lambda: None)
        self.inventory = Inventory()
        self.claims = Claims(
            state,
            lambda key: self.documents.get(("ResourceClaim", key)),
            lambda *freed: self.feed.freed(*freed),
        )
        self.dynamic = dynamic = DynamicResources(
            state,
            self.claims,
            ExtendedResources(),
            lambda name: ("DeviceClass", name) in self.documents,
            self.clock.now,
        )
        self.feed = Feed(
            "default-scheduler",
            inventory=self.inventory,
            claims=self.claims,
            dynamic=dynamic,
            state=state,
            queue=self.queue,
            metrics=self.metrics,
            forget=lambda uid: None,
        )
        self.cycle = Cycle(self.inventory, dynamic, self.metrics)
        for document in documents:
            self.put(document)

    def put(self, document: Document, *, assume: bool = False) -> Document:
        """`document` is created, or changed where it exists; returns it as stored. With `assume` it is a
        claim that the API accepted from us before the informer shows it."""
        meta = document["metadata"]
        key = (
            document["kind"],
            f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else meta["name"],
        )
        old = self.documents.get(key)
        new = stored(document)
        if old is not None:
            new["metadata"]["uid"] = old["metadata"]["uid"]
        if assume:
            self.claims.assume(new)
        self.documents[key] = new
        self._tell(old, new)
        return new

    def remove(self, document: Document) -> None:
        meta = document["metadata"]
        key = (
            document["kind"],
            f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else meta["name"],
        )
        self._tell(self.documents.pop(key), None)

    def _tell(self, old: Document | None, new: Document | None) -> None:
        handlers = {
            "Node": self.feed.node_changed,
            "Pod": self.feed.pod_changed,
            "ResourceClaim": self.feed.claim_changed,
            "ResourceSlice": self.feed.slice_changed,
            "DeviceClass": self.feed.class_changed,
        }
        kind = (new or old or {})["kind"]
        handlers[kind](old, new)

    def pop(self) -> Entry:
        entry = self.queue.pop()
        assert entry is not None
        return entry

    def decide(self) -> Decision | Failure:
        """The outcome for the pod whose turn it is; a decision is assumed, a failure parks."""
        entry = self.pop()
        outcome = self.cycle.decide(entry.pod)
        if isinstance(outcome, Decision):
            self.inventory.place(entry.pod, outcome.node)
        else:
            self.queue.park(entry, outcome.wakes)
        return outcome

    def placed(self) -> Decision:
        outcome = self.decide()
        assert isinstance(outcome, Decision), outcome
        return outcome

    def failed(self) -> Failure:
        outcome = self.decide()
        assert isinstance(outcome, Failure), outcome
        return outcome

    def written(self, decision: Decision) -> None:
        """The API accepted `decision`: claims first, then the binding, as the informers show it."""
        for uid, allocation in decision.promises.items():
            document = next(d for d in self.documents.values() if d["metadata"]["uid"] == uid)
            consumer = {"resource": "pods", "name": decision.pod.name, "uid": decision.pod.uid}
            self.put(
                {**document, "status": {"allocation": allocation, "reservedFor": [consumer]}}, assume=True
            )
        self.put(_bound(decision.pod.document, decision.node))


def _bound(document: Document, node_name: str) -> Document:
    return {**document, "spec": {**document["spec"], "nodeName": node_name}}


def devices_of(decision: Decision) -> list[str]:
    return [
        f"{row['pool']}/{row['device']}"
        for allocation in decision.promises.values()
        for row in allocation["devices"]["results"]
    ]


def cluster(nodes: int = 3, devices: int = 1) -> list[Document]:
    found: list[Document] = [device_class()]
    for index in range(nodes):
        found += [node(f"n{index}"), resource_slice(f"n{index}", devices)]
    return found


def test_each_claim_gets_a_device_of_its_own_before_any_write_is_seen() -> None:
    world = World(*cluster(nodes=2, devices=2))
    for index in range(5):
        world.put(claim(f"c{index}"))
        world.put(pod(f"p{index}", claims=[f"c{index}"]))
    taken = [device for _ in range(4) for device in devices_of(world.placed())]
    assert sorted(taken) == ["n0/d0", "n0/d1", "n1/d0", "n1/d1"]
    failure = world.failed()
    assert failure.message == (
        "0/2 nodes are available: 2 cannot serve "
        "claim default/c4 request r: 1 device wanted, 0 free (4 taken)."
    )
    assert failure.wakes & Wake.DEVICES


def test_the_devices_of_a_decision_that_failed_are_free_again_and_wake_the_pod_that_waits() -> None:
    world = World(*cluster(nodes=1))
    for name in "ab":
        world.put(claim(name))
        world.put(pod(name, claims=[name]))
    first = world.placed()
    world.failed()
    (uid,) = first.promises
    world.claims.unreserve(uid, "default/a")
    world.inventory.remove_pod(first.pod.uid)
    assert world.placed().pod.name == "b"


def test_a_claim_allocated_by_somebody_else_is_not_free_after_our_own_attempt_failed() -> None:
    world = World(*cluster(nodes=1))
    mine = world.put(claim("mine"))
    world.put(pod("p", claims=["mine"]))
    decision = world.placed()
    (uid,) = decision.promises
    other = {"devices": {"results": [{"request": "r", "driver": DRIVER, "pool": "n0", "device": "d0"}]}}
    world.put({**mine, "status": {"allocation": other}})
    world.claims.unreserve(uid, "default/mine")
    world.inventory.remove_pod(decision.pod.uid)
    world.put(claim("second"))
    world.put(pod("q", claims=["second"]))
    assert "1 taken" in world.failed().message


def test_older_news_does_not_undo_what_was_written() -> None:
    world = World(*cluster(nodes=1))
    document = world.put(claim("c"))
    world.put(pod("p", claims=["c"]))
    decision = world.placed()
    (uid,) = decision.promises
    newer = copy.deepcopy(document)
    newer["metadata"]["resourceVersion"] = str(10**9)
    newer["status"] = {"allocation": decision.promises[uid]}
    world.claims.assume(newer)
    older = {**document, "metadata": {**document["metadata"], "resourceVersion": str(10**8)}}
    world.claims.changed(document, older)
    assert world.claims.get("default/c") is newer
    world.put(claim("d"))
    world.put(pod("q", claims=["d"]))
    world.failed()


def test_a_shared_claim_keeps_later_pods_on_its_node_and_waits_while_it_is_in_flight() -> None:
    world = World(*cluster(nodes=3))
    world.put(claim("c"))
    world.put(pod("p", claims=["c"]))
    world.put(pod("q", claims=["c"]))
    first = world.placed()
    waiting = world.failed()
    text = "resourceclaim default/c is in the process of being allocated"
    assert waiting.message == f"0/3 nodes are available: {text}."
    world.written(first)
    second = world.placed()
    assert (second.node, second.promises) == (first.node, {})


def test_a_full_claim_takes_no_more_pods() -> None:
    world = World(*cluster())
    document = world.put(claim("c"))
    world.put(pod("p", claims=["c"]))
    decision = world.placed()
    world.written(decision)
    consumers = [{"resource": "pods", "name": f"x{i}", "uid": f"x{i}"} for i in range(256)]
    world.put(
        {
            **document,
            "status": {
                "allocation": decision.promises[document["metadata"]["uid"]],
                "reservedFor": consumers,
            },
        }
    )
    world.put(pod("q", claims=["c"]))
    assert "default/c is reserved for 256 pods" in world.failed().message


def test_a_claim_allocated_on_a_node_the_pod_cannot_use_is_released_if_nobody_holds_it() -> None:
    world = World(*cluster(nodes=2))
    document = world.put(claim("c"))
    world.put(pod("p", claims=["c"], nodeSelector={"kubernetes.io/hostname": "n0"}))
    first = world.placed()
    assert first.node == "n0"
    world.written(first)
    world.remove(pod("p"))
    allocated = world.documents["ResourceClaim", "default/c"]
    world.put({**allocated, "status": {**allocated["status"], "reservedFor": []}})
    world.put(pod("q", claims=["c"], nodeSelector={"kubernetes.io/hostname": "n1"}))
    failure = world.failed()
    assert failure.release is not None
    assert failure.release["metadata"]["uid"] == document["metadata"]["uid"]
    assert failure.message == (
        "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
        "1 resourceclaim not available on the node. "
        "claim default/c is allocated elsewhere and unused: released."
    )


AWAITED: dict[str, tuple[list[Document], str]] = {
    "no claim": ([pod("p", claims=["c"])], "waiting for resourceclaim default/c: it does not exist"),
    "nothing generated": (
        [pod("p", templates=["t"])],
        "waiting for the claim of pod claim t0 to be made from template default/t",
    ),
    "going": (
        [
            claim("c")
            | {
                "metadata": {"name": "c", "namespace": "default", "deletionTimestamp": "2026-01-01T00:00:00Z"}
            },
            pod("p", claims=["c"]),
        ],
        "resourceclaim default/c is being deleted",
    ),
    "somebody else's": (
        [
            claim("c"),
            pod("p", templates=["t"])
            | {"status": {"resourceClaimStatuses": [{"name": "t0", "resourceClaimName": "c"}]}},
        ],
        "resourceclaim default/c was not created for pod default/p",
    ),
}


@pytest.mark.parametrize("name", AWAITED)
def test_a_pod_stays_out_of_the_queue_until_its_claims_are_there(name: str) -> None:
    documents, text = AWAITED[name]
    world = World(*cluster(), *documents)
    assert world.queue.pop() is None
    uid = world.documents["Pod", "default/p"]["metadata"]["uid"]
    entry = world.queue.get(uid)
    assert entry is not None
    assert (entry.place, entry.gate) == (Place.GATED, text)


def test_a_claim_that_appears_opens_the_gate() -> None:
    world = World(*cluster(), pod("p", claims=["c"]))
    assert world.queue.pop() is None
    world.put(claim("c"))
    world.placed()


def test_a_generated_claim_opens_the_gate_when_the_pod_names_it() -> None:
    world = World(*cluster())
    owner = world.put(pod("p", templates=["t"]))
    generated = claim("p-t0-x")
    generated["metadata"]["ownerReferences"] = [
        {"kind": "Pod", "name": "p", "uid": owner["metadata"]["uid"], "controller": True}
    ]
    world.put(generated)
    assert world.queue.pop() is None
    world.put({**owner, "status": {"resourceClaimStatuses": [{"name": "t0", "resourceClaimName": "p-t0-x"}]}})
    assert len(world.placed().promises) == 1


def test_a_pod_that_needs_no_generated_claim_goes_without() -> None:
    document = pod("p", templates=["t"]) | {"status": {"resourceClaimStatuses": [{"name": "t0"}]}}
    assert World(*cluster(), document).placed().promises == {}


def test_a_missing_class_is_named_and_its_arrival_wakes_the_pod() -> None:
    world = World(node("n0"), resource_slice("n0", 1), claim("c"), pod("p", claims=["c"]))
    failure = world.failed()
    assert failure.message == (
        "0/1 nodes are available: claim default/c, request r: device class gpu does not exist."
    )
    world.put(node("n1"))
    assert world.queue.pop() is None, "a node does not help"
    world.put(device_class())
    world.placed()


def test_bad_selectors_stop_the_pod_and_say_why() -> None:
    selectors = [{"cel": {"expression": 'device.attributes["gpu.example.com"].nope == "x"'}}]
    world = World(*cluster(), claim("c", request(selectors=selectors)), pod("p", claims=["c"]))
    failure = world.failed()
    assert failure.reason == "SchedulerError"
    assert "claim default/c" in failure.message
    assert "no such key: nope" in failure.message


def test_the_reason_counts_devices_by_what_is_against_them() -> None:
    devices = [device(f"a{i}") for i in range(3)] + [
        {"name": f"b{i}", "attributes": {"model": {"string": "B"}}} for i in range(2)
    ]
    expression = f'device.attributes["{DRIVER}"].model == "B"'
    wanted = request("big", 2, selectors=[{"cel": {"expression": expression}}])
    world = World(device_class(), node("n0"), resource_slice("n0", devices))
    world.put(claim("one", request("r", selectors=[{"cel": {"expression": expression}}])))
    world.put(pod("p", claims=["one"]))
    world.placed()
    world.put(claim("x", wanted))
    world.put(pod("q", claims=["x"]))
    message = world.failed().message
    assert "claim default/x request big: 2 devices wanted, 1 free" in message
    assert f"3 do not match selector #0 [{expression}]" in message
    assert "1 taken" in message


def test_like_claims_keep_their_own_names_in_the_texts() -> None:
    world = World(device_class(), node("n0"))
    for name in ("x", "y"):
        world.put(claim(name))
        world.put(pod(name, claims=[name]))
        assert f"claim default/{name} request r: 1 device wanted, 0 free" in world.failed().message


def test_alternatives_decide_between_nodes() -> None:
    choices = [
        {
            "name": "best",
            "deviceClassName": "gpu",
            "selectors": [{"cel": {"expression": f'device.attributes["{DRIVER}"].model == "B"'}}],
        },
        {"name": "any", "deviceClassName": "gpu"},
    ]
    best = [{"name": "b0", "attributes": {"model": {"string": "B"}}}]
    world = World(device_class(), node("n0"), node("n1"), resource_slice("n0", 1), resource_slice("n1", best))
    world.put(claim("c", {"name": "r", "firstAvailable": choices}))
    world.put(pod("p", claims=["c"]))
    decision = world.placed()
    assert (decision.node, devices_of(decision)) == ("n1", ["n1/b0"])


def test_preferences_and_free_room_decide_between_nodes() -> None:
    preferred = [
        {
            "weight": 10,
            "preference": {
                "matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]
            },
        }
    ]
    world = World(node("n0", cpu="2"), node("n1", cpu="64"), node("n2", cpu="2"))
    world.put(pod("roomy", requests={"cpu": "1"}))
    assert world.placed().node == "n1"
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    world.put(pod("choosy", requests={"cpu": "1"}, affinity=affinity))
    assert world.placed().node == "n2"


def test_soft_taints_are_avoided_where_possible() -> None:
    taint = {"key": "spot", "effect": "PreferNoSchedule"}
    world = World(node("n0", taints=[taint], cpu="64"), node("n1", cpu="1"))
    world.put(pod("p"))
    assert world.placed().node == "n1"


def test_nodes_that_are_alike_take_turns() -> None:
    world = World(*(node(f"n{i}") for i in range(20)))
    for index in range(20):
        world.put(pod(f"p{index}"))
    assert len({world.placed().node for _ in range(20)}) > 10


def test_work_per_pod_does_not_grow_with_the_nodes_that_fit_or_that_are_known_not_to() -> None:
    world = World(*cluster(nodes=60, devices=1))
    for index in range(61):
        world.put(claim(f"c{index}"))
        world.put(pod(f"p{index}", claims=[f"c{index}"]))
    for _ in range(60):
        world.placed()
    assert world.metrics.allocations_tried < 60 * 12
    world.failed()
    tried = world.metrics.allocations_tried
    world.put(claim("again"))
    world.put(pod("again", claims=["again"]))
    world.failed()
    assert world.metrics.allocations_tried == tried


def test_many_pods_that_wait_for_one_device_cost_little_each_time_one_comes_back() -> None:
    world = World(*cluster(nodes=30))
    for index in range(130):
        world.put(claim(f"c{index}"))
        world.put(pod(f"p{index}", claims=[f"c{index}"]))
    holders = [world.placed() for _ in range(30)]
    world.written(holders[0])
    for _ in range(100):
        world.failed()
    held = world.documents["ResourceClaim", f"default/c{holders[0].pod.name[1:]}"]
    looked = world.metrics.nodes_looked_at
    world.put({**held, "status": {}})
    assert devices_of(world.placed()) == devices_of(holders[0])
    messages = {world.failed().message for _ in range(99)}
    assert len(messages) == 99, "each names its own claim"
    assert world.metrics.nodes_looked_at - looked < 200


def test_a_pod_that_is_unlike_the_one_that_failed_is_looked_at_by_itself() -> None:
    world = World(node("n0", cpu="1"))
    for name, cpu in (("big", "3"), ("bigger", "2"), ("small", "1")):
        world.put(pod(name, requests={"cpu": cpu}))
    assert "(3 wanted" in world.failed().message
    assert "(2 wanted" in world.failed().message
    assert world.placed().pod.name == "small"


def test_a_device_that_comes_back_is_found_again() -> None:
    world = World(*cluster(nodes=2))
    for index in range(3):
        world.put(claim(f"c{index}"))
        world.put(pod(f"p{index}", claims=[f"c{index}"]))
    first, second = world.placed(), world.placed()
    world.written(first)
    world.written(second)
    world.failed()
    world.remove(pod(first.pod.name))
    gone = world.documents["ResourceClaim", f"default/c{first.pod.name[1:]}"]
    world.put({**gone, "status": {}})
    again = world.placed()
    assert devices_of(again) == devices_of(first)


def test_what_comes_back_to_a_pool_that_spans_nodes_is_found_from_every_node() -> None:
    counters = {"sharedCounters": [{"name": "s", "counters": {"power": {"value": "1"}}}]}
    consumes = [{"counterSet": "s", "counters": {"power": {"value": "1"}}}]
    rows = [device(f"d{i}", nodeName=f"n{i}", consumesCounters=consumes) for i in range(2)]
    devices = resource_slice(None, rows, perDeviceNodeSelection=True)
    del devices["spec"]["allNodes"]
    table = resource_slice(None, [], **counters)
    for row in (devices, table):
        row["spec"]["pool"]["resourceSliceCount"] = 2
    table["metadata"]["name"] += "-counters"
    world = World(device_class(), node("n0"), node("n1"), devices, table)
    for index in range(2):
        world.put(claim(f"c{index}"))
        world.put(
            pod(f"p{index}", claims=[f"c{index}"], nodeSelector={"kubernetes.io/hostname": f"n{index}"})
        )
    first = world.placed()
    world.written(first)
    assert "1 short of counter s/power" in world.failed().message
    gone = world.documents["ResourceClaim", "default/c0"]
    world.put({**gone, "status": {}})
    assert devices_of(world.placed()) == ["shared/d1"]


def test_extended_resources_become_one_special_claim_where_the_node_does_not_count_them() -> None:
    resource = "example.com/gpu"
    world = World(device_class(extended=resource), node("n0"), node("n1"), resource_slice("n1", 2))
    world.put(pod("p", requests={resource: "2"}))
    decision = world.placed()
    assert decision.node == "n1"
    assert decision.variant is not None
    assert decision.variant.special is not None
    assert decision.variant.special["spec"]["devices"]["requests"] == [
        {
            "name": "container-0-request-0",
            "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2},
        }
    ]
    assert devices_of(decision) == ["n1/d0", "n1/d1"]
    world.put(pod("q", requests={resource: "1"}))
    assert "claim default/q-extended-resources-* request container-0-request-0" in world.failed().message
    world.put(node("n2", **{resource: "1"}))
    again = world.placed()
    assert (again.node, again.promises) == ("n2", {})


def test_a_heartbeat_or_a_condition_of_its_own_does_not_wake_a_pod() -> None:
    world = World(node("n0", cpu="1"), pod("p", requests={"cpu": "2"}))
    world.failed()
    document = world.documents["Pod", "default/p"]
    world.put({**document, "status": {"conditions": [{"type": "PodScheduled", "status": "False"}]}})
    beat = copy.deepcopy(world.documents["Node", "n0"])
    beat["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    world.put(beat)
    assert world.queue.pop() is None
    world.put(node("n0", cpu="4"))
    world.placed()


def test_a_pod_that_ends_frees_its_room() -> None:
    world = World(node("n0", cpu="1"), pod("a", requests={"cpu": "1"}))
    first = world.placed()
    world.put(pod("b", requests={"cpu": "1"}))
    assert "Insufficient cpu (1 wanted, at most 0 free)" in world.failed().message
    world.written(first)
    ended = _bound(world.documents["Pod", "default/a"], "n0") | {"status": {"phase": "Succeeded"}}
    world.put(ended)
    world.placed()


NOT_OURS: dict[str, dict[str, Any]] = {
    "another scheduler's": {"scheduler": "other"},
    "gated": {"schedulingGates": [{"name": "wait"}]},
    "bound": {"nodeName": "n0"},
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_pods_of_others_are_left_alone(name: str) -> None:
    assert World(*cluster(), pod("p", **NOT_OURS[name])).queue.pop() is None


def test_documents_stay_as_they_came() -> None:
    documents = [*cluster(), claim("c"), pod("p", claims=["c"])]
    before = copy.deepcopy(documents)
    World(*documents).placed()
    assert documents == before


@pytest.mark.parametrize(("count", "feasible"), [(3, 3), (100, 100), (500, 230), (5000, 500)])
def test_as_many_nodes_are_compared_as_upstream_compares(count: int, feasible: int) -> None:
    assert enough(count) == feasible
