"""An API server that is slow, failing, gone or forgetful."""

from __future__ import annotations

import asyncio
import time

from drakit.client.api import RESOURCE_SLICES
from drakit.conformance.check import Failed, Skipped, check
from drakit.conformance.checks.slices import content, current, delete_one, is_complete
from drakit.conformance.claim import Made
from drakit.conformance.lab import Lab

CONVENTIONS = "API conventions: clients retry"
_NEEDS = ("prepare", "unprepare", "slices-repaired")


async def _recovered(lab: Lab, before: object, what: str) -> None:
    """The slices are as they were, and claims are prepared. Raises Failed."""
    await lab.until(
        lambda: is_complete(lab.slices()) and content(lab.slices()) == before,
        f"{what}: a slice that was deleted meanwhile does not come back",
        lab.options.repair,
    )
    (claim,) = await lab.claims()
    await lab.prepared(claim)
    await lab.unprepared(claim)


@check("api-slow", source=CONVENTIONS, needs=("prepare", "unprepare"))
async def slow(lab: Lab) -> str:
    """With an API server that takes its time, a claim is prepared all the same."""
    (claim,) = await lab.claims()
    lab.control.front.delay = lab.options.delay
    began = time.monotonic()
    await lab.prepared(claim)
    seconds = time.monotonic() - began
    await lab.unprepared(claim)
    return f"prepared in {seconds:.1f} s with {lab.options.delay:g} s a request"


@check("api-failing", source=CONVENTIONS, needs=_NEEDS)
async def failing(lab: Lab) -> str:
    """While every request fails with code 500 the driver goes on, and catches up afterwards."""
    before = await current(lab)
    (claim,) = await lab.claims()
    front = lab.control.front
    front.error_code = 500
    await delete_one(lab)
    answered = await _answers(lab, claim)
    await asyncio.sleep(lab.options.fault)
    lab.check_running()
    await lab.control.repair()
    await _recovered(lab, before, "after errors")
    return f"{lab.options.fault:g} s of errors; meanwhile prepare {answered}"


async def _answers(lab: Lab, claim: Made) -> str:
    """How the driver answers prepare while it cannot read the claim. Any way is fine, so long as it lives."""
    try:
        result = (await lab.prepare(claim, timeout=lab.options.fault)).get(claim.uid)
    except Failed as failure:
        return f"failed ({failure})"
    if result is None:
        raise Failed("while the API server fails, the answer to prepare has no entry for the claim")
    return f"failed ({result.error})" if result.error else "succeeded"


@check("api-gone", source=CONVENTIONS, needs=_NEEDS)
async def gone(lab: Lab) -> str:
    """While nobody listens the driver goes on, and catches up when the API server is back."""
    before = await current(lab)
    (claim,) = await lab.claims()
    await lab.control.door.shut()
    await delete_one(lab)
    answered = await _answers(lab, claim)
    await asyncio.sleep(lab.options.fault)
    lab.check_running()
    await lab.control.repair()
    await _recovered(lab, before, "after the API server was gone")
    return f"gone for {lab.options.fault:g} s; meanwhile prepare {answered}"


@check("watch-expired", source="API concepts: 410 Gone, list again", needs=_NEEDS)
async def expired(lab: Lab) -> str:
    """A watch that ends because its resourceVersion is too old is begun anew with a list."""
    front = lab.control.front
    if not front.count(RESOURCE_SLICES.plural, "watch"):
        raise Skipped("the driver watches no slices")
    before = await current(lab)
    front.expire_watches()
    await front.end_watches()
    await delete_one(lab)
    front.expire_watches(lab.control.revision)
    await _recovered(lab, before, "after its watch expired")
    return "listed again"


@check(
    "deadline",
    source="kubelet: a call has a deadline, and is repeated after it",
    needs=("prepare-again", "unprepare"),
)
async def deadline(lab: Lab) -> str:
    """A call that the kubelet gave up, since the API server does not answer, holds up no later one."""
    (claim,) = await lab.claims()
    lab.control.front.hang()
    began = time.monotonic()
    answered = await _answers(lab, claim)
    seconds = time.monotonic() - began
    await asyncio.sleep(lab.options.fault)  # the driver learns of the deadline before the API server is back
    await lab.control.repair()
    await lab.prepared(claim)
    await lab.unprepared(claim)
    return f"the first call {answered} after {seconds:.1f} s, the next succeeded"


CHECKS = (slow, failing, gone, expired, deadline)
