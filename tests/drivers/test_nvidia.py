"""The NVIDIA driver over a module `pynvml` that answers like NVML does for two GPUs, one in MIG mode."""

from __future__ import annotations

import asyncio
import queue
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drakit.driver import Device
from drakit.drivers import build
from drakit.errors import UsageError
from tests.driver.make import NODE, Kubelet, cluster, until

pytestmark = pytest.mark.anyio

NAME = "gpu.nvidia.com"
MIG_NAME = "gpu-1-mig-1g10gb-19-2"


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


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Handles are 0 and 1 for the GPUs, "mig" for the MIG device. What is put into `events` happens."""
    module: Any = types.ModuleType("pynvml")
    module.NVMLError, module.NVMLError_NotSupported = NVMLError, NotSupported
    module.NVMLError_NotFound, module.NVMLError_Timeout = NotFound, Timeout
    module.NVMLError_GpuIsLost = Lost
    module.NVML_DEVICE_ADDRESSING_MODE_NONE, module.NVML_DEVICE_ADDRESSING_MODE_ATS = 0, 2
    module.NVML_BRAND_GEFORCE_RTX, module.NVML_DEVICE_ARCH_ADA = 15, 8
    module.NVML_BRAND_NVIDIA, module.NVML_BRAND_TESLA = 14, 2
    module.NVML_DEVICE_ARCH_HOPPER, module.NVML_DEVICE_ARCH_AMPERE = 9, 7
    module.nvmlEventTypeXidCriticalError = 8
    module.events = queue.Queue()

    def wait(events: object, milliseconds: int) -> Any:
        try:
            event = module.events.get(timeout=0.02)
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
        setattr(module, name, answer)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Device files, libraries and capabilities of a host."""
    root = tmp_path / "host"
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


def plain(device: Device) -> dict[str, Any]:
    found = {}
    for key, value in device.attributes.items():
        found[key] = next(v for v in (value.string, value.version, value.int_) if v is not None)
    return found


def test_devices(nvml: types.ModuleType, host: Path) -> None:
    whole, mig = build("nvidia", {"root": str(host)}, NODE).devices()
    assert whole.name == "gpu-0"
    common = {
        "cudaComputeCapability": "9.0.0",
        "driverVersion": "535.104.5",
        "cudaDriverVersion": "12.2.0",
        "productName": "NVIDIA H100 80GB HBM3",
        "brand": "Nvidia",
        "architecture": "Hopper",
    }
    assert plain(whole) == {
        **common,
        "type": "gpu",
        "uuid": "GPU-0",
        "resource.kubernetes.io/pciBusID": "0000:30:00.0",
        "resource.kubernetes.io/pcieRoot": "pci0000:00",
        "resource.kubernetes.io/numaNode": 1,
        "addressingMode": "ATS",
    }
    assert whole.capacity["memory"].value == "80Gi"
    assert mig.name == MIG_NAME
    assert plain(mig) == {
        **common,
        "type": "mig",
        "uuid": "MIG-7",
        "parentUUID": "GPU-1",
        "profile": "1g.10gb",
        "resource.kubernetes.io/pciBusID": "0000:31:00.0",
    }
    capacities = {key: value.value for key, value in mig.capacity.items()}
    assert capacities == {
        "memory": "9856Mi",
        "multiprocessors": "16",
        "copyEngines": "1",
        "decoders": "1",
        "encoders": "0",
        "jpegEngines": "1",
        "ofaEngines": "0",
        "memorySlice2": "1",
    }


async def test_containers_and_trouble(nvml: Any, host: Path, tmp_path: Path) -> None:
    driver = build("nvidia", {"root": str(host)}, NODE)
    async with cluster(tmp_path) as lab, lab.running(driver), Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("c", "whole:gpu-0", f"part:{MIG_NAME}", driver=NAME)
        assert (await kubelet.prepare(claim))["c"].error == ""
        whole, part = driver.prepared[claim.uid].devices
        control = ["/dev/nvidiactl", "/dev/nvidia-uvm"]
        assert [node.path for node in whole.edits.device_nodes] == [*control, "/dev/nvidia0"]
        capabilities = [f"/dev/nvidia-caps/nvidia-cap{number}" for number in (84, 85)]
        assert [node.path for node in part.edits.device_nodes] == [*control, "/dev/nvidia1", *capabilities]
        assert {mount.container_path: mount.host_path for mount in whole.edits.mounts} == {
            "/usr/local/nvidia/lib64/libcuda.so.1": "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
            "/usr/local/nvidia/lib64/libnvidia-ml.so.1": "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
            "/usr/bin/nvidia-smi": "/usr/bin/nvidia-smi",
        }
        assert "NVIDIA_VISIBLE_DEVICES=void" in whole.edits.env

        nvml.events.put((0, 31))  # a program's own fault
        nvml.events.put((1, 79, 9, 0))
        taints: list[dict[str, Any]] = []
        for _ in range(500):
            (item,) = await lab.slices(NAME)
            gpu, mig = item["spec"]["devices"]
            if taints := mig.get("taints", []):
                break
            await asyncio.sleep(0.01)
        assert [(taint["key"], taint["value"], taint["effect"]) for taint in taints] == [
            (f"{NAME}/xid", "79", "NoSchedule")
        ]
        assert [(t["value"], t["effect"]) for t in gpu["taints"]] == [("31", "None")]
        assert [(h.health, h.message) for h in driver.health() or ()] == [
            ("Healthy", ""),
            ("Unhealthy", "XID 79"),
        ]


