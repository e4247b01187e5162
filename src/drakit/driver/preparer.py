"""NodePrepareResources and NodeUnprepareResources of one driver.

For each claim: enter it in the checkpoint, let the driver do its part, write the CDI file, complete the
entry. A claim that is complete is answered from the checkpoint. Undone in the opposite order, and the
entry goes last. Each step may be repeated, so a crash between any two of them is mended by the next call.

Claims are read from the API before anything is locked. Then calls follow one another, also with those of
other instances of the same driver (a rolling update has two for a while); a driver whose calls may overlap
has its turn only for the checkpoint and the files. A call that is given up by the kubelet is cancelled; a
plain function in a thread cannot be, so it is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from drakit.client.api import Client
from drakit.client.clock import Clock
from drakit.driver.call import call
from drakit.driver.cdi import CDIFiles
from drakit.driver.checkpoint import Checkpoint
from drakit.driver.claim import Claim, PreparedClaim, PreparedDevice
from drakit.driver.driver import Driver
from drakit.driver.metadata import Attributes, MetadataFiles
from drakit.driver.metrics import Metrics
from drakit.driver.reading import ClaimReader
from drakit.driver.status import StatusWriter
from drakit.driver.turns import Turns
from drakit.errors import DRAError, RecoverableError, UsageError
from drakit.model.resource import POD_CLAIM_ANNOTATION
from drakit.pluginapi import dra

_LOOK_SECONDS = 2.0
"""How long to look whether a prepared claim still has the same devices; it is answered anyway."""
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Preparer:
    """The DRA service of `driver`, which keeps its checkpoint and lock in `folder`; the host may call that
    `host_folder`."""

    def __init__(
        self,
        driver: Driver,
        client: Client,
        folder: Path,
        files: CDIFiles,
        metrics: Metrics,
        statuses: StatusWriter,
        *,
        host_folder: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._driver = driver
        driver.settle(folder.absolute(), (host_folder or folder).absolute())
        self._reader = ClaimReader(client, driver)
        self._files = files
        self._metrics = metrics
        self._turns = Turns(folder, clock or Clock())
        self._busy: dict[str, tuple[asyncio.Lock, list[None]]] = {}
        self._checkpoint = Checkpoint(folder / "checkpoint.json")
        self._metadata = MetadataFiles(
            driver.folder / "metadata", driver.name, driver.host_folder / "metadata"
        )
        self._statuses = statuses
        driver.prepared = self._checkpoint.claims
        driver.on_report(self._report)

    async def start(self) -> None:
        """Read the checkpoint and put the CDI files right. Raises UsageError if files cannot be used."""
        try:
            async with self._turns.alone():
                self._checkpoint.refresh()
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
        self._checkpoint.refresh()
        found = await self._reader.read_all([claim for claim in claims if not self._is_done(claim.uid)])
        if known := [claim for claim in claims if claim.uid not in found]:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    found |= await self._reader.read_all(known)
        results: dict[str, dra.PrepareResult] = {}

        async def work(claim: dra.Claim) -> list[PreparedDevice]:
            return await self._prepare(claim, found.get(claim.uid))

        async with self._turn(is_whole_call=True):
            for claim in claims:
                error, devices = await self._guarded("prepare", claim, work)
                results[claim.uid] = dra.PrepareResult([_answer(device) for device in devices or ()], error)
        return results

    async def unprepare(self, claims: Sequence[dra.Claim]) -> Mapping[str, str]:
        """Unprepare each of `claims`; "" where that went well or nothing was prepared."""
        errors: dict[str, str] = {}
        async with self._turn(is_whole_call=True):
            for claim in claims:
                errors[claim.uid], _ = await self._guarded("unprepare", claim, self._unprepare)
        return errors

    @property
    def prepared(self) -> Mapping[str, PreparedClaim]:
        """What the checkpoint has, by UID."""
        return self._checkpoint.claims

    async def _guarded(
        self, operation: str, claim: dra.Claim, work: Callable[[dra.Claim], Awaitable[T]]
    ) -> tuple[str, T | None]:
        """The error of `work` on `claim` in words ("" if none) and its answer."""
        extra = {"operation": operation, "claim": f"{claim.namespace}/{claim.name}", "uid": claim.uid}
        began = time.monotonic()
        try:
            if not _UID.fullmatch(claim.uid):
                raise DRAError(f"the claim's UID {claim.uid[:100]!r} is not valid")
            async with self._only(claim.uid):
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

    async def _prepare(self, wanted: dra.Claim, claim: Claim | DRAError | None) -> list[PreparedDevice]:
        """`claim` is what the API says of it, None if it was not asked."""
        if self._is_done(wanted.uid) and isinstance(claim, Claim):
            before = self._checkpoint.claims[wanted.uid].allocated
            if before and before != claim.allocated:
                _log.warning("claim %s was prepared for other devices, and not unprepared since", claim.key)
                await self._unprepare(wanted)
        async with self._turn():
            if self._is_done(wanted.uid):
                known = self._checkpoint.claims[wanted.uid]
                self._restore(known)
                return known.devices
            claim = claim or await self._reader.read(wanted)
            if isinstance(claim, DRAError):
                raise claim
            self._check_free(claim)
            entry = PreparedClaim(
                namespace=claim.namespace,
                name=claim.name,
                uid=claim.uid,
                allocated=claim.allocated,
                pod_claim_name=claim.document["metadata"].get("annotations", {}).get(POD_CLAIM_ANNOTATION),
            )
            self._checkpoint.put(entry)
        devices = list(await call(self._driver.prepare, claim))
        if missing := _missing(claim, devices):
            _log.warning("claim %s: the driver prepared nothing for %s", claim.key, ", ".join(missing))
        async with self._turn():
            done = structs.replace(entry, is_complete=True, devices=devices)
            if self._driver.has_metadata:
                done = self._metadata.write(done, self._attributes())
            done = structs.replace(done, devices=self._files.write(claim.uid, done.devices))
            self._checkpoint.put(done)
            self._statuses.report(done)
        return done.devices

    def _is_done(self, uid: str) -> bool:
        known = self._checkpoint.claims.get(uid)
        return known is not None and known.is_complete

    def _check_free(self, claim: Claim) -> None:
        """Raises RecoverableError if another claim has a device of `claim` that is not to be shared.

        Schedulers see to that; a driver is the last who could notice that one did not.
        """
        taken = {
            (device.pool, device.name): other
            for other in self._checkpoint.claims.values()
            for device in other.devices
            if other.is_complete
            and other.uid != claim.uid
            and not device.is_admin
            and device.share_id is None
        }
        for device in claim.devices:
            other = taken.get((device.pool, device.name))
            if other is not None and not device.admin_access and device.share_id is None:
                raise RecoverableError(
                    f"device {device.pool}/{device.name} is still prepared for claim {other.key}"
                )

    async def _unprepare(self, wanted: dra.Claim) -> None:
        known = self._checkpoint.claims.get(wanted.uid)
        if known is not None:
            await call(self._driver.unprepare, known)
        async with self._turn():
            self._statuses.forget(wanted.uid)
            self._files.remove(wanted.uid)
            self._metadata.remove(wanted.uid)
            if known is not None:
                self._checkpoint.drop(wanted.uid)

    def _restore(self, claim: PreparedClaim) -> None:
        """Write the CDI file of a prepared claim again if it was lost."""
        if not self._files.has(claim.uid):
            self._files.write(claim.uid, claim.devices)
        if self._driver.has_metadata:
            self._metadata.restore(claim, self._attributes())

    async def _report(self, uid: str, device: PreparedDevice) -> None:
        """What the driver says anew of a prepared device."""
        async with self._turns.alone():
            self._checkpoint.refresh()
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

    @asynccontextmanager
    async def _turn(self, *, is_whole_call: bool = False) -> AsyncIterator[None]:
        """Nobody else works for this driver on this node, and the checkpoint is fresh: during a whole call,
        or in the parts of it that need that where calls may overlap."""
        if is_whole_call == self._driver.may_overlap:
            yield
            return
        async with self._turns.alone():
            self._checkpoint.refresh()
            yield

    @asynccontextmanager
    async def _only(self, uid: str) -> AsyncIterator[None]:
        """Nobody else in this process works on the claim `uid`."""
        lock, users = self._busy.setdefault(uid, (asyncio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                del self._busy[uid]


def _answer(device: PreparedDevice) -> dra.PreparedDevice:
    """`device` as the kubelet wants it, which knows requests but not the alternatives in them."""
    request = device.request.partition("/")[0]
    return dra.PreparedDevice((request,), device.pool, device.name, device.cdi_device_ids, device.share_id)


def _missing(claim: Claim, devices: Sequence[PreparedDevice]) -> list[str]:
    """The devices of `claim` that are not in `devices`."""
    done = {(device.request, device.pool, device.name) for device in devices}
    return [f"{d.pool}/{d.name}" for d in claim.devices if (d.request, d.pool, d.name) not in done]
