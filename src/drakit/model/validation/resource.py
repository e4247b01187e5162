"""Rules for DeviceClass, DeviceTaintRule and ResourcePoolStatusRequest.

Source: pkg/apis/resource/validation/{validation,validation_resourcepoolstatusrequest}.go.
"""

from __future__ import annotations

from typing import Any

from drakit.model.validation import device, names
from drakit.model.validation.device import Compile
from drakit.model.validation.field import (
    Errors,
    each,
    immutable,
    invalid,
    listed,
    mapped,
    messages,
    required,
    same,
    too_long,
    too_many,
)

Document = dict[str, Any]

MAX_CONDITIONS = 8
MAX_POOLS = 1000
MAX_REQUEST_CONDITIONS = 10
MAX_ERROR = 256


def device_class(document: Document, old: Document | None, compile: Compile) -> Errors:
    """The rules for a class; selectors and config that were stored as they are need no second check."""
    spec = mapped(document.get("spec"))
    before = mapped(old.get("spec")) if old is not None else None
    is_stored = before is not None and same(spec.get("selectors"), before.get("selectors"))
    errors = device.selectors(spec.get("selectors"), "spec.selectors", None if is_stored else compile)
    is_kept = before is not None and same(spec.get("config"), before.get("config"))

    def check(config: Document, place: str) -> Errors:
        return device.configuration(config, place, is_stored=is_kept)

    errors += each(spec.get("config"), device.MAX_CONFIGS, check, "spec.config")
    name = spec.get("extendedResourceName")
    if name is not None and not names.extended_resource_name(name):
        text = "must be a valid extended resource name"
        errors.append(invalid("spec.extendedResourceName", name, text))
    return errors


def taint_rule(document: Document, old: Document | None) -> Errors:
    spec = mapped(document.get("spec"))
    errors: Errors = []
    selector = spec.get("deviceSelector")
    if isinstance(selector, dict):
        for field, rule in (
            ("driver", device.driver_name),
            ("pool", device.pool_name),
            ("device", device.label_name),
        ):
            if selector.get(field) is not None:
                errors += rule(selector[field], f"spec.deviceSelector.{field}")
    before = mapped(mapped(old.get("spec")).get("taint")) if old is not None else None
    return errors + device.taint(mapped(spec.get("taint")), "spec.taint", before)


def taint_rule_status(document: Document) -> Errors:
    conditions = listed(mapped(document.get("status")).get("conditions"))
    errors = device.conditions(conditions, "status.conditions")
    if len(conditions) > MAX_CONDITIONS:
        errors.append(too_many("status.conditions", len(conditions), MAX_CONDITIONS))
    return errors


def pool_status_request(document: Document) -> Errors:
    spec = mapped(document.get("spec"))
    errors = _driver(spec, "spec")
    if spec.get("poolName") is not None:
        errors += _pool_name(spec["poolName"], "spec.poolName")
    limit = spec.get("limit")
    if limit is not None and limit < 1:
        errors.append(invalid("spec.limit", limit, "must be greater than or equal to 1"))
    elif limit is not None and limit > MAX_POOLS:
        errors.append(invalid("spec.limit", limit, f"must be less than or equal to {MAX_POOLS}"))
    attribute = spec.get("defaultPartitionTypeAttribute")
    if attribute is not None:
        errors += device.fully_qualified_name(attribute, "spec.defaultPartitionTypeAttribute")
    return errors


def _driver(holder: Document, path: str) -> Errors:
    """These rules are declared upstream, and so have other words than those of slices."""
    name, at = holder.get("driver") or "", f"{path}.driver"
    return messages(at, name, names.caseless_long_name(name)) if name else [required(at)]


def _pool_name(name: str, path: str) -> Errors:
    errors: Errors = [too_long(path, 253)] if len(name.encode()) > 253 else []
    for index, part in enumerate(name.split("/")):
        start = f"segment {index}: "
        if not part:
            errors.append(invalid(path, name, f"{start}must not be empty"))
        errors += messages(path, part, [start + text for text in names.long_name(part)] if part else ())
    return errors


def pool_status_request_update(document: Document, old: Document) -> Errors:
    """What is asked never changes."""
    return immutable("spec", document.get("spec"), old.get("spec"))


def pool_status_request_status(document: Document, old: Document) -> Errors:
    """A status is written once."""
    status, before = mapped(document.get("status")), old.get("status")
    if before:
        return immutable("status", document.get("status"), before)
    errors = _at_least(status, 0, "status", "poolCount")
    errors += each(status.get("pools"), MAX_POOLS, _pool, "status.pools")
    rows = listed(status.get("conditions"))
    if len(rows) > MAX_REQUEST_CONDITIONS:
        errors.append(too_many("status.conditions", len(rows), MAX_REQUEST_CONDITIONS))
    return errors + device.conditions(rows, "status.conditions")


def _pool(pool: Document, path: str) -> Errors:
    errors = _driver(pool, path)
    at, name = f"{path}.poolName", pool.get("poolName")
    errors += _pool_name(name, at) if name else [required(at)]
    errors += _at_least(pool, 0, path, "generation")
    errors += _at_least(pool, 1, path, "resourceSliceCount")
    errors += _at_least(
        pool, 0, path, "totalDevices", "allocatedDevices", "availableDevices", "unavailableDevices"
    )
    if pool.get("nodeName") is not None:
        errors += messages(f"{path}.nodeName", pool["nodeName"], names.dns_subdomain(pool["nodeName"]))
    if len((pool.get("validationError") or "").encode()) > MAX_ERROR:
        errors.append(too_long(f"{path}.validationError", MAX_ERROR))
    return errors


def _at_least(holder: Document, least: int, path: str, *fields: str) -> Errors:
    text = f"must be greater than or equal to {least}"
    return [
        invalid(f"{path}.{field}", holder[field], text)
        for field in fields
        if holder.get(field) is not None and holder[field] < least
    ]
