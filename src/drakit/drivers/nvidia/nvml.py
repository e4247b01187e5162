"""The GPUs of this machine by NVML, NVIDIA's management library, through the module `pynvml`.

It comes with the optional extra `nvidia` (nvidia-ml-py) and is loaded only here. What a GPU does not tell is
left out; a driver that is not there is an error in words.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from msgspec import Struct

from drakit.errors import UsageError

T = TypeVar("T")


class Mig(Struct, frozen=True):
    """An existing MIG device: its place on the GPU and what it has."""

    uuid: str
    instance: int
    compute_instance: int
    profile: str
    profile_id: int
    start: int
    size: int
    memory: int
    counts: dict[str, int]


class Gpu(Struct, frozen=True):
    """`uuid` is NVML's "GPU-...", `memory` in bytes; "" and 0 are what the GPU does not tell."""

    minor: int
    uuid: str
    product: str
    brand: str
    architecture: str
    compute_capability: str
    memory: int
    pci_bus_id: str
    addressing_mode: str = ""
    has_mig: bool = False
    migs: tuple[Mig, ...] = ()


class Trouble(Struct, frozen=True):
    """An error `xid` of the GPU `uuid`, or of the MIG instances in it; no `uuid`: some GPU is lost, nobody
    knows which. `is_watched` False: the GPU cannot be watched."""

    uuid: str = ""
    xid: int = 0
    instance: int | None = None
    compute_instance: int | None = None
    is_watched: bool = True


class Machine(Struct, frozen=True):
    driver_version: str
    cuda_version: str
    gpus: tuple[Gpu, ...]


_COUNTS = {
    "multiprocessors": "multiprocessorCount",
    "copyEngines": "sharedCopyEngineCount",
    "decoders": "sharedDecoderCount",
    "encoders": "sharedEncoderCount",
    "jpegEngines": "sharedJpegCount",
    "ofaEngines": "sharedOfaCount",
}


_WHOLE = 0xFFFFFFFF
"""The instance of an event that is about no MIG device."""

_BRANDS = {
    "NVS": "NVS",
    "GEFORCE": "GeForce",
    "NVIDIA_VAPPS": "NvidiaVApps",
    "NVIDIA_VPC": "NvidiaVPC",
    "NVIDIA_VCS": "NvidiaVCS",
    "NVIDIA_VWS": "NvidiaVWS",
    "NVIDIA_CLOUD_GAMING": "NvidiaCloudGaming",
    "QUADRO_RTX": "QuadroRTX",
    "NVIDIA_RTX": "NvidiaRTX",
    "GEFORCE_RTX": "GeForceRTX",
    "TITAN_RTX": "TitanRTX",
}
_ARCHITECTURES = {"ADA": "Ada Lovelace"}
_MODES = {"NONE": "None"}
"""What NVIDIA's own driver writes for constants whose names are not words."""


