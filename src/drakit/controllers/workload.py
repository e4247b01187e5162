"""What ReplicaSets, DaemonSets and Jobs have in common: the pods they make and delete."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from drakit.client.api import PODS, Client, Resource
from drakit.client.record import EventRecorder
from drakit.controllers.owner import reference_to
from drakit.controllers.recent import UNANSWERED, Recent
from drakit.errors import APIError, Conflict, Forbidden, NotFound
from drakit.transport import Document

AT_ONCE = 32
"""Pods made or deleted side by side: enough to keep a server busy, few enough to stop early."""


class PodControl:
    """Makes and deletes the pods of one kind of workload, with notes and events."""

    def __init__(self, client: Client, resource: Resource, recent: Recent, recorder: EventRecorder) -> None:
        self._client = client
        self._resource = resource
        self._recent = recent
        self._recorder = recorder

    async def create(self, owner: Document, pods: Sequence[Document]) -> list[Document]:
        """Create `pods` for `owner` and return them. Raises the first failure after an event about it, and
        Conflict when an earlier creation was not answered: there may be more pods than the caller knew of."""
        if await self._recent.ask(self._client, owner["metadata"]["uid"]):
            raise Conflict(f"pods of {owner['metadata']['name']} must be counted again")
        made: list[Document] = []
        for start in range(0, len(pods), AT_ONCE):
            batch = pods[start : start + AT_ONCE]
            made += await asyncio.gather(*(self._create(owner, pod) for pod in batch))
        return made

    async def delete(self, owner: Document, pods: Sequence[Document]) -> None:
        """Delete `pods`; those that are gone or replaced already do not matter."""
        for start in range(0, len(pods), AT_ONCE):
            await asyncio.gather(*(self._delete(owner, pod) for pod in pods[start : start + AT_ONCE]))

    async def _create(self, owner: Document, pod: Document) -> Document:
        try:
            made = await self._client.create(PODS, pod)
        except APIError as error:
            if isinstance(error, UNANSWERED):
                self._recent.doubted(owner)
            if not (isinstance(error, Forbidden) and "being terminated" in str(error)):
                self._recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self._recent.created(owner["metadata"]["uid"], made)
        name = made["metadata"]["name"]
        self._recorder.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {name}")
        return made

    async def _delete(self, owner: Document, pod: Document) -> None:
        meta = pod["metadata"]
        try:
            await self._client.delete(PODS, meta["name"], meta["namespace"], uid=meta["uid"])
        except (NotFound, Conflict):
            return
        except APIError as error:
            self._recorder.event(
                owner, "Warning", "FailedDelete", f"Error deleting pod {meta['name']}: {error}"
            )
            raise
        self._recent.deleted(pod)
        self._recorder.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta['name']}")


def pod_from(owner: Document, resource: Resource, template: Document) -> Document:
    """A pod of `template` that `owner` controls, to be named by the server."""
    wanted = template.get("metadata") or {}
    metadata: Document = {
        "generateName": f"{owner['metadata']['name']}-",
        "namespace": owner["metadata"]["namespace"],
        "ownerReferences": [reference_to(owner, resource)],
    }
    metadata |= {
        field: wanted[field] for field in ("labels", "annotations", "finalizers") if wanted.get(field)
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec") or {}}


def template_hash(template: Document) -> str:
    """A short name of what `template` says; equal templates have equal names."""
    data = msgspec.json.encode(template, order="sorted")
    number = int.from_bytes(hashlib.sha256(data).digest()[:6])
    # The alphabet of generated names: no vowels, nothing that reads as a word.
    letters = "bcdfghjklmnpqrstvwxz2456789"
    text = ""
    while len(text) < 10:
        number, rest = divmod(number, len(letters))
        text += letters[rest]
    return text


def portion(value: Any, whole: int, *, up: bool) -> int:
    """A number or a percentage of `whole` (maxSurge is rounded up, maxUnavailable down)."""
    if isinstance(value, str) and value.endswith("%"):
        scaled = int(value[:-1]) * whole
        return -(-scaled // 100) if up else scaled // 100
    return int(value or 0)


async def write_status(
    client: Client, resource: Resource, document: Document, status: Document
) -> Document | None:
    """Make `status` the status of `document` if it is not; fields set to None go. None: nothing to do."""
    now = document.get("status") or {}
    change = {key: value for key, value in status.items() if _plain(now.get(key)) != _plain(value)}
    if not change:
        return None
    meta = document["metadata"]
    patch = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}, "status": change}
    return await client.patch(resource, meta["name"], patch, meta.get("namespace"), subresource="status")


def _plain(value: Any) -> Any:
    """An empty list or mapping is as good as none: servers drop them."""
    return None if value in ([], {}) else value


def set_condition(conditions: list[Document], row: Document, now: str) -> list[Document]:
    """`conditions` with `row` in place of the one of its type; the transition time moves with the status."""
    before = next((c for c in conditions if c["type"] == row["type"]), None)
    if before is not None and before.get("status") == row["status"]:
        row = {**row, "lastTransitionTime": before.get("lastTransitionTime", now)}
    else:
        row = {**row, "lastTransitionTime": now}
    if before is None:
        return [*conditions, row]
    return [row if c["type"] == row["type"] else c for c in conditions]
