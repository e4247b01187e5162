"""Rules for ResourceSlice. Source: pkg/apis/resource/validation/validation.go."""

from __future__ import annotations

import re
from typing import Any

from drakit.model.quantity import Quantity
from drakit.model.validation import device, go, names
from drakit.model.validation.capacity import capacity
from drakit.model.validation.field import (
    Errors,
    each,
    entries,
    immutable,
    invalid,
    listed,
    mapped,
    messages,
    not_found,
    required,
    same,
    too_long,
)
from drakit.profile import Profile

Document = dict[str, Any]

MAX_DEVICES, MAX_ADVANCED_DEVICES = 128, 64
MAX_ENTRIES, MAX_VALUES = 32, 48
MAX_TAINTS = 16
MAX_COUNTER_SETS, MAX_CONSUMED_SETS, MAX_COUNTERS = 8, 2, 32
MAX_TEXT = 64

_LISTS = ("bools", "ints", "strings", "versions")
_NUMBER, _PRE, _BUILD = r"(0|[1-9]\d*)", r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)", r"[0-9a-zA-Z-]+"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRE}(\.{_PRE})*)?(\+{_BUILD}(\.{_BUILD})*)?", re.ASCII
)
_ONE_OF = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
_ONE_OF_DEVICE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is "
    "set to true in the ResourceSlice spec"
)


