"""Binding conditions: whether a claim's devices are ready for the pod to be bound.

A device may ask to be made ready first (attached, powered on): its binding conditions are copied into the
allocation, and whoever does the work sets them in `status.devices`. Source: KEP-5007.
"""

from __future__ import annotations

from msgspec import Struct

from drakit.client.clock import parse_timestamp
from drakit.transport import Document

BINDING_TIMEOUT = 600.0
"""Seconds after the allocation until a device that is not ready is given up (DynamicResourcesArgs)."""


class Readiness(Struct, frozen=True):
    """`missing` are the conditions still awaited, as `driver/pool/device: condition`; `failure` says
    which failure condition is True."""

    missing: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def is_ready(self) -> bool:
        return not self.missing and self.failure is None


_READY = Readiness()


def has_conditions(claim: Document) -> bool:
    """Whether any device of the allocation has binding conditions."""
    return any(result.get("bindingConditions") for result in _results(claim))


def readiness(claim: Document) -> Readiness:
    """How far the devices of an allocated claim are."""
    missing: list[str] = []
    for result in _results(claim):
        wanted = result.get("bindingConditions")
        if not wanted:
            continue
        conditions = _conditions(claim, result)
        label = f"{result.get('driver')}/{result.get('pool')}/{result.get('device')}"
        for name in result.get("bindingFailureConditions") or ():
            row = conditions.get(name) or {}
            if row.get("status") == "True":
                meta = claim["metadata"]
                text = f"claim {meta['namespace']}/{meta['name']} binding failed: device {label}: {name}"
                return Readiness(
                    failure=f'{text}: reason={row.get("reason", "")}, message="{row.get("message", "")}"'
                )
        missing += [
            f"{label}: {name}" for name in wanted if (conditions.get(name) or {}).get("status") != "True"
        ]
    return Readiness(tuple(missing)) if missing else _READY


def deadline(claim: Document) -> float | None:
    """When the wait for the claim's devices ends, in seconds since the epoch; None without a wait."""
    stamp = ((claim.get("status") or {}).get("allocation") or {}).get("allocationTimestamp")
    return parse_timestamp(stamp) + BINDING_TIMEOUT if stamp else None


def is_timed_out(claim: Document, now: float) -> bool:
    """Whether devices of the claim are still not ready although their time is over."""
    if not has_conditions(claim) or readiness(claim).is_ready:
        return False
    end = deadline(claim)
    return end is not None and end <= now


def _results(claim: Document) -> list[Document]:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return (allocation.get("devices") or {}).get("results") or []


def _conditions(claim: Document, result: Document) -> dict[str, Document]:
    for row in (claim.get("status") or {}).get("devices") or ():
        if all(row.get(part) == result.get(part) for part in ("driver", "pool", "device", "shareID")):
            return {condition.get("type", ""): condition for condition in row.get("conditions") or ()}
    return {}
