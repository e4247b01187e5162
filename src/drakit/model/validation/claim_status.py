"""Rules for changing a claim's status: allocation, reservations, device statuses.

Source: pkg/apis/resource/validation/validation.go.
"""

from __future__ import annotations

from typing import Any

from drakit.model.resource import MAX_RESERVED_FOR, MAX_RESULTS
from drakit.model.validation import device, go, names
from drakit.model.validation.claim import Requests, request_names, request_reference, request_references
from drakit.model.validation.field import (
    Errors,
    duplicate,
    each,
    forbidden,
    immutable,
    invalid,
    listed,
    mapped,
    messages,
    not_supported,
    required,
    same,
    too_long,
    too_many,
)
from drakit.profile import Profile

Document = dict[str, Any]

MAX_CONDITIONS = 8
MAX_DATA = 10 * 1024
_SOURCES = ("FromClaim", "FromClass")
_DEVICE_KEY = {"Driver": "driver", "Pool": "pool", "Device": "device", "ShareID": "shareID"}


def claim_status(document: Document, old: Document, profile: Profile) -> Errors:
    """The rules for the new status of `document`, which was `old` before."""
    status, before = mapped(document.get("status")), mapped(old.get("status"))
    requests = request_names(mapped(document.get("spec")))
    reserved = listed(status.get("reservedFor"))
    errors = each(
        reserved,
        MAX_RESERVED_FOR,
        _consumer,
        "status.reservedFor",
        key=lambda consumer: consumer.get("uid") or "",
    )
    allocation = status.get("allocation")
    allocated = {_key(result) for result in listed(mapped(mapped(allocation).get("devices")).get("results"))}

    def check(entry: Document, place: str) -> Errors:
        return _device_status(entry, place, allocated)

    devices = listed(status.get("devices"))
    errors += each(devices, None, check, "status.devices")
    errors += _repeated_devices(devices)
    errors += _reservation(document, reserved, allocation, before)
    old_allocation = before.get("allocation")
    if old_allocation is not None and allocation is not None:
        has_skip = profile.at_least("1.37")
        errors += immutable(
            "status.allocation",
            allocation,
            old_allocation,
            lambda: go.allocation(allocation, has_skip=has_skip),
        )
    elif allocation is not None:
        errors += _allocation(allocation, requests)
    return errors


def _key(entry: Document) -> tuple[str, ...]:
    """What tells allocated devices apart."""
    return tuple(str(entry.get(field) or "") for field in _DEVICE_KEY.values())


def _shown(entry: Document) -> dict[str, str]:
    """A device as Kubernetes prints it in an error."""
    return dict(zip(_DEVICE_KEY, _key(entry), strict=True))


def _repeated_devices(devices: list[Document]) -> Errors:
    seen: set[tuple[str, ...]] = set()
    errors: Errors = []
    for index, entry in enumerate(devices):
        if _key(entry) in seen:
            errors.append(duplicate(f"status.devices[{index}]", _shown(entry)))
        seen.add(_key(entry))
    return errors


def _reservation(document: Document, reserved: list[Document], allocation: Any, before: Document) -> Errors:
    if not reserved:
        return []
    if allocation is None:
        return [forbidden("status.reservedFor", "may not be specified when `allocated` is not set")]
    if mapped(document.get("metadata")).get("deletionTimestamp"):
        earlier = listed(before.get("reservedFor"))
        if not all(any(same(consumer, known) for known in earlier) for consumer in reserved):
            text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
            return [forbidden("status.reservedFor", text)]
    return []


def _consumer(consumer: Document, path: str) -> Errors:
    return [required(f"{path}.{field}") for field in ("resource", "name", "uid") if not consumer.get(field)]


def _allocation(allocation: Document, requests: Requests) -> Errors:
    devices, at = mapped(allocation.get("devices")), "status.allocation.devices"

    def check_result(result: Document, place: str) -> Errors:
        return _result(result, place, requests)

    def check_config(config: Document, place: str) -> Errors:
        return _config(config, place, requests)

    errors = each(devices.get("results"), MAX_RESULTS, check_result, f"{at}.results")
    errors += each(devices.get("config"), 2 * device.MAX_CONFIGS, check_config, f"{at}.config")
    if allocation.get("nodeSelector") is not None:
        errors += device.node_selector(allocation["nodeSelector"], "status.allocation.nodeSelector")
    return errors


def _result(result: Document, path: str, requests: Requests) -> Errors:
    errors = request_reference(result.get("request") or "", f"{path}.request", requests)
    errors += device.driver_name(result.get("driver") or "", f"{path}.driver")
    errors += device.pool_name(result.get("pool") or "", f"{path}.pool")
    errors += device.label_name(result.get("device") or "", f"{path}.device")
    errors += device.binding_conditions(result, path)
    errors += device.tolerations(result.get("tolerations"), f"{path}.tolerations")
    if result.get("shareID") is not None:
        errors += device.share_id(result["shareID"], f"{path}.shareID")
    return errors + device.skip_node_operations(
        result.get("skipNodeOperations"), f"{path}.skipNodeOperations"
    )


def _config(config: Document, path: str, requests: Requests) -> Errors:
    source = config.get("source") or ""
    errors: Errors = []
    if not source:
        errors.append(required(f"{path}.source"))
    elif source not in _SOURCES:
        errors.append(not_supported(f"{path}.source", source, _SOURCES))
    errors += request_references(config.get("requests"), f"{path}.requests", requests)
    return errors + device.configuration(config, path)


def _device_status(entry: Document, path: str, allocated: set[tuple[str, ...]]) -> Errors:
    errors = device.driver_name(entry.get("driver") or "", f"{path}.driver")
    errors += device.pool_name(entry.get("pool") or "", f"{path}.pool")
    errors += device.label_name(entry.get("device") or "", f"{path}.device")
    if entry.get("shareID") is not None:
        errors += device.share_id(entry["shareID"], f"{path}.shareID")
    if _key(entry) not in allocated:
        errors.append(invalid(path, _shown(entry), "must be an allocated device in the claim"))
    conditions = listed(entry.get("conditions"))
    if len(conditions) > MAX_CONDITIONS:
        errors.append(too_many(f"{path}.conditions", len(conditions), MAX_CONDITIONS))
    errors += device.conditions(conditions, f"{path}.conditions")
    if entry.get("data") is not None:
        errors += device.raw(entry["data"], f"{path}.data", MAX_DATA, False)
    return errors + _network(entry.get("networkData"), f"{path}.networkData")


def _network(data: Any, path: str) -> Errors:
    if not isinstance(data, dict):
        return []
    errors: Errors = []
    if len((data.get("interfaceName") or "").encode()) > 256:
        errors.append(too_long(f"{path}.interfaceName", 256))
    if len((data.get("hardwareAddress") or "").encode()) > 128:
        errors.append(too_long(f"{path}.hardwareAddress", 128))

    def check(address: str, place: str) -> Errors:
        return messages(place, address, names.interface_address(address))

    return errors + each(data.get("ips"), 16, check, f"{path}.ips", key=lambda address: address)
