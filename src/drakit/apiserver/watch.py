"""Watches: one hub per collection takes each change once and hands it to every watcher that wants it.

A change becomes one `Event`, shared by all watchers; it is decoded and encoded at most once for each
version and shape somebody asks for, and the bytes are shared. An event lives as long as a watcher still
has it in its queue. A watcher whose queue grows beyond its limit reads too slowly: it is dropped and
will come back with the version it saw last.

An object that begins to match a selector is ADDED for that watcher, one that ceases to is DELETED with
its last matching state, as upstream's watch cache does it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from drakit.apiserver.route import Target
from drakit.apiserver.selection import Selection
from drakit.apiserver.view import (
    View,
    as_table,
    is_as_stored,
    partial,
    represent,
    stored_document,
    typed_bytes,
)
from drakit.errors import Expired, TooManyRequests
from drakit.store import Change, Entry, Store
from drakit.transport import Document

MAX_QUEUE = 10_000
"""Events a watcher may be behind, beyond those it began with."""
MAX_WATCHERS = 20_000
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_MODIFIED, _ADDED, _DELETED, _BOOKMARK = "MODIFIED", "ADDED", "DELETED", "BOOKMARK"


class Event:
    """One change as watchers see it."""

    __slots__ = ("_after", "_before", "_forms", "change")

    def __init__(self, change: Change) -> None:
        self.change = change
        self._after: Document | None = None
        self._before: Document | None = None
        self._forms: dict[Any, Any] = {}

    def _state(self, entry: Entry | None, is_after: bool) -> Document | None:
        if entry is None:
            return None
        found = self._after if is_after else self._before
        if found is None:
            found = stored_document(entry)
            if is_after:
                self._after = found
            else:
                self._before = found
        return found

    def type_for(self, selection: Selection) -> str | None:
        """What the change is to a watcher with `selection`; None if it is nothing."""
        change = self.change
        if not change.key.startswith(selection.prefix):
            return None
        if selection.is_everything:
            if change.entry is None:
                return _DELETED
            return _MODIFIED if change.previous else _ADDED
        after = self._state(change.entry, True)
        before = self._state(change.previous, False)
        is_in = after is not None and selection.matches(after)
        was_in = before is not None and selection.matches(before)
        if is_in:
            return _MODIFIED if was_in else _ADDED
        return _DELETED if was_in else None

    def document(self, type_: str, target: Target) -> Document:
        """The event (`type` and `object`) in the version of `target`."""
        key = (type_, target.kind.group, target.version)
        found = self._forms.get(key)
        if found is None:
            found = self._forms[key] = {"type": type_, "object": self._object(type_, target)}
        result: Document = found
        return result

    def _object(self, type_: str, target: Target) -> Document:
        change = self.change
        if type_ != _DELETED:
            return represent(self._state(change.entry, True) or {}, target)
        last = self._state(change.previous, False) or {}
        metadata = {**last.get("metadata", {}), "resourceVersion": str(change.revision)}
        return represent({**last, "metadata": metadata}, target)

    def encoded(self, type_: str, target: Target, view: View) -> bytes:
        """The event as a line of JSON."""
        key = (type_, target.kind.group, target.version, view)
        found: bytes | None = self._forms.get(key)
        if found is None:
            entry = self.change.entry
            if view.shape == "object" and entry is not None and type_ != _DELETED and is_as_stored(target):
                line = b'{"type":"' + type_.encode() + b'","object":' + typed_bytes(entry, target) + b"}\n"
            else:
                line = _line(type_, _in_shape(self.document(type_, target)["object"], target, view))
            found = self._forms[key] = line
        return found


def _in_shape(document: Document, target: Target, view: View) -> Document:
    if view.shape == "table":
        version = document["metadata"].get("resourceVersion", "")
        return as_table(target, [document], version, view)
    return partial(document) if view.shape == "metadata" else document


def _line(type_: str, document: Document) -> bytes:
    return b'{"type":"' + type_.encode() + b'","object":' + msgspec.json.encode(document) + b"}\n"


Item = tuple[str, Event | Document]
"""A type with its event, or with a finished object (a bookmark)."""


class Watch:
    """One watcher's queue. `take` gives what came since; None says that the watch is over."""

    def __init__(self, hub: Hub, target: Target, selection: Selection) -> None:
        self.target = target
        self.selection = selection
        self._hub = hub
        self._queue: deque[Item] = deque()
        self._limit = MAX_QUEUE
        self._wake: asyncio.Future[None] | None = None
        self._is_over = False

    def offer(self, event: Event) -> None:
        type_ = event.type_for(self.selection)
        if type_ is not None:
            self.put((type_, event))

    def put(self, item: Item) -> None:
        if len(self._queue) >= self._limit:
            self.close()
            return
        self._queue.append(item)
        self._notify()

    def begin(self, items: Iterable[Item]) -> None:
        """Queue what the watch starts with, however much it is."""
        self._queue.extend(items)
        self._limit = len(self._queue) + MAX_QUEUE

    def close(self) -> None:
        """End the watch and forget what is queued."""
        self._is_over = True
        self._queue.clear()
        self._hub.leave(self)
        self._notify()

    def end(self) -> None:
        """End the watch after what is queued."""
        self._is_over = True
        self._hub.leave(self)
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def take(self, timeout: float) -> list[Item] | None:
        """Everything queued, as soon as there is something; [] if nothing came within `timeout` seconds."""
        if not self._queue and not self._is_over:
            loop = asyncio.get_running_loop()
            wake = self._wake = loop.create_future()
            timer = loop.call_later(timeout, self._notify)
            try:
                await wake
            finally:
                timer.cancel()
                self._wake = None
        if self._queue:
            items = list(self._queue)
            self._queue.clear()
            return items
        return None if self._is_over else []

    def bookmark(self, is_initial_end: bool = False) -> Item:
        """A bookmark of the newest version all of whose events are queued or sent."""
        metadata: Document = {"resourceVersion": str(self._hub.revision)}
        if is_initial_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        kind = {"kind": self.target.kind.kind, "apiVersion": self.target.api_version}
        return _BOOKMARK, {**kind, "metadata": metadata}

    def document(self, item: Item) -> Document:
        type_, event = item
        if isinstance(event, Event):
            return event.document(type_, self.target)
        return {"type": type_, "object": event}

    def line(self, item: Item, view: View) -> bytes:
        type_, event = item
        if isinstance(event, Event):
            return event.encoded(type_, self.target, view)
        return _line(type_, _in_shape(event, self.target, view))


