"""NodePrepareResources and NodeUnprepareResources."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from msgspec import structs

from drakit.conformance.check import Evidence, Failed, Skipped, check
from drakit.conformance.claim import NAMESPACE, Made
from drakit.conformance.lab import Lab
from drakit.errors import DRAError
from drakit.model.cdi import parse_name
from drakit.pluginapi.dra import Claim, PreparedDevice, PrepareResult
from drakit.transport import Document

SERVICE = "DRAPlugin service, k8s.io/kubelet/pkg/apis/dra/v1"
KEP = "KEP-4381, kubelet and driver"
_SEVERAL = 3

T = TypeVar("T")


def same(one: PrepareResult, other: PrepareResult) -> bool:
    """Whether two answers name the same devices with the same CDI ids, in whatever order."""
    return _devices(one) == _devices(other)


def _devices(result: PrepareResult) -> list[tuple[str, str, str, tuple[str, ...], tuple[str, ...]]]:
    return sorted(
        (d.pool, d.device, d.share_id or "", tuple(sorted(d.requests)), tuple(sorted(d.cdi_device_ids)))
        for d in result.devices
    )


@check("prepare", source=SERVICE, needs=("registration-endpoint", "slices-complete"))
async def prepare(lab: Lab) -> str:
    """A claim is prepared: the answer has an entry for its UID with exactly the devices that were allocated,
    their requests, and CDI ids that are names of CDI devices."""
    (claim,) = await lab.claims()
    result = (await lab.prepared(claim))[claim.uid]
    expected = claim.devices(lab.driver)
    found = {(device.pool, device.device) for device in result.devices}
    if found != expected:
        raise Failed(f"prepared {_names(found)}, allocated was {_names(expected)}")
    for device in result.devices:
        _check_device(claim, device)
    ids = [id for device in result.devices for id in device.cdi_device_ids]
    return f"{_names(found)} with CDI ids {', '.join(ids) or '(none)'}"


def _check_device(claim: Made, device: PreparedDevice) -> None:
    where = f"{device.pool}/{device.device}"
    results = [
        r for r in claim.allocation.devices.results if (r.pool, r.device) == (device.pool, device.device)
    ]
    wanted = {r.request for r in results} | {r.request.partition("/")[0] for r in results}
    strange = [name for name in device.requests if name not in wanted]
    if strange:
        raise Failed(f"device {where} is said to be for request {', '.join(strange)}: not in the claim")
    if device.share_id is not None and device.share_id not in {r.share_id for r in results}:
        raise Failed(f"device {where} has share ID {device.share_id}, which the allocation has not")
    for id in device.cdi_device_ids:
        try:
            parse_name(id)
        except DRAError as error:
            raise Failed(str(error)) from None


def _names(devices: set[tuple[str, str]]) -> str:
    return ", ".join(sorted(f"{pool}/{device}" for pool, device in devices)) or "nothing"


@check("unprepare", source=SERVICE, needs=("prepare",))
async def unprepare(lab: Lab) -> str:
    """A prepared claim is unprepared, and can be prepared and unprepared once more."""
    (claim,) = await lab.claims()
    for _ in range(2):
        await lab.prepared(claim)
        await lab.unprepared(claim)
    return "twice"


@check("prepare-again", source=KEP + ": calls are repeated and must be idempotent", needs=("prepare",))
async def idempotent(lab: Lab) -> str:
    """Preparing a prepared claim again gives the same answer."""
    (claim,) = await lab.claims()
    first = await lab.prepared(claim)
    second = await lab.prepared(claim)
    if not same(first[claim.uid], second[claim.uid]):
        raise Failed(f"first {_devices(first[claim.uid])}, then {_devices(second[claim.uid])}")
    return "the same answer"


@check("prepare-unknown", source=KEP + ": the driver reads the claim by name and UID", needs=("prepare",))
async def unknown(lab: Lab) -> str:
    """A claim that does not exist is refused."""
    reference = Claim(NAMESPACE, str(uuid.uuid4()), "conformance-nobody")
    return "refused: " + await refusal(lab, reference, "that does not exist")


@check("prepare-stale", source=KEP + ": the driver reads the claim by name and UID", needs=("prepare",))
async def stale(lab: Lab) -> str:
    """A claim that was replaced by another of the same name is refused."""
    (claim,) = await lab.claims()
    reference = structs.replace(claim.reference, uid=str(uuid.uuid4()))
    return "refused: " + await refusal(lab, reference, "whose UID is of a claim that is gone")


async def refusal(lab: Lab, reference: Claim, which: str) -> str:
    """What the driver says of a claim that it must not prepare. Raises Failed where it prepares it."""
    try:
        answer = await lab.call_prepare([reference])
    except Failed as failure:
        return str(failure)
    result = answer.get(reference.uid)
    if result is None:
        raise Failed(f"the answer has no entry for a claim {which}")
    if not result.error:
        await lab.call_unprepare([reference])
        raise Failed(f"a claim {which} was prepared")
    return result.error


@check("prepare-several", source=SERVICE + ": a request names several claims", needs=("prepare", "unprepare"))
async def several(lab: Lab) -> str:
    """Several claims in one call are all prepared, and all unprepared."""
    claims = await some(lab)
    await lab.prepared(*claims)
    await lab.unprepared(*claims)
    return f"{len(claims)} claims in a call"


async def some(lab: Lab) -> list[Made]:
    """Several claims: as many as there are devices for, but two at least."""
    for count in range(_SEVERAL, 1, -1):
        try:
            return await lab.claims(count)
        except Skipped as reason:
            why = reason
    raise why


@check(
    "prepare-parallel",
    source="kubelet: pods start in parallel, each with calls of its own",
    needs=("prepare-again", "unprepare"),
)
async def parallel(lab: Lab) -> str:
    """Calls for different claims at the same time all succeed, and so do two for the same claim."""
    claims = await some(lab)
    answers = await _at_once(lab.prepared(claim) for claim in (*claims, claims[0]))
    if not same(answers[0][claims[0].uid], answers[-1][claims[0].uid]):
        raise Failed("two calls at the same time for one claim have different answers")
    await _at_once(lab.unprepared(claim) for claim in claims)
    return f"{len(claims) + 1} calls at a time"


async def _at_once(calls: Iterable[Awaitable[T]]) -> list[T]:
    """The answers of `calls`; what one of them raises is raised when all are over."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.wait(tasks)
    for problem in [task.exception() for task in tasks]:
        if problem is not None:
            raise problem
    return [task.result() for task in tasks]


