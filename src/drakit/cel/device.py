"""A device as expressions see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from drakit.cel.value import DeviceMap, Fault
from drakit.errors import CELError
from drakit.model.quantity import Quantity
from drakit.model.resource import Device, DeviceAttribute
from drakit.model.semver import Version


def attribute_value(attribute: DeviceAttribute) -> Any:
    """The one value an attribute has. Raises ValueError for a version that is none, or no value at all."""
    if attribute.ints is not None:
        return attribute.ints
    if attribute.bools is not None:
        return attribute.bools
    if attribute.strings is not None:
        return attribute.strings
    if attribute.versions is not None:
        return [_version(text) for text in attribute.versions]
    if attribute.int_ is not None:
        return attribute.int_
    if attribute.bool_ is not None:
        return attribute.bool_
    if attribute.string is not None:
        return attribute.string
    if attribute.version is not None:
        return _version(attribute.version)
    raise ValueError("unsupported attribute value")


def _version(text: str) -> Version:
    try:
        return Version.parse(text)
    except ValueError as error:
        raise ValueError(f"parse semantic version: {error}") from None


def attributes_of(device: Device, driver: str) -> DeviceMap:
    """Values by domain and name; a name without a domain belongs to the driver's. Raises Fault."""
    domains = DeviceMap()
    for name, attribute in device.attributes.items():
        try:
            value = attribute_value(attribute)
        except ValueError as error:
            raise Fault(f"attribute {name}: {error}") from None
        _put(domains, name, driver, value)
    return domains


def _put(domains: DeviceMap, name: str, driver: str, value: Any) -> None:
    """Under both spellings of one name, with and without the driver's domain, the shorter one counts."""
    domain, slash, id_ = name.partition("/")
    if slash:
        domains.setdefault(domain, {}).setdefault(id_, value)
    else:
        domains.setdefault(driver, {})[name] = value


def capacity_of(device: Device, driver: str) -> DeviceMap:
    """Quantities by domain and name. Raises Fault."""
    domains = DeviceMap()
    for name, capacity in device.capacity.items():
        try:
            quantity = Quantity.of(capacity.value)
        except ValueError as error:
            raise Fault(f"capacity {name}: {error}") from None
        _put(domains, name, driver, quantity)
    return domains


def written(document: Device | Mapping[str, Any]) -> tuple[Device, str]:
    """The device and the driver of a document that has both, as `dra cel` reads them. Raises CELError."""
    if isinstance(document, Device):
        return document, ""
    try:
        fields = {key: value for key, value in document.items() if value is not None}
        driver = msgspec.convert(fields.pop("driver", ""), str)
        return msgspec.convert({"name": "device", **fields}, Device), driver
    except msgspec.ValidationError as error:
        raise CELError(f"no device: {error}") from None


def variables_of(device: Device, driver: str) -> dict[str, Any]:
    """The value of the variable `device`. Raises Fault."""
    return {
        "driver": driver,
        "allowMultipleAllocations": bool(device.allow_multiple_allocations),
        "attributes": attributes_of(device, driver),
        "capacity": capacity_of(device, driver),
    }