class Hub:
    """The watchers of one collection."""

    def __init__(self, store: Store, collection: str) -> None:
        self._store = store
        self._collection = collection
        self._watches: set[Watch] = set()
        store.subscribe(collection, self._feed)

    @property
    def revision(self) -> int:
        return self._store.revision

    def __len__(self) -> int:
        return len(self._watches)

    def _feed(self, changes: Sequence[Change]) -> None:
        if not self._watches:
            return
        for change in changes:
            event = Event(change)
            for watch in tuple(self._watches):
                watch.offer(event)

    def leave(self, watch: Watch) -> None:
        self._watches.discard(watch)

    def close(self) -> None:
        for watch in tuple(self._watches):
            watch.close()

    def end(self) -> None:
        """End all watches after what is queued."""
        for watch in tuple(self._watches):
            watch.end()

    def watch(
        self, target: Target, selection: Selection, since: int | None, *, with_end_mark: bool = False
    ) -> Watch:
        """A watch from after revision `since`, or with None from everything there is now as ADDED, then
        (`with_end_mark`) the bookmark that says so. Raises Expired when the history does not reach back."""
        if len(self._watches) >= MAX_WATCHERS:
            raise TooManyRequests(
                "too many watches, please try again later", details={"retryAfterSeconds": 1}
            )
        watch = Watch(self, target, selection)
        if since is None:
            entries = self._store.page(self._collection, selection.prefix)
            changes: Iterator[Change] = (
                Change(e.revision, self._collection, e.key, e, None) for e in entries
            )
        else:
            changes = iter(self._store.history(self._collection, since))
        events = ((event.type_for(selection), event) for event in map(Event, changes))
        watch.begin((type_, event) for type_, event in events if type_ is not None)
        if since is None and with_end_mark:
            watch.put(watch.bookmark(is_initial_end=True))
        self._watches.add(watch)
        return watch


def expired_event(error: Expired) -> Document:
    """How a watch says that its version is too old."""
    return {"type": "ERROR", "object": error.status()}
