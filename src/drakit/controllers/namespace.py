"""Namespaces: what every one has, and how one ends.

A live namespace has the service account `default` and the config map `kube-root-ca.crt`. One that is
being deleted is emptied, kind by kind, and let go by taking `kubernetes` out of its `spec.finalizers`;
while something remains it says so in its conditions and is looked at again.

Source: pkg/controller/namespace, serviceaccount and certificates/rootcacertpublisher.
"""

from __future__ import annotations

from drakit.client.api import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS, Resource
from drakit.client.clock import timestamp
from drakit.client.informer import key_of
from drakit.controllers.context import Context
from drakit.controllers.discovery import discover
from drakit.controllers.pod import is_deleting
from drakit.errors import AlreadyExists, Conflict, Forbidden, NotFound
from drakit.transport import Document, Request

ROOT_CA = "kube-root-ca.crt"
_LOOK_AGAIN_SECONDS = 1.0
_REMAINING = "NamespaceContentRemaining"
_LAST = ("", "events")


class Namespaces:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._client = context.client
        self._queue = context.queue()
        self._namespaces = context.informer(NAMESPACES)
        self._accounts = context.informer(SERVICE_ACCOUNTS)
        self._config_maps = context.informer(CONFIG_MAPS)
        self._namespaces.add_handler(lambda old, new: self._queue.add(key_of(new)) if new else None)
        self._accounts.add_handler(self._content_changed)
        self._config_maps.add_handler(self._content_changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=2, name="namespace")

    def _content_changed(self, old: Document | None, new: Document | None) -> None:
        document = new or old
        if document is not None and document["metadata"]["name"] in ("default", ROOT_CA):
            self._queue.add(document["metadata"]["namespace"])

    async def _sync(self, name: str) -> None:
        namespace = self._namespaces.get(name)
        if namespace is None:
            return
        if is_deleting(namespace):
            await self._empty(namespace)
        else:
            await self._furnish(name)

    # --- alive ------------------------------------------------------------------------------------

    async def _furnish(self, name: str) -> None:
        if self._accounts.get(f"{name}/default") is None:
            await self._create(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": name}})
        wanted = {"ca.crt": self._context.root_ca}
        present = self._config_maps.get(f"{name}/{ROOT_CA}")
        if present is None:
            await self._create(
                CONFIG_MAPS, {"metadata": {"name": ROOT_CA, "namespace": name}, "data": wanted}
            )
        elif self._context.root_ca and present.get("data") != wanted:
            await self._client.patch(CONFIG_MAPS, ROOT_CA, {"data": wanted}, name)

    async def _create(self, resource: Resource, document: Document) -> None:
        typed = {"apiVersion": resource.api_version, "kind": resource.kind} | document
        try:
            await self._client.create(resource, typed)
        except (AlreadyExists, Forbidden, NotFound):
            # There already, or the namespace ends this very moment.
            return

    # --- ending -----------------------------------------------------------------------------------

    async def _empty(self, namespace: Document) -> None:
        name = namespace["metadata"]["name"]
        if "kubernetes" not in ((namespace.get("spec") or {}).get("finalizers") or ()):
            return
        served = [row for row in await discover(self._client) if row.resource.is_namespaced]
        served.sort(key=lambda row: (row.resource.group, row.resource.plural) == _LAST)
        remaining: dict[str, int] = {}
        for row in served:
            if not {"list", "delete"} <= row.verbs or row.resource.group == "events.k8s.io":
                continue
            left = await self._empty_of(row.resource, name)
            if left:
                resource = row.resource
                remaining[f"{resource.plural}.{resource.group}" if resource.group else resource.plural] = left
        if remaining:
            await self._report(namespace, remaining)
            self._queue.add_after(name, _LOOK_AGAIN_SECONDS)
            return
        kept = [f for f in namespace["spec"]["finalizers"] if f != "kubernetes"]
        document = namespace | {"spec": namespace["spec"] | {"finalizers": kept}}
        path = NAMESPACES.path(None, name, "finalize")
        try:
            await self._client.request(Request(method="PUT", path=path, document=document))
        except NotFound:
            return

    async def _empty_of(self, resource: Resource, namespace: str) -> int:
        """Delete what is there of `resource`; returns how much takes longer to go."""
        listed = (await self._client.list(resource, namespace)).items
        for item in listed:
            if is_deleting(item):
                continue
            meta = item["metadata"]
            try:
                await self._client.delete(
                    resource, meta["name"], namespace, uid=meta["uid"], propagation="Background"
                )
            except (NotFound, Conflict):
                continue
        if not listed:
            return 0
        return len((await self._client.list(resource, namespace)).items)

    async def _report(self, namespace: Document, remaining: dict[str, int]) -> None:
        """Say in the namespace's status what keeps it."""
        parts = ", ".join(f"{plural} has {count} resource instances" for plural, count in remaining.items())
        message = f"Some resources are remaining: {parts}"
        conditions = (namespace.get("status") or {}).get("conditions") or []
        if any(row["type"] == _REMAINING and row.get("message") == message for row in conditions):
            return
        row = {
            "type": _REMAINING,
            "status": "True",
            "reason": "SomeResourcesRemain",
            "message": message,
            "lastTransitionTime": timestamp(self._context.clock.now()),
        }
        patch = {"status": {"conditions": [c for c in conditions if c["type"] != _REMAINING] + [row]}}
        await self._client.patch(NAMESPACES, namespace["metadata"]["name"], patch, subresource="status")
