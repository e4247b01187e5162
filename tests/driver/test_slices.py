"""Pools to slices, and the writes that get there, step by step."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drakit.driver import DeviceTaint, Pool, capacity, device, version
from drakit.driver.slices import Plan, comparable, encode, plan, slice_specs
from drakit.errors import DRAError
from drakit.model.resource import Counter, CounterSet, Device, DeviceCounterConsumption

DRIVER, NODE = "lamp.example.com", "node-1"
TAINT = DeviceTaint(key="broken", effect="NoSchedule")
POWER = CounterSet(name="power", counters={"watts": Counter(value="9")})


def lamps(count: int, **changes: Any) -> list[Device]:
    return [device(f"lamp-{index}", **changes) for index in range(count)]


def specs(devices: list[Device], **changes: Any) -> Any:
    return slice_specs(DRIVER, NODE, Pool(NODE, devices, **changes))


class Server:
    """Carries plans out on slices as an API server would, and checks the pool after every write."""

    def __init__(self) -> None:
        self.slices: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []

    def documents(self) -> list[dict[str, Any]]:
        return list(self.slices.values())

    def carry_out(self, todo: Plan, wanted: list[str]) -> None:
        before = self.visible()
        for document, spec in todo.updates:
            self._put("update", document["metadata"]["name"], spec)
            assert self.visible() in (before, None, wanted)
        for name, spec in todo.creates:
            assert name not in self.slices
            self._put("create", name, spec)
            assert self.visible() in (before, None, wanted)
        for document in todo.deletes:
            del self.slices[document["metadata"]["name"]]
            self.writes.append("delete")
            assert self.visible() == wanted

    def _put(self, verb: str, name: str, spec: Any) -> None:
        self.slices[name] = {"metadata": {"name": name}, "spec": encode(spec)}
        self.writes.append(verb)

    def visible(self) -> list[str] | None:
        """The devices consumers see: those of the highest generation, None while that is incomplete."""
        if not self.slices:
            return []
        latest = max(item["spec"]["pool"]["generation"] for item in self.slices.values())
        current = [
            self.slices[name]["spec"]
            for name in sorted(self.slices)
            if self.slices[name]["spec"]["pool"]["generation"] == latest
        ]
        if any(spec["pool"]["resourceSliceCount"] != len(current) for spec in current):
            return None
        return [item["name"] for spec in current for item in spec.get("devices", [])]

    def publish(self, devices: list[Device] | None, **changes: Any) -> list[str]:
        """Publish, check that nothing is left to do, and return the verbs of the writes."""
        desired = specs(devices, **changes) if devices is not None else []
        documents = copy.deepcopy(self.documents())
        self.writes.clear()
        todo = plan(desired, documents)
        assert documents == self.documents()
        self.carry_out(todo, [device.name for device in devices or []])
        assert plan(desired, self.documents()).is_empty
        return list(self.writes)

    def generation(self) -> int:
        return max(int(item["spec"]["pool"]["generation"]) for item in self.slices.values())


SPLITS = {
    "no devices": (lamps(0), 0, [0]),
    "one": (lamps(1), 0, [1]),
    "full": (lamps(128), 0, [128]),
    "one more": (lamps(129), 0, [128, 1]),
    "a taint": ([*lamps(64), device("last", taints=[TAINT])], 0, [64, 1]),
    "a list": ([*lamps(64), device("last", {"a": ["x"]})], 0, [64, 1]),
    "counters": (
        [*lamps(64), device("last", consumes_counters=[DeviceCounterConsumption(counter_set="set-0")])],
        9,
        [0, 0, 64, 1],
    ),
    "counters alone": ([], 1, [0]),
}


@pytest.mark.parametrize("case", SPLITS)
def test_split(case: str) -> None:
    devices, counters, sizes = SPLITS[case]
    sets = [CounterSet(name=f"set-{index}") for index in range(counters)]
    found = specs(devices, shared_counters=sets)
    assert [len(spec.devices) for spec in found] == sizes
    assert all(spec.pool.resource_slice_count == len(sizes) for spec in found)
    assert all(not (spec.devices and spec.shared_counters) for spec in found)
    assert [name.name for spec in found for name in spec.shared_counters] == [name.name for name in sets]


def test_two_devices_of_one_name() -> None:
    with pytest.raises(DRAError, match="two devices are called lamp-0"):
        specs([*lamps(2), device("lamp-0")])


def _consumer(counter_set: str, counter: str) -> list[Device]:
    use = DeviceCounterConsumption(counter_set=counter_set, counters={counter: Counter(value="1")})
    return [device("lamp", consumes_counters=[use])]


UNUSABLE: dict[str, tuple[list[Device], dict[str, Any], str]] = {
    "a counter set twice": ([], {"shared_counters": [POWER, POWER]}, "two counter sets are called power"),
    "of no counter set": (_consumer("heat", "watts"), {}, "lamp consumes counters of heat: not there"),
    "no counter": (
        _consumer("power", "volts"),
        {"shared_counters": [POWER]},
        "lamp consumes counter power/volts: not there",
    ),
    "an attribute twice": (
        [device("lamp", {"color": "red", f"{DRIVER}/color": "blue"})],
        {},
        f"lamp: attribute color is there as {DRIVER}/color too",
    ),
    "a capacity twice": (
        [device("lamp", capacity={f"{DRIVER}/light": 1, "light": 1})],
        {},
        f"lamp: capacity light is there as {DRIVER}/light too",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_no_single_slice_shows_is_refused(case: str) -> None:
    devices, more, message = UNUSABLE[case]
    with pytest.raises(DRAError, match=f"driver {DRIVER}, pool {NODE}: .*{message}"):
        specs(devices, **more)


def test_counters_and_names_of_other_domains_are_fine() -> None:
    assert specs(_consumer("power", "watts"), shared_counters=[POWER])
    assert specs([device("lamp", {"color": "red", "example.com/color": "red", f"{DRIVER}/size": 1})])


def test_a_pool_lives() -> None:
    server = Server()
    assert server.publish(lamps(3)) == ["create"]
    assert server.generation() == 1
    assert server.publish(lamps(3)) == []
    assert server.publish(lamps(2)) == ["update"]
    assert server.generation() == 1
    assert server.publish(lamps(300)) == ["update", "create", "create"]
    assert server.generation() == 2
    assert sorted(server.slices)[0].startswith("00000-lamp.example.com-node-1-")
    changed = lamps(300)
    changed[200] = device("lamp-200", {"color": "red"})
    assert server.publish(changed) == ["update"]
    assert server.generation() == 2
    assert server.publish(lamps(300)[1:]) == ["update"] * 3
    assert server.generation() == 3
    assert server.publish(lamps(100)) == ["update", "delete", "delete"]
    assert server.publish(None) == ["delete"]
    assert server.slices == {}


def test_a_deleted_slice_comes_back_alone() -> None:
    server = Server()
    server.publish(lamps(300))
    del server.slices[sorted(server.slices)[1]]
    assert server.publish(lamps(300)) == ["create"]
    assert server.generation() == 1


def test_slices_are_tried_in_the_order_of_the_devices() -> None:
    server = Server()
    halves = lamps(256)[:128], lamps(256)[128:]
    server.publish([*halves[0], *halves[1]])
    assert server.publish([*halves[1], *halves[0]]) == ["update", "update"]
    assert server.visible() == [device.name for device in (*halves[1], *halves[0])]


def test_slices_of_another_helper_are_taken_over_by_their_place() -> None:
    """Go's helper calls them INDEX-DRIVER-NODE-RANDOM, the index in hexadecimal digits."""
    server = Server()
    wanted = lamps(12 * 128)
    for index, spec in enumerate(specs(wanted)):
        name = f"{index:05x}-{DRIVER}-{NODE}-{index * 7919 % 997:05d}"
        server.slices[name] = {"metadata": {"name": name}, "spec": encode(spec)}
        server.slices[name]["spec"]["pool"]["generation"] = 3
    assert server.publish(wanted) == []
    assert server.publish(wanted[:-1]) == ["update"]
    assert server.generation() == 3


