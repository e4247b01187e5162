"""The scheduler: one loop that decides, and the writes of earlier decisions under way beside it.

    informers -> feed -> inventory, claims, allocator state, queue
    queue -> cycle.decide (synchronous) -> the pod is assumed on its node, its devices are promised
          -> a task writes claims, then the binding (binding.Binder) -> event Scheduled
          -> or undoes it, and the pod goes to the back-off queue

The next pod is decided while those writes are in flight: what they promise is already counted. All of it
lives on one event loop and nothing is locked. A run keeps nothing of an earlier one: what is allocated,
reserved and bound is read from the API, and the loop starts when all of that is there.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

from drakit.allocator import State
from drakit.client.api import (
    DEVICE_CLASSES,
    DEVICE_TAINT_RULES,
    NAMESPACES,
    NODES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Client,
    Resource,
)
from drakit.client.clock import Clock
from drakit.client.informer import Informer
from drakit.client.record import EventRecorder
from drakit.errors import Conflict, DRAError, NotFound
from drakit.profile import Gate, Profile
from drakit.scheduler.binding import Binder
from drakit.scheduler.budget import Budgets
from drakit.scheduler.claim import Claims
from drakit.scheduler.cycle import Cycle
from drakit.scheduler.decision import Decision
from drakit.scheduler.dynamic import DynamicResources
from drakit.scheduler.evictor import Evictor
from drakit.scheduler.extended import ExtendedResources
from drakit.scheduler.feed import Feed
from drakit.scheduler.inventory import Inventory
from drakit.scheduler.metrics import Metrics
from drakit.scheduler.nodeshare import NodeShares
from drakit.scheduler.pod import PodInfo, read_pod
from drakit.scheduler.preempt import Eviction
from drakit.scheduler.queue import Entry, SchedulingQueue
from drakit.scheduler.reason import Failure, Wake, frame
from drakit.scheduler.report import Reporter

WRITING_AT_MOST = 128
"""Decisions whose writes may be under way at once; those that wait for devices do not count."""

_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
_log = logging.getLogger(__name__)


class Scheduler:
    """Places the pods whose `schedulerName` is `name`. `ready` is set once everything is known and pods
    are being placed; `metrics` counts over all runs."""

    def __init__(
        self,
        client: Client,
        profile: Profile,
        name: str = "default-scheduler",
        *,
        clock: Clock | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self.metrics = Metrics()
        self._client = client
        self._profile = profile
        self._name = name
        self._clock = clock or Clock()

    async def run(self) -> None:
        """Schedule until cancelled. May be called again after it ended. Raises APIError if the server
        cannot be asked for anything at the start; later failures are waited out."""
        self.ready.clear()
        recorder = EventRecorder(self._client, self._name, clock=self._clock)
        try:
            await _Run(self._client, self._profile, self._name, self._clock, recorder, self.metrics).run(
                self.ready
            )
        finally:
            self.ready.clear()
            await recorder.close()


class _Run:
    """Everything that one run knows."""

    def __init__(
        self,
        client: Client,
        profile: Profile,
        name: str,
        clock: Clock,
        recorder: EventRecorder,
        metrics: Metrics,
    ) -> None:
        self._client = client
        self._profile = profile
        self._clock = clock
        self._recorder = recorder
        self._metrics = metrics
        self._news = asyncio.Event()
        self._slots = asyncio.Semaphore(WRITING_AT_MOST)
        self._reporter = Reporter(client, recorder, metrics, clock, self._slots)
        self._pods = self._informer(PODS)
        self._nodes = self._informer(NODES)
        self._claims = self._informer(RESOURCE_CLAIMS)
        self._slices = self._informer(RESOURCE_SLICES)
        self._classes = self._informer(DEVICE_CLASSES)
        self._namespaces = self._informer(NAMESPACES)
        self._budgets = self._informer(_BUDGETS)

        state = State(profile)
        self._queue = SchedulingQueue(clock, self._news.set)
        self._inventory = Inventory()
        claims = Claims(state, self._claims.get, lambda nodes, results: self._feed.freed(nodes, results))
        dynamic = DynamicResources(
            state,
            claims,
            ExtendedResources(is_on=profile.is_on(Gate.EXTENDED_RESOURCE)),
            lambda name: self._classes.get(name) is not None,
            clock.now,
            NodeShares(is_on=profile.is_on(Gate.NODE_ALLOCATABLE), is_split=profile.at_least("1.37")),
        )
        self._feed = Feed(
            name,
            inventory=self._inventory,
            claims=claims,
            dynamic=dynamic,
            state=state,
            queue=self._queue,
            metrics=metrics,
            forget=self._reporter.forget,
        )
        self._cycle = Cycle(self._inventory, dynamic, metrics, self._labels_of, Budgets(self._budgets.items))
        self._evictor = Evictor(client, recorder, metrics, clock, name)
        self._binder = Binder(client, profile, claims, recorder, metrics, clock, self._feed.next_change)

    def _informer(self, resource: Resource) -> Informer:
        return Informer(self._client, resource, clock=self._clock)

    def _labels_of(self, namespace: str) -> dict[str, str]:
        document = self._namespaces.get(namespace) or {}
        return (document.get("metadata") or {}).get("labels") or {}

    async def run(self, ready: asyncio.Event) -> None:
        informers = [
            self._namespaces,
            self._budgets,
            self._nodes,
            self._classes,
            self._slices,
            self._claims,
            self._pods,
        ]
        rules = await self._taint_rules()
        if rules is not None:
            informers.append(rules)
        async with asyncio.TaskGroup() as group:
            for informer in informers:
                group.create_task(informer.run())
            for informer in informers:
                await informer.wait_synced()
            self._feed.attach(
                nodes=self._nodes,
                pods=self._pods,
                claims=self._claims,
                slices=self._slices,
                classes=self._classes,
                namespaces=self._namespaces,
                taint_rules=rules,
            )
            ready.set()
            await self._loop(group)

    async def _taint_rules(self) -> Informer | None:
        """The informer of taint rules, where they are switched on and served."""
        if not self._profile.is_on(Gate.DEVICE_TAINT_RULES):
            return None
        try:
            await self._client.list(DEVICE_TAINT_RULES, limit=1)
        except NotFound:
            return None
        return self._informer(DEVICE_TAINT_RULES)

    # --- the loop ---------------------------------------------------------------------------------

    async def _loop(self, group: asyncio.TaskGroup) -> None:
        while True:
            for gated in self._queue.untold():
                self._reporter.failed(
                    group, gated.pod, "Unschedulable", frame(len(self._inventory), [gated.gate])
                )
            entry = self._queue.pop()
            if entry is None:
                await self._wait()
                continue
            await self._slots.acquire()
            try:
                self._attempt(group, entry)
            finally:
                self._slots.release()
            await asyncio.sleep(0)

    async def _wait(self) -> None:
        """Until the queue changes or something in it has waited its time."""
        due = self._queue.next_due()
        self._news.clear()
        if due is None:
            await self._news.wait()
            return
        timer = self._clock.call_later(max(due - self._clock.now(), 0.0), self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()

    def _attempt(self, group: asyncio.TaskGroup, entry: Entry) -> None:
        self._metrics.attempts += 1
        started = perf_counter()
        try:
            outcome = self._cycle.decide(entry.pod)
        except Exception:
            _log.exception("scheduling pod %s: a bug", entry.pod.key)
            self._metrics.errors += 1
            self._queue.back_off(entry, badly=True)
            return
        finally:
            self._metrics.decide_seconds += perf_counter() - started
        if isinstance(outcome, Decision):
            self._inventory.place(outcome.pod, outcome.node)
            self._queue.wake(Wake.POD_PLACED)
            group.create_task(self._bind(group, entry, outcome))
            return
        self._queue.park(entry, outcome.wakes)
        message = outcome.message
        if outcome.release is not None:
            group.create_task(self._release(entry.pod, outcome))
        elif (eviction := self._cycle.make_room(entry.pod, outcome)) is not None:
            names = ", ".join(victim.key for victim in eviction.victims)
            message += f" Preemption: {names} of lower priority will leave node {eviction.node}."
            self._inventory.nominate(entry.pod, eviction.node)
            group.create_task(self._evict(entry.pod, eviction))
        if not outcome.is_quiet:
            self._metrics.unschedulable += 1
            self._reporter.failed(group, entry.pod, outcome.reason, message)

    async def _release(self, pod: PodInfo, failure: Failure) -> None:
        """Free the claim that stood in the way, then try the pod again."""
        if failure.release is None:
            return
        try:
            await self._binder.release(failure.release)
        except DRAError as error:
            _log.info("releasing a claim of pod %s: %s", pod.key, error)
        self._queue.wake_pod(pod.uid)

    async def _evict(self, pod: PodInfo, eviction: Eviction) -> None:
        """Have less important pods leave; what goes wrong is tried again with the pod's next turn."""
        try:
            await self._evictor.evict(pod, eviction)
        except DRAError as error:
            _log.info("making room for pod %s on node %s: %s", pod.key, eviction.node, error)
            self._inventory.nominate(pod, None)
            self._queue.wake_pod(pod.uid)

    # --- carrying out -----------------------------------------------------------------------------

    async def _bind(self, group: asyncio.TaskGroup, entry: Entry, decision: Decision) -> None:
        pod = entry.pod
        is_slow = decision.may_wait
        await self._reporter.written(pod.uid)
        if not is_slow:
            await self._slots.acquire()
        try:
            await self._binder.bind(decision)
        except DRAError as error:
            await self._failed(group, entry, decision, error)
        except Exception as error:
            _log.exception("binding pod %s: a bug", pod.key)
            await self._failed(group, entry, decision, error)
        else:
            self._metrics.scheduled += 1
            self._queue.remove(pod.uid)
            self._metrics.events += 1
            text = f"Successfully assigned {pod.key} to {decision.node}"
            self._recorder.event(pod.document, "Normal", "Scheduled", text, action="Binding")
        finally:
            if not is_slow:
                self._slots.release()
            for claim in decision.plan.claims if decision.plan else ():
                self._feed.wake_users(f"{pod.namespace}/{claim['metadata']['name']}")

    async def _failed(
        self, group: asyncio.TaskGroup, entry: Entry, decision: Decision, error: Exception
    ) -> None:
        """Undo `decision` and decide what becomes of its pod."""
        self._metrics.errors += 1
        await self._binder.undo(decision)
        pod = entry.pod
        self._inventory.remove_pod(pod.uid)
        self._queue.wake(Wake.POD_GONE)
        latest = self._pods.get(pod.key)
        is_there = latest is not None and latest["metadata"]["uid"] == pod.uid
        if latest is None or not is_there or not self._feed.is_ours(latest):
            self._feed.pod_changed(pod.document, latest if is_there else None)
            return
        entry.pod = read_pod(latest)
        self._queue.back_off(entry, badly=not isinstance(error, Conflict))
        self._reporter.failed(group, entry.pod, "SchedulerError", f"binding to node {decision.node}: {error}")
