"""How much of a namespace's ResourceQuotas is used: devices and numbers of objects.

Counted are `NAME.deviceclass.resource.k8s.io/devices` (what the requests of claims could get of a class)
and `count/...`, `pods` and `configmaps` for the kinds below. Limits on other resources are shown as
asked for, without a number in use. Refusing what exceeds a quota is admission's work.

Source: pkg/controller/resourcequota, pkg/quota/v1/evaluator/core/resource_claims.go.
"""

from __future__ import annotations

from drakit.client.api import CONFIG_MAPS, PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS, Resource
from drakit.client.informer import Informer, key_of
from drakit.controllers.context import Context
from drakit.controllers.pod import is_terminal
from drakit.controllers.workload import write_status
from drakit.errors import NotFound
from drakit.model.resource import MAX_RESULTS
from drakit.transport import Document

RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
DEVICES_SUFFIX = ".deviceclass.resource.k8s.io/devices"
_SOON = 0.2
_COUNTED = (PODS, CONFIG_MAPS, RESOURCE_CLAIMS, RESOURCE_CLAIM_TEMPLATES)


class Quotas:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = context.queue()
        self._quotas = context.informer(RESOURCE_QUOTAS)
        self._quotas.add_index("namespace", _namespace_of)
        self._quotas.add_handler(lambda old, new: self._queue.add(key_of(new)) if new else None)
        self._informers: dict[str, Informer] = {}
        for resource in _COUNTED:
            informer = context.informer(resource)
            name = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
            self._informers[name] = informer
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
        if name.endswith(DEVICES_SUFFIX):
            device_class = name.removesuffix(DEVICES_SUFFIX)
            claims = self._in(RESOURCE_CLAIMS.plural + "." + RESOURCE_CLAIMS.group, namespace)
            return sum(devices_of(claim).get(device_class, 0) for claim in claims)
        kind = name.removeprefix("count/")
        if kind not in self._informers or (kind == name and kind not in ("pods", "configmaps")):
            return None
        found = self._in(kind, namespace)
        return sum(1 for d in found if name != "pods" or not is_terminal(d))

    def _in(self, kind: str, namespace: str) -> list[Document]:
        return [d for d in self._informers[kind].items() if d["metadata"]["namespace"] == namespace]


def devices_of(claim: Document) -> dict[str, int]:
    """How many devices of each class the claim could get at most."""
    found: dict[str, int] = {}
    for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        options = [request["exactly"]] if request.get("exactly") else request.get("firstAvailable") or ()
        most: dict[str, int] = {}
        for option in options:
            is_all = option.get("allocationMode") == "All"
            count = MAX_RESULTS if is_all else int(option.get("count") or 1)
            name = option.get("deviceClassName", "")
            most[name] = max(most.get(name, 0), count)
        for name, count in most.items():
            found[name] = found.get(name, 0) + count
    return found


def _namespace_of(document: Document) -> list[str]:
    return [document["metadata"]["namespace"]]
