"""Attributes that all drivers spell alike, read from sysfs: claims match devices of several drivers by them.

Where something is not known there is no attribute: devices without it are then never taken for equal.
Source: k8s.io/dynamic-resource-allocation/deviceattribute.
"""

from __future__ import annotations

import re
from pathlib import Path

from drakit.driver.device import AttributeValue

NUMA_NODE = "resource.kubernetes.io/numaNode"
PCI_BUS_ID = "resource.kubernetes.io/pciBusID"
PCIE_ROOT = "resource.kubernetes.io/pcieRoot"
MAX_NUMA_NODES = 1024
_BUS_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")
_ROOT = re.compile(r"pci[0-9a-f]{4}:[0-9a-f]{2}")
_SYSFS = Path("/sys")


def pci_attributes(
    bus_id: str, *, sysfs: Path = _SYSFS, numa_as_list: bool = False
) -> dict[str, AttributeValue]:
    """The attributes of the PCI device `bus_id` ("0000:3b:00.0"): its address, root complex and NUMA node.

    For `numa_as_list` see `numa_attributes`. Raises ValueError if that is no address.
    """
    if not _BUS_ID.fullmatch(bus_id):
        raise ValueError(f"{bus_id!r} is no PCI address like 0000:3b:00.0")
    link = sysfs / "bus/pci/devices" / bus_id
    folder = link.resolve()
    found: dict[str, AttributeValue] = {PCI_BUS_ID: bus_id}
    root = next((part for part in folder.parts if _ROOT.fullmatch(part)), "")
    if root and folder.name == bus_id:
        found[PCIE_ROOT] = root
    node = _number(link / "numa_node")
    return found | (numa_attributes(node, sysfs=sysfs, as_list=numa_as_list) if node is not None else {})


def mdev_attributes(
    uuid: str, *, sysfs: Path = _SYSFS, numa_as_list: bool = False
) -> dict[str, AttributeValue]:
    """As `pci_attributes`, of the PCI device that the mediated device `uuid` is a part of; none if it is of
    no such device."""
    parent = (sysfs / "bus/mdev/devices" / uuid).resolve().parent.name
    if not _BUS_ID.fullmatch(parent):
        return {}
    return pci_attributes(parent, sysfs=sysfs, numa_as_list=numa_as_list)


def numa_attributes(node: int, *, sysfs: Path = _SYSFS, as_list: bool = False) -> dict[str, AttributeValue]:
    """The attribute of what is at NUMA node `node`; none for -1, which sysfs has for what is at no node.

    With `as_list` it is a list, for clusters with the feature gate DRAListTypeAttributes: the node first,
    then those of its socket that are as near as any other is.
    """
    if not 0 <= node < MAX_NUMA_NODES:
        return {}
    return {NUMA_NODE: [node, *_near(node, sysfs)] if as_list else node}


def _near(node: int, sysfs: Path) -> list[int]:
    nodes = sysfs / "devices/system/node"
    try:
        distances = [int(word) for word in (nodes / f"node{node}/distance").read_text().split()]
    except (OSError, ValueError):
        return []
    others = [number for number in range(len(distances)) if number != node]
    if node >= len(distances) or not others:
        return []
    nearest = min(distances[number] for number in others)
    socket = _socket(node, sysfs)
    # A node without CPUs has no socket: rather one too many than one that is missing.
    return [
        number
        for number in others
        if distances[number] == nearest and (socket is None or _socket(number, sysfs) in (None, socket))
    ]


def _socket(node: int, sysfs: Path) -> int | None:
    try:
        cpus = (sysfs / f"devices/system/node/node{node}/cpulist").read_text()
    except OSError:
        return None
    first = re.match(r"\d+", cpus.strip())
    if first is None:
        return None
    return _number(sysfs / f"devices/system/cpu/cpu{first[0]}/topology/physical_package_id")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
