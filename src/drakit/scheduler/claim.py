"""What claims hold, with this scheduler's own promises on top of what the API says.

The allocator's `State` must never see a device free that is promised. A claim's devices are held by one of
three, and the rules between them are all there is:

- *in flight*: chosen for a pod, not yet written. Held until the write is known to have happened or not;
  what the informer says about the claim meanwhile changes nothing.
- *assumed*: written, but the informer has not come that far. It covers older news of the informer.
- *known*: what the informer says.

Whoever gives devices back is announced through `freed`, with the nodes that could notice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from drakit.allocator import State
from drakit.errors import AllocationError
from drakit.model.resource import EXTENDED_CLAIM_ANNOTATION, AllocationResult, ResourceClaimSpec
from drakit.transport import Document

Lookup = Callable[[str], Document | None]
Freed = Callable[[frozenset[str] | None, list[Document]], None]
"""Called with the nodes that devices came back to (None: any node) and the results that named them."""

_SPECS_KEPT = 512


class Claims:
    """All claims of the cluster. `lookup(key)` is the informer's copy."""

    def __init__(self, state: State, lookup: Lookup, freed: Freed) -> None:
        self._state = state
        self._lookup = lookup
        self._freed = freed
        self._in_flight: set[str] = set()
        self._assumed: dict[str, Document] = {}
        self._held: dict[str, Document] = {}
        self._special: dict[str, str] = {}
        self._specs: OrderedDict[bytes, ResourceClaimSpec] = OrderedDict()

    def get(self, key: str) -> Document | None:
        """The newest that is known of the claim."""
        return self._assumed.get(key) or self._lookup(key)

    def special(self, pod_uid: str) -> Document | None:
        """The claim made for the extended resources of a pod, if there is one."""
        key = self._special.get(pod_uid)
        return self.get(key) if key else None

    def is_in_flight(self, uid: str) -> bool:
        return uid in self._in_flight

    def spec_of(self, document: Document) -> tuple[bytes, ResourceClaimSpec]:
        """The claim's spec as the allocator takes it, and a key that is the same for the same spec.

        Raises AllocationError if it cannot be read.
        """
        meta, spec = document["metadata"], document.get("spec") or {}
        key = msgspec.json.encode(spec)
        known = self._specs.get(key)
        if known is None:
            try:
                known = msgspec.convert(spec, ResourceClaimSpec)
            except msgspec.ValidationError as error:
                name = f"{meta.get('namespace')}/{meta.get('name')}"
                raise AllocationError(f"claim {name}: spec cannot be read: {error}") from None
            self._specs[key] = known
            if len(self._specs) > _SPECS_KEPT:
                self._specs.popitem(last=False)
        return key, known

    # --- promises ---------------------------------------------------------------------------------

    def reserve(self, uid: str, allocation: AllocationResult, owner: str) -> Document:
        """Promise `allocation` to the claim `uid` ("namespace/name" is `owner`) until `assume` or
        `unreserve`. Returns it as it goes into the claim's status."""
        document: Document = msgspec.to_builtins(allocation)
        self._state.take(uid, allocation, owner=owner)
        self._held[uid] = document
        self._in_flight.add(uid)
        return document

    def assume(self, document: Document, *, promised_as: str = "") -> None:
        """The API accepted `document`: it holds until the informer has caught up. `promised_as` is the
        uid of the promise where the claim did not exist then."""
        uid, key = _identity(document)
        self._in_flight.discard(uid)
        newest = self._lookup(key)
        if newest is None or _version(newest) < _version(document) or newest["metadata"]["uid"] != uid:
            self._assumed[key] = newest = document
        self._settle(uid, key, newest)
        if promised_as:
            self.unreserve(promised_as, "")

    def unreserve(self, uid: str, key: str) -> None:
        """The promise to `uid` came to nothing: what the API says of the claim `key` holds again."""
        self._in_flight.discard(uid)
        document = self.get(key)
        is_same = document is not None and document["metadata"]["uid"] == uid
        self._settle(uid, key, document if is_same else None)

    # --- news -------------------------------------------------------------------------------------

    def changed(self, old: Document | None, new: Document | None) -> None:
        """The informer's copy changed from `old` to `new`."""
        document = new or old
        if document is None:
            return
        uid, key = _identity(document)
        assumed = self._assumed.get(key)
        if assumed is not None:
            is_older = assumed["metadata"]["uid"] == uid and _version(document) < _version(assumed)
            if new is not None and is_older:
                return
            del self._assumed[key]
        self._note_special(key, document, is_there=new is not None)
        if uid not in self._in_flight:
            self._settle(uid, key, new)

    def _note_special(self, key: str, document: Document, *, is_there: bool) -> None:
        meta = document["metadata"]
        if (meta.get("annotations") or {}).get(EXTENDED_CLAIM_ANNOTATION) != "true":
            return
        for owner in meta.get("ownerReferences") or ():
            if owner.get("controller") and owner.get("kind") == "Pod":
                if is_there:
                    self._special[owner["uid"]] = key
                elif self._special.get(owner["uid"]) == key:
                    del self._special[owner["uid"]]

    def _settle(self, uid: str, key: str, document: Document | None) -> None:
        """Make the allocator's state hold for `uid` what `document` says."""
        allocation = ((document or {}).get("status") or {}).get("allocation")
        held = self._held.get(uid)
        if allocation is None:
            if held is not None:
                del self._held[uid]
                self._state.release(uid)
                self._freed(nodes_of(held), _results(held))
        elif held is None or not _is_same(held, allocation):
            self._held[uid] = allocation
            self._state.take(uid, msgspec.convert(allocation, AllocationResult), owner=key)
            if held is not None:
                self._freed(nodes_of(held), _results(held))


def nodes_of(allocation: Document) -> frozenset[str] | None:
    """The nodes an allocation is good for where it names them, else None."""
    terms: list[Document] = (allocation.get("nodeSelector") or {}).get("nodeSelectorTerms") or []
    if len(terms) != 1 or terms[0].get("matchExpressions"):
        return None
    fields: list[Document] = terms[0].get("matchFields") or []
    if len(fields) != 1 or fields[0].get("key") != "metadata.name" or fields[0].get("operator") != "In":
        return None
    return frozenset(fields[0].get("values") or ())


def _results(allocation: Document) -> list[Document]:
    return (allocation.get("devices") or {}).get("results") or []


def _is_same(held: Document, allocation: Document) -> bool:
    return bool(
        held.get("devices") == allocation.get("devices")
        and held.get("nodeSelector") == allocation.get("nodeSelector")
    )


def _identity(document: Document) -> tuple[str, str]:
    meta = document["metadata"]
    return meta["uid"], f"{meta['namespace']}/{meta['name']}"


def _version(document: Document) -> int:
    """resourceVersions of one collection grow; one that is no number is older than all."""
    version: Any = document["metadata"].get("resourceVersion") or ""
    return int(version) if version.isdigit() else 0