def resource_slice(document: Document, old: Document | None, profile: Profile) -> Errors:
    spec = mapped(document.get("spec"))
    before = mapped(old.get("spec")) if old is not None else None
    pool = mapped(spec.get("pool"))
    errors = device.driver_name(spec.get("driver") or "", "spec.driver")
    errors += _pool(pool)
    if before is not None:
        errors += immutable("spec.pool.name", pool.get("name"), mapped(before.get("pool")).get("name"))
        errors += immutable("spec.driver", spec.get("driver"), before.get("driver"))
        errors += immutable("spec.nodeName", spec.get("nodeName"), before.get("nodeName"))
    errors += _nodes(spec)
    devices = listed(spec.get("devices"))
    if spec.get("devices") is not None and spec.get("sharedCounters") is not None:
        errors.append(invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
    known = {item.get("name"): item for item in listed(mapped(before).get("devices"))}
    is_per_device = spec.get("perDeviceNodeSelection") is True

    def check(item: Document, place: str) -> Errors:
        return _device(item, known.get(item.get("name")), place, is_per_device, profile)

    limit = MAX_ADVANCED_DEVICES if any(map(_is_advanced, devices)) else MAX_DEVICES
    errors += each(devices, limit, check, "spec.devices", key=lambda item: item.get("name") or "")
    errors += each(
        spec.get("sharedCounters"),
        MAX_COUNTER_SETS,
        _counter_set,
        "spec.sharedCounters",
        key=lambda counter_set: counter_set.get("name") or "",
    )
    if spec.get("partitionTypeAttribute") is not None:
        errors += _partition_type(spec, spec["partitionTypeAttribute"])
    return errors + device.skip_node_operations(spec.get("skipNodeOperations"), "spec.skipNodeOperations")


def _pool(pool: Document) -> Errors:
    errors = device.pool_name(pool.get("name") or "", "spec.pool.name")
    count, generation = pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    if count <= 0:
        errors.append(invalid("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        errors.append(invalid("spec.pool.generation", generation, "must be greater than or equal to zero"))
    return errors


def _nodes(spec: Document) -> Errors:
    """Exactly one way to say which nodes have the devices."""
    errors: Errors = []
    given: list[str] = []
    name, selector = spec.get("nodeName"), spec.get("nodeSelector")
    if name:
        given.append("`nodeName`")
        errors += messages("spec.nodeName", name, names.dns_subdomain(name))
    elif name is not None:
        errors.append(invalid("spec.nodeName", name, "must be either unset or set to a non-empty string"))
    if selector is not None:
        given.append("`nodeSelector`")
        errors += device.node_selector(selector, "spec.nodeSelector")
        if len(listed(mapped(selector).get("nodeSelectorTerms"))) != 1:
            text = "must have exactly one node selector term"
            errors.append(invalid("spec.nodeSelector.nodeSelectorTerms", go.terms(selector), text))
    for field in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(field) is True:
            given.append(f"`{field}`")
        elif spec.get(field) is False:
            errors.append(invalid(f"spec.{field}", False, "must be either unset or set to true"))
    if not given:
        errors.append(required("spec", _ONE_OF))
    elif len(given) > 1:
        shown = "{" + ", ".join(given) + "}"
        errors.append(invalid("spec", shown, f"{_ONE_OF}, but multiple fields are set"))
    return errors


def _is_advanced(item: Document) -> bool:
    """Whether a device uses what halves the number of devices a slice may have."""
    if listed(item.get("taints")) or listed(item.get("consumesCounters")):
        return True
    return any(name in attribute for attribute in mapped(item.get("attributes")).values() for name in _LISTS)


def _partition_type(spec: Document, name: str) -> Errors:
    devices = listed(spec.get("devices"))
    if not any(listed(item.get("consumesCounters")) for item in devices):
        text = "may only be set on a slice which declares devices that consume counters"
        return [invalid("spec.partitionTypeAttribute", name, text)]
    malformed = device.fully_qualified_name(name, "spec.partitionTypeAttribute")
    if malformed:
        return malformed
    bare = name.removeprefix(f"{spec.get('driver')}/")
    errors: Errors = []
    for index, item in enumerate(devices):
        if not listed(item.get("consumesCounters")):
            continue
        attributes = mapped(item.get("attributes"))
        place = f"spec.devices[{index}].attributes[{name}]"
        found = attributes.get(name, attributes.get(bare))
        if found is None:
            text = (
                "device consumes counters and `partitionTypeAttribute` names this attribute, so it must be "
                "set"
            )
            errors.append(required(place, text))
        elif "string" not in found:
            text = "must be a string value because `partitionTypeAttribute` names this attribute"
            errors.append(invalid(place, go.attribute(found), text))
    return errors


def _counter_set(counter_set: Document, path: str) -> Errors:
    name = counter_set.get("name") or ""
    errors = device.label_name(name, f"{path}.name") if name else [required(f"{path}.name")]
    return errors + _counters(counter_set, path)


def _counters(holder: Document, path: str) -> Errors:
    counters = mapped(holder.get("counters"))
    if not counters:
        return [required(f"{path}.counters")]
    return entries(
        counters, MAX_COUNTERS, 63, device.label_name, lambda counter, place: [], f"{path}.counters"
    )


def _consumption(consumption: Document, path: str) -> Errors:
    name = consumption.get("counterSet") or ""
    errors = device.label_name(name, f"{path}.counterSet") if name else [required(f"{path}.counterSet")]
    return errors + _counters(consumption, path)


def _device(item: Document, old: Document | None, path: str, is_per_device: bool, profile: Profile) -> Errors:
    errors = device.label_name(item.get("name") or "", f"{path}.name")
    attributes, capacities = mapped(item.get("attributes")), mapped(item.get("capacity"))
    if len(attributes) + len(capacities) > MAX_ENTRIES:
        text = f"the total number of attributes and capacities must not exceed {MAX_ENTRIES}"
        errors.append(invalid(path, len(attributes) + len(capacities), text))
    values = sum(_count_values(attribute) for attribute in attributes.values())
    if values > MAX_VALUES:
        text = f"the total number of attribute values must not exceed {MAX_VALUES}"
        errors.append(invalid(path, values, text))

    forbids_slashes = profile.at_least("1.37")

    def check_name(name: str, place: str) -> Errors:
        return device.qualified_name(name, place, forbids_slashes=forbids_slashes)

    errors += entries(attributes, None, device.KEY_LENGTH, check_name, _attribute, f"{path}.attributes")
    if old is None or not same(old.get("capacity"), capacities):
        is_shared = item.get("allowMultipleAllocations") is True

        def check_capacity(value: Document, place: str) -> Errors:
            return capacity(value, place, is_shared, profile)

        errors += entries(capacities, None, device.KEY_LENGTH, check_name, check_capacity, f"{path}.capacity")
    if old is None or not same(old.get("taints"), item.get("taints")):
        errors += each(item.get("taints"), MAX_TAINTS, device.taint, f"{path}.taints")
    errors += each(
        item.get("consumesCounters"),
        MAX_CONSUMED_SETS,
        _consumption,
        f"{path}.consumesCounters",
        key=lambda consumption: consumption.get("counterSet") or "",
    )
    errors += _device_nodes(item, path, is_per_device)
    errors += device.binding_conditions(item, path)
    return errors + _node_resources(item, capacities, path)


def _device_nodes(item: Document, path: str, is_per_device: bool) -> Errors:
    name, selector, everywhere = (item.get(field) for field in ("nodeName", "nodeSelector", "allNodes"))
    if not is_per_device:
        if name is None and selector is None and everywhere is None:
            return []
        text = (
            "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to "
            "true in the ResourceSlice spec"
        )
        return [invalid(path, None, text)]
    errors: Errors = []
    given: list[str] = []
    if name:
        given.append("`nodeName`")
        errors += messages(f"{path}.nodeName", name, names.dns_subdomain(name))
    elif name is not None:
        errors.append(invalid(f"{path}.nodeName", name, "must not be empty"))
    if selector is not None:
        given.append("`nodeSelector`")
        errors += device.node_selector(selector, f"{path}.nodeSelector")
    if everywhere is True:
        given.append("`allNodes`")
    elif everywhere is False:
        errors.append(invalid(f"{path}.allNodes", False, "must be either unset or set to true"))
    if not given:
        errors.append(required(path, _ONE_OF_DEVICE))
    elif len(given) > 1:
        errors.append(invalid(path, "{" + ", ".join(given) + "}", _ONE_OF_DEVICE))
    return errors


def _count_values(attribute: Document) -> int:
    lists = [attribute[name] for name in _LISTS if name in attribute]
    return sum(map(len, lists)) or 1


def _attribute(attribute: Document, path: str) -> Errors:
    errors: Errors = []
    if "string" in attribute:
        errors += _text(attribute["string"], f"{path}.string")
    if "version" in attribute:
        errors += _version(attribute["version"], f"{path}.version")
    for name in _LISTS:
        if name not in attribute:
            continue
        items = listed(attribute[name])
        if not items:
            errors.append(invalid(f"{path}.{name}", items, "must not be empty if specified"))
        for index, item in enumerate(items):
            if name in ("strings", "versions"):
                check = _text if name == "strings" else _version
                errors += check(item, f"{path}.{name}[{index}]")
    given = [name for name in ("bool", "int", "string", "version", *_LISTS) if name in attribute]
    if len(given) != 1:
        shown = go.attribute(attribute) if given else ""
        errors.append(invalid(path, shown, "exactly one value must be specified"))
    return errors


def _text(value: str, path: str) -> Errors:
    return [too_long(path, MAX_TEXT)] if len(value.encode()) > MAX_TEXT else []


def _version(value: str, path: str) -> Errors:
    errors: Errors = []
    if not _VERSION.fullmatch(value):
        errors.append(invalid(path, value, "must be a string compatible with semver.org spec 2.0.0"))
    return errors + _text(value, path)


def _is_node_resource(name: str) -> bool:
    return name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-")


def _node_resources(item: Document, capacities: Document, path: str) -> Errors:
    """What of a node's own resources a device stands for (1.36: mappings; 1.37: mapping and overhead)."""
    errors: Errors = []
    old_field = "nodeAllocatableResourceMappings"
    for name, mapping in sorted(mapped(item.get(old_field)).items()):
        place = f"{path}.{old_field}[{name}]"
        if not _is_node_resource(name):
            errors.append(invalid(place, name, "must be a node allocatable resource name"))
        key = mapping.get("capacityKey")
        if key is not None and key not in capacities:
            errors.append(not_found(f"{place}.capacityKey", key))
        errors += _positive(mapping, "allocationMultiplier", place)
    field = "nodeAllocatableResources"
    for name, entry in sorted(mapped(item.get(field)).items()):
        place = f"{path}.{field}[{name}]"
        if not _is_node_resource(name):
            errors.append(invalid(place, name, "must be a node allocatable resource name"))
        if entry.get("mapping") is None and entry.get("overhead") is None:
            errors.append(required(place, "at least one of mapping or overhead must be set"))
        if entry.get("mapping") is not None:
            errors += _mapping(entry["mapping"], capacities, f"{place}.mapping")
        if entry.get("overhead") is not None:
            errors += _overhead(entry["overhead"], f"{place}.overhead")
    return errors


def _mapping(mapping: Document, capacities: Document, path: str) -> Errors:
    errors: Errors = []
    key, multiplier = mapping.get("capacityKey"), mapping.get("capacityMultiplier")
    if key is not None:
        if not key:
            errors.append(invalid(f"{path}.capacityKey", "", "capacityKey must not be an empty string"))
        elif key not in capacities:
            errors.append(not_found(f"{path}.capacityKey", key))
        if multiplier is None:
            text = "capacityMultiplier is required when capacityKey is set"
            errors.append(required(f"{path}.capacityMultiplier", text))
        else:
            errors += _positive(mapping, "capacityMultiplier", path)
    errors += _positive(mapping, "deviceMultiplier", path)
    if multiplier is not None and key is None:
        text = "capacityKey is required when capacityMultiplier is set"
        errors.append(required(f"{path}.capacityKey", text))
    return errors


def _positive(holder: Document, field: str, path: str) -> Errors:
    value = holder.get(field)
    if value is None or Quantity.of(value).sign > 0:
        return []
    return [invalid(f"{path}.{field}", str(value), "must be positive")]


def _overhead(overhead: Document, path: str) -> Errors:
    given = [field for field in ("perPod", "perContainer") if overhead.get(field) is not None]
    if not given:
        return [invalid(path, "", "at least one of perPod or perContainer must be set")]
    return [
        invalid(f"{path}.{field}", str(overhead[field]), "must be non-negative")
        for field in given
        if Quantity.of(overhead[field]).sign < 0
    ]
