"""The objects that every cluster has: made at start as far as they are missing.

A role or binding with the autoupdate annotation gets the rules and subjects back that it lacks, so a data
folder of an older version has the roles of this one.
Source: kubernetes pkg/registry/rbac/rest/storage_rbac.go, pkg/registry/rbac/reconciliation.
"""

from __future__ import annotations

import asyncio

import msgspec

from drakit.apiserver import roles, write
from drakit.apiserver.aggregation import list_services
from drakit.apiserver.auth import SERVER
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.route import Target
from drakit.apiserver.view import stored_document
from drakit.transport import Document

_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_PRIORITIES = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}


async def make_objects(registry: Registry) -> None:
    """Make what is missing, in the order in which it is needed."""
    for name in _NAMESPACES:
        await _ensure(registry, "", "namespaces", {"metadata": {"name": name}})
    wanted = [
        _ensure(
            registry, "scheduling.k8s.io", "priorityclasses", {"metadata": {"name": name}, "value": value}
        )
        for name, value in _PRIORITIES.items()
    ]
    profile = registry.profile
    wanted += [
        _ensure(registry, roles.GROUP, "clusterroles", document) for document in roles.cluster_roles(profile)
    ]
    wanted += [
        _ensure(registry, roles.GROUP, "clusterrolebindings", document)
        for document in roles.cluster_role_bindings(profile)
    ]
    await asyncio.gather(*wanted)
    await list_services(registry)


async def _ensure(registry: Registry, group: str, plural: str, document: Document) -> None:
    kind = registry.kinds.find(group, "v1", plural)
    assert kind is not None
    target = Target(kind, "v1", "", document["metadata"]["name"])
    entry = registry.store.get(kind.collection, target.key)
    if entry is None:
        at = msgspec.structs.replace(target, name="")
        call = Call(user=SERVER, verb="create", target=at, query={}, document=document)
        await write.create(registry, call)
        return
    known = stored_document(entry)
    if (known["metadata"].get("annotations") or {}).get(roles.AUTO_UPDATE) != "true":
        return
    missing = {
        field: [*have, *lacking]
        for field in ("rules", "subjects")
        if (have := known.get(field) or []) is not None
        and (lacking := [row for row in document.get(field) or () if row not in have])
    }
    if missing:
        new = {"apiVersion": kind.api_version("v1"), "kind": kind.kind, **known, **missing}
        call = Call(user=SERVER, verb="update", target=target, query={}, document=new)
        await write.update(registry, call)