NO_PLACE = ("a", "0-a", "000000-a", "0000A-a", "00000", "-00000-a")


@pytest.mark.parametrize("name", NO_PLACE)
def test_a_slice_whose_name_tells_no_place_is_replaced(name: str) -> None:
    server = Server()
    server.slices[name] = {"metadata": {"name": name}, "spec": encode(specs(lamps(1))[0])}
    assert server.publish(lamps(1)) == ["create", "delete"]


def test_of_two_slices_at_a_place_the_right_one_stays() -> None:
    server = Server()
    server.publish(lamps(3))
    wrong = copy.deepcopy(server.documents()[0])
    wrong["metadata"]["name"] = "00000-a"
    wrong["spec"]["devices"].pop()
    server.slices["00000-a"] = wrong
    assert server.publish(lamps(3)) == ["update", "delete"]
    assert "00000-a" not in server.slices


def test_a_changed_slice_is_put_right_in_place() -> None:
    server = Server()
    server.publish(lamps(300))
    name = sorted(server.slices)[1]
    server.slices[name]["spec"]["devices"].pop()
    assert server.publish(lamps(300)) == ["update"]
    assert server.generation() == 1


def test_a_crash_at_every_write_is_mended() -> None:
    """Whatever part of a plan was carried out before a crash, the next one ends at the same pool."""
    steps = (lamps(3), lamps(300), lamps(300)[1:], lamps(10), lamps(200))
    for before, after in pairwise(steps):
        start = Server()
        start.publish(before)
        wanted = specs(after)
        full = plan(wanted, start.documents())
        total = len(full.updates) + len(full.creates) + len(full.deletes)
        for stop in range(total + 1):
            server = Server()
            server.slices = copy.deepcopy(start.slices)
            updates = full.updates[:stop]
            creates = full.creates[: max(0, stop - len(full.updates))]
            deletes = full.deletes[: max(0, stop - len(full.updates) - len(full.creates))]
            server.carry_out(Plan(updates, creates, deletes), [item.name for item in after])
            server.publish(after)
            assert server.visible() == [item.name for item in after]


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 300), st.booleans(), st.sampled_from(["", "delete", "change", "raise"])),
        max_size=6,
    ),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_any_life(steps: list[tuple[int, bool, str]], data: st.DataObject) -> None:
    """Whatever is published and whatever others do in between, the pool is right after each step."""
    server = Server()
    for count, is_tainted, harm in steps:
        if harm and server.slices:
            name = data.draw(st.sampled_from(sorted(server.slices)))
            if harm == "delete":
                del server.slices[name]
            elif harm == "change":
                server.slices[name]["spec"]["devices"] = [{"name": "intruder"}]
            else:
                server.slices[name]["spec"]["pool"]["generation"] += 7
        wanted = lamps(count, taints=[TAINT] if is_tainted else [])
        todo = plan(specs(wanted), server.documents())
        for document, spec in todo.updates:
            server.slices[document["metadata"]["name"]]["spec"] = encode(spec)
        for name, spec in todo.creates:
            server.slices[name] = {"metadata": {"name": name}, "spec": encode(spec)}
        for document in todo.deletes:
            del server.slices[document["metadata"]["name"]]
        assert server.visible() == [device.name for device in wanted]
        assert plan(specs(wanted), server.documents()).is_empty


