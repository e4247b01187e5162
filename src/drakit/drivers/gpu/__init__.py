"""Simulated GPUs (gpu.example.com): the devices, configuration and environment of Kubernetes' example driver.

There is no hardware: a container learns from its environment which GPUs it was given and how they would
be shared. Source: kubernetes-sigs/dra-example-driver.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from drakit.driver import AllocatedDevice, Claim, Config, Device, Driver, PreparedDevice, device, version
from drakit.driver.claim import ConfigPart
from drakit.drivers.option import Options
from drakit.model.quantity import Quantity

MAX_GPUS = 1000


class TimeSlicing(ConfigPart, frozen=True):
    interval: Literal["Default", "Short", "Medium", "Long"] = "Default"


class SpacePartitioning(ConfigPart, frozen=True):
    partition_count: Annotated[int, Meta(ge=0)] = 1


class Sharing(ConfigPart, frozen=True):
    strategy: Literal["TimeSlicing", "SpacePartitioning"] = "TimeSlicing"
    time_slicing_config: TimeSlicing | None = None
    space_partitioning_config: SpacePartitioning | None = None

    def __post_init__(self) -> None:
        if self.strategy == "TimeSlicing" and self.space_partitioning_config is not None:
            raise ValueError("spacePartitioningConfig does not go with strategy TimeSlicing")
        if self.strategy == "SpacePartitioning" and self.time_slicing_config is not None:
            raise ValueError("timeSlicingConfig does not go with strategy SpacePartitioning")


class GpuConfig(Config, frozen=True, tag="GpuConfig"):
    """How a GPU is to be shared by the containers that have it."""

    api_version: Literal["gpu.resource.example.com/v1alpha1"] = "gpu.resource.example.com/v1alpha1"
    sharing: Sharing = Sharing()


class GpuDriver(Driver):
    """`count` GPUs of `model` with `memory` each."""

    name = "gpu.example.com"

    def __init__(self, node_name: str, count: int, model: str, memory: str) -> None:
        super().__init__(node_name)
        self._devices = [
            device(
                f"gpu-{index}",
                {
                    "index": index,
                    "uuid": f"gpu-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{index}.{node_name}')}",
                    "model": model,
                    "driverVersion": version("1.0.0"),
                },
                {"memory": memory},
            )
            for index in range(count)
        ]

    def devices(self) -> Sequence[Device]:
        return self._devices

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        return [gpu.prepared(env=self._environment(gpu, claim)) for gpu in claim.devices]

    def _environment(self, gpu: AllocatedDevice, claim: Claim) -> dict[str, str]:
        sharing = (gpu.config(GpuConfig) or GpuConfig()).sharing
        variable = f"GPU_DEVICE_{gpu.name.removeprefix('gpu-')}"
        env = {
            "GPU_NODE_NAME": self.node_name,
            "DRA_RESOURCE_DRIVER_NAME": self.name,
            variable: gpu.name,
            f"{variable}_RESOURCE_CLAIM": claim.uid,
            f"{variable}_SHARING_STRATEGY": sharing.strategy,
        }
        if sharing.strategy == "TimeSlicing":
            slicing = sharing.time_slicing_config or TimeSlicing()
            env[f"{variable}_TIMESLICE_INTERVAL"] = slicing.interval
        else:
            partitioning = sharing.space_partitioning_config or SpacePartitioning()
            env[f"{variable}_PARTITION_COUNT"] = str(partitioning.partition_count)
        return env | ({"DRA_ADMIN_ACCESS": "true"} if gpu.admin_access else {})


def build(options: dict[str, str], node_name: str) -> Driver:
    """Options: `count` (4), `model` (LATEST-GPU-MODEL), `memory` (80Gi)."""
    reader = Options("gpu", options)
    count = reader.integer("count", 4, 0, MAX_GPUS)
    model = reader.text("model", "LATEST-GPU-MODEL")
    memory = reader.text("memory", "80Gi")
    reader.done()
    if not 0 < len(model.encode()) <= 64:
        raise reader.error("model", "must have 1 to 64 bytes")
    try:
        Quantity.parse(memory)
    except ValueError as error:
        raise reader.error("memory", f"{memory!r}: {error}") from None
    return GpuDriver(node_name, count, model, memory)
