"""What the server serves, as clients find out: plain lists and the aggregated documents.

Source: apiserver/pkg/endpoints/discovery; storageVersionHash as in discovery/storageversionhash.go.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from drakit.apiserver.kinds import Kind, Kinds, Subresource
from drakit.apiserver.view import accepted
from drakit.errors import NotAcceptable
from drakit.profile import Profile
from drakit.transport import Document

_AGGREGATED = "APIGroupDiscoveryList"
_GROUP = "apidiscovery.k8s.io"


def wants_aggregated(accept: str) -> str | None:
    """The version of the aggregated document the client asks for ("v2", "v2beta1"); None for the plain
    one. Raises NotAcceptable if it takes neither."""
    ranges = accepted(accept)
    for name, parameters in ranges:
        if name not in ("application/json", "*/*", "application/*"):
            continue
        if parameters.get("as") == _AGGREGATED and parameters.get("g") == _GROUP:
            if parameters.get("v") in ("v2", "v2beta1"):
                return parameters["v"]
        elif "as" not in parameters:
            return None
    raise NotAcceptable(
        "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, "
        f"application/json;g={_GROUP};v=v2;as={_AGGREGATED}",
        details={},
    )


def content_type(version: str) -> str:
    return f"application/json;g={_GROUP};v={version};as={_AGGREGATED}"


def version_info(profile: Profile) -> Document:
    """The answer of /version."""
    major, minor = profile.version.split(".")
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"v{profile.version}.0",
        "gitCommit": "drakit",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "linux/amd64",
    }


def document_at(kinds: Kinds, path: str, accept: str, address: str) -> Document | None:
    """The discovery document at `path`, None if there is none. `address` is the server's own."""
    parts = path.strip("/").split("/")
    if path in ("/api", "/apis"):
        version = wants_aggregated(accept)
        if version:
            return aggregated(kinds, version, is_core=path == "/api")
        return legacy_versions(address) if path == "/api" else group_list(kinds)
    if parts[0] == "api" and len(parts) == 2:
        return resource_list(kinds, "", parts[1])
    if parts[0] == "apis" and len(parts) == 2:
        return group(kinds, parts[1])
    if parts[0] == "apis" and len(parts) == 3:
        return resource_list(kinds, parts[1], parts[2])
    return None


def legacy_versions(address: str) -> Document:
    """The answer of /api."""
    where = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": where}


def _group(name: str, versions: Sequence[str]) -> Document:
    rows = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": rows, "preferredVersion": rows[0]}


def group_list(kinds: Kinds) -> Document:
    """The answer of /apis."""
    groups = [_group(name, versions) for name, versions in kinds.group_versions().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(kinds: Kinds, name: str) -> Document | None:
    """The answer of /apis/GROUP."""
    versions = kinds.group_versions().get(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)} if versions else None


def resource_list(kinds: Kinds, group: str, version: str) -> Document | None:
    """The answer of /api/v1 and /apis/GROUP/VERSION."""
    rows = kinds.in_version(group, version)
    if not rows:
        return None
    resources: list[Document] = []
    for kind in rows:
        resources.append(_resource(kind))
        resources += [_subresource(kind, row) for row in kind.subresources]
    head = {"kind": "APIResourceList", "apiVersion": "v1"} if group else {"kind": "APIResourceList"}
    group_version = f"{group}/{version}" if group else version
    return {**head, "groupVersion": group_version, "resources": resources}


def _resource(kind: Kind) -> Document:
    entry: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.is_namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.is_stored:
        entry["storageVersionHash"] = _storage_hash(kind)
    return entry


def _storage_hash(kind: Kind) -> str:
    """Clients only compare it; upstream stores a kind that is not v1 yet in its oldest version."""
    is_served = kind.storage_version in kind.versions
    name = f"{kind.group}/{kind.storage_version if is_served else kind.versions[-1]}/{kind.kind}"
    return base64.b64encode(hashlib.sha256(name.encode()).digest()[:8]).decode()


def _subresource(kind: Kind, row: Subresource) -> Document:
    entry: dict[str, Any] = {
        "name": f"{kind.plural}/{row.name}",
        "singularName": "",
        "namespaced": kind.is_namespaced,
    }
    if row.group:
        entry |= {"group": row.group, "version": row.version}
    return entry | {"kind": row.kind, "verbs": list(row.verbs)}


def aggregated(kinds: Kinds, version: str, *, is_core: bool) -> Document:
    """The answer of /api (`is_core`) or /apis to a client that asked for the aggregated document."""
    items = []
    for name, versions in kinds.group_versions().items():
        if bool(name) == is_core:
            continue
        rows = [
            {
                "version": served,
                "resources": [_aggregated(kind) for kind in kinds.in_version(name, served)],
                "freshness": "Current",
            }
            for served in versions
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": rows})
    kind = {"kind": _AGGREGATED, "apiVersion": f"{_GROUP}/{version}"}
    return {**kind, "metadata": {}, "items": items}


def _aggregated(kind: Kind) -> Document:
    entry: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": {"group": "", "version": "", "kind": kind.kind},
        "scope": "Namespaced" if kind.is_namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.subresources:
        entry["subresources"] = [
            {
                "subresource": row.name,
                "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
                "verbs": list(row.verbs),
            }
            for row in kind.subresources
        ]
    return entry
