"""Each deliberately broken driver fails exactly its check; what builds on that check is not tried."""

from __future__ import annotations

import os
from typing import Any

import pytest

from drakit.conformance.suite import Suite, select
from tests.conformance_suite.make import broken, failed, options, run_all

pytestmark = pytest.mark.anyio

SAYS_LITTLE: dict[str, tuple[str, str]] = {
    "type": ("registration", "the plugin's type is 'CSIPlugin'"),
    "endpoint": ("registration-endpoint", "endpoint /nowhere/dra.sock: No such file"),
    "version": ("registration-versions", "v1beta1.DRAPlugin is listed, but does not answer"),
    "silent": ("slices-published", "there is no ResourceSlice with driver lamp.example.com"),
    "refused": ("slices-valid", "create was refused: ResourceSlice"),
    "incomplete": ("slices-complete", "has 1 slices and says 2"),
    "busy": ("slices-quiet", "writes of slices within"),
    "deleted": ("slices-repaired", "a deleted slice does not come back"),
    "changed": ("slices-restored", "a slice that was changed by somebody else is not put right"),
    "foreign": (
        "slices-foreign",
        "a slice of driver lamp.example.com on node not-conformance-node was deleted",
    ),
    "rbac": ("rbac", "refused: list secrets"),
    "stray": ("slices-stray", "a slice of a pool that the driver has not stays"),
    "generation": ("slices-generation", "went from generation 2 back to 1"),
}
PREPARES_WRONGLY: dict[str, tuple[str, str]] = {
    "device": ("prepare", "prepared conformance-node/sun, allocated was conformance-node/lamp-0"),
    "unprepare": ("unprepare", "not today"),
    "again": ("prepare-again", "it is prepared already"),
    "unknown": ("prepare-unknown", "a claim that does not exist was prepared"),
    "stale": ("prepare-stale", "a claim whose UID is of a claim that is gone was prepared"),
    "first-only": ("prepare-several", "NodePrepareResources has no entry for claim"),
    "parallel": ("prepare-parallel", "NodePrepareResources: UNKNOWN: Unexpected <class 'ValueError'>: busy"),
    "whole": ("prepare-partial", "the API server answered 404"),
    "never": ("unprepare-unknown", "it is not prepared"),
    "dies": ("unprepare-unknown", "NodeUnprepareResources: UNAVAILABLE: "),
    "alternative": ("prepare-alternative", "the kubelet knows device"),
    "deleted-claim": ("unprepare-deleted", "the API server answered 404"),
}
BREAKS_DOWN: dict[str, tuple[str, str]] = {
    "cdi": ("cdi-valid", "cdiVersion 0.5.0 is too old for what the file uses"),
    "cdi-left": ("cdi-cleaned", "CDI files stay after unprepare: lamp-"),
    "metadata": ("metadata", "-metadata.json is no JSON"),
    "metadata-uid": ("metadata", "metadata.uid is 'another'"),
    "metadata-generation": ("metadata-generation", "its generation went from 1 to 1"),
    "health-once": ("health-repeated", "nothing more was said of conformance-node/lamp-0"),
    "health": ("health", "reports devices that are not published: conformance-node/sun"),
    "slow": ("api-slow", "the API server is too slow"),
    "error": ("api-failing", "the driver ended with exit code 3"),
    "gone": ("api-gone", "the driver ended with exit code 4"),
    "expired": ("watch-expired", "after its watch expired: a slice that was deleted meanwhile"),
    "deadline": ("deadline", "NodePrepareResources: no answer in time"),
    "kubelet": ("kubelet-restart", "the driver does not register again"),
    "sigterm": ("driver-restart", "SIGTERM does not end the driver"),
    "absent": ("driver-absent", "does not publish again what the kubelet deleted"),
    "mixed": ("slices-changed", "1 times the pool looked complete with devices of neither"),
    "forget": ("driver-killed", "CDI files stay after unprepare: lamp-"),
    "rolling": ("rolling-update", "the second instance takes the socket of the first"),
    "leak": ("leaks", "open files went from"),
}


COSTLY = (
    "api-failing",
    "api-gone",
    "api-slow",
    "deadline",
    "driver-restart",
    "driver-absent",
    "driver-killed",
    "health-repeated",
    "kubelet-restart",
    "leaks",
    "metadata-generation",
    "rolling-update",
    "slices-changed",
    "slices-foreign",
    "watch-expired",
)
"""These checks start the driver again, repeat or wait: only drivers that break there run them."""

EVERYTHING = bool(os.environ.get("DRAKIT_EVERYTHING"))
"""Run every check on every driver; some minutes."""

MORE: dict[str, dict[str, Any]] = {
    "busy": {"rest": 1.0},
    "slow": {"delay": 0.6},
    "deadline": {"fault": 1.0},
    "rolling": {"is_rolling": True},
    "mixed": {"changed": (*broken("mixed"), "--other")},
}


@pytest.mark.parametrize(
    "table", [SAYS_LITTLE, PREPARES_WRONGLY, BREAKS_DOWN], ids=["says", "prepares", "breaks"]
)
async def test_a_broken_driver_fails_its_check_alone(table: dict[str, tuple[str, str]]) -> None:
    todo = {what: options(broken(what), timeout=3.0, repair=3.0, **MORE.get(what, {})) for what in table}
    results = await run_all(
        todo, lambda what: [id for id in COSTLY if id not in needed(table[what][0]) and not EVERYTHING]
    )
    assert {what: list(failed(found)) for what, found in results.items()} == {
        what: [check] for what, (check, _) in table.items()
    }
    for what, (check, text) in table.items():
        assert text in failed(results[what])[check]
        for result in results[what]:
            if result.status == "skip" and result.evidence.startswith("needs"):
                assert check in needed_by(result.id), f"{result.id} was not tried"


def needed(id: str) -> set[str]:
    """The check `id` and those it builds on."""
    return {check.id for check in select([id])}


def needed_by(id: str) -> set[str]:
    """Everything that the check `id` builds on."""
    return needed(id) - {id}


async def test_a_call_that_fails_as_a_whole_is_worth_a_warning() -> None:
    """What every driver over the Go helper does."""
    checks = select(["prepare-partial"])
    results = {r.id: r for r in await Suite(options(broken("helper")), checks, lambda result: None).run()}
    found = results["prepare-partial"]
    assert (found.status, len(found.warnings)) == ("pass", 1)
    assert "fails the call for all" in found.warnings[0]


async def test_every_check_has_a_driver_that_fails_it() -> None:
    tables = (SAYS_LITTLE, PREPARES_WRONGLY, BREAKS_DOWN)
    assert {check.id for check in select()} == {check for table in tables for check, _ in table.values()}
