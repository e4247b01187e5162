"""The scheduling queue: order, back-off, parking, gates."""

from __future__ import annotations

from typing import Any

from drakit.scheduler.pod import PodInfo, read_pod
from drakit.scheduler.queue import PARKED_AT_MOST, TELL_AFTER, TELL_AFTER_BUSY, Entry, SchedulingQueue
from drakit.scheduler.reason import Wake
from tests.scheduler.make import Hands, pod, stored


def info(name: str, **spec: Any) -> PodInfo:
    return read_pod(stored(pod(name, **spec)))


class Bench:
    def __init__(self) -> None:
        self.clock = Hands()
        self.changes = 0
        self.queue = SchedulingQueue(self.clock, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def pop(self) -> Entry:
        entry = self.queue.pop()
        assert entry is not None
        return entry

    def names(self) -> list[str]:
        found = []
        while (entry := self.queue.pop()) is not None:
            found.append(entry.pod.name)
        return found


def test_priority_first_then_first_in_first_out() -> None:
    bench = Bench()
    for name, priority in [("a", 0), ("b", 10), ("c", 10), ("d", -1), ("e", 0)]:
        bench.queue.add(info(name, priority=priority))
    assert bench.names() == ["b", "c", "a", "e", "d"]


def test_a_parked_pod_moves_only_for_what_could_help() -> None:
    bench = Bench()
    bench.queue.add(info("p"))
    bench.queue.park(bench.pop(), Wake.DEVICES | Wake.CLASS)
    assert bench.queue.wake(Wake.NODE | Wake.POD_GONE) == 0
    assert bench.queue.pop() is None
    assert bench.queue.wake(Wake.DEVICES) == 1
    assert bench.pop().attempts == 2


def test_an_idle_queue_does_not_wait_for_the_backoff_of_pods_that_found_no_node() -> None:
    bench = Bench()
    bench.queue.add(info("p"))
    bench.queue.add(info("q"))
    p = bench.pop()
    bench.queue.park(p, Wake.NODE)
    bench.queue.wake(Wake.NODE)
    assert bench.names() == ["q", "p"], "active pods come before pods that back off"


def test_failures_wait_their_backoff_which_doubles_up_to_ten_seconds() -> None:
    bench = Bench()
    bench.queue.add(info("p"))
    for seconds in (1, 2, 4, 8, 10, 10):
        bench.queue.back_off(bench.pop(), badly=True)
        bench.clock.turn(seconds - 0.01)
        assert bench.queue.pop() is None
        due = bench.queue.next_due()
        assert due is not None
        assert abs(due - bench.clock.now() - 0.01) < 1e-6
        bench.clock.turn(0.02)


def test_a_mild_failure_is_tried_again_as_soon_as_nothing_else_is_to_do() -> None:
    bench = Bench()
    bench.queue.add(info("p"))
    bench.queue.back_off(bench.pop(), badly=False)
    assert bench.names() == ["p"]


def test_bad_failures_do_not_keep_mild_ones_behind_them_from_their_turn() -> None:
    bench = Bench()
    bench.queue.add(info("bad"))
    bench.queue.back_off(bench.pop(), badly=True)
    bench.clock.turn(0.1)
    bench.queue.add(info("mild"))
    bench.queue.back_off(bench.pop(), badly=False)
    assert bench.names() == ["mild"]
    bench.clock.turn(1)
    assert bench.names() == ["bad"]


def test_parked_pods_are_tried_again_after_five_minutes_without_any_event() -> None:
    bench = Bench()
    bench.queue.add(info("p"))
    bench.queue.park(bench.pop(), Wake.NODE)
    assert bench.queue.next_due() == bench.clock.now() + PARKED_AT_MOST
    bench.clock.turn(PARKED_AT_MOST)
    assert bench.names() == ["p"]


def test_a_gated_pod_waits_and_is_told_once_per_reason() -> None:
    bench = Bench()
    waiting = info("p", claims=["c"])
    bench.queue.gate(waiting, "waiting for c")
    assert bench.queue.pop() is None
    assert bench.queue.untold() == []
    bench.clock.turn(TELL_AFTER)
    assert [entry.gate for entry in bench.queue.untold()] == ["waiting for c"]
    bench.queue.gate(waiting, "waiting for c")
    bench.clock.turn(TELL_AFTER)
    assert bench.queue.untold() == []
    bench.queue.gate(waiting, "c is being deleted")
    bench.clock.turn(TELL_AFTER)
    assert [entry.gate for entry in bench.queue.untold()] == ["c is being deleted"]
    bench.queue.add(waiting)
    assert bench.names() == ["p"]


def test_a_pod_whose_claims_come_at_once_is_never_told_that_it_waits() -> None:
    bench = Bench()
    waiting = info("p", claims=["c"])
    bench.queue.gate(waiting, "waiting for c")
    bench.clock.turn(0.2)
    bench.queue.add(waiting)
    bench.clock.turn(TELL_AFTER)
    assert bench.queue.untold() == []


def test_a_pod_whose_claims_are_being_made_is_told_later() -> None:
    bench = Bench()
    bench.queue.gate(info("made", templates=["t"]), "waiting for t", is_busy=True)
    bench.clock.turn(TELL_AFTER)
    bench.queue.gate(info("missing", claims=["c"]), "waiting for c")
    assert bench.queue.next_due() == bench.clock.now() + TELL_AFTER
    bench.clock.turn(TELL_AFTER)
    assert [entry.pod.name for entry in bench.queue.untold()] == ["missing"]
    assert bench.queue.next_due() == bench.clock.now() + TELL_AFTER_BUSY - 2 * TELL_AFTER
    bench.clock.turn(TELL_AFTER_BUSY)
    assert [entry.pod.name for entry in bench.queue.untold()] == ["made"]


def test_an_entry_that_was_added_again_is_handed_out_once() -> None:
    bench = Bench()
    one = info("p")
    for _ in range(3):
        bench.queue.add(one)
    assert bench.names() == ["p"]
    assert len(bench.queue) == 1
    bench.queue.remove(one.uid)
    assert len(bench.queue) == 0
    bench.queue.remove(one.uid)


def test_a_removed_pod_never_comes_out() -> None:
    bench = Bench()
    kept, gone = info("kept"), info("gone")
    bench.queue.add(gone)
    bench.queue.add(kept)
    bench.queue.remove(gone.uid)
    assert bench.names() == ["kept"]


def test_changes_are_announced_but_handing_out_is_not() -> None:
    bench = Bench()
    bench.queue.add(info("p"))
    assert bench.changes == 1
    entry = bench.pop()
    assert bench.changes == 1
    bench.queue.park(entry, Wake.NODE)
    bench.queue.wake(Wake.NODE)
    assert bench.changes == 3
