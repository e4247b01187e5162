"""Events in the two groups that serve them: stored as core/v1, shown by events.k8s.io/v1 in its own terms.

Source: pkg/apis/core/v1/conversion and pkg/apis/events/v1/conversion.go.
"""

from __future__ import annotations

from drakit.transport import Document

GROUP = "events.k8s.io"
_TO_CORE = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_FROM_CORE = {core: new for new, core in _TO_CORE.items()}


def to_core(document: Document) -> Document:
    """An events.k8s.io/v1 Event as core/v1; apiVersion changes with it."""
    renamed = {_TO_CORE.get(key, key): value for key, value in document.items()}
    return renamed | {"apiVersion": "v1"}


def from_core(stored: Document) -> Document:
    """A core/v1 Event (apiVersion or not) as events.k8s.io/v1."""
    head = {"kind": "Event", "apiVersion": f"{GROUP}/v1"}
    return {**head, **{_FROM_CORE.get(key, key): value for key, value in stored.items() if key not in head}}
