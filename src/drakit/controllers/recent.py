"""What a controller did that its informers do not show yet.

An informer lags a little behind our own writes. A controller that counts objects would create one twice
or delete one too many in between; so it notes what it did here and reads through it. A note goes when the
informer shows the object, or after a while, should the informer never have seen it. Where the server did not
answer, nobody knows whether there is something to note: then it is asked before anything is created again.
"""

from __future__ import annotations

from msgspec import Struct

from drakit.client.api import Client
from drakit.client.clock import Clock
from drakit.client.informer import Informer
from drakit.controllers.owner import controller_of
from drakit.errors import InternalError, ServiceUnavailable, Timeout
from drakit.transport import Document

FORGET_SECONDS = 60.0
UNANSWERED = (ServiceUnavailable, Timeout, InternalError)
"""Failures after which a write may have been carried out or not."""


class _Note(Struct, frozen=True):
    document: Document
    until: float


class _Doubt(Struct, frozen=True):
    namespace: str


class Recent:
    """Notes about objects of one informer. The index "controller" must be on it (`owner.controller_uid`)."""

    def __init__(self, informer: Informer, clock: Clock) -> None:
        self._informer = informer
        self._clock = clock
        self._created: dict[str, dict[str, _Note]] = {}
        self._deleted: dict[str, float] = {}
        self._doubts: dict[str, _Doubt] = {}
        informer.add_handler(self._seen)

    def created(self, owner_uid: str, document: Document) -> None:
        """`document` was created for `owner_uid`."""
        notes = self._created.setdefault(owner_uid, {})
        notes[document["metadata"]["uid"]] = _Note(document, self._clock.now() + FORGET_SECONDS)

    def doubted(self, owner: Document) -> None:
        """A creation for `owner` was not answered."""
        meta = owner["metadata"]
        self._doubts[meta["uid"]] = _Doubt(meta["namespace"])

    async def ask(self, client: Client, owner_uid: str) -> bool:
        """Have the server say what there is if a creation for `owner_uid` had no answer; whether it had to.
        One question is enough for all owners of a namespace."""
        doubt = self._doubts.get(owner_uid)
        if doubt is None:
            return False
        asked = {uid: other for uid, other in self._doubts.items() if other.namespace == doubt.namespace}
        for document in (await client.list(self._informer.resource, doubt.namespace)).items:
            controller = controller_of(document)
            if controller is not None and controller["uid"] in asked:
                self.created(controller["uid"], document)
        for uid, other in asked.items():
            if self._doubts.get(uid) is other:
                del self._doubts[uid]
        return True

    def deleted(self, document: Document) -> None:
        self._deleted[document["metadata"]["uid"]] = self._clock.now() + FORGET_SECONDS

    def owned(self, owner_uid: str) -> list[Document]:
        """What `owner_uid` controls: with what we created, and what we deleted marked as being deleted."""
        found = {d["metadata"]["uid"]: d for d in self._informer.by_index("controller", owner_uid)}
        now = self._clock.now()
        for uid, note in list(self._created.get(owner_uid, {}).items()):
            if note.until < now:
                self._drop(owner_uid, uid)
            else:
                found.setdefault(uid, note.document)
        return [_deleting(d) if self._deleted.get(uid, 0.0) > now else d for uid, d in found.items()]

    def _seen(self, old: Document | None, new: Document | None) -> None:
        document = new or old
        assert document is not None
        uid = document["metadata"]["uid"]
        for reference in document["metadata"].get("ownerReferences") or ():
            self._drop(reference["uid"], uid)
        if new is None:
            self._deleted.pop(uid, None)

    def _drop(self, owner_uid: str, uid: str) -> None:
        notes = self._created.get(owner_uid)
        if notes is not None:
            notes.pop(uid, None)
            if not notes:
                del self._created[owner_uid]


def _deleting(document: Document) -> Document:
    """`document` as the informer will show it once it has heard of the deletion."""
    meta = document["metadata"]
    if meta.get("deletionTimestamp"):
        return document
    return {**document, "metadata": {**meta, "deletionTimestamp": meta.get("creationTimestamp")}}
