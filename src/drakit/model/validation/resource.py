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
    required,
    same,
    too_many,
)

Document = dict[str, Any]

MAX_CONDITIONS = 8
MAX_POOLS = 1000


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
    driver = spec.get("driver") or ""
    errors = device.driver_name(driver, "spec.driver") if driver else [required("spec.driver")]
    if spec.get("poolName") is not None:
        errors += device.pool_name(spec["poolName"], "spec.poolName")
    limit = spec.get("limit")
    if limit is not None and limit < 1:
        errors.append(invalid("spec.limit", limit, "must be greater than or equal to 1"))
    elif limit is not None and limit > MAX_POOLS:
        errors.append(invalid("spec.limit", limit, f"must be less than or equal to {MAX_POOLS}"))
    attribute = spec.get("defaultPartitionTypeAttribute")
    if attribute is not None:
        errors += device.fully_qualified_name(attribute, "spec.defaultPartitionTypeAttribute")
    return errors


def pool_status_request_status(document: Document, old: Document) -> Errors:
    """A status is written once."""
    status, before = document.get("status"), old.get("status")
    if before:
        return immutable("status", status, before)
    return device.conditions(mapped(status).get("conditions"), "status.conditions")
