"""ControllerRevisions: every template a DaemonSet or StatefulSet has had, for `kubectl rollout`.

A revision holds the template as a patch of the owner. Its name and label carry the hash of the template,
so that pods say by their label which revision they are of; its number grows with each change, and an old
template that comes back gets a new number. Source: pkg/controller/history.
"""

from __future__ import annotations

from collections.abc import Iterable

from drakit.client.api import Client, Resource
from drakit.client.informer import Informer
from drakit.controllers.owner import controller_of, controller_uid, reference_to
from drakit.controllers.recent import Recent
from drakit.controllers.workload import template_hash
from drakit.errors import AlreadyExists, Conflict, NotFound
from drakit.transport import Document

CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
HASH_LABEL = "controller-revision-hash"


class History:
    """The revisions of the owners of kind `owners`; `revisions` is the informer of all of them."""

    def __init__(self, client: Client, owners: Resource, revisions: Informer, recent: Recent) -> None:
        self._client = client
        self._owners = owners
        self._recent = recent
        revisions.add_index("controller", controller_uid)

    def all(self, owner: Document) -> list[Document]:
        """The owner's revisions, the oldest first."""
        found = self._recent.owned(owner["metadata"]["uid"])
        return sorted(found, key=lambda row: (row.get("revision", 0), row["metadata"]["name"]))

    async def update(self, owner: Document) -> Document:
        """The revision of the owner's present template, with the highest number; made if need be."""
        known = self.all(owner)
        name = template_hash(owner["spec"]["template"])
        highest = known[-1].get("revision", 0) if known else 0
        same = next((row for row in known if hash_of(row) == name), None)
        if same is None:
            return await self._create(owner, name, highest + 1)
        if same.get("revision", 0) < highest:
            meta = same["metadata"]
            patch = {"metadata": {"uid": meta["uid"]}, "revision": highest + 1}
            same = await self._client.patch(CONTROLLER_REVISIONS, meta["name"], patch, meta["namespace"])
        return same

    async def _create(self, owner: Document, name: str, number: int) -> Document:
        meta = owner["metadata"]
        template = owner["spec"]["template"]
        labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: name}
        document = {
            "apiVersion": CONTROLLER_REVISIONS.api_version,
            "kind": CONTROLLER_REVISIONS.kind,
            "metadata": {
                "name": f"{meta['name']}-{name}",
                "namespace": meta["namespace"],
                "labels": labels,
                "annotations": meta.get("annotations") or {},
                "ownerReferences": [reference_to(owner, self._owners)],
            },
            "data": {"spec": {"template": {**template, "$patch": "replace"}}},
            "revision": number,
        }
        try:
            made = await self._client.create(CONTROLLER_REVISIONS, document)
        except AlreadyExists:
            made = await self._client.get(CONTROLLER_REVISIONS, f"{meta['name']}-{name}", meta["namespace"])
            holder = controller_of(made)
            if holder is None or holder["uid"] != meta["uid"]:
                raise
        self._recent.created(meta["uid"], made)
        return made

    async def trim(self, owner: Document, in_use: Iterable[str]) -> None:
        """Delete the oldest revisions beyond `revisionHistoryLimit`, none whose hash is `in_use`."""
        used = set(in_use)
        idle = [row for row in self.all(owner) if hash_of(row) not in used]
        limit = owner["spec"].get("revisionHistoryLimit", 10)
        for row in idle[: max(len(idle) - limit, 0)]:
            meta = row["metadata"]
            try:
                await self._client.delete(
                    CONTROLLER_REVISIONS, meta["name"], meta["namespace"], uid=meta["uid"]
                )
            except (NotFound, Conflict):
                continue


def hash_of(document: Document) -> str:
    """The hash of the template that a pod or a revision is of."""
    return str((document["metadata"].get("labels") or {}).get(HASH_LABEL) or "")


def template_of(revision: Document) -> Document:
    """The pod template of a revision."""
    template = ((revision.get("data") or {}).get("spec") or {}).get("template") or {}
    return {key: value for key, value in template.items() if key != "$patch"}
