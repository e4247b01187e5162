"""Keeps an APIService for every group and version that is served, as `kubectl get apiservices` shows them."""

from __future__ import annotations

import contextlib

from drakit.apiserver import delete, write
from drakit.apiserver.auth import SERVER
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.route import Target
from drakit.apiserver.view import stored_document
from drakit.errors import Conflict, NotFound

_GROUP, _PLURAL = "apiregistration.k8s.io", "apiservices"
_MANAGED = "kube-aggregator.kubernetes.io/automanaged"
_FIRST, _STEP = 18000, 100
_CUSTOM = 1000


async def list_services(registry: Registry) -> None:
    """Make the APIServices that are missing; take away those whose group or version has gone."""
    kind = registry.kinds.resource(_GROUP, _PLURAL)
    assert kind is not None
    wanted = _wanted(registry)
    known: set[str] = set()
    for entry in list(registry.store.page(kind.collection)):
        labels = stored_document(entry)["metadata"].get("labels") or {}
        known.add(entry.key)
        if _MANAGED in labels and entry.key not in wanted:
            with contextlib.suppress(NotFound, Conflict):
                await delete.remove(registry, Target(kind, "v1", "", entry.key), delete.Options())
    for name, (spec, is_custom) in wanted.items():
        if name not in known:
            metadata = {"name": name, "labels": {_MANAGED: "true" if is_custom else "onstart"}}
            document = {"metadata": metadata, "spec": spec}
            call = Call(
                user=SERVER, verb="create", target=Target(kind, "v1", "", ""), query={}, document=document
            )
            await write.create(registry, call)


def _wanted(registry: Registry) -> dict[str, tuple[dict[str, object], bool]]:
    """By name: the spec, and whether it is about custom resources. What discovery lists first, goes first."""
    custom = {(row.group, version) for row in registry.kinds.rows if row.custom for version in row.versions}
    wanted: dict[str, tuple[dict[str, object], bool]] = {}
    for index, (group, versions) in enumerate(registry.kinds.group_versions().items()):
        for place, version in enumerate(versions):
            is_custom = (group, version) in custom
            spec: dict[str, object] = {
                "version": version,
                "groupPriorityMinimum": _CUSTOM if is_custom else _FIRST - index * _STEP,
                "versionPriority": _STEP if is_custom else max(1, 15 - place),
            }
            wanted[f"{version}.{group}"] = ({**spec, "group": group} if group else spec, is_custom)
    return wanted
