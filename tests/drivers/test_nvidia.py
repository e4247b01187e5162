"""The NVIDIA driver over a stand-in for NVML."""

from __future__ import annotations

import asyncio
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from drakit.driver import Device
from drakit.drivers import build
from drakit.errors import UsageError
from tests.driver.make import NODE, Kubelet, cluster, until
from tests.drivers.nvml import NotSupported, NVMLError, module, refuse
from tests.drivers.nvml import host as host_files

pytestmark = pytest.mark.anyio

NAME = "gpu.nvidia.com"
MIG_NAME = "gpu-1-mig-1g10gb-19-2"


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    made = module()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return host_files(tmp_path / "host")


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
