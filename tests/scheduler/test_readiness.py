"""Binding conditions of allocated devices."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.client.clock import parse_timestamp
from drakit.scheduler.readiness import BINDING_TIMEOUT, has_conditions, is_timed_out, readiness

STAMP = "2026-01-01T00:00:00Z"
START = parse_timestamp(STAMP)


def condition(name: str, status: str) -> dict[str, str]:
    return {"type": name, "status": status, "reason": "Because", "message": "so it is"}


def claim(
    conditions: list[dict[str, str]], *, share: str | None = None, other: bool = False
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "request": "r",
        "driver": "d",
        "pool": "p",
        "device": "x",
        "bindingConditions": ["ready", "attached"],
        "bindingFailureConditions": ["failed"],
    }
    status: dict[str, Any] = {
        "driver": "d",
        "pool": "p",
        "device": "y" if other else "x",
        "conditions": conditions,
    }
    if share:
        result["shareID"] = share
    return {
        "metadata": {"name": "c", "namespace": "ns"},
        "status": {
            "allocation": {"devices": {"results": [result]}, "allocationTimestamp": STAMP},
            "devices": [status],
        },
    }


READY = [condition("ready", "True"), condition("attached", "True")]
CASES: dict[str, tuple[dict[str, Any], int, bool]] = {
    "nothing said": (claim([]), 2, False),
    "half way": (claim([condition("ready", "True"), condition("attached", "False")]), 1, False),
    "ready": (claim(READY), 0, False),
    "failed": (claim([*READY, condition("failed", "True")]), 0, True),
    "failure denied": (claim([*READY, condition("failed", "False")]), 0, False),
    "another device is ready": (claim(READY, other=True), 2, False),
    "another share is ready": (claim(READY, share="s"), 2, False),
}


@pytest.mark.parametrize("name", CASES)
def test_readiness(name: str) -> None:
    document, missing, has_failed = CASES[name]
    found = readiness(document)
    assert (len(found.missing), found.failure is not None) == (missing, has_failed)
    assert found.is_ready is (not missing and not has_failed)
    assert has_conditions(document)
    assert not is_timed_out(document, START + BINDING_TIMEOUT - 1)
    assert is_timed_out(document, START + BINDING_TIMEOUT) is not found.is_ready


def test_a_failure_names_claim_device_and_reason() -> None:
    assert readiness(claim([condition("failed", "True")])).failure == (
        'claim ns/c binding failed: device d/p/x: failed: reason=Because, message="so it is"'
    )


def test_without_conditions_there_is_nothing_to_wait_for() -> None:
    plain: dict[str, Any] = {
        "metadata": {},
        "status": {"allocation": {"devices": {"results": [{"device": "x"}]}}},
    }
    assert readiness(plain).is_ready
    assert not has_conditions(plain)
    assert not is_timed_out(plain, START)
    assert readiness({"metadata": {}}).is_ready
