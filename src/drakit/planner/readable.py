"""Nodes and pods of a snapshot that no API server could have had, named where they are stumbled over.

Their documents are taken as they are, since servers check what they keep and a cluster has many. A snapshot
may have been edited by hand, though: what then goes wrong is laid at the door of the object it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drakit.errors import UsageError
from drakit.planner.admission import Admission
from drakit.planner.snapshot import Snapshot
from drakit.profile import Profile


@contextmanager
def readable(snapshot: Snapshot, profile: Profile) -> Iterator[None]:
    """Raise UsageError instead of what went wrong if it may come from a node or pod that is broken."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
        admission = Admission(profile)
        for kind, documents in (("Node", snapshot.nodes), ("Pod", snapshot.pods)):
            for document in documents:
                _, problems = admission.read({**document, "apiVersion": "v1", "kind": kind})
                name = f"{kind} {document['metadata']['name']}"
                if problems:
                    raise UsageError(f"{name}: {problems[0].message}") from None
                if null := _null(document):
                    raise UsageError(f"{name}: {null} is null") from None
        raise


def _null(value: Any, path: str = "") -> str:
    """Where `value` has a null, which servers drop or refuse; "" for nowhere."""
    if value is None:
        return path.removeprefix(".")
    if isinstance(value, dict):
        return next((found for key in value if (found := _null(value[key], f"{path}.{key}"))), "")
    if isinstance(value, list):
        return next((found for i, item in enumerate(value) if (found := _null(item, f"{path}[{i}]"))), "")
    return ""
