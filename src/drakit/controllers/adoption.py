"""Who controls what by its labels: what belongs to nobody is taken in, what no longer fits is let go.

Only the owner reference says whose an object is. A controller that was made anew, or was deleted without
what it controls, finds that again by its selector; an object whose labels were changed by hand is let go,
which is how people take a pod aside to look at it. Source: pkg/controller/controller_ref_manager.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from drakit.client.api import Client, Resource
from drakit.client.informer import Informer, key_of
from drakit.controllers.owner import controller_of, controller_uid, namespace_of, reference_to
from drakit.controllers.pod import is_deleting, is_terminal
from drakit.controllers.recent import Recent
from drakit.errors import BadRequest, Conflict, Invalid, NotFound
from drakit.model.selector import LabelSelector, read_labels
from drakit.transport import STRATEGIC_PATCH, Document


class Adoption:
    """For the owners in `owners` and what they control in `dependents`."""

    def __init__(self, client: Client, owners: Informer, dependents: Informer, recent: Recent) -> None:
        self._client = client
        self._owners = owners
        self._dependents = dependents
        self._recent = recent
        owners.add_index("namespace", namespace_of)
        dependents.add_index("controller", controller_uid)
        dependents.add_index("orphan", _orphan)

    def concerned(self, dependent: Document | None) -> Iterator[str]:
        """Keys of the owners that a new, changed or gone `dependent` matters to: its own or adopters."""
        assert dependent is not None
        owner = controller_of(dependent)
        if owner is None:
            yield from self._adopters(dependent)
        elif owner["kind"] == self._owners.resource.kind:
            yield f"{dependent['metadata']['namespace']}/{owner['name']}"

    def _adopters(self, document: Document) -> Iterator[str]:
        """Keys of the owners that could take in `document`, which belongs to nobody."""
        labels = document["metadata"].get("labels") or {}
        for owner in self._owners.by_index("namespace", document["metadata"]["namespace"]):
            selector = _selector(owner)
            if selector is not None and selector.matches(labels):
                yield key_of(owner)

    async def gather(self, owner: Document) -> list[Document]:
        """What `owner` controls, after taking in and letting go."""
        owned = self._recent.owned(owner["metadata"]["uid"])
        selector = _selector(owner)
        if selector is None:
            return owned
        kept = []
        for document in owned:
            if selector.matches(document["metadata"].get("labels") or {}):
                kept.append(document)
            elif not is_deleting(document):
                await self._patch(document, {"$patch": "delete", "uid": owner["metadata"]["uid"]})
        orphans = self._dependents.by_index("orphan", owner["metadata"]["namespace"])
        fitting = [o for o in orphans if selector.matches(o["metadata"].get("labels") or {})]
        if not is_deleting(owner) and fitting and await self._may_adopt(owner):
            reference = reference_to(owner, self._owners.resource)
            for orphan in fitting:
                adopted = await self._patch(orphan, reference)
                if adopted is not None:
                    self._recent.created(owner["metadata"]["uid"], adopted)
                    kept.append(adopted)
        return kept

    async def _may_adopt(self, owner: Document) -> bool:
        """Whether the server still has the owner, and keeps it."""
        meta = owner["metadata"]
        try:
            latest = await self._client.get(self._owners.resource, meta["name"], meta["namespace"])
        except NotFound:
            return False
        return bool(latest["metadata"]["uid"] == meta["uid"]) and not is_deleting(latest)

    async def _patch(self, document: Document, reference: Document) -> Document | None:
        """Change one owner reference of `document`; None if it is gone, replaced or taken by another."""
        meta = document["metadata"]
        patch = {"metadata": {"uid": meta["uid"], "ownerReferences": [reference]}}
        resource: Resource = self._dependents.resource
        try:
            return await self._client.patch(
                resource, meta["name"], patch, meta["namespace"], content_type=STRATEGIC_PATCH
            )
        except (NotFound, Conflict, Invalid):
            return None


def _selector(owner: Document) -> LabelSelector | None:
    """The owner's selector; None for one that picks everything or cannot be read, which adopts nothing."""
    try:
        selector = read_labels((owner.get("spec") or {}).get("selector"))
    except BadRequest:
        return None
    return selector if selector is not None and selector.requirements else None


def _orphan(document: Document) -> list[str]:
    """Index: the namespace of what belongs to nobody and could be taken in."""
    if controller_of(document) is not None or is_deleting(document) or is_terminal(document):
        return []
    return namespace_of(document)
