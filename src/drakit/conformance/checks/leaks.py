"""What a driver keeps that it should have let go."""

from __future__ import annotations

from drakit.conformance.check import Failed, check
from drakit.conformance.lab import Lab
from drakit.conformance.process import Usage

WARM_UP = 20
MAX_MEMORY = 8 << 20
"""What memory may grow by in the second half of the cycles, when caches have found their size."""
MAX_FILES, MAX_THREADS = 4, 8
"""What may be more after any number of cycles; more than that, and a part of the cycles, is a leak."""


@check(
    "leaks",
    source="a driver runs as long as its node",
    needs=("prepare", "unprepare", "cdi-cleaned"),
)
async def leaks(lab: Lab) -> str:
    """After many claims came and went, the driver has no more open files, threads, memory and CDI files than
    before."""
    cycles = lab.options.cycles
    for _ in range(min(WARM_UP, cycles)):
        await _cycle(lab)
    assert lab.process is not None
    files, before = lab.cdi_files(), lab.process.usage()
    for _ in range(cycles // 2):
        await _cycle(lab)
    halfway = lab.process.usage().memory
    for _ in range(cycles - cycles // 2):
        await _cycle(lab)
    after, left = lab.process.usage(), lab.cdi_files() - files
    if left:
        raise Failed(f"{len(left)} CDI files are left after {cycles} cycles")
    problems = _problems(before, halfway, after, cycles)
    if problems:
        raise Failed(f"after {cycles} cycles of prepare and unprepare: {'; '.join(problems)}")
    return (
        f"{cycles} cycles: files {before.files} to {after.files},"
        f" threads {before.threads} to {after.threads},"
        f" memory {before.memory >> 20} to {after.memory >> 20} MiB"
    )


async def _cycle(lab: Lab) -> None:
    (claim,) = await lab.claims()
    await lab.prepared(claim)
    await lab.unprepared(claim)
    await lab.remove_claim(claim)


def _problems(before: Usage, halfway: int, after: Usage, cycles: int) -> list[str]:
    found = []
    if after.files - before.files > MAX_FILES + cycles // 100:
        found.append(f"open files went from {before.files} to {after.files}")
    if after.threads - before.threads > MAX_THREADS + cycles // 100:
        found.append(f"threads went from {before.threads} to {after.threads}")
    if after.memory - halfway > MAX_MEMORY:
        found.append(f"memory went from {halfway >> 20} to {after.memory >> 20} MiB in the second half")
    return found


@check("rbac", source="least privilege: RBAC good practices", needs=("registration",))
async def permissions(lab: Lab) -> str:
    """The driver, a service account with the permissions that drivers need (or those of its own ClusterRole),
    asked the API server for nothing that it may not do."""
    front = lab.control.front
    refused = sorted({refusal.use for refusal in front.refusals if refusal.code == 403})
    if refused:
        shown = ", ".join(f"{use.verb} {use.resource}" for use in refused)
        raise Failed(f"refused: {shown}; its own rules are given with --cluster-role")
    by_resource: dict[str, list[str]] = {}
    for use in sorted(front.uses):
        by_resource.setdefault(use.resource, []).append(use.verb)
    text = "; ".join(f"{resource}: {', '.join(verbs)}" for resource, verbs in by_resource.items())
    return text or "nothing was asked for"


CHECKS = (leaks, permissions)
