"""The part of the server that makes CustomResourceDefinitions true.

After every change of a definition it looks at all of them again: gives them their names, serves what is
established, and at the end removes their objects before it lets the definition go. A request that writes
a definition is answered when that is done, so whoever reads the answer finds the new kinds served.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from drakit.apiserver import delete
from drakit.apiserver.aggregation import list_services
from drakit.apiserver.definition import (
    COLLECTION,
    accept_names,
    ended,
    has_its_names,
    is_to_be_emptied,
    is_true,
    kinds_of,
    storage_kind,
)
from drakit.apiserver.kinds import Kind
from drakit.apiserver.registry import Registry
from drakit.apiserver.route import Target
from drakit.apiserver.view import stored_document
from drakit.errors import APIError, Conflict, NotFound
from drakit.store import Change, Entry
from drakit.transport import Document

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 2.0


class CustomResources:
    """See the module. Serves what is in the store at once; `start` begins the work on it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store
        self._kinds: dict[str, tuple[object, list[Kind]]] = {}
        self._emptied: dict[str, Callable[[], None]] = {}
        self._due = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._due.set()
        self._store.subscribe(COLLECTION, self._changed)
        self._serve()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="custom resources")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def settle(self) -> None:
        """Wait until all definitions have been looked at."""
        if self._task is not None:
            await self._idle.wait()

    def _changed(self, changes: Sequence[Change]) -> None:
        self._serve()
        self._wake()

    def _wake(self) -> None:
        self._idle.clear()
        self._due.set()

    # --- what is served ---------------------------------------------------------------------------

    def _definitions(self) -> list[tuple[Entry, Document]]:
        return [(entry, stored_document(entry)) for entry in self._store.page(COLLECTION)]

    def _serve(self) -> None:
        """Bring the table of kinds in line with the definitions. Watches of a kind that changed end: their
        clients begin anew with what holds now."""
        version = self._registry.profile.version
        kinds: dict[str, tuple[object, list[Kind]]] = {}
        for _, definition in self._definitions():
            name, status = definition["metadata"]["name"], definition.get("status") or {}
            state = (
                definition["metadata"]["uid"],
                definition["spec"],
                status.get("acceptedNames"),
                is_true(definition, "Established"),
            )
            known, is_ending = self._kinds.get(name), "deletionTimestamp" in definition["metadata"]
            if known and known[0] == state and not is_ending:
                kinds[name] = known
            else:
                kinds[name] = (state, kinds_of(definition, version))
        stale = [
            name
            for name, (state, rows) in self._kinds.items()
            if rows and (name not in kinds or kinds[name][0] != state)
        ]
        self._kinds = kinds
        if not kinds and not stale:
            return
        self._registry.serve([row for _, rows in kinds.values() for row in rows])
        for name in stale:
            self._registry.end_watches(name)

    # --- the work ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._due.wait()
            self._due.clear()
            for entry, definition in self._definitions():
                try:
                    await self._sync(entry, definition)
                except (Conflict, NotFound):
                    # Changed in the meantime: the change has woken us already.
                    continue
                except APIError as error:
                    _log.warning("custom resources %s: %s", entry.key, error)
                    loop.call_later(_RETRY_SECONDS, self._wake)
                except Exception:
                    _log.exception("custom resources %s", entry.key)
            await list_services(self._registry)
            if not self._due.is_set():
                self._idle.set()

    async def _sync(self, entry: Entry, definition: Document) -> None:
        now = self._registry.now()
        if is_to_be_emptied(definition):
            if await self._is_empty(definition):
                await self._write(entry, ended(definition, now))
            return
        if definition["metadata"].get("deletionTimestamp") or has_its_names(definition):
            return
        others = [document for _, document in self._definitions()]
        status = accept_names(definition, others, now)
        if status != definition.get("status"):
            await self._write(entry, {**definition, "status": status})

    async def _write(self, entry: Entry, document: Document) -> None:
        kind = self._registry.kinds.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        assert kind is not None
        target = Target(kind, "v1", "", entry.key)
        metadata = document["metadata"]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            await self._registry.commit(target, entry, None)
        else:
            await self._registry.write(target, entry, document, is_dry_run=False)

    async def _is_empty(self, definition: Document) -> bool:
        """Delete what is left of the definition's objects; False while some of them hold on."""
        kind = storage_kind(definition, self._registry.profile.version)
        name = kind.collection
        for entry in list(self._store.page(name)):
            if stored_document(entry)["metadata"].get("deletionTimestamp"):
                continue
            namespace, _, own = entry.key.rpartition("/")
            target = Target(kind, kind.storage_version, namespace, own)
            with contextlib.suppress(NotFound, Conflict):
                await delete.remove(self._registry, target, delete.Options())
        is_empty = not self._store.count(name)
        if is_empty and name in self._emptied:
            self._emptied.pop(name)()
        elif not is_empty and name not in self._emptied:
            self._emptied[name] = self._store.subscribe(name, lambda changes: self._wake())
        return is_empty
