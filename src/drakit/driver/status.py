"""What drivers say of devices in the status of claims: conditions, data, addresses.

Written by server-side apply, so that drivers and nodes that share a claim each have their own entries. It
comes after the preparation and never fails it: what cannot be written now is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from drakit.client.api import RESOURCE_CLAIMS, Client
from drakit.client.clock import Clock, timestamp
from drakit.client.queue import WorkQueue
from drakit.driver.claim import PreparedClaim
from drakit.driver.metrics import Metrics
from drakit.errors import APIError, DRAError, Invalid, NotFound
from drakit.transport import Document

_MAX_MANAGER = 128

_log = logging.getLogger(__name__)


class _Condition(Struct):
    type: str = ""
    status: str = ""
    last_transition_time: str = field(default="", name="lastTransitionTime")


class StatusWriter:
    """Writes the statuses of claims of `driver` on `node_name` while `run` runs; `trouble` is told of what
    cannot be written. Writers for different parts of the conditions are told apart by `part`."""

    def __init__(
        self,
        client: Client,
        driver: str,
        node_name: str,
        metrics: Metrics,
        trouble: Callable[[DRAError], None],
        *,
        part: str = "",
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._driver = driver
        self._manager = f"{driver}-{node_name}"[: _MAX_MANAGER - len(part)] + part
        self._metrics = metrics
        self._trouble = trouble
        self._clock = clock or Clock()
        self._claims: dict[str, PreparedClaim] = {}
        self._queue: WorkQueue[str] = WorkQueue(clock=self._clock, base=0.1, limit=30.0, jitter=0.5)

    def report(self, claim: PreparedClaim) -> None:
        """Have what `claim` says of its devices in its status soon."""
        if any(device.has_status for device in claim.devices):
            self._claims[claim.uid] = claim
            self._queue.add(claim.uid)

    def forget(self, uid: str) -> None:
        """The claim `uid` is not prepared any more; its status goes with its allocation."""
        self._claims.pop(uid, None)

    async def run(self) -> None:
        """Write until cancelled."""
        await self._queue.run(self._write, name=f"status of {self._driver}, claim")

    async def _write(self, uid: str) -> None:
        claim = self._claims.get(uid)
        if claim is None:
            return
        try:
            document = await self._client.get(RESOURCE_CLAIMS, claim.name, claim.namespace)
            if document["metadata"].get("uid") != uid:
                raise NotFound(f"claim {claim.key} was replaced")
            await self._client.apply(
                RESOURCE_CLAIMS,
                self._wanted(claim, document),
                subresource="status",
                field_manager=self._manager,
            )
        except NotFound:
            self.forget(uid)
        except Invalid as error:
            self._failed(claim, error)
            self.forget(uid)
        except APIError as error:
            self._failed(claim, error)
            raise

    def _failed(self, claim: PreparedClaim, error: APIError) -> None:
        self._metrics.add("dra_driver_errors_total", "status")
        _log.error("the status of claim %s cannot be written: %s", claim.key, error)
        self._trouble(error)

    def _wanted(self, claim: PreparedClaim, document: Document) -> Document:
        allocation = (document.get("status") or {}).get("allocation") or {}
        allocated = {
            (result["driver"], result["pool"], result["device"], result.get("shareID"))
            for result in (allocation.get("devices") or {}).get("results") or ()
        }
        known = (document.get("status") or {}).get("devices") or []
        entries = []
        for device in claim.devices:
            key = (self._driver, device.pool, device.name, device.share_id)
            if device.has_status and key in allocated:
                allocated.discard(key)
                old = [entry for entry in known if _key(entry) == key]
                entries.append(self._entry(device, old))
        return {
            "apiVersion": RESOURCE_CLAIMS.api_version,
            "kind": RESOURCE_CLAIMS.kind,
            "metadata": {"name": claim.name, "namespace": claim.namespace, "uid": claim.uid},
            "status": {"devices": entries},
        }

    def _entry(self, device: Any, old: Sequence[Document]) -> Document:
        entry: Document = {"driver": self._driver, "pool": device.pool, "device": device.name}
        if device.share_id:
            entry["shareID"] = device.share_id
        if device.data is not None:
            entry["data"] = device.data
        if device.network_data is not None:
            entry["networkData"] = msgspec.to_builtins(device.network_data)
        since = {
            (condition.type, condition.status): condition.last_transition_time
            for one in old
            for condition in msgspec.convert(one.get("conditions") or [], list[_Condition])
        }
        now = timestamp(self._clock.now())
        if device.conditions:
            entry["conditions"] = [
                {
                    "type": condition.type,
                    "status": condition.status,
                    "reason": condition.reason or condition.type,
                    "message": condition.message,
                    "lastTransitionTime": since.get((condition.type, condition.status)) or now,
                }
                for condition in device.conditions
            ]
        return entry


def _key(entry: Document) -> tuple[str, str, str, str | None]:
    return entry["driver"], entry["pool"], entry["device"], entry.get("shareID")
