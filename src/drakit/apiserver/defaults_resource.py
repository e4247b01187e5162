"""Defaults of resource.k8s.io. Source: pkg/apis/resource/v*/defaults.go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from drakit.transport import Document


def _objects(value: Any) -> Iterator[Document]:
    """The objects in what should be a list."""
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _tolerations(holder: Document) -> None:
    for toleration in _objects(holder.get("tolerations")):
        if not toleration.get("operator"):
            toleration["operator"] = "Equal"


def _exact(request: Document) -> None:
    if not request.get("allocationMode"):
        request["allocationMode"] = "ExactCount"
    if not request.get("count"):
        if request["allocationMode"] == "ExactCount":
            request["count"] = 1
        else:
            request.pop("count", None)
    _tolerations(request)


def _request(request: Document, version: str) -> None:
    for subrequest in _objects(request.get("firstAvailable")):
        _exact(subrequest)
    if version != "v1beta1":
        if isinstance(request.get("exactly"), dict):
            _exact(request["exactly"])
    elif request.get("deviceClassName"):
        _exact(request)
    else:
        _tolerations(request)
        if request.get("count") == 0:
            del request["count"]


def _claim_spec(spec: Document, version: str) -> None:
    devices = spec.setdefault("devices", {})
    requests = devices.setdefault("requests", None)
    for request in _objects(requests):
        _request(request, version)


def _claim(claim: Document, version: str, now: str) -> None:
    _claim_spec(claim.setdefault("spec", {}), version)
    status = claim.setdefault("status", {})
    allocation = status.get("allocation")
    if isinstance(allocation, dict):
        for result in _objects(allocation.setdefault("devices", {}).get("results")):
            _tolerations(result)


def _template(template: Document, version: str, now: str) -> None:
    spec = template.setdefault("spec", {})
    spec.setdefault("metadata", {})
    _claim_spec(spec.setdefault("spec", {}), version)


def _taint(taint: Document, now: str) -> None:
    if now and not taint.get("timeAdded"):
        taint["timeAdded"] = now


def _device(device: Document, version: str, now: str) -> None:
    if version == "v1beta1":
        device = device.setdefault("basic", {})
    for taint in _objects(device.get("taints")):
        _taint(taint, now)
    for values in ("capacity", "counters"):
        for capacity in (device.get(values) or {}).values():
            capacity.setdefault("value", "0")
    for consumption in _objects(device.get("consumesCounters")):
        for counter in (consumption.get("counters") or {}).values():
            counter.setdefault("value", "0")
    for mapping in (device.get("nodeAllocatableResourceMappings") or {}).values():
        mapping.setdefault("allocationMultiplier", "1")


def _slice(resource_slice: Document, version: str, now: str) -> None:
    spec = resource_slice.setdefault("spec", {})
    spec.setdefault("driver", "")
    pool = spec.setdefault("pool", {})
    for name, zero in (("name", ""), ("generation", 0), ("resourceSliceCount", 0)):
        pool.setdefault(name, zero)
    for device in _objects(spec.get("devices")):
        device.setdefault("name", "")
        _device(device, version, now)
    for counter_set in _objects(spec.get("sharedCounters")):
        for counter in (counter_set.get("counters") or {}).values():
            counter.setdefault("value", "0")


def _class(device_class: Document, version: str, now: str) -> None:
    device_class.setdefault("spec", {})


def _taint_rule(rule: Document, version: str, now: str) -> None:
    _taint(rule.setdefault("spec", {}).setdefault("taint", {}), now)
    rule.setdefault("status", {})


def _pool_status_request(request: Document, version: str, now: str) -> None:
    spec = request.setdefault("spec", {})
    spec.setdefault("limit", 100)


RESOURCE_DEFAULTS: dict[str, Callable[[Document, str, str], None]] = {
    "DeviceClass": _class,
    "DeviceTaintRule": _taint_rule,
    "ResourceClaim": _claim,
    "ResourceClaimTemplate": _template,
    "ResourcePoolStatusRequest": _pool_status_request,
    "ResourceSlice": _slice,
}
