"""A local copy of a collection that follows the server.

An `Informer` lists once and then watches from the version of that list. Its copy changes at one place
(`_put`, `_remove`), where the indexes follow and every handler is called, synchronously and in the order
of the changes. A list after a lost history (410) is merged into the copy: what differs is reported,
what is gone is reported as deleted, what is the same is not reported. So a handler sees each change of
the copy exactly once, and the copy only moves forward.

The documents belong to nobody and are never changed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Any

from drakit.client.api import Client, Resource
from drakit.client.clock import Clock
from drakit.errors import APIError, DRAError, Expired, from_status
from drakit.transport import Document

Handler = Callable[[Document | None, Document | None], None]
Index = Callable[[Document], Iterable[str]]

PAGE = 500
"""Objects asked for in one page of a list."""
WATCH_SECONDS = 300
"""How long a watch is asked to last; a connection that died silently is noticed soon after."""
_FIRST_DELAY, _LAST_DELAY = 0.1, 10.0

_log = logging.getLogger(__name__)


def key_of(document: Document) -> str:
    """`namespace/name`, or `name` for what has no namespace."""
    meta = document["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


class Informer:
    """Follows `resource`, in `namespace` or everywhere, as far as the selectors choose."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        clock: Clock | None = None,
    ) -> None:
        self.resource = resource
        self._client = client
        self._namespace = namespace
        self._selectors: dict[str, Any] = {
            "label_selector": label_selector,
            "field_selector": field_selector,
        }
        self._clock = clock or Clock()
        self._documents: dict[str, Document] = {}
        self._indexes: dict[str, tuple[Index, dict[str, dict[str, Document]]]] = {}
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        self._version = ""

    # --- the copy ---------------------------------------------------------------------------------

    def get(self, key: str) -> Document | None:
        """The object `namespace/name` (or `name`), None if there is none."""
        return self._documents.get(key)

    def items(self) -> list[Document]:
        """All objects, in no order that means anything."""
        return list(self._documents.values())

    def __len__(self) -> int:
        return len(self._documents)

    def add_index(self, name: str, index: Index) -> None:
        """Keep objects findable by the values `index` gives for them. Naming an index again with the same
        function changes nothing. A value must depend on the object alone."""
        known = self._indexes.get(name)
        if known is not None:
            if known[0] is not index:
                raise ValueError(f"index {name!r} of {self.resource.plural} is taken by another function")
            return
        self._indexes[name] = (index, {})
        for key, document in self._documents.items():
            self._enter(name, key, document)

    def by_index(self, name: str, value: str) -> list[Document]:
        """The objects for which the index `name` has `value`."""
        return list(self._indexes[name][1].get(value, {}).values())

    def add_handler(self, handler: Handler) -> None:
        """Have `handler(old, new)` called for every change: old None is added, new None is deleted.
        What is there already is reported as added at once."""
        self._handlers.append(handler)
        for document in self.items():
            self._call(handler, None, document)

    async def wait_synced(self) -> None:
        """Return once the first list is in the copy."""
        await self._synced.wait()

    @property
    def version(self) -> str:
        """The resourceVersion that the copy has come to, "" before the first list or after a lost history."""
        return self._version

    @property
    def is_synced(self) -> bool:
        return self._synced.is_set()

    # --- following --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the server until cancelled, through any failure of it."""
        delay = _FIRST_DELAY
        while True:
            before = self._version
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                failed = False
            except Expired:
                self._version = ""
                failed = not before
            except APIError as error:
                _log.info("%s: %s", self.resource.plural, error)
                failed = True
                if error.code == 410:
                    self._version = ""
            except (DRAError, OSError) as error:
                _log.info("%s: %s", self.resource.plural, error)
                failed = True
            except (KeyError, TypeError, ValueError, AttributeError):
                _log.exception("%s: cannot make sense of what the server sent", self.resource.plural)
                self._version = ""
                failed = True
            if not failed or (self._version and self._version != before):
                delay = _FIRST_DELAY
            else:
                delay = min(delay * 2, _LAST_DELAY)
            await self._clock.sleep(delay * random.uniform(0.5, 1.0))

    async def _list(self) -> None:
        """Merge the collection into the copy; all pages are read before anything is reported."""
        found: dict[str, Document] = {}
        try:
            version = await self._read_pages(found, PAGE)
        except Expired:
            # The server forgot where we were between two pages: take everything in one piece.
            found.clear()
            version = await self._read_pages(found, 0)
        for key in [key for key in self._documents if key not in found]:
            self._remove(key, None)
        for key, document in found.items():
            self._put(key, document)
        self._version = version
        self._synced.set()

    async def _read_pages(self, found: dict[str, Document], limit: int) -> str:
        """Put every object of the collection into `found`; returns the version they are at."""
        token = ""
        while True:
            page = await self._client.list(
                self.resource, self._namespace, limit=limit, continue_token=token, **self._selectors
            )
            self._gather(found, page.items)
            token = page.continue_token
            if not token:
                return page.resource_version

    def _gather(self, found: dict[str, Document], items: Iterable[Document]) -> None:
        typed = {"apiVersion": self.resource.api_version, "kind": self.resource.kind}
        for item in items:
            found[key_of(item)] = item if "kind" in item else typed | item

    async def _watch(self) -> None:
        seconds = int(WATCH_SECONDS * random.uniform(1.0, 1.5))
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=self._version,
            timeout_seconds=seconds,
            **self._selectors,
        )
        async for event in events:
            kind, document = event.get("type"), event.get("object") or {}
            if kind == "ERROR":
                raise from_status(document, int(document.get("code") or 500))
            if kind == "DELETED":
                self._remove(key_of(document), document)
            elif kind in ("ADDED", "MODIFIED"):
                self._put(key_of(document), document)
            elif kind != "BOOKMARK":
                _log.warning("%s: watch event of unknown type %r", self.resource.plural, kind)
                continue
            self._version = document["metadata"]["resourceVersion"]

    def _put(self, key: str, document: Document) -> None:
        old = self._documents.get(key)
        if old is not None:
            before, after = old["metadata"], document["metadata"]
            if before.get("resourceVersion") == after.get("resourceVersion"):
                return
            if before.get("uid") != after.get("uid"):
                self._remove(key, None)
                old = None
        for name in self._indexes:
            self._leave(name, key, old)
            self._enter(name, key, document)
        self._documents[key] = document
        self._tell(old, document)

    def _remove(self, key: str, last: Document | None) -> None:
        old = self._documents.pop(key, None)
        if old is None:
            return
        for name in self._indexes:
            self._leave(name, key, old)
        self._tell(last or old, None)

    def _enter(self, name: str, key: str, document: Document) -> None:
        index, buckets = self._indexes[name]
        for value in index(document):
            buckets.setdefault(value, {})[key] = document

    def _leave(self, name: str, key: str, document: Document | None) -> None:
        if document is None:
            return
        index, buckets = self._indexes[name]
        for value in index(document):
            bucket = buckets.get(value)
            if bucket is not None:
                bucket.pop(key, None)
                if not bucket:
                    del buckets[value]

    def _tell(self, old: Document | None, new: Document | None) -> None:
        for handler in self._handlers:
            self._call(handler, old, new)

    def _call(self, handler: Handler, old: Document | None, new: Document | None) -> None:
        try:
            handler(old, new)
        except Exception:
            _log.exception("%s: a handler has a bug", self.resource.plural)


class Informers:
    """Informers that are shared: asking twice for the same collection gives the same one."""

    def __init__(self, client: Client, *, clock: Clock | None = None) -> None:
        self.client = client
        self._clock = clock
        self._informers: dict[tuple[Resource, str | None, str, str], Informer] = {}
        self._group: asyncio.TaskGroup | None = None

    def informer(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Informer:
        """The informer of that collection; it starts with `run`, or at once when that is running."""
        identity = (resource, namespace, label_selector, field_selector)
        known = self._informers.get(identity)
        if known is None:
            known = self._informers[identity] = Informer(
                self.client,
                resource,
                namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                clock=self._clock,
            )
            if self._group is not None:
                self._group.create_task(known.run())
        return known

    async def run(self) -> None:
        """Run every informer asked for, now or later, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for informer in self._informers.values():
                    group.create_task(informer.run())
                await asyncio.Event().wait()
            finally:
                self._group = None

    async def wait_synced(self) -> None:
        """Return once every informer asked for so far has its first list."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()
