"""The garbage collector: what happens to objects when their owners go.

Every object of every kind is known here by its uid, with the uids of its owners. An object goes when it
names owners and none of them is left; an owner counts as gone when no object with its uid is known and
the API server confirms it. A deletion can ask for more: with the finalizer `foregroundDeletion` the
dependents go first and those that block it are waited for, with `orphan` they are let go.

Source: pkg/controller/garbagecollector.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable

from msgspec import Struct

from drakit.client.api import Client, Propagation, Resource
from drakit.controllers.context import Context
from drakit.controllers.discovery import discover
from drakit.controllers.pod import is_deleting
from drakit.errors import DRAError, NotFound
from drakit.transport import Document

CUSTOM_RESOURCES = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False
)
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_IGNORED = {("", "events"), ("events.k8s.io", "events")}
_WORKERS = 8
_REMEMBERED = 1000
_REDISCOVER_SECONDS = 30.0

_log = logging.getLogger(__name__)


class _Known(Struct):
    """An object of the cluster."""

    resource: Resource
    document: Document


class Garbage:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._client: Client = context.client
        self._queue = context.queue()
        self._known: dict[str, _Known] = {}
        self._dependents: dict[str, set[str]] = {}
        self._absent: OrderedDict[str, None] = OrderedDict()
        self._followed: dict[tuple[str, str], Resource] = {}
        self._by_kind: dict[tuple[str, str], Resource] = {}
        self._stale = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._queue.run(self._sync, workers=_WORKERS, name="garbage"))

    # --- the graph --------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Follow every kind there is, and those that custom resources add later."""
        while True:
            try:
                await self._follow_new()
            except DRAError as error:
                _log.info("garbage: discovery: %s", error)
                self._stale.set()
            if ("apiextensions.k8s.io", "customresourcedefinitions") not in self._followed:
                await self._context.clock.sleep(_REDISCOVER_SECONDS)
                continue
            await self._stale.wait()
            await self._context.clock.sleep(1.0)
            self._stale.clear()

    async def _follow_new(self) -> None:
        for served in await discover(self._client):
            resource = served.resource
            identity = (resource.group, resource.plural)
            self._by_kind[resource.group, resource.kind] = resource
            if identity in self._followed or identity in _IGNORED or not {"list", "watch"} <= served.verbs:
                continue
            self._followed[identity] = resource
            informer = self._context.informer(resource)
            informer.add_handler(
                lambda old, new, resource=resource: self._changed(resource, old, new)  # type: ignore[misc]
            )
            if resource == CUSTOM_RESOURCES:
                informer.add_handler(lambda old, new: self._stale.set())

    def _changed(self, resource: Resource, old: Document | None, new: Document | None) -> None:
        document = new or old
        assert document is not None
        uid = document["metadata"]["uid"]
        if new is None:
            self._forget(uid)
            return
        before = self._known.get(uid)
        self._known[uid] = _Known(resource, new)
        if before is not None and _same_to_us(before.document, new):
            return
        for owner in _owner_uids(before.document) if before is not None else ():
            self._unlink(owner, uid)
        for owner in _owner_uids(new):
            self._dependents.setdefault(owner, set()).add(uid)
        if new["metadata"].get("ownerReferences") or is_deleting(new):
            self._queue.add(uid)
        for owner in _owner_uids(new):
            if owner in self._known and is_deleting(self._known[owner].document):
                self._queue.add(owner)

    def _forget(self, uid: str) -> None:
        gone = self._known.pop(uid, None)
        if gone is None:
            return
        self._absent[uid] = None
        if len(self._absent) > _REMEMBERED:
            self._absent.popitem(last=False)
        for owner in _owner_uids(gone.document):
            self._unlink(owner, uid)
            if owner in self._known and is_deleting(self._known[owner].document):
                self._queue.add(owner)
        for dependent in self._dependents.get(uid, ()):
            self._queue.add(dependent)

    def _unlink(self, owner: str, uid: str) -> None:
        dependents = self._dependents.get(owner)
        if dependents is not None:
            dependents.discard(uid)
            if not dependents:
                del self._dependents[owner]

    # --- the work ---------------------------------------------------------------------------------

    async def _sync(self, uid: str) -> None:
        known = self._known.get(uid)
        if known is None:
            return
        if is_deleting(known.document):
            finalizers = known.document["metadata"].get("finalizers") or ()
            if ORPHAN in finalizers:
                await self._orphan(known)
            elif FOREGROUND in finalizers:
                await self._delete_dependents(known)
            return
        references = known.document["metadata"].get("ownerReferences") or []
        if not references:
            return
        solid, gone, waiting = await self._sort(known, references)
        if solid:
            if gone or waiting:
                await self._patch(known, {"ownerReferences": solid})
            return
        if waiting and self._dependents.get(uid):
            await self._delete(known, "Foreground")
            return
        finalizers = known.document["metadata"].get("finalizers") or ()
        await self._delete(
            known,
            "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background",
        )

    async def _sort(
        self, known: _Known, references: Iterable[Document]
    ) -> tuple[list[Document], list[Document], list[Document]]:
        """The owner references that hold, whose owners are gone, and whose owners wait for us to go."""
        solid: list[Document] = []
        gone: list[Document] = []
        waiting: list[Document] = []
        for reference in references:
            owner = self._known.get(reference["uid"])
            if owner is None:
                (gone if await self._is_absent(known, reference) else solid).append(reference)
            elif (
                reference.get("blockOwnerDeletion")
                and is_deleting(owner.document)
                and FOREGROUND in (owner.document["metadata"].get("finalizers") or ())
            ):
                waiting.append(reference)
            else:
                solid.append(reference)
        return solid, gone, waiting

    async def _is_absent(self, known: _Known, reference: Document) -> bool:
        """Whether the server confirms that the owner is gone. An owner of an unknown kind is kept."""
        uid = reference["uid"]
        if uid in self._absent:
            return True
        group = str(reference.get("apiVersion", "")).rpartition("/")[0]
        resource = self._by_kind.get((group, str(reference.get("kind"))))
        if resource is None:
            return False
        namespace = known.document["metadata"].get("namespace") if resource.is_namespaced else None
        if resource.is_namespaced and not namespace:
            return False
        try:
            owner = await self._client.get(resource, reference["name"], namespace)
        except NotFound:
            is_absent = True
        else:
            is_absent = owner["metadata"]["uid"] != uid
        if is_absent:
            self._absent[uid] = None
        return is_absent

    async def _delete_dependents(self, owner: _Known) -> None:
        """Foreground: have the dependents deleted; with none left that blocks, let the owner go."""
        uid = owner.document["metadata"]["uid"]
        is_blocked = False
        for dependent_uid in list(self._dependents.get(uid, ())):
            dependent = self._known.get(dependent_uid)
            if dependent is None:
                continue
            references = dependent.document["metadata"].get("ownerReferences") or ()
            if any(row["uid"] == uid and row.get("blockOwnerDeletion") for row in references):
                is_blocked = True
                if not is_deleting(dependent.document):
                    self._queue.add(dependent_uid)
        if not is_blocked:
            await self._drop_finalizer(owner, FOREGROUND)

    async def _orphan(self, owner: _Known) -> None:
        uid = owner.document["metadata"]["uid"]
        for dependent_uid in list(self._dependents.get(uid, ())):
            dependent = self._known.get(dependent_uid)
            if dependent is not None:
                references = dependent.document["metadata"].get("ownerReferences") or ()
                kept = [reference for reference in references if reference["uid"] != uid]
                await self._patch(dependent, {"ownerReferences": kept or None})
        await self._drop_finalizer(owner, ORPHAN)

    async def _drop_finalizer(self, known: _Known, finalizer: str) -> None:
        finalizers = known.document["metadata"].get("finalizers") or ()
        await self._patch(known, {"finalizers": [name for name in finalizers if name != finalizer] or None})

    async def _patch(self, known: _Known, change: Document) -> None:
        meta = known.document["metadata"]
        patch = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], **change}}
        try:
            await self._client.patch(known.resource, meta["name"], patch, meta.get("namespace"))
        except NotFound:
            return

    async def _delete(self, known: _Known, propagation: Propagation) -> None:
        meta = known.document["metadata"]
        try:
            await self._client.delete(
                known.resource,
                meta["name"],
                meta.get("namespace"),
                uid=meta["uid"],
                resource_version=meta["resourceVersion"],
                propagation=propagation,
            )
        except NotFound:
            return


def _owner_uids(document: Document) -> list[str]:
    return [reference["uid"] for reference in document["metadata"].get("ownerReferences") or ()]


def _same_to_us(old: Document, new: Document) -> bool:
    before, after = old["metadata"], new["metadata"]
    return all(
        before.get(field) == after.get(field)
        for field in ("ownerReferences", "finalizers", "deletionTimestamp")
    )