def test_slices_of_older_generations_go() -> None:
    server = Server()
    server.publish(lamps(3))
    old = copy.deepcopy(server.documents()[0])
    old["metadata"]["name"] = "left-behind"
    old["spec"]["pool"]["generation"] = 0
    server.slices["left-behind"] = old
    assert server.publish(lamps(3)) == ["delete"]


def test_what_the_server_writes_its_own_way_is_the_same() -> None:
    server = Server()
    lamp = device("lamp", {"v": version("1.0.0")}, {"light": capacity("1024Mi", min="1Mi")}, taints=[TAINT])
    server.publish([lamp])
    (stored,) = server.documents()
    stored["spec"]["devices"][0]["capacity"]["light"]["value"] = "1Gi"
    stored["spec"]["devices"][0]["taints"][0]["timeAdded"] = "2026-01-01T00:00:00Z"
    assert server.publish([lamp]) == []
    again = [lamp, device("other", taints=[TAINT])]
    server.publish(again)
    taints = [item["taints"][0].get("timeAdded") for item in server.documents()[0]["spec"]["devices"]]
    assert taints == ["2026-01-01T00:00:00Z", None]


TIMES = {
    "not said": (None, "2026-01-01T00:00:00Z", []),
    "the same": ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", []),
    "in another zone": ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z", []),
    "less than a second": ("2026-01-01T00:00:00.9Z", "2026-01-01T00:00:00Z", []),
    "later": ("2026-01-01T00:00:05Z", "2026-01-01T00:00:00Z", ["update"]),
    "never": ("2026-01-01T00:00:05Z", None, ["update"]),
}


@pytest.mark.parametrize("case", TIMES)
def test_times_of_taints_that_the_driver_says(case: str) -> None:
    said, kept, writes = TIMES[case]
    lamp = device("lamp", taints=[DeviceTaint(key="broken", effect="NoSchedule", time_added=said)])
    server = Server()
    server.publish([lamp])
    server.documents()[0]["spec"]["devices"][0]["taints"][0]["timeAdded"] = kept
    assert server.publish([lamp]) == writes


def test_what_the_server_cannot_keep_is_accepted() -> None:
    wanted = specs([device("lamp", allow_multiple_allocations=True)])
    stored = {"metadata": {"name": "00000-a"}, "spec": msgspec.to_builtins(specs([device("lamp")])[0])}
    stored["spec"]["pool"]["generation"] = 1
    assert not plan(wanted, [stored]).is_empty
    assert plan(wanted, [stored], accepted=[stored]).is_empty


def test_names_fit_and_differ() -> None:
    spec = slice_specs("d" * 63, "n" * 253, Pool("p", lamps(300)))
    names = [name for name, _ in plan(spec, []).creates]
    assert all(len(name) <= 253 for name in names)
    assert names == sorted(set(names))


def test_comparable_leaves_its_argument_alone() -> None:
    (spec,) = specs([device("lamp", capacity={"light": "1024Mi"})])
    before = msgspec.to_builtins(spec)
    assert comparable(spec)["devices"][0]["capacity"]["light"]["value"] == "1Gi"
    assert msgspec.to_builtins(spec) == before
