"""How much of a namespace's ResourceQuotas is used: cpu and memory, devices and numbers of objects.

What counts for what is `drakit.model.quota`. The kinds that quotas name most are followed from the start,
others (`count/PLURAL.GROUP`, custom resources too) from the moment a quota names them. Sums are kept up with
every change, and made anew now and then, since some counts depend on time and on other objects. Limits on
anything else are shown as asked for, without a number in use. Refusing what exceeds a quota is the API
server's work.

Source: pkg/controller/resourcequota.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from drakit.client.api import DEVICE_CLASSES, PODS, RESOURCE_CLAIMS, Resource
from drakit.client.informer import Informer, key_of
from drakit.controllers.context import Context
from drakit.controllers.discovery import discover
from drakit.controllers.owner import controller_uid, namespace_of
from drakit.controllers.workload import write_status
from drakit.errors import NotFound
from drakit.model.quantity import Quantity
from drakit.model.quota import Usage, is_same_kind, usage_of
from drakit.model.quota_pod import has_scope
from drakit.model.quota_tally import Tally
from drakit.model.resource import EXTENDED_CLAIM_ANNOTATION
from drakit.transport import Document

RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
_SOON = 0.05
_ANEW_SECONDS = 300.0
"""How often sums are made anew (the controller manager's resync of quotas)."""
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
        self._tallies: dict[tuple[Resource, str], dict[str, Tally]] = {}
        """By kind and namespace, then by quota."""
        self._born: dict[str, float] = {}
        """When the sums of a quota were made."""
        self._classes = context.informer(DEVICE_CLASSES)
        self._classes.add_handler(lambda old, new: self._start_anew())
        self._pods = self._follow(PODS)
        self._claims = self._follow(RESOURCE_CLAIMS)
        self._claims.add_index("controller", controller_uid)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=1, name="quota")

    def _follow(self, resource: Resource) -> Informer:
        informer = self._informers[resource] = self._context.informer(resource)
        informer.add_index("namespace", namespace_of)
        informer.add_handler(partial(self._counted_changed, resource))
        return informer

    def _counted_changed(self, resource: Resource, old: Document | None, new: Document | None) -> None:
        document = new or old
        assert document is not None
        namespace = document["metadata"]["namespace"]
        if tallies := self._tallies.get((resource, namespace)):
            usage = self._usage(resource, document)
            for tally in tallies.values():
                tally.put(key_of(document), new, usage)
        for quota in self._quotas.by_index("namespace", namespace):
            self._queue.add_after(key_of(quota), _SOON)

    def _start_anew(self) -> None:
        """A class says otherwise what devices count for."""
        self._born.clear()
        for quota in self._quotas.items():
            self._queue.add_after(key_of(quota), _SOON)

    def _usage(self, resource: Resource, document: Document) -> Usage:
        return usage_of(document, resource.plural, resource.group, self, now=self._context.clock.now())

    async def _sync(self, key: str) -> None:
        quota = self._quotas.get(key)
        if quota is None:
            self._forget(key)
            return
        hard = (quota.get("spec") or {}).get("hard") or {}
        await self._follow_named(key, hard)
        if self._context.clock.now() - self._born.get(key, -_ANEW_SECONDS) >= _ANEW_SECONDS:
            self._forget(key)
            self._born[key] = self._context.clock.now()
            self._queue.add_after(key, _ANEW_SECONDS)
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
        total: Usage = {}
        for resource in self._informers:
            counted = [name for name in names if _counts(name, resource)]
            if not counted or (has_scope(spec) and resource != PODS):
                continue
            tally = self._tally(resource, namespace, key_of(quota), spec)
            for name in counted:
                total[name] = total.get(name, Quantity.of(0)) + tally.used(name)
        return total

    def _tally(self, resource: Resource, namespace: str, key: str, spec: Document) -> Tally:
        tallies = self._tallies.setdefault((resource, namespace), {})
        tally = tallies.get(key)
        if tally is None or tally.spec != spec:
            tally = tallies[key] = Tally(spec)
            for document in self._informers[resource].by_index("namespace", namespace):
                tally.put(key_of(document), document, self._usage(resource, document))
        return tally

    def _forget(self, key: str) -> None:
        """Drop the sums of a quota."""
        namespace = key.partition("/")[0]
        self._born.pop(key, None)
        for place in [place for place in self._tallies if place[1] == namespace]:
            self._tallies[place].pop(key, None)
            if not self._tallies[place]:
                del self._tallies[place]

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
