"""The rows of resource.k8s.io. Source: pkg/printers/internalversion/printers.go."""

from __future__ import annotations

from typing import Any

from drakit.apiserver.table_part import Time, named, spec_of, status_of
from drakit.apiserver.table_text import age
from drakit.transport import Document


def taint_rule(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    taint = spec_of(document).get("taint") or {}
    added = age(taint.get("timeAdded"), now)
    return [name, taint.get("key", ""), taint.get("value", ""), taint.get("effect", ""), added, since]


def resource_claim(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    states: list[str] = []
    if (document.get("metadata") or {}).get("deletionTimestamp"):
        states.append("deleted")
    status = status_of(document)
    if status.get("allocation") is not None:
        states.append("allocated")
        if status.get("reservedFor"):
            states.append("reserved")
    elif not states:
        states.append("pending")
    return [name, ",".join(states), since]


def pool_status_request(document: Document, now: Time) -> list[Any]:
    name, _ = named(document, now)
    spec, status = spec_of(document), status_of(document)
    pools = status.get("pools")
    fields = ("totalDevices", "availableDevices", "allocatedDevices", "unavailableDevices")
    counts: list[str] = ["-"] * 5
    if pools is not None:
        counts = [str(sum(pool.get(field) or 0 for pool in pools)) for field in fields]
        counts.append(str(sum(1 for pool in pools if pool.get("validationError"))))
    state, completed = "Pending", "<none>"
    for condition in status.get("conditions") or ():
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
            state = str(condition["type"])
            completed = age(condition.get("lastTransitionTime"), now)
    return [name, spec.get("driver", ""), *counts, status.get("poolCount") or 0, state, completed]


def resource_slice(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec = spec_of(document)
    pool = (spec.get("pool") or {}).get("name", "")
    return [name, spec.get("nodeName") or "", spec.get("driver", ""), pool, since]
