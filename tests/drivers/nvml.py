"""A module `pynvml` that answers like NVML does for two GPUs, one in MIG mode, and their host's files.

As a program it is `dra` with that module.
"""

from __future__ import annotations

import queue
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any


class NVMLError(Exception):
    pass


class NotSupported(NVMLError):
    pass


class NotFound(NVMLError):
    pass


class Timeout(NVMLError):
    pass


class Lost(NVMLError):
    pass


WHOLE = 0xFFFFFFFF


def refuse(error: type[NVMLError]) -> Any:
    raise error("no")


def struct(**fields: Any) -> types.SimpleNamespace:
    return types.SimpleNamespace(**fields)


def module() -> types.ModuleType:
    """Handles are 0 and 1 for the GPUs, "mig" for the MIG device. What is put into `events` happens."""
    made: Any = types.ModuleType("pynvml")
    made.NVMLError, made.NVMLError_NotSupported = NVMLError, NotSupported
    made.NVMLError_NotFound, made.NVMLError_Timeout = NotFound, Timeout
    made.NVMLError_GpuIsLost = Lost
    made.NVML_DEVICE_ADDRESSING_MODE_NONE, made.NVML_DEVICE_ADDRESSING_MODE_ATS = 0, 2
    made.NVML_BRAND_GEFORCE_RTX, made.NVML_DEVICE_ARCH_ADA = 15, 8
    made.NVML_BRAND_NVIDIA, made.NVML_BRAND_TESLA = 14, 2
    made.NVML_DEVICE_ARCH_HOPPER, made.NVML_DEVICE_ARCH_AMPERE = 9, 7
    made.nvmlEventTypeXidCriticalError = 8
    made.events = queue.Queue()

    def wait(events: object, milliseconds: int) -> Any:
        try:
            event = made.events.get(timeout=0.02)
        except queue.Empty:
            raise Timeout from None
        if event == "lost":
            raise Lost
        handle, xid, *instances = event
        gi, ci = instances or (WHOLE, WHOLE)
        return struct(device=handle, eventData=xid, gpuInstanceId=gi, computeInstanceId=ci)

    answers: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: b"535.104.05",
        "nvmlSystemGetCudaDriverVersion": lambda: 12020,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMinorNumber": lambda gpu: gpu,
        "nvmlDeviceGetUUID": lambda gpu: "MIG-7" if gpu == "mig" else f"GPU-{gpu}",
        "nvmlDeviceGetName": lambda gpu: "NVIDIA H100 80GB HBM3",
        "nvmlDeviceGetBrand": lambda gpu: 14,
        "nvmlDeviceGetArchitecture": lambda gpu: 9,
        "nvmlDeviceGetCudaComputeCapability": lambda gpu: (9, 0),
        "nvmlDeviceGetMemoryInfo": lambda gpu: struct(total=80 * 2**30),
        "nvmlDeviceGetPciInfo": lambda gpu: struct(busId=f"00000000:3{gpu}:00.0"),
        "nvmlDeviceGetAddressingMode": lambda gpu: struct(value=2) if gpu == 0 else refuse(NotSupported),
        "nvmlDeviceGetMigMode": lambda gpu: (1, 1) if gpu == 1 else refuse(NotSupported),
        "nvmlDeviceGetMaxMigDeviceCount": lambda gpu: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": lambda gpu, index: "mig" if index == 3 else refuse(NotFound),
        "nvmlDeviceGetGpuInstanceId": lambda mig: 9,
        "nvmlDeviceGetComputeInstanceId": lambda mig: 0,
        "nvmlDeviceGetGpuInstanceById": lambda gpu, number: ("instance", number),
        "nvmlGpuInstanceGetInfo": lambda gi: struct(profileId=19, placement=struct(start=2, size=1)),
        "nvmlDeviceGetAttributes": lambda mig: struct(
            memorySizeMB=9856,
            gpuInstanceSliceCount=1,
            computeInstanceSliceCount=1,
            multiprocessorCount=16,
            sharedCopyEngineCount=1,
            sharedDecoderCount=1,
            sharedEncoderCount=0,
            sharedJpegCount=1,
            sharedOfaCount=0,
        ),
        "nvmlEventSetCreate": object,
        "nvmlDeviceRegisterEvents": lambda gpu, kind, events: None,
        "nvmlEventSetWait_v2": wait,
    }
    for name, answer in answers.items():
        setattr(made, name, answer)
    found: types.ModuleType = made
    return found


def host(root: Path) -> Path:
    """`root` with device files, libraries and capabilities of a host."""
    capabilities = "proc/driver/nvidia/capabilities/gpu1/mig/gi9"
    libraries = "usr/lib/x86_64-linux-gnu"
    for path, text in {
        "dev/nvidiactl": "",
        "dev/nvidia-uvm": "",
        "dev/nvidia0": "",
        "dev/nvidia1": "",
        f"{libraries}/libcuda.so.535.104.05": "",
        f"{libraries}/libnvidia-ml.so.535.104.05": "",
        f"{libraries}/libc.so.6": "",
        "usr/bin/nvidia-smi": "",
        f"{capabilities}/access": "DeviceFileMinor: 84\nDeviceFileMode: 292\n",
        f"{capabilities}/ci0/access": "DeviceFileMinor: 85\nDeviceFileMode: 292\n",
        "sys/devices/pci0000:00/0000:30:00.0/numa_node": "1\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for name in ("libcuda", "libnvidia-ml"):
        (root / libraries / f"{name}.so.1").symlink_to(f"{name}.so.535.104.05")
    (root / "sys/bus/pci/devices").mkdir(parents=True)
    (root / "sys/bus/pci/devices/0000:30:00.0").symlink_to(root / "sys/devices/pci0000:00/0000:30:00.0")
    return root


if __name__ == "__main__":
    sys.modules["pynvml"] = module()
    from drakit.cli import main

    main()
