"""Kubelet and driver start again."""

from __future__ import annotations

import asyncio
import uuid

from drakit.conformance.check import Evidence, Failed, Skipped, check
from drakit.conformance.checks.files import check_cleaned
from drakit.conformance.checks.prepare import same
from drakit.conformance.checks.slices import content, current, is_complete
from drakit.conformance.claim import Made
from drakit.conformance.lab import Lab

KUBELET = "kubelet, pkg/kubelet/pluginmanager"


@check(
    "kubelet-restart",
    source=KUBELET + "; pkg/kubelet/cm/dra/plugin wipes slices at its start",
    needs=("prepare-again", "unprepare", "slices-repaired"),
)
async def kubelet(lab: Lab) -> str:
    """A kubelet that starts again, and deletes all slices of its node then, finds the driver's socket, and
    soon everything as it was."""
    before = await current(lab)
    (claim,) = await lab.claims()
    first = await lab.prepared(claim)
    count = lab.kubelet.count
    await lab.kubelet.forget()
    await lab.wipe()
    await lab.until(lambda: lab.kubelet.count > count, "the driver does not register again")
    again = await lab.prepared(claim)
    if not same(first[claim.uid], again[claim.uid]):
        raise Failed("after the kubelet's restart a prepared claim has another answer")
    await lab.unprepared(claim)
    await lab.until(
        lambda: is_complete(lab.slices()) and content(lab.slices()) == before,
        "the slices that the kubelet deleted when it started do not come back",
        lab.options.repair,
    )
    return "registered again, the claim is still prepared"


@check("driver-restart", source="KEP-4381, publishing devices", needs=("slices-complete",))
async def driver(lab: Lab) -> Evidence:
    """SIGTERM ends the driver; started again, it publishes the same, once."""
    before = await current(lab)
    assert lab.process is not None
    socket = lab.instance().socket
    if not await lab.process.terminate(lab.options.timeout):
        raise Failed(f"SIGTERM does not end the driver within {lab.options.timeout:g} s")
    warnings = (f"{socket.name} stays in the registry folder",) if socket.exists() else ()
    await lab.run_driver()
    await lab.until(
        lambda: is_complete(lab.slices()) and content(lab.slices()) == before,
        "after a restart the slices are not what they were",
    )
    await asyncio.sleep(lab.options.rest)
    if not is_complete(lab.slices()) or content(lab.slices()) != before:
        raise Failed("after a restart the slices do not stay what they were")
    return Evidence("the same devices", warnings)


@check(
    "driver-absent",
    source="kubelet, pkg/kubelet/cm/dra/plugin: slices of a driver that is gone are deleted after 30 s",
    needs=("driver-restart",),
)
async def absent(lab: Lab) -> str:
    """A driver that was gone for so long that the kubelet deleted its slices publishes them again."""
    before = await current(lab)
    assert lab.process is not None
    await lab.process.terminate(lab.options.timeout)
    await asyncio.sleep(lab.options.absence)
    await lab.wipe()
    await lab.run_driver()
    await lab.until(
        lambda: is_complete(lab.slices()) and content(lab.slices()) == before,
        "the driver does not publish again what the kubelet deleted while it was gone",
        lab.options.repair,
    )
    return f"gone for {lab.options.absence:g} s, published again"


@check(
    "driver-killed",
    source="KEP-4381: a driver restarts at any time, also by kill -9",
    needs=("prepare-again", "unprepare", "cdi-cleaned"),
)
async def killed(lab: Lab) -> str:
    """Killed between prepare and unprepare and started again, the driver still knows the claim: the same
    answer, CDI files in place, and unprepare leaves nothing behind."""
    before = lab.cdi_files()
    first_claim, *others = await _two(lab)
    first = {claim.uid: (await lab.prepared(claim))[claim.uid] for claim in (first_claim, *others)}
    during = lab.cdi_files()
    await lab.restart_driver()
    if missing := during - lab.cdi_files():
        raise Failed(f"after kill -9 CDI files of prepared claims are missing: {', '.join(sorted(missing))}")
    await lab.unprepared(first_claim)
    for claim in others:
        again = await lab.prepared(claim)
        if not same(first[claim.uid], again[claim.uid]):
            raise Failed("after kill -9 a prepared claim has another answer")
        await lab.unprepared(claim)
    check_cleaned(lab, before)
    return f"{1 + len(others)} claims were still prepared, and are unprepared"


async def _two(lab: Lab) -> list[Made]:
    """Two claims, or one where there is only a device for one."""
    try:
        return await lab.claims(2)
    except Skipped:
        return await lab.claims()


@check(
    "rolling-update",
    source="KEP-4381: rolling updates with a socket for each pod",
    needs=("driver-restart", "driver-killed"),
)
async def rolling(lab: Lab) -> str:
    """Two instances overlap: both register, the new one takes over the claims of the old, and the slices and
    an instance are there all the time."""
    if not lab.options.is_rolling:
        raise Skipped("only with --rolling-update: instances that tell themselves apart by pod UID")
    before = await current(lab)
    (claim,) = await lab.claims()
    await lab.prepared(claim)
    old = lab.process
    assert old is not None
    mark, uid = len(lab.changes), str(uuid.uuid4())
    count = lab.kubelet.count
    new = await lab.new_process(uid)
    try:
        await lab.until(lambda: lab.kubelet.count > count, "the second instance does not register")
        if len(lab.kubelet.instances) < 2:
            raise Failed("the second instance takes the socket of the first")
        await lab.unprepared(claim)
        await lab.prepared(claim)
        gap = lab.kubelet.watch_gaps()
        if not await old.terminate(lab.options.timeout):
            raise Failed(f"SIGTERM does not end the first instance within {lab.options.timeout:g} s")
    finally:
        await old.kill()
        lab.process, lab.pod_uid = new, uid
    await lab.until(
        lambda: len(lab.kubelet.instances) == 1, "the first instance stays registered after its end"
    )
    if gap.is_set():
        raise Failed("for a moment no instance was registered")
    await lab.unprepared(claim)
    await asyncio.sleep(lab.options.rest)
    if not is_complete(lab.slices()) or content(lab.slices()) != before:
        raise Failed("after the update the slices are not what they were")
    if gaps := [change for change in lab.changes[mark:] if change.new is None]:
        raise Failed(f"{len(gaps)} slices were deleted during the update")
    return "the second instance took over"


CHECKS = (kubelet, driver, absent, killed, rolling)
