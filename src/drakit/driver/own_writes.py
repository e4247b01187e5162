"""What an instance wrote itself, until its informer tells of it.

A watch is a little behind. A pool that was just written in several steps would look half written, and be put
right once more: so what was written goes over what the informer has, until that has come as far. Versions are
compared as numbers, as Kubernetes promises that they can be. After `SECONDS` the informer is believed all the
same: a server that was set back to an older state never comes as far.
"""

from __future__ import annotations

from collections.abc import Iterable

from drakit.client.clock import Clock
from drakit.transport import Document

SECONDS = 60.0


class OwnWrites:
    """The slices that were written and deleted, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stored: dict[str, tuple[float, Document]] = {}
        self._deleted: dict[str, tuple[float, Document]] = {}

    def stored(self, document: Document) -> None:
        """The server has taken the slice so."""
        name = document["metadata"]["name"]
        self._stored[name] = (self._clock.now(), document)
        self._deleted.pop(name, None)

    def deleted(self, document: Document) -> None:
        """The server has deleted the slice, or it was gone already."""
        name = document["metadata"]["name"]
        self._stored.pop(name, None)
        self._deleted[name] = (self._clock.now(), document)

    def over(self, pool: str, seen: Iterable[Document], version: str) -> list[Document]:
        """The slices of `pool`: those the informer has at `version`, and what was written since."""
        found = {document["metadata"]["name"]: document for document in seen}
        now = self._clock.now()
        for name, (since, document) in _of(pool, self._stored):
            told = max(_number(version), _version(found.get(name)))
            if told >= _version(document) or now >= since + SECONDS:
                del self._stored[name]
            else:
                found[name] = document
        for name, (since, document) in _of(pool, self._deleted):
            meta = found.get(name, {}).get("metadata", {})
            is_told = meta.get("uid") != document["metadata"].get("uid") or "deletionTimestamp" in meta
            if is_told or now >= since + SECONDS:
                del self._deleted[name]
            else:
                del found[name]
        return list(found.values())

    def is_ahead(self, pool: str) -> bool:
        """Whether there is something that the informer has not told of."""
        return bool(_of(pool, self._stored) or _of(pool, self._deleted))


def _of(pool: str, writes: dict[str, tuple[float, Document]]) -> list[tuple[str, tuple[float, Document]]]:
    return [item for item in writes.items() if item[1][1]["spec"]["pool"]["name"] == pool]


def _version(document: Document | None) -> int:
    return _number(document["metadata"].get("resourceVersion")) if document else 0


def _number(version: str | None) -> int:
    return int(version) if version and version.isdecimal() else 0
