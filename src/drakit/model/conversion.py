"""Between the served versions of resource.k8s.io.

v1 is the middle: every other version converts to it and from it, nothing is lost either way. v1beta2 and
the v1 of 1.34 and later differ in name only. v1beta1 keeps the fields of an exact request beside its name
instead of under `exactly`, and the fields of a device under `basic`. v1alpha3 holds taint rules and pool
status requests, whose fields are the same in every version.

Source: pkg/apis/resource/v1beta1/conversion.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]

GROUP = "resource.k8s.io"

_EXACT = (
    "deviceClassName",
    "selectors",
    "allocationMode",
    "count",
    "adminAccess",
    "tolerations",
    "capacity",
    "derivedAttributes",
)


def convert(document: Document, to_version: str) -> Document:
    """`document` in `to_version` of its group.

    The argument stays unchanged; the result may share parts with it and is the argument itself when
    nothing has to change. A kind with one shape in all versions only changes its apiVersion.
    """
    group, _, version = str(document.get("apiVersion", "")).rpartition("/")
    if version == to_version:
        return document
    if group == GROUP:
        document = _from_beta(document) if version == "v1beta1" else document
        document = _to_beta(document) if to_version == "v1beta1" else document
    return {**document, "apiVersion": f"{group}/{to_version}" if group else to_version}


def _from_beta(document: Document) -> Document:
    return _at(document, _request_from_beta, _device_from_beta)


def _to_beta(document: Document) -> Document:
    return _at(document, _request_to_beta, _device_to_beta)


def _at(
    document: Document, request: Callable[[Document], Document], device: Callable[[Document], Document]
) -> Document:
    """A copy of `document` with every request or device put through the given function."""
    kind = document.get("kind")
    changed: Document = document
    if kind == "ResourceSlice":
        changed = _changed(document, ("spec", "devices"), device)
    elif kind == "ResourceClaim":
        changed = _changed(document, ("spec", "devices", "requests"), request)
    elif kind == "ResourceClaimTemplate":
        changed = _changed(document, ("spec", "spec", "devices", "requests"), request)
    return changed


def _changed(document: Any, path: tuple[str, ...], change: Callable[[Document], Document]) -> Any:
    if not path:
        if not isinstance(document, list):
            return document
        return [change(item) if isinstance(item, dict) else item for item in document]
    if not isinstance(document, dict) or path[0] not in document:
        return document
    return {**document, path[0]: _changed(document[path[0]], path[1:], change)}


def _request_from_beta(request: Document) -> Document:
    exact = {key: request[key] for key in _EXACT if key in request}
    rest = {key: value for key, value in request.items() if key not in _EXACT}
    if exact.get("deviceClassName") == "":
        del exact["deviceClassName"]
    return {**rest, "exactly": exact} if exact else rest


def _request_to_beta(request: Document) -> Document:
    flat = {"name": request.get("name", ""), "deviceClassName": ""}
    flat.update((request.get("exactly") or {}).items())
    flat.update((key, value) for key, value in request.items() if key != "exactly")
    return flat


def _device_from_beta(device: Document) -> Document:
    rest = {key: value for key, value in device.items() if key != "basic"}
    return {**rest, **(device.get("basic") or {})}


def _device_to_beta(device: Document) -> Document:
    return {"name": device.get("name", ""), "basic": {k: v for k, v in device.items() if k != "name"}}