class NVML:
    """The library, initialized. Raises UsageError where it, or the driver below it, is missing."""

    def __init__(self) -> None:
        try:
            self._nvml: Any = importlib.import_module("pynvml")
        except ImportError:
            raise UsageError("driver nvidia needs the module pynvml: pip install 'drakit[nvidia]'") from None
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise UsageError(f"driver nvidia: NVIDIA's kernel driver does not answer: {error}") from None

    def read(self) -> Machine:
        """What there is. Raises UsageError if a GPU does not answer."""
        nvml = self._nvml
        try:
            cuda = int(nvml.nvmlSystemGetCudaDriverVersion())
            return Machine(
                _version(_text(nvml.nvmlSystemGetDriverVersion())),
                f"{cuda // 1000}.{cuda % 1000 // 10}.0",
                tuple(self._gpu(handle) for handle in self._handles()),
            )
        except nvml.NVMLError as error:
            raise UsageError(f"driver nvidia: a GPU does not answer: {error}") from None

    def watch(self) -> Iterator[Trouble | None]:
        """Troubles as they come; None after each second without. Blocks. Raises UsageError if the library
        fails."""
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
            for handle in self._handles():
                try:
                    nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
                except nvml.NVMLError:
                    yield Trouble(_text(nvml.nvmlDeviceGetUUID(handle)), is_watched=False)
            while True:
                yield self._next(events)
        except nvml.NVMLError as error:
            raise UsageError(f"driver nvidia: GPUs cannot be watched: {error}") from None

    def _next(self, events: Any) -> Trouble | None:
        nvml = self._nvml
        try:
            event = nvml.nvmlEventSetWait_v2(events, 1000)
        except nvml.NVMLError_Timeout:
            return None
        except nvml.NVMLError_GpuIsLost:
            return Trouble()
        try:
            uuid = _text(nvml.nvmlDeviceGetUUID(event.device))
        except nvml.NVMLError:
            return Trouble()
        return Trouble(
            uuid,
            int(event.eventData),
            None if event.gpuInstanceId == _WHOLE else int(event.gpuInstanceId),
            None if event.computeInstanceId == _WHOLE else int(event.computeInstanceId),
        )

    def _handles(self) -> Iterator[Any]:
        for index in range(self._nvml.nvmlDeviceGetCount()):
            yield self._nvml.nvmlDeviceGetHandleByIndex(index)

    def _gpu(self, handle: Any) -> Gpu:
        nvml = self._nvml
        major, minor = self._ask(nvml.nvmlDeviceGetCudaComputeCapability, handle) or (0, 0)
        mode = self._ask(nvml.nvmlDeviceGetMigMode, handle)
        has_mig = bool(mode and mode[0])
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        return Gpu(
            minor=int(nvml.nvmlDeviceGetMinorNumber(handle)),
            uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
            product=_text(nvml.nvmlDeviceGetName(handle)),
            brand=self._constant("NVML_BRAND_", self._ask(nvml.nvmlDeviceGetBrand, handle), _BRANDS),
            architecture=self._constant(
                "NVML_DEVICE_ARCH_", self._ask(nvml.nvmlDeviceGetArchitecture, handle), _ARCHITECTURES
            ),
            compute_capability=f"{major}.{minor}.0",
            memory=int(memory.total) if memory else 0,
            pci_bus_id=_text(nvml.nvmlDeviceGetPciInfo(handle).busId).lower()[-12:],
            addressing_mode=self._addressing_mode(handle),
            has_mig=has_mig,
            migs=tuple(self._migs(handle)) if has_mig else (),
        )

    def _migs(self, parent: Any) -> Iterator[Mig]:
        nvml = self._nvml
        for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(parent)):
            mig = self._ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, parent, index)
            if mig is None:
                continue
            instance = int(nvml.nvmlDeviceGetGpuInstanceId(mig))
            info = nvml.nvmlGpuInstanceGetInfo(nvml.nvmlDeviceGetGpuInstanceById(parent, instance))
            has = nvml.nvmlDeviceGetAttributes(mig)
            gigabytes = -(-int(has.memorySizeMB) // 1024)
            slices, compute = int(has.gpuInstanceSliceCount), int(has.computeInstanceSliceCount)
            part = f"{compute}c." if compute != slices else ""
            yield Mig(
                uuid=_text(nvml.nvmlDeviceGetUUID(mig)),
                instance=instance,
                compute_instance=int(nvml.nvmlDeviceGetComputeInstanceId(mig)),
                profile=f"{part}{slices}g.{gigabytes}gb",
                profile_id=int(info.profileId),
                start=int(info.placement.start),
                size=int(info.placement.size),
                memory=int(has.memorySizeMB) * 2**20,
                counts={key: int(getattr(has, name)) for key, name in _COUNTS.items()},
            )

    def _ask(self, function: Callable[..., T], *arguments: object) -> T | None:
        """What `function` says, None where the GPU knows nothing of it."""
        try:
            return function(*arguments)
        except (self._nvml.NVMLError_NotSupported, self._nvml.NVMLError_NotFound):
            return None

    def _addressing_mode(self, handle: Any) -> str:
        """How host memory is reached ("HMM", "ATS", "None"); old modules do not know."""
        ask = getattr(self._nvml, "nvmlDeviceGetAddressingMode", None)
        found = self._ask(ask, handle) if ask else None
        if found is None:
            return ""
        prefix = "NVML_DEVICE_ADDRESSING_MODE_"
        value = int(getattr(found, "value", found))
        return self._constant(prefix, value, _MODES | {"HMM": "HMM", "ATS": "ATS"})

    def _constant(self, prefix: str, value: int | None, words: Mapping[str, str]) -> str:
        """The last word of the constant with this value: "Hopper" of NVML_DEVICE_ARCH_HOPPER."""
        for name in sorted(map(str, vars(self._nvml))):
            if name.startswith(prefix) and getattr(self._nvml, name) == value:
                word = name.removeprefix(prefix)
                return words.get(word, word.replace("_", " ").title())
        return ""


def _text(value: str | bytes) -> str:
    """Old versions of the module return bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _version(text: str) -> str:
    """A driver's version as a semantic one: 535.104.5 of 535.104.05."""
    parts = [str(int(part)) for part in text.split(".") if part.isdecimal()]
    return ".".join([*parts, "0", "0", "0"][:3])
