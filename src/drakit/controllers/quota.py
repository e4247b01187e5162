"""How much of a namespace's ResourceQuotas is used: devices and numbers of objects.

Counted are the kinds below (see `drakit.model.quota`). Limits on anything else are shown as asked for,
without a number in use. Refusing what exceeds a quota is the API server's work.

Source: pkg/controller/resourcequota.
"""

from __future__ import annotations

from drakit.client.api import (
    CONFIG_MAPS,
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    REPLICA_SETS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from drakit.client.informer import Informer, key_of
from drakit.controllers.context import Context
from drakit.controllers.workload import write_status
from drakit.errors import NotFound
from drakit.model.quota import DEVICES_SUFFIX, usage_of
from drakit.transport import Document

RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
_SOON = 0.2
_COUNTED = (
    PODS,
    CONFIG_MAPS,
    SECRETS,
    SERVICE_ACCOUNTS,
    DAEMON_SETS,
    DEPLOYMENTS,
    REPLICA_SETS,
    JOBS,
    RESOURCE_CLAIMS,
    RESOURCE_CLAIM_TEMPLATES,
)


class Quotas:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = context.queue()
        self._quotas = context.informer(RESOURCE_QUOTAS)
        self._quotas.add_index("namespace", _namespace_of)
        self._quotas.add_handler(lambda old, new: self._queue.add(key_of(new)) if new else None)
        self._informers: dict[Resource, Informer] = {}
        for resource in _COUNTED:
            informer = self._informers[resource] = context.informer(resource)
            informer.add_handler(self._counted_changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=1, name="quota")

    def _counted_changed(self, old: Document | None, new: Document | None) -> None:
        document = new or old
        assert document is not None
        for quota in self._quotas.by_index("namespace", document["metadata"]["namespace"]):
            self._queue.add_after(key_of(quota), _SOON)

    async def _sync(self, key: str) -> None:
        quota = self._quotas.get(key)
        if quota is None:
            return
        namespace = quota["metadata"]["namespace"]
        hard = (quota.get("spec") or {}).get("hard") or {}
        counts: dict[str, int | None] = {name: self._used(name, namespace) for name in hard}
        used = {name: str(count) for name, count in counts.items() if count is not None}
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

    def _used(self, name: str, namespace: str) -> int | None:
        """How much of `name` is used, None for what is not counted."""
        for resource, informer in self._informers.items():
            if name in _names_of(resource) or (resource is RESOURCE_CLAIMS and name.endswith(DEVICES_SUFFIX)):
                return sum(
                    usage_of(document, resource.plural, resource.group).get(name, 0)
                    for document in informer.items()
                    if document["metadata"]["namespace"] == namespace
                )
        return None


def _names_of(resource: Resource) -> set[str]:
    return set(usage_of({}, resource.plural, resource.group))


def _namespace_of(document: Document) -> list[str]:
    return [document["metadata"]["namespace"]]
