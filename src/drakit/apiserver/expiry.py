"""Events are forgotten an hour after they were last written, as upstream's storage does with a lease.

The keys stand in the order of their last write, so what is due stands at the front.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Sequence

from drakit.apiserver.view import stored_document
from drakit.errors import APIError, ServiceUnavailable
from drakit.store import Change, Entry, Stale, Store

EVENT_SECONDS = 3600.0
_COLLECTION = "events"
_BATCH = 1000


class EventExpiry:
    """Knows when each event in `store` was last written. `clock` gives the time in UTC."""

    def __init__(self, store: Store, clock: Callable[[], datetime.datetime]) -> None:
        self._store = store
        self._clock = clock
        entries = [(_last_written(entry), entry.key) for entry in store.page(_COLLECTION)]
        self._written = {key: moment for moment, key in sorted(entries)}
        self._stop = store.subscribe(_COLLECTION, self._note)

    def close(self) -> None:
        self._stop()

    def _note(self, changes: Sequence[Change]) -> None:
        now = self._clock().timestamp()
        for change in changes:
            self._written.pop(change.key, None)
            if change.entry is not None:
                self._written[change.key] = now

    async def sweep(self) -> int:
        """Delete what is due, a batch at most; how many that were."""
        limit = self._clock().timestamp() - EVENT_SECONDS
        due: list[str] = []
        for key, moment in self._written.items():
            if moment > limit or len(due) == _BATCH:
                break
            due.append(key)
        writes = []
        for key in due:
            entry = self._store.head(_COLLECTION, key)
            if entry is not None:
                with contextlib.suppress(Stale, ServiceUnavailable):
                    writes.append(self._store.write(_COLLECTION, key, entry.revision, None))
        for write in writes:
            with contextlib.suppress(APIError):
                await write
        return len(writes)


def _last_written(entry: Entry) -> float:
    """When the event says it was last seen; the past if it does not say."""
    event = stored_document(entry)
    series = event.get("series") or {}
    times = [
        event["metadata"].get("creationTimestamp"),
        event.get("lastTimestamp"),
        series.get("lastObservedTime"),
    ]
    moments = [0.0]
    for text in times:
        with contextlib.suppress(ValueError, AttributeError):
            moments.append(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())
    return max(moments)
