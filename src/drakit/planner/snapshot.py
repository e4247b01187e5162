"""Everything that allocation depends on, in one document that can be kept, sent and replayed.

A snapshot holds what decides, and nothing else: no Secrets, ConfigMaps, environment, images, annotations or
managedFields, and no opaque driver parameters (which allocation never reads). `hashed` also replaces the
names of namespaces, nodes, pods, claims and pools by digests that still agree with each other.
"""

from __future__ import annotations

import asyncio
import hashlib
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct, field

from drakit.client.api import (
    DEVICE_CLASSES,
    DEVICE_TAINT_RULES,
    NODES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Client,
    Resource,
)
from drakit.errors import Forbidden, NotFound, UsageError
from drakit.profile import DEFAULT_VERSION
from drakit.scheduler.pod import NODE_RESOURCES
from drakit.transport import Document, Request

KIND = "DRASnapshot"
API_VERSION = "drakit/v1"
_HOSTNAME = "kubernetes.io/hostname"


class Snapshot(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`version` is the Kubernetes version ("1.37"); the lists hold resource.k8s.io/v1 and v1 documents."""

    kind: str
    api_version: str
    version: str = DEFAULT_VERSION
    feature_gates: dict[str, bool] = field(default_factory=dict)
    nodes: list[Document] = field(default_factory=list)
    device_classes: list[Document] = field(default_factory=list)
    resource_slices: list[Document] = field(default_factory=list)
    device_taint_rules: list[Document] = field(default_factory=list)
    resource_claims: list[Document] = field(default_factory=list)
    resource_claim_templates: list[Document] = field(default_factory=list)
    pods: list[Document] = field(default_factory=list)

    def encode(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def decode(data: bytes, source: str) -> Snapshot:
    """The snapshot in `data`; UsageError names `source` if it holds none."""
    try:
        snapshot = msgspec.json.decode(data.removeprefix(BOM_UTF8), type=Snapshot)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UsageError(
            f"{source} holds no snapshot ({error}): make one with `dra snapshot > FILE`"
        ) from None
    if (snapshot.kind, snapshot.api_version) != (KIND, API_VERSION):
        raise UsageError(
            f"{source} holds a {snapshot.api_version} {snapshot.kind}, not a {KIND} of {API_VERSION}"
        )
    return snapshot


async def capture(client: Client) -> Snapshot:
    """Read (and only read) the snapshot of a cluster. What it does not serve or show stays empty."""
    version = await client.request(Request(method="GET", path="/version"))
    minor = str(version.document.get("minor", "")).rstrip("+")
    nodes, classes, slices, rules, claims, templates, pods = await asyncio.gather(
        _all(client, NODES, _node),
        _all(client, DEVICE_CLASSES, _spec_only),
        _all(client, RESOURCE_SLICES, _spec_only),
        _all(client, DEVICE_TAINT_RULES, _spec_only, is_optional=True),
        _all(client, RESOURCE_CLAIMS, _claim),
        _all(client, RESOURCE_CLAIM_TEMPLATES, _spec_only),
        _all(client, PODS, _pod),
    )
    return Snapshot(
        kind=KIND,
        api_version=API_VERSION,
        version=f"{version.document.get('major', '1')}.{minor}",
        nodes=nodes,
        device_classes=classes,
        resource_slices=slices,
        device_taint_rules=rules,
        resource_claims=claims,
        resource_claim_templates=templates,
        pods=pods,
    )


def hashed(snapshot: Snapshot, salt: bytes) -> Snapshot:
    """The same snapshot with names replaced: equal names stay equal, and no name can be read back."""

    def digest(name: str) -> str:
        return "h" + hashlib.blake2s(name.encode(), key=salt[:32], digest_size=6).hexdigest()

    document = msgspec.to_builtins(snapshot)
    return msgspec.convert(_rename(document, digest), Snapshot)


async def _all(
    client: Client, resource: Resource, keep: Callable[[Document], Document], *, is_optional: bool = False
) -> list[Document]:
    documents: list[Document] = []
    token = ""
    while True:
        try:
            page = await client.list(resource, limit=500, continue_token=token)
        except (NotFound, Forbidden):
            if is_optional:
                return documents
            raise
        documents += [keep(item) for item in page.items]
        token = page.continue_token
        if not token:
            return documents


def _meta(document: Document) -> Document:
    wanted = (
        "name",
        "namespace",
        "uid",
        "labels",
        "creationTimestamp",
        "deletionTimestamp",
        "ownerReferences",
    )
    meta = document["metadata"]
    return {key: meta[key] for key in wanted if key in meta}


def _spec_only(document: Document) -> Document:
    return {"metadata": _meta(document), "spec": _without_parameters(document.get("spec") or {})}


def _claim(document: Document) -> Document:
    status = document.get("status") or {}
    kept = {key: status[key] for key in ("allocation", "reservedFor", "devices") if key in status}
    return _spec_only(document) | {"status": _without_parameters(kept)}


def _node(document: Document) -> Document:
    spec = document.get("spec") or {}
    status = document.get("status") or {}
    return {
        "metadata": _meta(document),
        "spec": {key: spec[key] for key in ("taints", "unschedulable") if key in spec},
        "status": {key: status[key] for key in ("allocatable",) if key in status},
    }


def _pod(document: Document) -> Document:
    spec, status = document.get("spec") or {}, document.get("status") or {}
    wanted = (
        "resourceClaims",
        "nodeName",
        "nodeSelector",
        "affinity",
        "tolerations",
        "schedulerName",
        "priority",
        "resources",
        "overhead",
        "schedulingGates",
        "topologySpreadConstraints",
    )
    kept = {key: spec[key] for key in wanted if key in spec}
    for kind in ("initContainers", "containers"):
        kept[kind] = [_container(container) for container in spec.get(kind) or []]
    states = ("phase", "resourceClaimStatuses", "extendedResourceClaimStatus", NODE_RESOURCES)
    found = {key: status[key] for key in states if key in status}
    found["containerStatuses"] = [
        {"name": row.get("name", ""), "state": {"waiting": waiting}}
        for row in status.get("containerStatuses") or []
        if (waiting := (row.get("state") or {}).get("waiting"))
    ]
    return {"metadata": _meta(document), "spec": kept, "status": found}


def _container(container: Document) -> Document:
    """What of a container decides where its pod fits."""
    kept = {"name": container.get("name", ""), "resources": container.get("resources") or {}}
    if "restartPolicy" in container:
        kept["restartPolicy"] = container["restartPolicy"]
    if ports := [port for port in container.get("ports") or () if port.get("hostPort")]:
        kept["ports"] = ports
    return kept


def _without_parameters(value: Any) -> Any:
    """A copy in which every opaque configuration keeps its driver only."""
    if isinstance(value, list):
        return [_without_parameters(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {"driver": item.get("driver", "")}
        if key == "opaque" and isinstance(item, dict)
        else {}
        if key == "data"
        else _without_parameters(item)
        for key, item in value.items()
    }


_HIDDEN = {
    "uid",
    "namespace",
    "nodeName",
    "pool",
    "resourceClaimName",
    "resourceClaimTemplateName",
    _HOSTNAME,
}
"""Keys whose text `hashed` replaces wherever they stand."""
_NAMED = {"metadata", "reservedFor", "ownerReferences", "pool"}
"""Below these keys `name` is an object's or a pool's; elsewhere a request's or device's, which stays."""


def _rename(value: Any, digest: Callable[[str], str], parent: str = "") -> Any:
    if isinstance(value, list):
        return [_rename(item, digest, parent) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("key") in ("metadata.name", _HOSTNAME) and "values" in value:
        return value | {"values": [digest(text) for text in value["values"]]}
    renamed: Document = {}
    for key, item in value.items():
        if key == "deviceClasses":
            renamed[key] = item
        elif isinstance(item, str) and (key in _HIDDEN or (key == "name" and parent in _NAMED)):
            renamed[key] = digest(item)
        else:
            renamed[key] = _rename(item, digest, key)
    return renamed
