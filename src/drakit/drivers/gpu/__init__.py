"""Simulated GPUs (gpu.example.com): the devices, configuration and environment of Kubernetes' example driver.

    profiles.py  whole GPUs, partitions, shares
    config.py    the opaque configuration
    pokes.py     taints and bad health on command

There is no hardware: a container learns from its environment which GPUs it was given and how they would
be shared. Source: kubernetes-sigs/dra-example-driver; partitions as in kubernetes-sigs/dra-driver-nvidia-gpu.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from drakit.driver import AllocatedDevice, Claim, Device, DeviceHealth, Driver, Pool, PreparedDevice
from drakit.drivers.gpu.config import GpuConfig, SpacePartitioning, TimeSlicing
from drakit.drivers.gpu.pokes import MAX_TAINTS, NOTHING, Pokes, State, device_taint
from drakit.drivers.gpu.profiles import PROFILES, Machine, is_of, pool
from drakit.drivers.option import Options
from drakit.model.quantity import Quantity

MAX_GPUS = 1000


class GpuDriver(Driver):
    """The GPUs of `machine`."""

    name = "gpu.example.com"

    def __init__(self, machine: Machine, has_metadata: bool = False) -> None:
        super().__init__(machine.node_name)
        self.has_metadata = has_metadata
        self._pool = pool(machine)
        names = {device.name: device for device in self._pool.devices}
        self._pokes = Pokes(names, lambda: self.changed())

    def devices(self) -> Sequence[Device]:
        return self.pools()[0].devices

    def pools(self) -> Sequence[Pool]:
        if not self._pokes.of(self.folder):
            return (self._pool,)
        devices = [
            structs.replace(device, taints=[device_taint(taint) for taint in state.taints])
            if (state := self._state(device.name)).taints
            else device
            for device in self._pool.devices
        ]
        return (structs.replace(self._pool, devices=devices),)

    def health(self) -> list[DeviceHealth]:
        return [
            DeviceHealth(self._pool.name, device.name, "Healthy")
            if self._state(device.name).is_healthy
            else DeviceHealth(self._pool.name, device.name, "Unhealthy", message="on command")
            for device in self._pool.devices
        ]

    async def watch(self) -> None:
        await self._pokes.serve(self.folder)

    def _state(self, name: str) -> State:
        """What was wanted of the device `name` and of the GPU that it is a part of."""
        states = self._pokes.of(self.folder)
        wanted = [states[gpu] for gpu in states if is_of(name, gpu)]
        if not wanted:
            return NOTHING
        taints = tuple(dict.fromkeys(taint for state in wanted for taint in state.taints))
        return State(taints[:MAX_TAINTS], all(state.is_healthy for state in wanted))

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        return [gpu.prepared(env=self._environment(gpu, claim)) for gpu in claim.devices]

    def _environment(self, gpu: AllocatedDevice, claim: Claim) -> dict[str, str]:
        sharing = (gpu.config(GpuConfig) or GpuConfig()).sharing
        variable = f"GPU_DEVICE_{gpu.name.removeprefix('gpu-').replace('-', '_').upper()}"
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
        for name, amount in gpu.consumed_capacity.items():
            env[f"{variable}_{name.upper()}"] = amount
        return env | ({"DRA_ADMIN_ACCESS": "true"} if gpu.admin_access else {})


def build(options: dict[str, str], node_name: str) -> Driver:
    """Options: `profile` (whole, mig, shared), `count` (4), `model` (LATEST-GPU-MODEL), `memory` (80Gi),
    `shares` (10, of a shared GPU), `metadata` (no, yes)."""
    reader = Options("gpu", options)
    profile = reader.choice("profile", "whole", PROFILES)
    count = reader.integer("count", 4, 0, MAX_GPUS)
    model = reader.text("model", "LATEST-GPU-MODEL")
    memory = reader.text("memory", "80Gi")
    shares = reader.integer("shares", 10, 1, 1000)
    metadata = reader.choice("metadata", "no", ("no", "yes"))
    reader.done()
    if not 0 < len(model.encode()) <= 64:
        raise reader.error("model", "must have 1 to 64 bytes")
    try:
        size = Quantity.parse(memory)
    except ValueError as error:
        raise reader.error("memory", f"{memory!r}: {error}") from None
    if profile != "whole" and size < Quantity.parse("1Gi"):
        raise reader.error("memory", f"{memory!r} is too little to be divided: at least 1Gi")
    machine = Machine(
        node_name=node_name,
        profile=next(known for known in PROFILES if known == profile),
        count=count,
        model=model,
        memory=memory,
        shares=shares,
    )
    return GpuDriver(machine, metadata == "yes")
