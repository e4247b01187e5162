"""What is stored now, what changed, and who wants to know.

Theory of operation. Every write takes the next revision, in the order of the calls, on the event loop's
thread: that is the one order of the world. A write is checked against the newest entry of its key, even
one that is not yet committed, and joins the batch of its loop iteration; the batch is one transaction
(group commit). Only when it is committed do its entries become visible, its watchers hear of them and
its writers get their answer. If the disk refuses a batch, everything in it and everything queued behind
it fails, for later writes may rest on earlier ones; then the store goes on.

With durability "full" the transaction runs in a thread, because it waits for the disk; otherwise it is
cheaper than the change of threads. Checkpoints always run in the thread. One such job runs at a time;
writes that come meanwhile form the next batch.

Current entries and a bounded history of changes live in memory as the bytes they are stored as. A watch
from a revision reads the history and then the live changes; a revision older than the history is
`Expired`. What leaves the history is deleted from the log.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from drakit.errors import APIError, Expired, ServiceUnavailable, UsageError
from drakit.store.log import Durability, Log, Row

HISTORY_CHANGES = 20_000
HISTORY_BYTES = 48 << 20


class Entry(Struct, frozen=True, gc=False):
    """The value of a key and the revision that wrote it."""

    key: str
    revision: int
    value: bytes


class Change(Struct, frozen=True, gc=False):
    """One committed write: `entry` is None for a deletion, `previous` for a creation. `replaces` is the
    revision of the row before it, which after a deletion is the deletion's."""

    revision: int
    collection: str
    key: str
    entry: Entry | None
    previous: Entry | None
    replaces: int = 0

    @property
    def size(self) -> int:
        old, new = self.previous, self.entry
        return (len(old.value) if old else 0) + (len(new.value) if new else 0)


class Stale(Exception):
    """The key is not at the expected revision; `entry` is what is there, maybe not yet committed."""

    def __init__(self, entry: Entry | None) -> None:
        super().__init__("the key is at another revision")
        self.entry = entry


class _Collection:
    __slots__ = ("entries", "keys")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.keys: list[str] = []

    def put(self, entry: Entry) -> None:
        if entry.key not in self.entries:
            insort(self.keys, entry.key)
        self.entries[entry.key] = entry

    def drop(self, key: str) -> None:
        if self.entries.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]

    def page(self, prefix: str, after: str) -> Iterator[Entry]:
        start = (
            bisect_right(self.keys, after) if after >= prefix and after else bisect_left(self.keys, prefix)
        )
        for key in self.keys[start:]:
            if not key.startswith(prefix):
                return
            yield self.entries[key]


class _Write(Struct):
    change: Change
    done: asyncio.Future[Entry]


Listener = Callable[[Sequence[Change]], None]


