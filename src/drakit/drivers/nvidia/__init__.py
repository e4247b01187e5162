"""NVIDIA GPUs and the MIG devices that exist (gpu.nvidia.com), by NVML.

    nvml.py       what NVML tells
    container.py  device files and libraries for containers

A GPU in MIG mode is published as its MIG devices. An error that is the GPU's own fault (an XID) taints it and
all its devices until the driver starts again.

Names and attributes follow kubernetes-sigs/dra-driver-nvidia-gpu.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

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
from drakit.driver.standard import pci_attributes
from drakit.drivers.nvidia import container
from drakit.drivers.nvidia.nvml import NVML, Gpu, Mig, Trouble
from drakit.drivers.option import Options
from drakit.errors import DRAError
from drakit.pluginapi.health import Health

NAME = "gpu.nvidia.com"
APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""Errors of programs, which say nothing of the GPU's health."""
XID, LOST, UNMONITORED = (f"{NAME}/{what}" for what in ("xid", "gpu-lost", "unmonitored"))


class _Published(Struct, frozen=True):
    gpu: Gpu
    mig: Mig | None = None

    @property
    def name(self) -> str:
        if self.mig is None:
            return f"gpu-{self.gpu.minor}"
        profile = self.mig.profile.replace(".", "")
        return f"gpu-{self.gpu.minor}-mig-{profile}-{self.mig.profile_id}-{self.mig.start}"

    def has(self, trouble: Trouble) -> bool:
        """Whether `trouble` is this device's: of its GPU, and of its instances if it says some."""
        if trouble.uuid not in ("", self.gpu.uuid):
            return False
        if trouble.instance is None:
            return True
        if self.mig is None or trouble.instance != self.mig.instance:
            return False
        return trouble.compute_instance in (None, self.mig.compute_instance)


class NvidiaDriver(Driver):
    """The GPUs that `nvml` finds, the part `share` (INDEX, COUNT) of them; device files and libraries are
    those below `root`."""

    name = NAME

    def __init__(
        self, node_name: str, nvml: NVML, root: Path, ignored: frozenset[int], share: tuple[int, int] = (0, 1)
    ) -> None:
        super().__init__(node_name)
        self._nvml = nvml
        self._root = root
        self._machine = nvml.read()
        self._published = {item.name: item for item in _all(self._machine.gpus[share[0] :: share[1]])}
        self._ignored = ignored
        self._troubles: dict[str, list[DeviceTaint]] = {}
        """Taints of devices, by name."""

    def devices(self) -> Sequence[Device]:
        return [self._device(item) for item in self._published.values()]

    def health(self) -> list[DeviceHealth]:
        return [
            DeviceHealth(self.node_name, name, *_health(self._troubles.get(name, ())))
            for name in self._published
        ]

    async def watch(self) -> None:
        events = self._nvml.watch()
        while True:
            trouble = await asyncio.to_thread(next, events)
            if trouble is not None and self._note(trouble):
                self.changed()

    def _note(self, trouble: Trouble) -> bool:
        """Remember what devices have; whether that is news."""
        if not trouble.is_watched:
            taint = DeviceTaint(key=UNMONITORED, effect="None")
        elif not trouble.uuid:
            taint = DeviceTaint(key=LOST, effect="NoSchedule")
        else:
            effect: Literal["None", "NoSchedule"] = "None" if trouble.xid in self._ignored else "NoSchedule"
            taint = DeviceTaint(key=XID, value=str(trouble.xid), effect=effect)
        is_news = False
        for name, item in self._published.items():
            known = self._troubles.get(name, [])
            if not item.has(trouble) or taint in known:
                continue
            # One taint of a kind, the last; but what is no fault of the GPU does not hide what is.
            same = next((old for old in known if old.key == taint.key), None)
            if same is None or taint.effect == "NoSchedule" or same.effect == "None":
                self._troubles[name] = [*(old for old in known if old is not same), taint]
                is_news = True
        return is_news

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
            "addressingMode": gpu.addressing_mode if mig is None else "",
        }
        attributes |= {key: text[:64] for key, text in texts.items() if text}
        attributes |= pci_attributes(gpu.pci_bus_id, sysfs=self._root / "sys")
        memory = gpu.memory if mig is None else mig.memory
        capacity: dict[str, str | int] = {"memory": size(memory)} if memory else {}
        if mig is not None:
            attributes |= {"parentUUID": gpu.uuid, "profile": mig.profile}
            capacity |= mig.counts
            capacity |= {f"memorySlice{number}": 1 for number in range(mig.start, mig.start + mig.size)}
        return device(item.name, attributes, dict(capacity), taints=self._troubles.get(item.name, ()))


def _all(gpus: Sequence[Gpu]) -> Iterator[_Published]:
    for gpu in gpus:
        if not gpu.has_mig:
            yield _Published(gpu)
        for mig in gpu.migs:
            yield _Published(gpu, mig)


def _health(taints: Sequence[DeviceTaint]) -> tuple[Health, int, int, str]:
    """Health, as the fields of DeviceHealth, of a device with `taints`."""
    for taint in taints:
        if taint.effect == "NoSchedule":
            return "Unhealthy", 0, 0, f"XID {taint.value}" if taint.value else "a GPU is lost"
    if any(taint.key == UNMONITORED for taint in taints):
        return "Unknown", 0, 0, "the GPU cannot be watched"
    return "Healthy", 0, 0, ""


def build(options: dict[str, str], node_name: str) -> Driver:
    """Options: `root` (/, where dev, proc, sys and usr are), `ignore-xids` (numbers of errors that are no
    fault of the GPU, with commas between, besides those that are programs'), `share` (0/1)."""
    reader = Options("nvidia", options)
    root = Path(reader.text("root", "/"))
    numbers = [text.strip() for text in reader.text("ignore-xids", "").split(",") if text.strip()]
    share = reader.share()
    reader.done()
    if not all(text.isascii() and text.isdecimal() for text in numbers):
        raise reader.error("ignore-xids", "must be numbers with commas between")
    return NvidiaDriver(node_name, NVML(), root, APPLICATION_XIDS | frozenset(map(int, numbers)), share)
