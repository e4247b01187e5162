"""What the informers say, on its way to inventory, claims, allocator and queue.

Each handler first brings the caches up to date, then wakes the pods that the change could help, and only
those: a heartbeat of a node or a finalizer on a claim wakes nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter

import msgspec

from drakit.allocator import State
from drakit.client.informer import Handler, Informer
from drakit.model.resource import (
    EXTENDED_CLAIM_ANNOTATION,
    DeviceClass,
    DeviceTaintRule,
    ResourceSlice,
)
from drakit.scheduler.claim import Claims
from drakit.scheduler.dynamic import DynamicResources
from drakit.scheduler.inventory import Inventory
from drakit.scheduler.metrics import Metrics
from drakit.scheduler.plan import Awaited, claim_name
from drakit.scheduler.pod import PodInfo, is_deleting, is_same_to_scheduling, is_terminal, read_pod
from drakit.scheduler.queue import Place, SchedulingQueue
from drakit.scheduler.reason import Wake
from drakit.transport import Document

_log = logging.getLogger(__name__)


class Feed:
    """Handlers for the informers of one run, for the pods that ask for the scheduler `name`."""

    def __init__(
        self,
        name: str,
        *,
        inventory: Inventory,
        claims: Claims,
        dynamic: DynamicResources,
        state: State,
        queue: SchedulingQueue,
        metrics: Metrics,
        forget: Callable[[str], None],
    ) -> None:
        """`forget(uid)` is called for pods that are gone or bound."""
        self._name = name
        self._inventory = inventory
        self._claims = claims
        self._dynamic = dynamic
        self._state = state
        self._queue = queue
        self._metrics = metrics
        self._forget = forget
        self._users: dict[str, set[str]] = {}
        self._claims_of: dict[str, frozenset[str]] = {}
        self._waits: dict[str, list[asyncio.Future[None]]] = {}

    # --- nodes ------------------------------------------------------------------------------------

    def node_changed(self, old: Document | None, new: Document | None) -> None:
        if new is None:
            if old is not None:
                self._inventory.remove_node(old["metadata"]["name"])
            return
        if old is not None and _is_same_node(old, new):
            return
        self._inventory.put_node(new)
        if old is None or old["metadata"].get("labels") != new["metadata"].get("labels"):
            self._dynamic.forget_misfits([new["metadata"]["name"]])
        self._queue.wake(Wake.NODE)

    # --- pods -------------------------------------------------------------------------------------

    def pod_changed(self, old: Document | None, new: Document | None) -> None:
        document = new or old
        if document is None:
            return
        uid = document["metadata"]["uid"]
        if new is None or is_terminal(new):
            self._drop(uid)
            if self._inventory.remove_pod(uid):
                self._queue.wake(Wake.POD_GONE)
        elif new["spec"].get("nodeName"):
            self._drop(uid)
            if self._inventory.put_pod(new):
                self._queue.wake(Wake.POD_PLACED)
        elif uid in self._inventory:
            return  # assumed: whoever binds it has the last word
        elif not self.is_ours(new):
            self._drop(uid)
        elif old is not None and self._queue.get(uid) and is_same_to_scheduling(old, new):
            entry = self._queue.get(uid)
            if entry is not None:
                pod = entry.pod.with_document(new)
                self._queue.refresh(pod)
                self._inventory.nominate(pod, pod.nominated_node or None)
        else:
            self.consider(read_pod(new))

    def is_ours(self, pod: Document) -> bool:
        """Whether `pod` is for this scheduler to place."""
        spec = pod["spec"]
        return (
            (spec.get("schedulerName") or "default-scheduler") == self._name
            and not spec.get("nodeName")
            and not spec.get("schedulingGates")
            and not is_deleting(pod)
            and not is_terminal(pod)
        )

    def consider(self, pod: PodInfo) -> None:
        """Put `pod` in the queue, or keep it out while its claims do not exist."""
        keys = _claim_keys(pod)
        self._use(pod.uid, keys)
        self._inventory.nominate(pod, pod.nominated_node or None)
        if pod.spec.get("resourceClaims"):
            awaited = self._dynamic.resolve(pod)
            if isinstance(awaited, Awaited):
                self._queue.gate(pod, awaited.text, is_busy=awaited.is_busy)
                return
        self._queue.add(pod)

    def _drop(self, uid: str) -> None:
        entry = self._queue.get(uid)
        if entry is not None:
            self._queue.remove(uid)
            self._inventory.nominate(entry.pod, None)
        self._use(uid, frozenset())
        self._forget(uid)

    def _use(self, uid: str, keys: frozenset[str]) -> None:
        """Keep the index from claims to the pods that wait with them."""
        before = self._claims_of.pop(uid, frozenset())
        for key in before - keys:
            users = self._users[key]
            users.discard(uid)
            if not users:
                del self._users[key]
        if keys:
            self._claims_of[uid] = keys
            for key in keys - before:
                self._users.setdefault(key, set()).add(uid)

    # --- claims -----------------------------------------------------------------------------------

    def claim_changed(self, old: Document | None, new: Document | None) -> None:
        document = new or old
        if document is None:
            return
        self._claims.changed(old, new)
        meta = document["metadata"]
        key = f"{meta['namespace']}/{meta['name']}"
        for wait in self._waits.pop(key, ()):
            if not wait.done():
                wait.set_result(None)
        if (meta.get("annotations") or {}).get(EXTENDED_CLAIM_ANNOTATION) == "true":
            for owner in meta.get("ownerReferences") or ():
                self._queue.wake_pod(str(owner.get("uid")))
        if old is None or new is None or _matters(old, new):
            self.wake_users(key)

    def wake_users(self, key: str) -> None:
        """The claim `key` changed: look again at the pods that wait with it."""
        for uid in list(self._users.get(key, ())):
            entry = self._queue.get(uid)
            if entry is None or entry.place is Place.OUT:
                continue
            if entry.place is Place.GATED:
                self.consider(entry.pod)
            elif entry.wakes & Wake.CLAIM:
                self._queue.wake_pod(uid)

    def next_change(self, key: str) -> asyncio.Future[None]:
        """Done at the next change of the claim `key`."""
        wait: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waits.setdefault(key, []).append(wait)
        return wait

    def freed(self, nodes: frozenset[str] | None, results: list[Document]) -> None:
        """Devices came back."""
        self._dynamic.freed(nodes, results)
        self._queue.wake(Wake.DEVICES)

    def namespace_changed(self, old: Document | None, new: Document | None) -> None:
        """Affinity between pods can pick namespaces by their labels."""
        if new is not None and (
            old is None or old["metadata"].get("labels") != new["metadata"].get("labels")
        ):
            self._queue.wake(Wake.POD_PLACED | Wake.POD_GONE)

    # --- devices ----------------------------------------------------------------------------------

    def slice_changed(self, old: Document | None, new: Document | None) -> None:
        if old is not None and new is not None and old["spec"] == new["spec"]:
            return
        self._dynamic.slice_changed(old, new)
        if new is not None:
            self._dynamic.shares.put_slice(new)
        document = new or old
        if document is None:
            return
        name = document["metadata"]["name"]
        if new is None:
            self._state.remove_slice(name)
            self._dynamic.shares.remove_slice(name)
            return
        try:
            self._state.apply_slice(msgspec.convert(new, ResourceSlice))
        except msgspec.ValidationError as error:
            self._state.remove_slice(name)
            _log.warning("resourceslice %s is left out: %s", name, error)
        self._queue.wake(Wake.DEVICES)

    def class_changed(self, old: Document | None, new: Document | None) -> None:
        document = new or old
        if document is None or (old is not None and new is not None and old["spec"] == new["spec"]):
            return
        self._dynamic.forget_misfits()
        name = document["metadata"]["name"]
        if new is None:
            self._state.remove_class(name)
            self._dynamic.extended.remove(name)
            return
        try:
            device_class = msgspec.convert(new, DeviceClass)
        except msgspec.ValidationError as error:
            _log.warning("deviceclass %s is left out: %s", name, error)
            self.class_changed(new, None)
            return
        self._state.apply_class(device_class)
        created = device_class.metadata.creation_timestamp or ""
        self._dynamic.extended.put(name, created, device_class.spec.extended_resource_name)
        self._queue.wake(Wake.CLASS | Wake.NODE if device_class.spec.extended_resource_name else Wake.CLASS)

    def taint_rule_changed(self, old: Document | None, new: Document | None) -> None:
        document = new or old
        if document is None or (old is not None and new is not None and old["spec"] == new["spec"]):
            return
        self._dynamic.forget_misfits()
        if new is None:
            self._state.remove_taint_rule(document["metadata"]["name"])
        else:
            self._state.apply_taint_rule(msgspec.convert(new, DeviceTaintRule))
        self._queue.wake(Wake.DEVICES)

    def attach(
        self,
        *,
        nodes: Informer,
        pods: Informer,
        claims: Informer,
        slices: Informer,
        classes: Informer,
        namespaces: Informer,
        taint_rules: Informer | None,
    ) -> None:
        """Hear from these informers; pods last, so that the first decisions know everything else."""
        namespaces.add_handler(self.namespace_changed)
        nodes.add_handler(self._timed(self.node_changed))
        classes.add_handler(self._timed(self.class_changed))
        slices.add_handler(self._timed(self.slice_changed))
        if taint_rules is not None:
            taint_rules.add_handler(self._timed(self.taint_rule_changed))
        claims.add_handler(self._timed(self.claim_changed))
        pods.add_handler(self._timed(self.pod_changed))

    def _timed(self, handler: Handler) -> Handler:
        def handle(old: Document | None, new: Document | None) -> None:
            started = perf_counter()
            try:
                handler(old, new)
            finally:
                self._metrics.informer_seconds += perf_counter() - started

        return handle


def _claim_keys(pod: PodInfo) -> frozenset[str]:
    names = (claim_name(pod, row)[0] for row in pod.spec.get("resourceClaims") or ())
    return frozenset(f"{pod.namespace}/{name}" for name in names if name)


def _is_same_node(old: Document, new: Document) -> bool:
    before, after = old.get("status") or {}, new.get("status") or {}
    return bool(
        old["metadata"].get("labels") == new["metadata"].get("labels")
        and (old.get("spec") or {}) == (new.get("spec") or {})
        and before.get("allocatable") == after.get("allocatable")
        and before.get("capacity") == after.get("capacity")
    )


def _matters(old: Document, new: Document) -> bool:
    """Whether a claim changed in more than its metadata, or began to go."""
    return bool(
        (old.get("status") or {}) != (new.get("status") or {})
        or old["metadata"].get("deletionTimestamp") != new["metadata"].get("deletionTimestamp")
    )
