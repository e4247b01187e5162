"""Builders for allocator tests: short words for slices, classes and claims, as documents."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]
DRIVER = "gpu.example.com"


def attribute(value: object) -> Document:
    if isinstance(value, bool):
        return {"bool": value}
    if isinstance(value, int):
        return {"int": value}
    if isinstance(value, list):
        return {"strings": value}
    return {"string": value}


def device(
    name: str, *, capacity: Document | None = None, attributes: Document | None = None, **fields: Any
) -> Document:
    document: Document = {"name": name, **fields}
    if attributes:
        document["attributes"] = {key: attribute(value) for key, value in attributes.items()}
    if capacity:
        document["capacity"] = {
            key: v if isinstance(v, dict) else {"value": v} for key, v in capacity.items()
        }
    return document


def consumes(counter_set: str, **counters: str) -> list[Document]:
    return [{"counterSet": counter_set, "counters": {name: {"value": v} for name, v in counters.items()}}]


def resource_slice(
    name: str,
    devices: list[Document] | None = None,
    *,
    driver: str = DRIVER,
    pool: str = "pool",
    count: int = 1,
    generation: int = 1,
    counters: dict[str, dict[str, str]] | None = None,
    **where: Any,
) -> Document:
    spec: Document = {
        "driver": driver,
        "pool": {"name": pool, "generation": generation, "resourceSliceCount": count},
        **(where or {"nodeName": "node"}),
    }
    if devices is not None:
        spec["devices"] = devices
    if counters:
        spec["sharedCounters"] = [
            {"name": set_name, "counters": {key: {"value": value} for key, value in row.items()}}
            for set_name, row in counters.items()
        ]
    return {"metadata": {"name": name}, "spec": spec}


def device_class(name: str, *expressions: str, config: list[Document] | None = None) -> Document:
    spec: Document = {"selectors": [{"cel": {"expression": text}} for text in expressions]}
    if config:
        spec["config"] = config
    return {"metadata": {"name": name}, "spec": spec}


def asked(class_name: str = "any", count: int = 1, *expressions: str, **fields: Any) -> Document:
    document: Document = {
        "deviceClassName": class_name,
        "allocationMode": "ExactCount",
        "count": count,
        **fields,
    }
    if expressions:
        document["selectors"] = [{"cel": {"expression": text}} for text in expressions]
    if document["allocationMode"] == "All":
        del document["count"]
    return document


def request(name: str, *args: Any, **fields: Any) -> Document:
    return {"name": name, "exactly": asked(*args, **fields)}


def first_available(name: str, **alternatives: Document) -> Document:
    return {"name": name, "firstAvailable": [{"name": key, **sub} for key, sub in alternatives.items()]}


def claim(name: str, *requests: Document, **fields: Any) -> Document:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {"devices": {"requests": list(requests), **fields}},
    }


def scenario(slices: list[Document], claims: list[Document], **fields: Any) -> Document:
    return {
        "name": "made",
        "features": "default",
        "node": {"metadata": {"name": "node", "labels": {"zone": "a"}}},
        "deviceClasses": [device_class("any")],
        "resourceSlices": slices,
        "claimsToAllocate": claims,
        "allocatedDevices": [],
        **fields,
    }


def held(*names: str, driver: str = DRIVER, pool: str = "pool") -> list[Document]:
    return [{"driver": driver, "pool": pool, "device": name} for name in names]
