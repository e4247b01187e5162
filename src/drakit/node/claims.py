"""Preparing the claims of a pod before its containers start, and unpreparing them after the last has ended.

Everything is checked before any driver is asked: each claim exists, is the pod's own or shared, is reserved
for the pod and allocated, and all its drivers are registered. Then the checkpoint is written, each driver is
asked once for all of its claims, and the checkpoint is written again. A claim shared by pods is prepared for
the first and unprepared after the last. Order and texts of failures are those of the kubelet.
Source: pkg/kubelet/cm/dra/manager.go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import msgspec

from drakit.client.api import RESOURCE_CLAIMS, Client
from drakit.errors import APIError, DRAError
from drakit.model.cdi import CDIError, parse_name
from drakit.model.resource import ResourceClaim
from drakit.node.checkpoint import Checkpoint, CheckpointFailed, ClaimRecord
from drakit.node.plugins import Plugins
from drakit.pluginapi.dra import Claim, PreparedDevice, PrepareResult
from drakit.pluginapi.wire import CallFailed
from drakit.transport import Document

CALL_SECONDS = 45.0
"""How long a driver may take for a call."""

_MAX_DEVICES = 1024
"""Devices of one claim in a driver's answer; a claim has at most 32."""
_MAX_TEXT = 1000
"""Characters of what a driver says of one claim."""


