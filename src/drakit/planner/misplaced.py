"""Fields of claims and templates that stand where another version of their API has them.

The server drops or refuses them; what is left of the request asks for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

_GROUP = "resource.k8s.io/"
_OF_REQUEST = frozenset(
    ("deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity")
)


class Misplaced(Struct, frozen=True):
    """The `field` of the `object` (kind and name) and what to write instead."""

    object: str
    field: str
    message: str


def misplaced(document: dict[str, Any]) -> Iterator[Misplaced]:
    """The requests of `document` that are of another version than it says; nothing for other kinds."""
    kind, version = document.get("kind"), str(document.get("apiVersion", ""))
    spec, prefix = document.get("spec"), "spec"
    if kind == "ResourceClaimTemplate" and isinstance(spec, dict):
        spec, prefix = spec.get("spec"), "spec.spec"
    devices = spec.get("devices") if isinstance(spec, dict) else None
    requests = devices.get("requests") if isinstance(devices, dict) else None
    if not version.startswith(_GROUP) or not isinstance(requests, list):
        return
    metadata = document.get("metadata")
    owner = f"{kind} {metadata.get('name', '') if isinstance(metadata, dict) else ''}".strip()
    for index, request in enumerate(requests):
        if isinstance(request, dict) and (message := _said(request, version)):
            yield Misplaced(owner, f"{prefix}.devices.requests[{index}]", message)


def _said(request: dict[str, Any], version: str) -> str:
    """What is wrong with `request` in `version` (with its group), or ""."""
    if version == f"{_GROUP}v1beta1":
        if "exactly" in request:
            return f"in {version} there is no `exactly`: its fields stand in the request itself"
        return ""
    if version not in (f"{_GROUP}v1", f"{_GROUP}v1beta2"):
        return ""
    if outside := sorted(_OF_REQUEST & request.keys()):
        return f"in {version} a request has no {', '.join(outside)}: put it under `exactly`"
    if "exactly" in request and "firstAvailable" in request:
        return "a request has `exactly` or `firstAvailable`, not both"
    return ""
