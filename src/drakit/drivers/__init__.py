"""Drivers built on the SDK, a folder each.

Belongs here: what particular devices are and how a container gets them. Never: the kubelet's protocol,
slices or checkpoints, which are the SDK's.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from drakit.driver import Driver
from drakit.errors import UsageError

NAMES: Mapping[str, str] = {
    "blockdev": "block devices: loop devices, and disks that are named (dra.blockdev)",
    "cpu": "this machine's CPUs, pinned to containers (dra.cpu)",
    "device-plugin": "the devices of Kubernetes device plugins, unmodified (dra.device-plugin)",
    "gpu": "simulated GPUs (gpu.example.com)",
    "memory": "memory and huge pages of each NUMA node, as tmpfs and hugetlbfs (dra.memory)",
    "net": "network interfaces: the machine's, veth pairs and macvlans, in the pod's network (dra.net)",
    "nvidia": "NVIDIA GPUs and MIG devices, by NVML (gpu.nvidia.com)",
    "pizza": "pizzas from a kitchen, to learn and teach with (dra.pizza)",
}
"""The drivers that come with drakit, and what each publishes."""


_DIVIDED = frozenset({"blockdev", "cpu", "memory", "net", "nvidia"})
"""Those of what is really there, which several nodes on one machine have to divide."""


def build(name: str, options: Mapping[str, str], node_name: str, share: str = "") -> Driver:
    """The driver `name` with `options` for a node, which has the part `share` (INDEX/COUNT) of its machine.

    Raises UsageError for a name or option there is not.
    """
    if name not in NAMES:
        raise UsageError(f"there is no driver {name!r}: choose one of {', '.join(NAMES)}")
    module = importlib.import_module(f"drakit.drivers.{name.replace('-', '_')}")
    part = {"share": share} if share and name in _DIVIDED else {}
    return cast(Driver, module.build(part | dict(options), node_name))