class PrepareFailed(DRAError):
    """A claim of the pod could not be prepared (or unprepared); `drivers` are those it waits for."""

    def __init__(self, message: str, drivers: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.drivers = tuple(drivers)


class Claims:
    """The claims of this node's pods. `skips_operations` is whether allocations may opt out of the calls,
    `call_seconds` how long a driver may take for one."""

    def __init__(
        self,
        client: Client,
        plugins: Plugins,
        checkpoint: Checkpoint,
        *,
        skips_operations: bool = False,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._client = client
        self._plugins = plugins
        self._checkpoint = checkpoint
        self._skips_operations = skips_operations
        self.call_seconds = call_seconds
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    async def prepare(self, pod: Document) -> None:
        """Return when every claim of `pod` is prepared. Raises PrepareFailed; may be repeated."""
        claims = await self._checked(pod)
        if not claims:
            return
        pod_uid = pod["metadata"]["uid"]
        async with self._holding([claim.metadata.uid for claim in claims]):
            for claim in claims:
                self._check_no_older(claim)
            records = [self._enter(claim, pod_uid) for claim in claims]
            await self._save()
            by_driver: dict[str, list[ClaimRecord]] = {}
            for record in records:
                for driver, devices in record.drivers.items():
                    if devices is None:
                        by_driver.setdefault(driver, []).append(record)
            if not by_driver:
                return
            calls = [self._prepare_driver(driver, records) for driver, records in by_driver.items()]
            problems = [problem for found in await asyncio.gather(*calls) for problem in found]
            await self._save()
        if problems:
            raise PrepareFailed("; ".join(problems), sorted(by_driver))

    async def unprepare(self, pod_uid: str) -> None:
        """Return when nothing is held for the pod any more. Raises PrepareFailed; may be repeated."""
        uids = [uid for uid, record in self._checkpoint.claims.items() if pod_uid in record.pods]
        if not uids:
            return
        async with self._holding(uids):
            found = [self._checkpoint.claims[uid] for uid in uids if uid in self._checkpoint.claims]
            last = [record for record in found if record.pods == [pod_uid]]
            for record in found:
                if record not in last and pod_uid in record.pods:
                    record.pods.remove(pod_uid)
            problems, drivers = await self._unprepare_all(last)
            await self._save()
        if problems:
            raise PrepareFailed("; ".join(problems), drivers)

    def pods(self) -> set[str]:
        """The UIDs of all pods something is held for."""
        return {uid for record in self._checkpoint.claims.values() for uid in record.pods}

    def drivers_of(self, pod_uid: str) -> set[str]:
        """The drivers whose devices the pod holds."""
        records = (record for record in self._checkpoint.claims.values() if pod_uid in record.pods)
        return {driver for record in records for driver in record.drivers}

    def cdi_devices(self, pod: Document, container: Document) -> list[str]:
        """The CDI devices of `container`, by the claims and requests it names."""
        found: dict[str, None] = {}
        for name, request in container_claims(pod, container):
            for _, device in self._devices(pod, name, request):
                found |= dict.fromkeys(device.cdi_device_ids)
        return list(found)

    def resources_status(self, pod: Document, container: Document) -> list[Document]:
        """`allocatedResourcesStatus` of `container`: its devices and how they are. Of devices with the same
        first CDI name the first counts."""
        status: list[Document] = []
        for entry in (container.get("resources") or {}).get("claims") or []:
            name, request = entry["name"], entry.get("request", "")
            resources: dict[str, Document] = {}
            for driver, device in self._devices(pod, _claim_name(pod, name), request):
                health, message = self._plugins.health.get(driver, device.pool, device.device)
                own = f"{driver}/{device.pool}/{device.device}"
                resource: Document = {"resourceID": next(iter(device.cdi_device_ids), own), "health": health}
                resources.setdefault(
                    resource["resourceID"], resource | ({"message": message} if message else {})
                )
            if resources:
                full = f"claim:{name}/{request}" if request else f"claim:{name}"
                status.append({"name": full, "resources": list(resources.values())})
        return status

    async def _save(self) -> None:
        try:
            await self._checkpoint.save()
        except CheckpointFailed as error:
            raise PrepareFailed(str(error)) from None

    # --- checks ---------------------------------------------------------------------------------------

    async def _checked(self, pod: Document) -> list[ResourceClaim]:
        """The claims of `pod`, one after the other found good; what is wrong with the first that is not."""
        meta = pod["metadata"]
        claims: list[ResourceClaim] = []
        for _, name, is_owned in pod_claims(pod):
            if not name:
                raise PrepareFailed(
                    f'pod "{meta["namespace"]}/{meta["name"]}": ResourceClaim not created yet'
                )
            try:
                document = await self._client.get(RESOURCE_CLAIMS, name, meta["namespace"])
                claim = msgspec.convert(document, ResourceClaim)
            except (APIError, msgspec.ValidationError) as error:
                raise PrepareFailed(f"fetch ResourceClaim {name}: {error}") from None
            if problem := _unusable(claim, meta, is_owned=is_owned):
                raise PrepareFailed(problem)
            for driver in self._drivers(claim, "NodePrepareResources"):
                if self._plugins.find(driver) is None:
                    raise PrepareFailed(f"DRA driver {driver} is not registered", [driver])
            claims.append(claim)
        return claims

    def _check_no_older(self, claim: ResourceClaim) -> None:
        for known in self._checkpoint.claims.values():
            is_same_name = f"{known.namespace}/{known.name}" == claim.metadata.key
            if is_same_name and known.uid != claim.metadata.uid:
                text = f"old ResourceClaim with same name {known.name} and different UID {known.uid}"
                raise PrepareFailed(f"{text} still exists (previous pod force-deleted?!)")

    def _drivers(self, claim: ResourceClaim, operation: str) -> list[str]:
        """The drivers of the claim's devices, but for those that need no call of `operation`."""
        assert claim.status.allocation is not None
        needed: dict[str, bool] = {}
        for result in claim.status.allocation.devices.results:
            skips = self._skips_operations and {"*", operation} & set(result.skip_node_operations)
            needed[result.driver] = needed.get(result.driver, False) or not skips
        return [driver for driver, is_needed in needed.items() if is_needed]

    # --- calls ----------------------------------------------------------------------------------------

    def _enter(self, claim: ResourceClaim, pod_uid: str) -> ClaimRecord:
        meta = claim.metadata
        record = self._checkpoint.claims.get(meta.uid)
        if record is None:
            drivers = self._drivers(claim, "NodePrepareResources")
            kept = self._drivers(claim, "NodeUnprepareResources")
            record = ClaimRecord(
                uid=meta.uid,
                namespace=meta.namespace,
                name=meta.name,
                drivers=dict.fromkeys(drivers),
                unprepare_skipped=[driver for driver in drivers if driver not in kept],
            )
            self._checkpoint.claims[meta.uid] = record
        if pod_uid not in record.pods:
            record.pods.append(pod_uid)
        return record

    async def _prepare_driver(self, driver: str, records: Sequence[ClaimRecord]) -> list[str]:
        """Ask `driver` for all of `records` at once and keep what it says; what went wrong, in words."""
        stub = self._plugins.find(driver)
        if stub is None:
            return [f"DRA driver {driver} is not registered"]
        asked = [Claim(record.namespace, record.uid, record.name) for record in records]
        try:
            answers = await stub.prepare(asked, self.call_seconds)
        except CallFailed as error:
            return [f"NodePrepareResources: {error.in_go}"]
        problems = _left_out("NodePrepareResources", {record.uid for record in records}, answers)
        for record in records:
            answer = answers.get(record.uid)
            if answer is None:
                continue
            if problem := answer.error[:_MAX_TEXT] or _nonsense(answer):
                problems.append(f"NodePrepareResources failed for ResourceClaim {record.name}: {problem}")
            else:
                record.drivers[driver] = tuple(answer.devices)
        return problems

    async def _unprepare_all(self, records: Sequence[ClaimRecord]) -> tuple[list[str], list[str]]:
        """Ask every driver of `records` once; those without a problem are forgotten. What went wrong, in
        words, and with which drivers."""
        by_driver: dict[str, list[ClaimRecord]] = {}
        for record in records:
            for driver in record.drivers:
                if driver not in record.unprepare_skipped:
                    by_driver.setdefault(driver, []).append(record)
        found = await asyncio.gather(
            *(self._unprepare_driver(driver, held) for driver, held in by_driver.items())
        )
        kept = {uid for _, uids in found for uid in uids}
        for record in records:
            if record.uid not in kept:
                self._checkpoint.claims.pop(record.uid, None)
        failed = [driver for driver, (texts, _) in zip(by_driver, found, strict=True) if texts]
        return [text for texts, _ in found for text in texts], failed

    async def _unprepare_driver(
        self, driver: str, records: Sequence[ClaimRecord]
    ) -> tuple[list[str], set[str]]:
        """What went wrong when `driver` was asked, and the UIDs of the claims it has not given back."""
        everyone = {record.uid for record in records}
        stub = self._plugins.find(driver)
        if stub is None:
            return [f"DRA driver {driver} is not registered"], everyone
        asked = [Claim(record.namespace, record.uid, record.name) for record in records]
        try:
            errors = await stub.unprepare(asked, self.call_seconds)
        except CallFailed as error:
            return [f"NodeUnprepareResources: {error.in_go}"], everyone
        problems = _left_out("NodeUnprepareResources", everyone, errors)
        for record in records:
            if text := errors.get(record.uid):
                problems.append(
                    f"NodeUnprepareResources failed for ResourceClaim {record.name}: {text[:_MAX_TEXT]}"
                )
        return problems, {uid for uid in everyone if errors.get(uid) != ""}

    # --- what is prepared -----------------------------------------------------------------------------

    def _devices(self, pod: Document, name: str, request: str) -> Iterator[tuple[str, PreparedDevice]]:
        """Driver and device of the claim `name` of `pod`, of one request or, with "", of all."""
        meta = pod["metadata"]
        for record in self._checkpoint.claims.values():
            if (record.namespace, record.name) != (meta["namespace"], name) or meta["uid"] not in record.pods:
                continue
            for driver in sorted(record.drivers):
                for device in record.drivers[driver] or ():
                    if not request or not device.requests or request in device.requests:
                        yield driver, device

    @contextlib.asynccontextmanager
    async def _holding(self, uids: Sequence[str]) -> AsyncIterator[None]:
        """Hold the claims alone; always taken in one order, so two pods never wait for each other."""
        wanted = sorted(set(uids))
        for uid in wanted:
            self._users[uid] = self._users.get(uid, 0) + 1
        try:
            async with contextlib.AsyncExitStack() as stack:
                for uid in wanted:
                    await stack.enter_async_context(self._locks.setdefault(uid, asyncio.Lock()))
                yield
        finally:
            for uid in wanted:
                self._users[uid] -= 1
                if not self._users[uid]:
                    del self._users[uid]
                    self._locks.pop(uid, None)


def pod_claims(pod: Document) -> list[tuple[str, str, bool]]:
    """Of each claim of `pod`: the pod's name for it, the ResourceClaim's ("" when there is none yet), and
    whether it was made for this pod. A template that needs no claim gives none."""
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or []
    made = {entry["name"]: entry.get("resourceClaimName") for entry in statuses}
    found: list[tuple[str, str, bool]] = []
    for entry in (pod.get("spec") or {}).get("resourceClaims") or []:
        name = entry["name"]
        if entry.get("resourceClaimName"):
            found.append((name, entry["resourceClaimName"], False))
        elif name not in made:
            found.append((name, "", True))
        elif made[name]:
            found.append((name, made[name], True))
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    if extended.get("resourceClaimName"):
        found.append(("", extended["resourceClaimName"], False))
    return found


def container_claims(pod: Document, container: Document) -> list[tuple[str, str]]:
    """The ResourceClaim and the request ("" for all) behind each thing `container` gets from a claim."""
    entries = (container.get("resources") or {}).get("claims") or []
    found = [(_claim_name(pod, entry["name"]), entry.get("request", "")) for entry in entries]
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    for mapping in extended.get("requestMappings") or []:
        if mapping.get("containerName") == container["name"]:
            found.append((extended["resourceClaimName"], mapping.get("requestName", "")))
    return [(name, request) for name, request in found if name]


def _claim_name(pod: Document, pod_claim: str) -> str:
    return next((name for own, name, _ in pod_claims(pod) if own == pod_claim), "")


def _unusable(claim: ResourceClaim, pod: Document, *, is_owned: bool) -> str:
    """Why the pod with the metadata `pod` cannot have `claim` (`is_owned`: made for it); "" if it can."""
    owners = [owner.uid for owner in claim.metadata.owner_references if owner.controller]
    if is_owned and pod["uid"] not in owners:
        return (
            f"ResourceClaim {claim.metadata.key} was not created for pod {pod['namespace']}/{pod['name']} "
            "(pod is not owner)"
        )
    if pod["uid"] not in [consumer.uid for consumer in claim.status.reserved_for]:
        named = f"{claim.metadata.name} ({claim.metadata.uid})"
        return f"pod {pod['name']} ({pod['uid']}) is not allowed to use ResourceClaim {named}"
    return f"ResourceClaim {claim.metadata.name}: not allocated" if claim.status.allocation is None else ""


def _left_out(operation: str, asked: set[str], answers: Mapping[str, object]) -> list[str]:
    """What is wrong with whom a driver answered for."""
    if strangers := answers.keys() - asked:
        return [f"{operation} returned result for unknown claim UID {min(strangers)[:100]}"]
    missing = len(asked - answers.keys())
    return [f"{operation} skipped {missing} ResourceClaims"] if missing else []


def _nonsense(answer: PrepareResult) -> str:
    """What is wrong with the devices in a driver's answer, "" when they can be used."""
    if len(answer.devices) > _MAX_DEVICES:
        return f"the driver returned {len(answer.devices)} devices"
    for device in answer.devices:
        if not device.pool or not device.device:
            return "the driver returned a device without pool or name"
        for name in device.cdi_device_ids:
            try:
                parse_name(name)
            except CDIError as error:
                return f"the driver returned nonsense: {error}"
    return ""
