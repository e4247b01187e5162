"""Manifests looked at as if they were applied: the snapshot with their objects put in.

Objects may be of any served version of resource.k8s.io and may stand in lists. A workload counts as one pod
of its template.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import structs

from drakit.errors import UsageError
from drakit.planner.admission import Admission
from drakit.planner.situation import profile_of
from drakit.planner.snapshot import Snapshot
from drakit.transport import Document

_FIELDS = {
    "Pod": "pods",
    "ResourceClaim": "resource_claims",
    "ResourceClaimTemplate": "resource_claim_templates",
    "DeviceClass": "device_classes",
    "ResourceSlice": "resource_slices",
    "DeviceTaintRule": "device_taint_rules",
    "Node": "nodes",
}
_NAMESPACED = ("Pod", "ResourceClaim", "ResourceClaimTemplate")
_WORKLOADS = {
    "Deployment": ("template",),
    "ReplicaSet": ("template",),
    "StatefulSet": ("template",),
    "DaemonSet": ("template",),
    "Job": ("template",),
    "CronJob": ("jobTemplate", "spec", "template"),
}
_FILE_UID = "file:"


def put_in(
    snapshot: Snapshot, documents: Iterable[Any], source: str, namespace: str
) -> tuple[Snapshot, list[tuple[str, str]]]:
    """`snapshot` with the objects of `documents`, and what there is to explain among them: kind (`pod`, or
    else `claim`) and namespace/name. Raises UsageError that names `source` for what is no manifest, or one
    that a server would refuse."""
    added: dict[str, list[Document]] = {}
    admission = Admission(profile_of(snapshot))
    for document in _objects(documents, source, admission):
        kind = document["kind"]
        meta = document.get("metadata")
        if not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
            raise UsageError(f"{source}: a {kind} without metadata.name")
        own = {"uid": f"{_FILE_UID}{kind}/{meta['name']}", **meta}
        if kind in _NAMESPACED:
            own.setdefault("namespace", namespace)
        added.setdefault(_FIELDS[kind], []).append({**document, "metadata": own})
    if not added:
        raise UsageError(f"{source} holds none of {', '.join([*_FIELDS, *_WORKLOADS])}")
    changes = {field: _merged(getattr(snapshot, field), rows) for field, rows in added.items()}
    pods = added.get("pods", [])
    used = {key for pod in pods for key in _used_by(pod)}
    subjects = [("pod", pod) for pod in pods]
    subjects += [("claim", row) for row in added.get("resource_claims", []) if _key(row) not in used]
    return structs.replace(snapshot, **changes), [(kind, "/".join(_key(row))) for kind, row in subjects]


def _objects(documents: Iterable[Any], source: str, admission: Admission) -> Iterator[Document]:
    """The objects that matter, in v1, lists taken apart and workloads as pods."""
    for document in documents:
        kind = document.get("kind") if isinstance(document, dict) else None
        if kind == "List":
            yield from _objects(document.get("items") or (), source, admission)
        elif kind in _WORKLOADS:
            spec: Any = _admitted(document, source, admission).get("spec")
            for key in _WORKLOADS[kind]:
                spec = spec.get(key) if isinstance(spec, dict) else None
            inner = spec.get("spec") if isinstance(spec, dict) else None
            yield {"kind": "Pod", "metadata": document.get("metadata"), "spec": inner or {}}
        elif kind in _FIELDS:
            yield _admitted(document, source, admission)


def _admitted(document: Document, source: str, admission: Admission) -> Document:
    kept, problems = admission.admitted(document)
    if problems:
        told = [": ".join(filter(None, (row.field, row.message))) for row in problems]
        raise UsageError(f"{source}: {problems[0].object}, {'; '.join(told)}")
    return kept


def _used_by(pod: Document) -> Iterator[tuple[str, str]]:
    """The claims a pod names, as `_key` has them."""
    for row in (pod.get("spec") or {}).get("resourceClaims") or ():
        if isinstance(row, dict) and row.get("resourceClaimName"):
            yield pod["metadata"]["namespace"], row["resourceClaimName"]


def _key(row: Document) -> tuple[str, str]:
    return row["metadata"].get("namespace", ""), row["metadata"]["name"]


def _merged(there: list[Document], added: list[Document]) -> list[Document]:
    names = {_key(row) for row in added}
    return [row for row in there if _key(row) not in names] + added
