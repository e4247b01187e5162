"""Standard attributes from a sysfs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drakit.driver.standard import (
    NUMA_NODE,
    PCI_BUS_ID,
    PCIE_ROOT,
    mdev_attributes,
    numa_attributes,
    pci_attributes,
)

GPU, BRIDGE = "0000:3b:00.0", "0000:3a:00.0"
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Two sockets of two NUMA nodes each, and node 4 without CPUs."""
    for path, text in {
        f"devices/pci0000:3a/{BRIDGE}/{GPU}/numa_node": "1\n",
        f"devices/pci0000:3a/{BRIDGE}/{GPU}/{UUID}/name": "",
        f"devices/pci0000:3a/{BRIDGE}/numa_node": "-1\n",
        "devices/system/node/node0/distance": "10 12 20 20 12\n",
        "devices/system/node/node1/distance": "12 10 12 20 20\n",
        "devices/system/node/node3/distance": "nonsense\n",
        **{f"devices/system/node/node{n}/cpulist": f"{n * 2}-{n * 2 + 1}\n" for n in range(4)},
        "devices/system/node/node4/cpulist": "\n",
        **{f"devices/system/cpu/cpu{n * 2}/topology/physical_package_id": f"{n // 2}\n" for n in range(4)},
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    devices = tmp_path / "bus/pci/devices"
    devices.mkdir(parents=True)
    (devices / GPU).symlink_to(f"../../../devices/pci0000:3a/{BRIDGE}/{GPU}")
    (devices / BRIDGE).symlink_to(f"../../../devices/pci0000:3a/{BRIDGE}")
    (tmp_path / "bus/mdev/devices").mkdir(parents=True)
    (tmp_path / "bus/mdev/devices" / UUID).symlink_to(f"../../../devices/pci0000:3a/{BRIDGE}/{GPU}/{UUID}")
    return tmp_path


CASES: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "a device": (GPU, False, {PCI_BUS_ID: GPU, PCIE_ROOT: "pci0000:3a", NUMA_NODE: 1}),
    "nodes in a list": (GPU, True, {PCI_BUS_ID: GPU, PCIE_ROOT: "pci0000:3a", NUMA_NODE: [1, 0]}),
    "at no node": (BRIDGE, False, {PCI_BUS_ID: BRIDGE, PCIE_ROOT: "pci0000:3a"}),
    "not there": ("0000:ff:00.0", False, {PCI_BUS_ID: "0000:ff:00.0"}),
}


@pytest.mark.parametrize("case", CASES)
def test_pci(sysfs: Path, case: str) -> None:
    bus_id, as_list, expected = CASES[case]
    assert pci_attributes(bus_id, sysfs=sysfs, numa_as_list=as_list) == expected


NODES: dict[int, list[int]] = {0: [0, 1, 4], 1: [1, 0], 2: [2], 3: [3]}
"""Node 2 is as near to node 1 as node 0 is, but of another socket; node 4 is of none."""


def test_near_nodes(sysfs: Path) -> None:
    for node, expected in NODES.items():
        assert numa_attributes(node, sysfs=sysfs, as_list=True) == {NUMA_NODE: expected}
    assert numa_attributes(-1, sysfs=sysfs) == numa_attributes(1024, sysfs=sysfs) == {}


def test_mediated_devices(sysfs: Path) -> None:
    assert mdev_attributes(UUID, sysfs=sysfs) == pci_attributes(GPU, sysfs=sysfs)
    assert mdev_attributes("another", sysfs=sysfs) == {}


@pytest.mark.parametrize("text", ["", "3b:00.0", "0000:3B:00.0", "../../0000:3b:00.0"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no PCI address"):
        pci_attributes(text)
