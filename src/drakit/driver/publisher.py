"""Keeps the ResourceSlices of one driver on one node as the driver says.

Level-triggered: a pool is looked at when the driver publishes and when any of its slices changes, whoever
changed it, and the fewest writes that put it right are carried out (see `slices`). What the server drops
or rewrites in a slice is remembered, so that a field unknown to an older server does not make a loop. A
pool is not put right more than `REPAIRS` times in `REPAIR_SECONDS`: two versions of a driver that overlap in
an update may publish different things, and would otherwise write as fast as they can until one goes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from drakit.client.api import NODES, RESOURCE_SLICES, Client
from drakit.client.clock import Clock
from drakit.client.informer import Informer
from drakit.client.queue import WorkQueue
from drakit.driver import own_writes
from drakit.driver.device import Pool
from drakit.driver.driver import Driver
from drakit.driver.dropped import DroppedFields
from drakit.driver.metrics import Metrics
from drakit.driver.own_writes import OwnWrites
from drakit.driver.slices import Plan, comparable, encode, is_same, plan, slice_specs, spec_of
from drakit.errors import AlreadyExists, APIError, Conflict, DRAError, Invalid, NotFound
from drakit.model.resource import ResourceSliceSpec
from drakit.transport import Document

REPAIRS = 10
REPAIR_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Publisher:
    """Publishes for `driver` on `node_name` while `run` runs; what goes wrong it is told as well."""

    def __init__(
        self, client: Client, driver: Driver, node_name: str, metrics: Metrics, *, clock: Clock | None = None
    ) -> None:
        self._client = client
        self._driver = driver.name
        self._trouble = driver.trouble
        self._only_pool = driver.only_pool
        self._is_node_local = driver.is_node_local and not driver.only_pool
        self._node_name = node_name
        self._metrics = metrics
        self._clock = clock or Clock()
        self._specs: dict[str, list[ResourceSliceSpec]] | None = None
        self._wanting: set[str] = set()
        self._accepted: dict[str, tuple[Document, str]] = {}
        self._decoded: dict[str, tuple[str, ResourceSliceSpec]] = {}
        self._repairs: dict[str, deque[float]] = {}
        self._own = OwnWrites(self._clock)
        self._queue: WorkQueue[str] = WorkQueue(clock=self._clock, base=0.05, limit=30.0, jitter=0.5)
        self.published = asyncio.Event()
        """Set while all that was published last is on the server."""

    def publish(self, pools: Sequence[Pool]) -> None:
        """Have `pools`, and no others, on the server soon. Raises DRAError if they cannot be published."""
        specs = {pool.name: slice_specs(self._driver, self._node_name, pool) for pool in pools}
        if self._only_pool and set(specs) - {self._only_pool}:
            raise DRAError(
                f"driver {self._driver}: its only pool is {self._only_pool}, not {', '.join(specs)}"
            )
        if self._is_node_local:
            for name, parts in specs.items():
                if any(spec.node_name is None for spec in parts):
                    raise DRAError(
                        f"driver {self._driver}, pool {name} is for more than this node:"
                        " the driver must say is_node_local = False"
                    )
        self._metrics.set("dra_driver_published_devices", sum(len(pool.devices) for pool in pools))
        self._wanting = {*(self._specs or {}), *specs}
        self._specs = specs
        if self._wanting:
            self.published.clear()
        else:
            self.published.set()
        for name in self._wanting:
            self._queue.add(name)

    async def run(self) -> None:
        """Publish until cancelled."""
        selector = f"spec.driver={self._driver}"
        if self._is_node_local:
            selector += f",spec.nodeName={self._node_name}"
        informer = Informer(self._client, RESOURCE_SLICES, field_selector=selector, clock=self._clock)
        informer.add_index("pool", self._our_pools)
        async with asyncio.TaskGroup() as group:
            group.create_task(informer.run())
            await informer.wait_synced()
            informer.add_handler(self._seen)

            async def work(pool: str) -> None:
                seen = informer.by_index("pool", pool)
                existing = self._own.over(pool, seen, informer.version)
                if self._own.is_ahead(pool):
                    self._queue.add_after(pool, own_writes.SECONDS)
                await self._sync(pool, existing)

            await self._queue.run(work, name=f"slices of {self._driver}, pool")

    def _seen(self, old: Document | None, new: Document | None) -> None:
        for name in self._our_pools(new or old or {}):
            self._queue.add(name)

    def _our_pools(self, document: Document) -> list[str]:
        """The pool of a slice, if this instance looks after it: it is of this node or of none."""
        spec = document["spec"]
        if self._only_pool and spec["pool"]["name"] != self._only_pool:
            return []
        return [spec["pool"]["name"]] if spec.get("nodeName") in (None, "", self._node_name) else []

    async def _sync(self, pool: str, existing: list[Document]) -> None:
        specs = self._specs
        if specs is None:
            return
        accepted = [document for document in existing if self._is_accepted(document)]
        todo = plan(specs.get(pool, []), existing, accepted, self._decode)
        if not todo.is_empty:
            if pool not in self._wanting and (seconds := self._wait_before_repair(pool)):
                self._queue.add_after(pool, seconds)
                return
            self._wanting.add(pool)
            self.published.clear()
        try:
            await self._carry_out(todo)
        except (Conflict, AlreadyExists) as error:
            # Our copy is behind the server: look again when it has caught up.
            raise Conflict(error.message) from None
        except APIError as error:
            self._metrics.add("dra_driver_errors_total", "publish")
            _log.error("driver %s cannot publish pool %s: %s", self._driver, pool, error)
            self._trouble(error)
            raise
        if specs is self._specs:  # nothing newer was published meanwhile
            self._wanting.discard(pool)
            if not self._wanting:
                self.published.set()

    async def _carry_out(self, todo: Plan) -> None:
        try:
            for document, spec in todo.updates:
                await self._write("update", {**document, **_document(document["metadata"], spec)}, spec)
            for name, spec in todo.creates:
                await self._write("create", _document(await self._metadata(name, spec), spec), spec)
        except Invalid:
            # Devices that are not there any more must not be given away, even if the new ones are refused.
            for document in todo.deletes:
                await self._delete(document)
            raise
        for document in todo.deletes:
            await self._delete(document)

    def _wait_before_repair(self, pool: str) -> float:
        """The seconds until `pool` may be put right again; 0 counts as done now."""
        times = self._repairs.setdefault(pool, deque(maxlen=REPAIRS))
        now = self._clock.now()
        if len(times) == REPAIRS and now < times[0] + REPAIR_SECONDS:
            _log.warning("pool %s of %s is changed by somebody else again and again", pool, self._driver)
            return times[0] + REPAIR_SECONDS - now
        times.append(now)
        return 0.0

    async def _write(self, verb: str, document: Document, spec: ResourceSliceSpec) -> None:
        write = self._client.create if verb == "create" else self._client.update
        stored = await write(RESOURCE_SLICES, document)
        self._own.stored(stored)
        self._metrics.add("dra_driver_slice_writes_total", verb)
        name = stored["metadata"]["name"]
        _log.info("%sd slice %s", verb, name, extra={"driver": self._driver, "slice": name})
        kept = self._decode(stored)
        if is_same(spec, kept):
            self._accepted.pop(name, None)
            return
        wanted = comparable(spec)
        if self._accepted.get(name, ({}, ""))[0] != wanted:
            dropped = DroppedFields.of(name, wanted, comparable(kept))
            _log.warning("%s", dropped)
            self._trouble(dropped)
        self._accepted[name] = (wanted, stored["metadata"]["resourceVersion"])

    def _decode(self, document: Document) -> ResourceSliceSpec:
        """The spec of a slice; that of each version is read once."""
        name, version = document["metadata"]["name"], document["metadata"]["resourceVersion"]
        known = self._decoded.get(name)
        if known is None or known[0] != version:
            known = self._decoded[name] = (version, spec_of(document))
        return known[1]

    def _is_accepted(self, document: Document) -> bool:
        """Whether this is how the server keeps what is still wanted there."""
        meta = document["metadata"]
        wanted, resource_version = self._accepted.get(meta["name"], ({}, ""))
        if resource_version != meta.get("resourceVersion"):
            return False
        specs = (self._specs or {}).get(document["spec"]["pool"]["name"], [])
        return any(comparable(spec) == wanted for spec in specs)

    async def _delete(self, document: Document) -> None:
        meta = document["metadata"]
        try:
            await self._client.delete(RESOURCE_SLICES, meta["name"], uid=meta.get("uid"))
        except NotFound:
            self._own.deleted(document)
            return
        self._own.deleted(document)
        self._metrics.add("dra_driver_slice_writes_total", "delete")
        self._accepted.pop(meta["name"], None)
        self._decoded.pop(meta["name"], None)
        _log.info("deleted slice %s", meta["name"], extra={"driver": self._driver, "slice": meta["name"]})

    async def _metadata(self, name: str, spec: ResourceSliceSpec) -> Document:
        """Of a new slice: it goes with its node, if it is of one."""
        if spec.node_name is None and not self._only_pool:
            return {"name": name}
        node = await self._client.get(NODES, self._node_name)
        owner = {
            "apiVersion": "v1",
            "kind": "Node",
            "name": self._node_name,
            "uid": node["metadata"]["uid"],
            "controller": True,
        }
        return {"name": name, "ownerReferences": [owner]}


def _document(metadata: Document, spec: ResourceSliceSpec) -> Document:
    return {
        "apiVersion": RESOURCE_SLICES.api_version,
        "kind": RESOURCE_SLICES.kind,
        "metadata": metadata,
        "spec": encode(spec),
    }
