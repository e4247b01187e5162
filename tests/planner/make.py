"""Snapshots by hand: nodes with GPUs, claims that hold some of them, pods that want more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from drakit.planner.snapshot import API_VERSION, KIND, Snapshot

DRIVER = "gpu.nvidia.com"


def node(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}}


def gpus(node: str, model: str, count: int = 8, tainted: Iterable[int] = ()) -> dict[str, Any]:
    """A slice of `count` GPUs, four to a PCIe root."""
    devices = []
    for index in range(count):
        device: dict[str, Any] = {
            "name": f"gpu-{index}",
            "attributes": {
                "productName": {"string": model},
                "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{index // 4}a"},
            },
        }
        if index in tainted:
            device["taints"] = [{"key": "gpu.nvidia.com/xid", "value": "79", "effect": "NoSchedule"}]
        devices.append(device)
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    return {
        "metadata": {"name": f"{node}-gpus"},
        "spec": {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": devices},
    }


def claim(
    name: str, count: int, expression: str = "", match: str = "", namespace: str = "default"
) -> dict[str, Any]:
    exactly: dict[str, Any] = {"deviceClassName": DRIVER, "count": count}
    if expression:
        exactly["selectors"] = [{"cel": {"expression": expression}}]
    devices: dict[str, Any] = {"requests": [{"name": "gpu", "exactly": exactly}]}
    if match:
        devices["constraints"] = [{"matchAttribute": match}]
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
        "spec": {"devices": devices},
    }


def held(name: str, node: str, indexes: Iterable[int]) -> dict[str, Any]:
    """A claim in namespace ml that holds GPUs of `node`."""
    results = [{"request": "gpu", "driver": DRIVER, "pool": node, "device": f"gpu-{i}"} for i in indexes]
    document = claim(name, len(results), namespace="ml")
    users = [{"resource": "pods", "name": name, "uid": f"pod-{name}"}]
    document["status"] = {"allocation": {"devices": {"results": results}}, "reservedFor": users}
    return document


def pod(name: str, claim_name: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {
            "resourceClaims": [{"name": "g", "resourceClaimName": claim_name}],
            "containers": [],
            **spec,
        },
        "status": {"phase": "Pending"},
    }


def snapshot(**lists: Any) -> Snapshot:
    selector = {"cel": {"expression": f"device.driver == '{DRIVER}'"}}
    classes = [{"metadata": {"name": DRIVER}, "spec": {"selectors": [selector]}}]
    return Snapshot(**({"kind": KIND, "api_version": API_VERSION, "device_classes": classes} | lists))


H100 = "device.attributes['gpu.nvidia.com'].productName == 'H100'"


def busy() -> dict[str, list[dict[str, Any]]]:
    """Four nodes of 8: H100s free, H100s partly held and partly tainted, A100s, L4s."""
    return {
        "nodes": [node(f"node-{index}") for index in range(4)],
        "resource_slices": [
            gpus("node-0", "H100"),
            gpus("node-1", "H100", tainted=[6, 7]),
            gpus("node-2", "A100-SXM4-40GB"),
            gpus("node-3", "L4"),
        ],
        "resource_claims": [held("eval-2", "node-1", [0, 1])],
    }
