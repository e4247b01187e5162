"""How much of a namespace's ResourceQuotas is used: cpu and memory, devices and numbers of objects.

What counts for what is `drakit.model.quota`. The kinds that quotas name most are followed from the start,
others (`count/PLURAL.GROUP`, custom resources too) from the moment a quota names them. Limits on anything
else are shown as asked for, without a number in use. Refusing what exceeds a quota is the API server's work.

Source: pkg/controller/resourcequota.
"""

from __future__ import annotations

from collections.abc import Iterable

from drakit.client.api import DEVICE_CLASSES, PODS, RESOURCE_CLAIMS, Resource
from drakit.client.informer import Informer, key_of
from drakit.controllers.context import Context
from drakit.controllers.discovery import discover
from drakit.controllers.owner import controller_uid, namespace_of
from drakit.controllers.workload import write_status
from drakit.errors import NotFound
from drakit.model.quantity import Quantity
from drakit.model.quota import Usage, is_same_kind, usage_of
from drakit.model.quota_pod import has_scope, in_scope
from drakit.model.resource import EXTENDED_CLAIM_ANNOTATION
from drakit.transport import Document

RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
_SOON = 0.05
_LOOK_AGAIN_SECONDS = 30.0
"""How often a kind is looked for that a quota names and the server does not have."""


class Quotas:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._client = context.client
        self._queue = context.queue()
        self._quotas = context.informer(RESOURCE_QUOTAS)
        self._quotas.add_index("namespace", namespace_of)
        self._quotas.add_handler(lambda old, new: self._queue.add(key_of(new)) if new else None)
        self._informers: dict[Resource, Informer] = {}
        self._classes = context.informer(DEVICE_CLASSES)
        self._pods = self._follow(PODS)
        self._claims = self._follow(RESOURCE_CLAIMS)
        self._claims.add_index("controller", controller_uid)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=1, name="quota")

    def _follow(self, resource: Resource) -> Informer:
        informer = self._informers[resource] = self._context.informer(resource)
        informer.add_index("namespace", namespace_of)
        informer.add_handler(self._counted_changed)
        return informer

    def _counted_changed(self, old: Document | None, new: Document | None) -> None:
        document = new or old
        assert document is not None
        for quota in self._quotas.by_index("namespace", document["metadata"]["namespace"]):
            self._queue.add_after(key_of(quota), _SOON)

    async def _sync(self, key: str) -> None:
        quota = self._quotas.get(key)
        if quota is None:
            return
        hard = (quota.get("spec") or {}).get("hard") or {}
        await self._follow_named(key, hard)
        used = {name: str(quantity) for name, quantity in self._used(quota, hard).items()}
        before = quota.get("status") or {}
        # A merge patch removes only what it names.
        status = {
            field: now if before.get(field) == now else {**dict.fromkeys(before.get(field) or ()), **now}
            for field, now in (("hard", hard), ("used", used))
        }
        try:
            await write_status(self._client, RESOURCE_QUOTAS, quota, status)
        except NotFound:
            return

    async def _follow_named(self, key: str, names: Iterable[str]) -> None:
        """Have an informer for every kind that one of `names` counts."""
        unknown = [name for name in names if not any(_counts(name, r) for r in self._informers)]
        if not unknown:
            return
        for served in await discover(self._client):
            resource = served.resource
            if not resource.is_namespaced or not {"list", "watch"} <= served.verbs:
                continue
            found = [name for name in unknown if _counts(name, resource)]
            if found:
                await self._follow(resource).wait_synced()
                unknown = [name for name in unknown if name not in found]
        if any(name.startswith("count/") for name in unknown):
            self._queue.add_after(key, _LOOK_AGAIN_SECONDS)

    def _used(self, quota: Document, names: Iterable[str]) -> Usage:
        """How much of `names` is used in the quota's namespace; what nobody counts is left out."""
        spec, namespace = quota.get("spec") or {}, quota["metadata"]["namespace"]
        now = self._context.clock.now()
        total: Usage = {}
        for resource, informer in self._informers.items():
            counted = [name for name in names if _counts(name, resource)]
            if not counted or (has_scope(spec) and resource != PODS):
                continue
            for name in counted:
                total.setdefault(name, Quantity.of(0))
            for document in informer.by_index("namespace", namespace):
                if has_scope(spec) and not in_scope(spec, document):
                    continue
                used = usage_of(document, resource.plural, resource.group, self, now=now)
                for name in used.keys() & set(counted):
                    total[name] = total[name] + used[name]
        return total

    # --- what else decides what a claim counts for (model.quota.Around) -----------------------------

    def extended_resource(self, class_name: str) -> str:
        found = self._classes.get(class_name) or {}
        return str((found.get("spec") or {}).get("extendedResourceName") or "")

    def pod(self, namespace: str, name: str) -> Document | None:
        return self._pods.get(f"{namespace}/{name}")

    def special_claims(self, namespace: str, pod_uid: str) -> Iterable[Document]:
        return [
            claim
            for claim in self._claims.by_index("controller", pod_uid)
            if (claim["metadata"].get("annotations") or {}).get(EXTENDED_CLAIM_ANNOTATION) == "true"
        ]


def _counts(name: str, resource: Resource) -> bool:
    return is_same_kind(name, resource.plural, resource.group)
