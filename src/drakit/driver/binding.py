"""Binding conditions: devices that are made ready for a node before the pod that got them is bound there.

The scheduler has chosen; the pod waits until every binding condition of its devices is True in the claim's
status, or a failure condition is, which takes the devices from it again. So this watches claims, has the
driver `bind` those that wait for it, and says how it went. What was begun is on disk before it begins, as
with prepared claims: when the devices are taken from the claim, in whatever way, `unbind` undoes it.

Only where the driver overrides `bind`. Conditions go by server-side apply under a manager of their own, so
that those of `prepare` do not take their place. Two instances that overlap may both bind a claim; what they
began is in one file, under a lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import structs

from drakit.client.api import RESOURCE_CLAIMS, Client
from drakit.client.clock import Clock
from drakit.client.informer import Informer
from drakit.client.queue import WorkQueue
from drakit.driver.call import call
from drakit.driver.checkpoint import Checkpoint
from drakit.driver.claim import AllocatedDevice, Claim, DeviceCondition, PreparedClaim, PreparedDevice
from drakit.driver.driver import Driver
from drakit.driver.metrics import Metrics
from drakit.driver.status import StatusWriter
from drakit.driver.turns import Turns
from drakit.errors import DRAError, RecoverableError
from drakit.transport import Document

WORKERS = 8
_MAX_MESSAGE = 1024

_log = logging.getLogger(__name__)


class Binder:
    """Binds claims with devices of `driver` while `run` runs; what it began is kept in `folder`."""

    def __init__(
        self,
        driver: Driver,
        client: Client,
        folder: Path,
        metrics: Metrics,
        statuses: StatusWriter,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._driver = driver
        self._metrics = metrics
        self._statuses = statuses
        self._checkpoint = Checkpoint(folder / "bound.json")
        self._turns = Turns(folder, clock or Clock(), "bound.lock")
        self._informer = Informer(client, RESOURCE_CLAIMS, clock=clock)
        self._informer.add_index("uid", lambda document: [document["metadata"]["uid"]])
        self._queue: WorkQueue[str] = WorkQueue(clock=clock, base=0.1, limit=30.0, jitter=0.5)
        self._settled: dict[str, object] = {}
        """Which allocation of a claim is done with, by its UID."""

    @property
    def is_supported(self) -> bool:
        """Whether the driver has anything to do before pods are bound."""
        return type(self._driver).bind is not Driver.bind

    async def run(self) -> None:
        """Work until cancelled."""
        async with self._turns.alone():
            self._checkpoint.refresh()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.run())
            await self._informer.wait_synced()
            self._informer.add_handler(self._seen)
            for uid in self._checkpoint.claims:
                self._queue.add(uid)
            await self._queue.run(self._work, workers=WORKERS, name=f"binding of {self._driver.name}, claim")

    def _seen(self, old: Document | None, new: Document | None) -> None:
        for document in (old, new):
            if document is not None:
                uid = document["metadata"]["uid"]
                if uid in self._checkpoint.claims or self._allocated(document):
                    self._queue.add(uid)

    def _allocated(self, document: Document) -> Claim | None:
        """The claim with those of its devices that this driver has to bind; None if there are none."""
        results = ((document.get("status") or {}).get("allocation") or {}).get("devices", {}).get("results")
        if not any(r["driver"] == self._driver.name and r.get("bindingConditions") for r in results or ()):
            return None
        claim = Claim.of(document, self._driver.name)
        ours = {pool.name for pool in self._driver.pools()}
        devices = [d for d in claim.devices if d.binding_conditions and d.pool in ours]
        return structs.replace(claim, devices=devices) if devices else None

    async def _work(self, uid: str) -> None:
        found = self._informer.by_index("uid", uid)
        claim = self._allocated(found[0]) if found else None
        self._checkpoint.refresh()
        begun = self._checkpoint.claims.get(uid)
        if begun is not None and (claim is None or _identities(begun.devices) != _identities(claim.devices)):
            await self._guarded(begun.key, call(self._driver.unbind, begun))
            async with self._turns.alone():
                self._checkpoint.refresh()
                self._checkpoint.drop(uid)
            self._statuses.forget(uid)
        if claim is None:
            self._settled.pop(uid, None)
            return
        mark = _identities(claim.devices), claim.document["status"]["allocation"].get("allocationTimestamp")
        if self._settled.get(uid) == mark or self._is_settled(claim):
            return
        entry = PreparedClaim(
            namespace=claim.namespace,
            name=claim.name,
            uid=uid,
            devices=[device.prepared() for device in claim.devices],
        )
        async with self._turns.alone():
            self._checkpoint.refresh()
            self._checkpoint.put(entry)
        problem = ""
        try:
            await self._guarded(claim.key, call(self._driver.bind, claim))
        except RecoverableError:
            raise
        except DRAError as error:
            if not all(device.binding_failure_conditions for device in claim.devices):
                raise  # nobody would learn of it: the pod waits for a better try
            problem = str(error)
        _log.info(
            "claim %s is %s", claim.key, f"not to be bound: {problem}" if problem else "ready to be bound"
        )
        devices = [structs.replace(d.prepared(), conditions=_conditions(d, problem)) for d in claim.devices]
        self._statuses.report(structs.replace(entry, devices=devices))
        self._settled[uid] = mark

    def _is_settled(self, claim: Claim) -> bool:
        """Whether the status of `claim` says that each of its devices is ready, or that one failed."""
        known = {
            (entry["pool"], entry["device"], entry.get("shareID")): {
                condition["type"]
                for condition in entry.get("conditions") or ()
                if condition["status"] == "True"
            }
            for entry in (claim.document.get("status") or {}).get("devices") or ()
            if entry["driver"] == self._driver.name
        }
        met = [
            (device, known.get((device.pool, device.name, device.share_id), set()))
            for device in claim.devices
        ]
        return all(set(device.binding_conditions) <= true for device, true in met) or any(
            set(device.binding_failure_conditions) & true for device, true in met
        )

    async def _guarded(self, key: str, work: object) -> None:
        """Await the driver's `work` on the claim `key`. Raises DRAError, whatever it raises."""
        try:
            await work  # type: ignore[misc]
        except DRAError as error:
            self._metrics.add("dra_driver_errors_total", "bind")
            _log.warning("binding of claim %s failed: %s", key, error)
            raise
        except Exception as error:
            self._metrics.add("dra_driver_errors_total", "bind")
            _log.exception("binding of claim %s hit a bug", key)
            raise RecoverableError(f"bug in driver {self._driver.name}: {error}") from None


def _identities(
    devices: Sequence[AllocatedDevice] | Sequence[PreparedDevice],
) -> set[tuple[str, str, str, str | None]]:
    return {(device.request, device.pool, device.name, device.share_id) for device in devices}


def _conditions(device: AllocatedDevice, problem: str) -> list[DeviceCondition]:
    status: Literal["True", "False"] = "False" if problem else "True"
    met = [DeviceCondition(type=name, status=status) for name in device.binding_conditions]
    if not problem:
        return met
    failed = DeviceCondition(type=device.binding_failure_conditions[0], message=problem[:_MAX_MESSAGE])
    return [*met, failed]
