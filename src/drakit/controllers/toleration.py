"""Tolerations against taints: the same rule for nodes and devices."""

from __future__ import annotations

from collections.abc import Iterable

from drakit.client.clock import parse_timestamp
from drakit.transport import Document

FOREVER = float("inf")


def tolerates(toleration: Document, taint: Document) -> bool:
    """Whether `toleration` covers `taint`. An empty key with Exists covers all keys, an empty effect all."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    if not toleration.get("key"):
        return False
    return bool((toleration.get("value") or "") == (taint.get("value") or ""))


def eviction_time(taints: Iterable[Document], tolerations: Iterable[Document], now: float) -> float:
    """When the first NoExecute taint is no longer tolerated, in seconds since the epoch; FOREVER if never."""
    tolerations = list(tolerations)
    earliest = FOREVER
    for taint in taints:
        if taint.get("effect") != "NoExecute":
            continue
        added = parse_timestamp(taint["timeAdded"]) if taint.get("timeAdded") else now
        covering = [toleration for toleration in tolerations if tolerates(toleration, taint)]
        limits = [t["tolerationSeconds"] for t in covering if t.get("tolerationSeconds") is not None]
        if not covering:
            earliest = min(earliest, added)
        elif len(limits) == len(covering):
            earliest = min(earliest, added + max(min(limits), 0))
    return earliest