class Store:
    """Entries by collection and key. For one event loop; reads are plain calls, writes are awaited.

    `path` None keeps everything in memory only. Raises UsageError if the file cannot be used.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        durability: Durability = "normal",
        history_changes: int = HISTORY_CHANGES,
        history_bytes: int = HISTORY_BYTES,
    ) -> None:
        self._log = Log(path, durability) if path is not None else None
        self._threads = ThreadPoolExecutor(1, "store") if self._log else None
        self._is_full = durability == "full"
        self._limit_changes, self._limit_bytes = history_changes, history_bytes
        self._collections: dict[str, _Collection] = {}
        self._pending: dict[tuple[str, str], Change] = {}
        self._graves: dict[tuple[str, str], int] = {}
        self._queue: list[_Write] = []
        self._history: list[Change] = []
        self._history_size = 0
        self._listeners: dict[str, list[Listener]] = {}
        self._job: asyncio.Future[None] | None = None
        self._is_flush_due = self._is_closed = False
        self.revision = 1
        """The newest committed revision."""
        self.floor = 1
        """Changes after this revision are in the history."""
        if self._log:
            try:
                self._load(self._log)
            except BaseException:
                self._log.abandon()
                raise
        self._next = self.revision + 1

    @property
    def path(self) -> Path | None:
        """The data file, None when everything is kept in memory only."""
        return self._log.path if self._log else None

    # --- reading ----------------------------------------------------------------------------------

    def get(self, collection: str, key: str) -> Entry | None:
        """The committed entry."""
        found = self._collections.get(collection)
        return found.entries.get(key) if found else None

    def head(self, collection: str, key: str) -> Entry | None:
        """The newest entry, committed or on its way: what a write is checked against."""
        pending = self._pending.get((collection, key))
        return pending.entry if pending else self.get(collection, key)

    def page(self, collection: str, prefix: str = "", after: str = "") -> Iterator[Entry]:
        """The entries whose keys start with `prefix`, in the order of keys, behind the key `after`."""
        found = self._collections.get(collection)
        return found.page(prefix, after) if found else iter(())

    def page_at(self, collection: str, prefix: str, after: str, revision: int) -> Iterator[Entry]:
        """Like `page`, as it was at `revision`. Raises Expired if the history does not reach back."""
        if revision >= self.revision:
            return self.page(collection, prefix, after)
        then: dict[str, Entry | None] = {}
        for change in self.history(collection, revision):
            if change.key.startswith(prefix) and change.key > after:
                then.setdefault(change.key, change.previous)
        now = {entry.key: entry for entry in self.page(collection, prefix, after)}
        merged = {**now, **then}
        return iter([entry for _, entry in sorted(merged.items()) if entry is not None])

    def count(self, collection: str) -> int:
        found = self._collections.get(collection)
        return len(found.keys) if found else 0

    def history(self, collection: str, since: int) -> list[Change]:
        """The changes of `collection` after revision `since`. Raises Expired if some are forgotten."""
        if since < self.floor:
            raise Expired(f"too old resource version: {since} ({self.floor})")
        start = bisect_right(self._history, since, key=lambda change: change.revision)
        return [change for change in self._history[start:] if change.collection == collection]

    def subscribe(self, collection: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every later batch of changes; returns how to stop that."""
        listeners = self._listeners.setdefault(collection, [])
        listeners.append(listener)
        return lambda: listeners.remove(listener)

    # --- writing ----------------------------------------------------------------------------------

    def write(
        self, collection: str, key: str, expected: int, value: Callable[[int], bytes] | None
    ) -> asyncio.Future[Entry]:
        """Replace the entry at revision `expected` (0: there is none) by `value(revision)`, or delete it.

        Checked at once: raises Stale when the key has moved on. The future gives the new entry (for a
        deletion, an entry with the revision of the deletion and no bytes) once it is committed, or raises
        InsufficientStorage.
        """
        if self._is_closed:
            raise ServiceUnavailable("the store is closed")
        head = self.head(collection, key)
        if (head.revision if head else 0) != expected:
            raise Stale(head)
        revision = self._next
        entry = Entry(key, revision, value(revision)) if value else None
        self._next += 1
        change = Change(revision, collection, key, entry, head, self._last(collection, key, head))
        self._pending[collection, key] = change
        loop = asyncio.get_running_loop()
        write = _Write(change, loop.create_future())
        self._queue.append(write)
        self._schedule(loop)
        return write.done

    def _last(self, collection: str, key: str, head: Entry | None) -> int:
        """The revision of the key's newest row, deletions included; 0 if it has none."""
        if head:
            return head.revision
        pending = self._pending.get((collection, key))
        return pending.revision if pending else self._graves.get((collection, key), 0)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_flush_due and self._job is None:
            self._is_flush_due = True
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self._job is not None or not self._queue:
            return
        batch, self._queue = self._queue, []
        trimmed, floor = self._trim(len(batch))
        rows = [_row(write.change) for write in batch]
        if self._log is None:
            self._commit(batch, trimmed, floor, None)
        elif self._is_full:
            self._in_thread(
                lambda log: log.append(rows, _obsolete(trimmed), floor),
                lambda error: self._commit(batch, trimmed, floor, error),
            )
        else:
            error: APIError | None = None
            try:
                self._log.append(rows, _obsolete(trimmed), floor)
            except APIError as refused:
                error = refused
            self._commit(batch, trimmed, floor, error)

    def _commit(
        self, batch: list[_Write], trimmed: Sequence[Change], floor: int | None, error: BaseException | None
    ) -> None:
        if error is not None:
            self._refuse(batch, error)
            return
        self._forget(trimmed)
        self.floor = floor if floor is not None else self.floor
        by_collection: dict[str, list[Change]] = {}
        for write in batch:
            change = write.change
            self._apply(change)
            by_collection.setdefault(change.collection, []).append(change)
            if self._pending.get((change.collection, change.key)) is change:
                del self._pending[change.collection, change.key]
        for write in batch:
            if not write.done.done():
                change = write.change
                write.done.set_result(change.entry or Entry(change.key, change.revision, b""))
        for collection, changes in by_collection.items():
            for listener in tuple(self._listeners.get(collection, ())):
                listener(changes)
        if self._log and self._log.is_checkpoint_due:
            self._in_thread(lambda log: log.checkpoint(), lambda error: None)

    def _refuse(self, batch: list[_Write], error: BaseException) -> None:
        refused = batch + self._queue
        self._queue = []
        self._pending.clear()
        self._next = self.revision + 1
        for write in refused:
            if not write.done.done():
                write.done.set_exception(error)

    def _in_thread(self, work: Callable[[Log], None], then: Callable[[BaseException | None], None]) -> None:
        assert self._log is not None
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._threads, work, self._log)
        self._job = job

        def finish(done: asyncio.Future[None]) -> None:
            self._job = None
            then(done.exception())
            if self._queue:
                self._schedule(loop)

        job.add_done_callback(finish)

    # --- history ----------------------------------------------------------------------------------

    def _apply(self, change: Change) -> None:
        collection = self._collections.setdefault(change.collection, _Collection())
        if change.entry is None:
            collection.drop(change.key)
            self._graves[change.collection, change.key] = change.revision
        else:
            collection.put(change.entry)
            self._graves.pop((change.collection, change.key), None)
        self.revision = change.revision
        self._history.append(change)
        self._history_size += change.size

    def _forget(self, trimmed: Sequence[Change]) -> None:
        del self._history[: len(trimmed)]
        for change in trimmed:
            self._history_size -= change.size
            if self._graves.get((change.collection, change.key)) == change.revision:
                del self._graves[change.collection, change.key]

    def _trim(self, coming: int) -> tuple[Sequence[Change], int | None]:
        """The changes to forget with the next commit and the floor after that; a quarter at a time."""
        changes, size = self._limit_changes, self._limit_bytes
        if len(self._history) + coming <= changes * 5 // 4 and self._history_size <= size * 5 // 4:
            return (), None
        count = max(0, len(self._history) + coming - changes)
        left = self._history_size - sum(change.size for change in self._history[:count])
        while count < len(self._history) and left > size:
            left -= self._history[count].size
            count += 1
        trimmed = self._history[:count]
        return trimmed, trimmed[-1].revision if trimmed else None

    def _load(self, log: Log) -> None:
        floor = self.floor = max(1, log.floor())
        old: dict[int, Entry] = {}
        state: dict[tuple[str, str], Entry] = {}
        for row in log.rows():
            entry = Entry(row.key, row.revision, row.value) if row.value is not None else None
            previous = old.pop(row.previous, None)
            if entry:
                old[row.revision] = state[row.collection, row.key] = entry
                self._graves.pop((row.collection, row.key), None)
            else:
                state.pop((row.collection, row.key), None)
                self._graves[row.collection, row.key] = row.revision
            self.revision = row.revision
            if row.revision > floor:
                change = Change(row.revision, row.collection, row.key, entry, previous, row.previous)
                self._history.append(change)
                self._history_size += change.size
        self.revision = max(self.revision, floor)
        for name, entry in ((name, entry) for (name, _), entry in state.items()):
            self._collections.setdefault(name, _Collection()).entries[entry.key] = entry
        for collection in self._collections.values():
            collection.keys = sorted(collection.entries)

    # --- the end ----------------------------------------------------------------------------------

    async def backup(self, path: Path) -> None:
        """Write a consistent copy of the data file. Raises UsageError when kept in memory only."""
        if self._log is None:
            raise UsageError("nothing to back up: the data is kept in memory only")
        await self._settle()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_thread(
            lambda log: log.backup(path),
            lambda error: done.set_exception(error) if error else done.set_result(None),
        )
        await done

    async def _settle(self) -> None:
        while self._job is not None or self._queue:
            if self._job is not None:
                await asyncio.wait([self._job])
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Commit what is queued, refuse what comes later, close the file."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._settle()
        if self._log:
            self._log.close()
        if self._threads:
            self._threads.shutdown()


def _row(change: Change) -> Row:
    value = change.entry.value if change.entry else None
    return Row(change.revision, change.collection, change.key, change.replaces, value)


def _obsolete(trimmed: Sequence[Change]) -> list[int]:
    """The rows nobody can ask for once `trimmed` left the history: what they replaced, and deletions."""
    replaced = [change.previous.revision for change in trimmed if change.previous]
    return replaced + [change.revision for change in trimmed if change.entry is None]
