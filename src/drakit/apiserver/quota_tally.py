"""What the objects of a namespace use together, kept up with every change.

A quota is asked at each creation; counting all objects each time would make the last of many pods as dear as
all before. A tally is made when it is first asked for and follows the store from then on. It may be a little
behind where one object's count depends on another (a claim on its pod, a class), or on time: who refuses
something by it counts once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from drakit.apiserver.view import stored_document
from drakit.model.quota import Usage
from drakit.model.quota_tally import Tally
from drakit.store import Change, Store
from drakit.transport import Document

_Place = tuple[str, str]
"""Collection and namespace."""


class Tallies:
    """All tallies over `store`; `usage(collection, document)` is what an object counts for."""

    def __init__(self, store: Store, usage: Callable[[str, Document], Usage]) -> None:
        self._store = store
        self._usage = usage
        self._tallies: dict[_Place, dict[bytes, Tally]] = {}
        self._followed: set[str] = set()

    def of(self, collection: str, namespace: str, spec: Document) -> Tally:
        """The tally for a quota with `spec`."""
        scope = msgspec.json.encode((spec.get("scopes"), spec.get("scopeSelector")))
        place = self._tallies.setdefault((collection, namespace), {})
        tally = place.get(scope)
        if tally is None:
            tally = place[scope] = Tally(spec)
            if collection not in self._followed:
                self._followed.add(collection)
                self._store.subscribe(collection, self._changed)
            for entry in self._store.page(collection, f"{namespace}/"):
                self._put(collection, [tally], entry.key, stored_document(entry))
        return tally

    def forget(self, namespace: str = "", collections: Iterable[str] = ()) -> None:
        """Make tallies anew when they are asked for again: those of a namespace, or of some collections."""
        gone = set(collections)
        for place in [p for p in self._tallies if p[1] == namespace or p[0] in gone]:
            del self._tallies[place]

    def _changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            namespace = change.key.partition("/")[0]
            tallies = self._tallies.get((change.collection, namespace))
            if tallies:
                document = stored_document(change.entry) if change.entry is not None else None
                self._put(change.collection, tallies.values(), change.key, document)

    def _put(self, collection: str, tallies: Iterable[Tally], key: str, document: Document | None) -> None:
        usage = self._usage(collection, document) if document is not None else {}
        for tally in tallies:
            tally.put(key, document, usage)
