"""NodePrepareResources and NodeUnprepareResources of one driver.

For each claim: enter it in the checkpoint, let the driver do its part, write the CDI file, complete the
entry. A claim that is complete is answered from the checkpoint. Undone in the opposite order, and the
entry goes last. Each step may be repeated, so a crash between any two of them is mended by the next call.

Calls follow one another, through a lock in this process and one on a file for other instances of the same
driver (a rolling update has two for a while). A call that is given up by the kubelet is cancelled; a plain
function in a thread cannot be, so it is waited for.
"""

from __future__ import annotations

import asyncio
import fcntl
import inspect
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from msgspec import structs

from drakit.client.api import RESOURCE_CLAIMS, Client
from drakit.client.clock import Clock
from drakit.driver.cdi import CDIFiles
from drakit.driver.checkpoint import Checkpoint
from drakit.driver.claim import Claim, PreparedClaim, PreparedDevice
from drakit.driver.driver import Driver
from drakit.driver.metadata import Attributes, MetadataFiles
from drakit.driver.metrics import Metrics
from drakit.driver.status import StatusWriter
from drakit.errors import DRAError, NotFound, RecoverableError, UsageError
from drakit.model.resource import POD_CLAIM_ANNOTATION
from drakit.pluginapi import dra

_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_LOCK_SECONDS = 0.02

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Preparer:
    """The DRA service of `driver`, which keeps its checkpoint and lock in `folder`."""

    def __init__(
        self,
        driver: Driver,
        client: Client,
        folder: Path,
        files: CDIFiles,
        metrics: Metrics,
        statuses: StatusWriter,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._driver = driver
        self._client = client
        self._folder = folder
        self._files = files
        self._metrics = metrics
        self._clock = clock or Clock()
        self._lock = asyncio.Lock()
        self._checkpoint = Checkpoint(folder / "checkpoint.json")
        self._metadata = MetadataFiles(folder / "metadata", driver.name)
        self._statuses = statuses
        driver.prepared = self._checkpoint.claims
        driver.on_report(self._report)
        driver.folder = folder.absolute()

    async def start(self) -> None:
        """Read the checkpoint and put the CDI files right. Raises UsageError if files cannot be used."""
        try:
            async with self._alone():
                known = self._checkpoint.claims
                self._files.keep(known)
                self._metadata.keep(known)
                for claim in known.values():
                    if claim.is_complete:
                        self._restore(claim)
                        self._statuses.report(claim)
        except RecoverableError as error:
            raise UsageError(f"driver {self._driver.name}: {error}") from None

    # --- the kubelet's calls ----------------------------------------------------------------------

    async def prepare(self, claims: Sequence[dra.Claim]) -> Mapping[str, dra.PrepareResult]:
        """Prepare each of `claims`; what fails is in its own result."""
        results: dict[str, dra.PrepareResult] = {}
        async with self._alone():
            for claim in claims:
                error, devices = await self._guarded("prepare", claim, self._prepare)
                answer = [
                    dra.PreparedDevice((d.request,), d.pool, d.name, d.cdi_device_ids, d.share_id)
                    for d in devices or ()
                ]
                results[claim.uid] = dra.PrepareResult(answer, error)
        return results

    async def unprepare(self, claims: Sequence[dra.Claim]) -> Mapping[str, str]:
        """Unprepare each of `claims`; "" where that went well or nothing was prepared."""
        errors: dict[str, str] = {}
        async with self._alone():
            for claim in claims:
                errors[claim.uid], _ = await self._guarded("unprepare", claim, self._unprepare)
        return errors

    async def _guarded(
        self, operation: str, claim: dra.Claim, work: Callable[[dra.Claim], Awaitable[T]]
    ) -> tuple[str, T | None]:
        """The error of `work` on `claim` in words ("" if none) and its answer."""
        extra = {"operation": operation, "claim": f"{claim.namespace}/{claim.name}", "uid": claim.uid}
        began = time.monotonic()
        try:
            if not _UID.fullmatch(claim.uid):
                raise DRAError(f"the claim's UID {claim.uid[:100]!r} is not valid")
            answer = await work(claim)
        except DRAError as error:
            self._metrics.add("dra_driver_errors_total", operation)
            level = logging.WARNING if isinstance(error, RecoverableError) else logging.ERROR
            _log.log(level, "%s of claim %s failed: %s", operation, extra["claim"], error, extra=extra)
            return str(error) or type(error).__name__, None
        except Exception as error:
            self._metrics.add("dra_driver_errors_total", operation)
            _log.exception("%s of claim %s hit a bug", operation, extra["claim"], extra=extra)
            return f"bug in driver {self._driver.name}: {type(error).__name__}: {error}", None
        finally:
            complete = sum(known.is_complete for known in self._checkpoint.claims.values())
            self._metrics.set("dra_driver_prepared_claims", complete)
        seconds = time.monotonic() - began
        self._metrics.observe(f"dra_driver_{operation}_seconds", seconds)
        _log.info("%sd claim %s", operation, extra["claim"], extra={**extra, "seconds": seconds})
        return "", answer

    # --- one claim --------------------------------------------------------------------------------

    async def _prepare(self, wanted: dra.Claim) -> list[PreparedDevice]:
        known = self._checkpoint.claims.get(wanted.uid)
        if known is not None and known.is_complete:
            self._restore(known)
            return known.devices
        claim = await self._fetch(wanted)
        entry = PreparedClaim(
            namespace=claim.namespace,
            name=claim.name,
            uid=claim.uid,
            pod_claim_name=claim.document["metadata"].get("annotations", {}).get(POD_CLAIM_ANNOTATION),
        )
        self._checkpoint.put(entry)
        devices = await self._call(self._driver.prepare, claim)
        done = structs.replace(entry, is_complete=True, devices=list(devices))
        if self._driver.has_metadata:
            done = self._metadata.write(done, self._attributes())
        done = structs.replace(done, devices=self._files.write(claim.uid, done.devices))
        self._checkpoint.put(done)
        self._statuses.report(done)
        return done.devices

    async def _unprepare(self, wanted: dra.Claim) -> None:
        known = self._checkpoint.claims.get(wanted.uid)
        if known is not None:
            await self._call(self._driver.unprepare, known)
        self._statuses.forget(wanted.uid)
        self._files.remove(wanted.uid)
        self._metadata.remove(wanted.uid)
        if known is not None:
            self._checkpoint.drop(wanted.uid)

    async def _fetch(self, wanted: dra.Claim) -> Claim:
        """The claim as the API has it, if it still is the one that is meant."""
        try:
            document = await self._client.get(RESOURCE_CLAIMS, wanted.name, wanted.namespace)
        except NotFound:
            raise DRAError("the claim does not exist (any more)") from None
        uid = document["metadata"].get("uid")
        if uid != wanted.uid:
            raise DRAError(f"the claim was replaced by another of the same name (its UID is {uid})")
        claim = Claim.of(document, self._driver.name)
        ours = {(pool.name, device.name) for pool in self._driver.pools() for device in pool.devices}
        for device in claim.devices:
            if (device.pool, device.name) not in ours:
                raise DRAError(f"device {device.pool}/{device.name} is not there (any more)")
        return claim

    def _restore(self, claim: PreparedClaim) -> None:
        """Write the CDI file of a prepared claim again if it was lost."""
        if not self._files.has(claim.uid):
            self._files.write(claim.uid, claim.devices)
        if self._driver.has_metadata:
            self._metadata.restore(claim, self._attributes())

    async def _report(self, uid: str, device: PreparedDevice) -> None:
        """What the driver says anew of a prepared device."""
        async with self._alone():
            claim = self._checkpoint.claims.get(uid)
            if claim is None or not claim.is_complete:
                raise DRAError(f"claim {uid} is not prepared (any more)")
            wanted = (device.request, device.pool, device.name, device.share_id)
            devices = list(claim.devices)
            found = [i for i, d in enumerate(devices) if (d.request, d.pool, d.name, d.share_id) == wanted]
            if not found:
                raise DRAError(f"claim {claim.key} has no device {device.pool}/{device.name}")
            devices[found[0]] = structs.replace(
                devices[found[0]],
                conditions=device.conditions,
                data=device.data,
                network_data=device.network_data,
            )
            claim = structs.replace(claim, devices=devices)
            self._checkpoint.put(claim)
            if self._driver.has_metadata:
                self._metadata.update(claim, self._attributes())
            self._statuses.report(claim)

    def _attributes(self) -> Attributes:
        """What is published of every device."""
        return {
            (pool.name, device.name): device.attributes
            for pool in self._driver.pools()
            for device in pool.devices
        }

    # --- one at a time ----------------------------------------------------------------------------

    async def _call(self, function: Callable[[Any], Any], argument: object) -> Any:
        """What the driver's `function` returns, be it plain (in a thread) or async."""
        if inspect.iscoroutinefunction(function):
            return await function(argument)
        thread = asyncio.ensure_future(asyncio.to_thread(function, argument))
        try:
            answer = await asyncio.shield(thread)
        except asyncio.CancelledError:
            await asyncio.wait([thread])
            raise
        return await answer if inspect.isawaitable(answer) else answer

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Nobody else prepares or unprepares for this driver on this node, and the checkpoint is fresh."""
        async with self._lock:
            descriptor = self._open_lock()
            try:
                while not _try_lock(descriptor):
                    await self._clock.sleep(_LOCK_SECONDS)
                self._checkpoint.refresh()
                yield
            finally:
                os.close(descriptor)

    def _open_lock(self) -> int:
        path, flags = self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            try:
                return os.open(path, flags, 0o600)
            except FileNotFoundError:
                self._folder.mkdir(parents=True, exist_ok=True)
                return os.open(path, flags, 0o600)
        except OSError as error:
            raise RecoverableError(f"cannot lock {self._folder}: {error.strerror}") from None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