@check(
    "prepare-partial", source=SERVICE + ": errors are per claim", needs=("prepare-several", "prepare-unknown")
)
async def partial(lab: Lab) -> Evidence | str:
    """A claim that fails does not fail the others of the call. That a claim which does not exist fails the
    call as a whole is worth a warning only: the Go helper does it."""
    (claim,) = await lab.claims()
    wrong = Claim(NAMESPACE, str(uuid.uuid4()), "conformance-nobody")
    try:
        answer = await lab.call_prepare([wrong, claim.reference])
    except Failed as failure:
        lab.check_running()
        await lab.prepared(claim)
        text = f"one claim that does not exist fails the call for all: {failure}"
        return Evidence("the good claim is prepared alone", (text,))
    good, bad = answer.get(claim.uid), answer.get(wrong.uid)
    if good is None or good.error:
        text = good.error if good else "it has no entry in the answer"
        raise Failed(f"a good claim fails with the bad one in its call: {text}")
    if bad is None or not bad.error:
        raise Failed("the bad claim of the call has no error")
    return "the good claim is prepared, the bad one has an error"


@check(
    "unprepare-unknown",
    source=KEP + ": unprepare must succeed for what is not prepared",
    needs=("unprepare",),
)
async def unprepare_unknown(lab: Lab) -> str:
    """Unpreparing what was never prepared, or is unprepared already, succeeds."""
    (claim,) = await lab.claims()
    await lab.unprepared(claim)
    await lab.prepared(claim)
    await lab.unprepared(claim)
    await lab.unprepared(claim)
    return "never prepared, and unprepared already"


@check(
    "unprepare-deleted",
    source="kubelet: force-deleted pods and claims are unprepared too",
    needs=("unprepare",),
)
async def unprepare_deleted(lab: Lab) -> Evidence | str:
    """A claim is unprepared when it is not on the API server any more."""
    (claim,) = await lab.claims()
    await lab.prepared(claim)
    await lab.remove_claim(claim)
    await lab.unprepared(claim)
    return "after the claim was deleted"


@check(
    "prepare-alternative",
    source="kubelet, pkg/kubelet/cm/dra claimInfo.cdiDevicesAsList: request names are compared as they are",
    needs=("prepare", "unprepare"),
)
async def alternative(lab: Lab) -> str:
    """Of a request with alternatives (firstAvailable) the answer names the request, not the alternative that
    was taken: a container that names the request would get nothing."""
    (claim,) = await lab.claims(spec=_with_alternative)
    result = (await lab.prepared(claim))[claim.uid]
    wrong = [name for device in result.devices for name in device.requests if "/" in name]
    if wrong:
        raise Failed(
            f"request names of the answer are {', '.join(wrong)}: the kubelet knows {wrong[0].split('/')[0]}"
        )
    return (
        ", ".join(sorted({name for device in result.devices for name in device.requests})) or "every request"
    )


def _with_alternative(spec: Document) -> Document:
    """`spec` with its first request as the only alternative of one. Raises Skipped where that cannot be."""
    first, *others = spec["devices"].get("requests") or [{}]
    exactly = first.get("exactly")
    if exactly is None or exactly.get("adminAccess") or spec["devices"].get("constraints"):
        raise Skipped("the claim's first request cannot be an alternative")
    made = {"name": first["name"], "firstAvailable": [{**exactly, "name": "alternative"}]}
    return {**spec, "devices": {**spec["devices"], "requests": [made, *others]}}


CHECKS = (
    prepare,
    unprepare,
    idempotent,
    unknown,
    stale,
    several,
    parallel,
    partial,
    unprepare_unknown,
    unprepare_deleted,
    alternative,
)
