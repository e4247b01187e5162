"""How a GPU is to be shared, as classes and claims say it (gpu.resource.example.com/v1alpha1)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from drakit.driver import Config
from drakit.driver.claim import ConfigPart


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
