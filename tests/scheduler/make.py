"""Builders of API documents for the scheduler's tests."""

from __future__ import annotations

import itertools
from typing import Any

from drakit.client.clock import timestamp
from tests.client.fake_clock import FakeClock

Document = dict[str, Any]
DRIVER = "gpu.example.com"
_uids = itertools.count(1)


class Hands(FakeClock):
    """A clock for what only asks the time: it can be turned without a loop."""

    def turn(self, seconds: float) -> None:
        self._now += seconds


def meta(name: str, namespace: str | None = "default", **more: Any) -> Document:
    found: Document = {"name": name, **more}
    if namespace:
        found["namespace"] = namespace
    return found


def node(
    name: str, *, taints: list[Document] | None = None, unschedulable: bool = False, **allocatable: str
) -> Document:
    amounts = {"cpu": "8", "memory": "32Gi", "pods": "110"} | allocatable
    spec: Document = {}
    if taints:
        spec["taints"] = taints
    if unschedulable:
        spec["unschedulable"] = True
    labels = {"kubernetes.io/hostname": name}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": meta(name, None, labels=labels),
        "spec": spec,
        "status": {"allocatable": amounts, "capacity": amounts},
    }


def pod(
    name: str,
    *,
    claims: list[str] | None = None,
    templates: list[str] | None = None,
    requests: dict[str, str] | None = None,
    scheduler: str = "default-scheduler",
    **spec: Any,
) -> Document:
    rows = [{"name": f"c{i}", "resourceClaimName": claim} for i, claim in enumerate(claims or ())]
    rows += [{"name": f"t{i}", "resourceClaimTemplateName": t} for i, t in enumerate(templates or ())]
    resources: Document = {}
    if requests:
        resources["requests"] = dict(requests)
        whole = {key: value for key, value in requests.items() if "/" in key}
        if whole:
            resources["limits"] = whole
    if rows:
        resources["claims"] = [{"name": row["name"]} for row in rows]
    container = {"name": "c", "image": "pause", "resources": resources}
    found: Document = {"containers": [container], "schedulerName": scheduler, **spec}
    if rows:
        found["resourceClaims"] = rows
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta(name), "spec": found}


def stored(document: Document) -> Document:
    """`document` as an API server would hold it."""
    number = next(_uids)
    more = {"uid": f"uid-{number}", "resourceVersion": str(number), "creationTimestamp": timestamp(number)}
    return {**document, "metadata": {**document["metadata"], **more}}


def device_class(name: str = "gpu", *, extended: str | None = None, driver: str = DRIVER) -> Document:
    spec: Document = {"selectors": [{"cel": {"expression": f'device.driver == "{driver}"'}}]}
    if extended:
        spec["extendedResourceName"] = extended
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": meta(name, None),
        "spec": spec,
    }


def device(name: str, **more: Any) -> Document:
    return {"name": name, "attributes": {"model": {"string": "A"}}, **more}


def resource_slice(
    node_name: str | None, devices: list[Document] | int, *, driver: str = DRIVER, **more: Any
) -> Document:
    """A pool of one slice, named after its node; without a node it is for all nodes."""
    rows = [device(f"d{i}") for i in range(devices)] if isinstance(devices, int) else devices
    pool = node_name or "shared"
    where: Document = {"nodeName": node_name} if node_name else {"allNodes": True}
    spec = {
        "driver": driver,
        "pool": {"name": pool, "generation": 1, "resourceSliceCount": 1},
        "devices": rows,
        **where,
        **more,
    }
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": meta(f"{driver}-{pool}", None),
        "spec": spec,
    }


def request(name: str = "r", count: int = 1, *, device_class: str = "gpu", **more: Any) -> Document:
    return {"name": name, "exactly": {"deviceClassName": device_class, "count": count, **more}}


def claim(name: str, *requests: Document) -> Document:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": meta(name),
        "spec": {"devices": {"requests": list(requests) or [request()]}},
    }


def claim_template(name: str, *requests: Document) -> Document:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": meta(name),
        "spec": {"spec": {"devices": {"requests": list(requests) or [request()]}}},
    }
