"""NVIDIA GPUs and the MIG devices that exist (gpu.nvidia.com), by NVML.

    nvml.py       what NVML tells
    container.py  device files and libraries for containers

A GPU in MIG mode is published as its MIG devices. An error that is the GPU's own fault (an XID) taints it and
all its devices until the driver starts again.

Names and attributes follow kubernetes-sigs/dra-driver-nvidia-gpu.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from drakit.driver import (
    AllocatedDevice,
    Claim,
    Device,
    DeviceHealth,
    DeviceTaint,
    Driver,
    PreparedDevice,
    device,
    size,
    version,
)
from drakit.driver.device import AttributeValue
from drakit.drivers.nvidia import container
from drakit.drivers.nvidia.nvml import NVML, Gpu, Machine, Mig
from drakit.drivers.option import Options
from drakit.errors import DRAError

NAME = "gpu.nvidia.com"
APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""Errors of programs, which say nothing of the GPU's health."""


class _Published(Struct, frozen=True):
    gpu: Gpu
    mig: Mig | None = None

    @property
    def name(self) -> str:
        if self.mig is None:
            return f"gpu-{self.gpu.minor}"
        profile = self.mig.profile.replace(".", "")
        return f"gpu-{self.gpu.minor}-mig-{profile}-{self.mig.profile_id}-{self.mig.start}"


class NvidiaDriver(Driver):
    """The GPUs that `nvml` finds; device files and libraries are those below `root`."""

    name = NAME

    def __init__(self, node_name: str, nvml: NVML, root: Path) -> None:
        super().__init__(node_name)
        self._nvml = nvml
        self._root = root
        self._machine = nvml.read()
        self._published = {item.name: item for item in _all(self._machine)}
        self._xids: dict[str, int] = {}

    def devices(self) -> Sequence[Device]:
        return [self._device(item) for item in self._published.values()]

    def health(self) -> list[DeviceHealth]:
        return [
            DeviceHealth(self.node_name, name, "Unhealthy", message=f"XID {self._xids[item.gpu.uuid]}")
            if item.gpu.uuid in self._xids
            else DeviceHealth(self.node_name, name, "Healthy")
            for name, item in self._published.items()
        ]

    async def watch(self) -> None:
        events = self._nvml.watch()
        while True:
            event = await asyncio.to_thread(next, events)
            if event is not None and event[1] not in APPLICATION_XIDS:
                self._xids[event[0]] = event[1]
                self.changed()

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        return [self._given(wanted) for wanted in claim.devices]

    def _given(self, wanted: AllocatedDevice) -> PreparedDevice:
        item = self._published.get(wanted.name)
        if item is None:
            raise DRAError(f"{wanted.name} is not there (any more)")
        nodes = container.device_nodes(self._root, item.gpu.minor)
        if item.mig is not None:
            nodes += container.mig_nodes(
                self._root, item.gpu.minor, item.mig.instance, item.mig.compute_instance
            )
        # "void" tells NVIDIA's own runtime, where it is in use, that the devices are here already.
        env = {"NVIDIA_VISIBLE_DEVICES": "void", "LD_LIBRARY_PATH": container.LIBRARIES}
        return wanted.prepared(env=env, device_nodes=nodes, mounts=list(container.mounts(self._root)))

    def _device(self, item: _Published) -> Device:
        gpu, mig = item.gpu, item.mig
        attributes: dict[str, AttributeValue] = {
            "type": "gpu" if mig is None else "mig",
            "uuid": gpu.uuid if mig is None else mig.uuid,
            "cudaComputeCapability": version(gpu.compute_capability),
            "driverVersion": version(self._machine.driver_version),
            "cudaDriverVersion": version(self._machine.cuda_version),
        }
        texts = {
            "productName": gpu.product,
            "brand": gpu.brand,
            "architecture": gpu.architecture,
            "resource.kubernetes.io/pciBusID": gpu.pci_bus_id,
        }
        attributes |= {key: text[:64] for key, text in texts.items() if text}
        attributes |= self._numa(gpu)
        capacity: dict[str, str | int] = {"memory": size(gpu.memory if mig is None else mig.memory)}
        if mig is not None:
            attributes |= {"parentUUID": gpu.uuid, "profile": mig.profile}
            capacity |= mig.counts
            capacity |= {f"memorySlice{number}": 1 for number in range(mig.start, mig.start + mig.size)}
        xid = self._xids.get(gpu.uuid)
        taints = [] if xid is None else [DeviceTaint(key=f"{NAME}/xid", value=str(xid), effect="NoSchedule")]
        return device(item.name, attributes, dict(capacity), taints=taints)

    def _numa(self, gpu: Gpu) -> Mapping[str, AttributeValue]:
        path = self._root / "sys/bus/pci/devices" / gpu.pci_bus_id
        found: dict[str, AttributeValue] = {}
        try:
            number = int((path / "numa_node").read_text())
            if number >= 0:
                found["resource.kubernetes.io/numaNode"] = number
        except (OSError, ValueError):
            pass
        roots = [part for part in path.resolve().parts if part.startswith("pci") and ":" in part]
        return found | ({"resource.kubernetes.io/pcieRoot": roots[0]} if roots else {})


def _all(machine: Machine) -> Iterator[_Published]:
    for gpu in machine.gpus:
        if not gpu.has_mig:
            yield _Published(gpu)
        for mig in gpu.migs:
            yield _Published(gpu, mig)


def build(options: dict[str, str], node_name: str) -> Driver:
    """Option: `root` (/, where dev, proc, sys and usr are)."""
    reader = Options("nvidia", options)
    root = Path(reader.text("root", "/"))
    reader.done()
    return NvidiaDriver(node_name, NVML(), root)