TROUBLES: dict[str, tuple[list[Any], dict[str, str], dict[str, list[str]]]] = {
    "a GPU with its partitions": (
        [(1, 79)],
        {"gpu-0": "Healthy", MIG_NAME: "Unhealthy"},
        {MIG_NAME: ["xid=79:NoSchedule"]},
    ),
    "another partition": ([(1, 79, 3, 0)], {"gpu-0": "Healthy", MIG_NAME: "Healthy"}, {}),
    "what is ignored": ([(0, 119)], {"gpu-0": "Healthy", MIG_NAME: "Healthy"}, {"gpu-0": ["xid=119:None"]}),
    "the worst stays": (
        [(0, 79), (0, 31)],
        {"gpu-0": "Unhealthy", MIG_NAME: "Healthy"},
        {"gpu-0": ["xid=79:NoSchedule"]},
    ),
    "one is lost": (
        ["lost"],
        {"gpu-0": "Unhealthy", MIG_NAME: "Unhealthy"},
        {"gpu-0": ["gpu-lost=:NoSchedule"], MIG_NAME: ["gpu-lost=:NoSchedule"]},
    ),
}


@pytest.mark.parametrize("case", TROUBLES)
async def test_troubles(nvml: Any, host: Path, case: str) -> None:
    events, health, taints = TROUBLES[case]
    driver = build("nvidia", {"root": str(host), "ignore-xids": "119, 120"}, NODE)
    for event in events:
        nvml.events.put(event)
    watching = asyncio.create_task(driver.watch())

    def found() -> dict[str, list[str]]:
        return {
            device.name: [
                f"{t.key.removeprefix(f'{NAME}/')}={t.value or ''}:{t.effect}" for t in device.taints
            ]
            for device in driver.devices()
            if device.taints
        }

    await until(lambda: nvml.events.empty() and found() == taints)
    watching.cancel()
    await asyncio.wait([watching])
    assert {h.device: h.health for h in driver.health() or ()} == health  # type: ignore[union-attr]


async def test_a_gpu_that_cannot_be_watched(nvml: Any, host: Path) -> None:
    nvml.nvmlDeviceRegisterEvents = lambda gpu, kind, events: refuse(NotSupported) if gpu == 0 else None
    nvml.nvmlDeviceGetMemoryInfo = lambda gpu: refuse(NotSupported)
    nvml.nvmlDeviceGetBrand, nvml.nvmlDeviceGetArchitecture = lambda gpu: 15, lambda gpu: 8
    driver = build("nvidia", {"root": str(host)}, NODE)
    news = asyncio.Event()
    driver.on_changed(news.set)
    watching = asyncio.create_task(driver.watch())
    await news.wait()
    watching.cancel()
    await asyncio.wait([watching])
    whole, _ = driver.devices()
    assert [(taint.key, taint.effect) for taint in whole.taints] == [(f"{NAME}/unmonitored", "None")]
    assert (plain(whole)["brand"], plain(whole)["architecture"]) == ("GeForceRTX", "Ada Lovelace")
    assert whole.capacity == {}


def test_numbers_that_are_none(nvml: Any) -> None:
    with pytest.raises(UsageError, match="option ignore-xids: must be numbers"):
        build("nvidia", {"ignore-xids": "79,x"}, NODE)


async def test_what_went_away(nvml: types.ModuleType, host: Path, tmp_path: Path) -> None:
    driver = build("nvidia", {"root": str(host)}, NODE)
    (host / "dev/nvidia0").unlink()
    (host / "proc/driver/nvidia/capabilities/gpu1/mig/gi9/access").unlink()
    async with cluster(tmp_path) as lab, lab.running(driver), Kubelet.meet(lab, NAME) as kubelet:
        whole, part = await lab.claim("c", "gpu-0", driver=NAME), await lab.claim("d", MIG_NAME, driver=NAME)
        errors = {name: result.error for name, result in (await kubelet.prepare(whole, part)).items()}
        assert errors == {
            "c": "/dev/nvidia0 is missing: is NVIDIA's driver loaded?",
            "d": "MIG instance 9 of GPU 1 is not there any more",
        }


def test_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(UsageError, match=r"needs the module pynvml: pip install 'drakit\[nvidia\]'"):
        build("nvidia", {}, NODE)


def test_without_a_kernel_driver(nvml: Any) -> None:
    nvml.nvmlInit = lambda: refuse(NVMLError)
    with pytest.raises(UsageError, match="NVIDIA's kernel driver does not answer: no"):
        build("nvidia", {}, NODE)
