"""What the simulated GPUs are published as: whole, as partitions beside the whole, or in shares.

Partitions follow NVIDIA's MIG: a GPU has 7 compute and 8 memory slices, a partition takes some of them at
one of a few places. Every partition that there could be is a device; which of them can be together is told by
the counters of `gpu-<n>-counter-set`: a slice of memory is a counter of 1, and the whole GPU takes them all.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from drakit.driver import Device, Pool, capacity, device, size, version
from drakit.driver.device import AttributeValue
from drakit.model.quantity import Quantity
from drakit.model.resource import Counter, CounterSet, DeviceCounterConsumption

Profile = Literal["whole", "mig", "shared"]
PROFILES: Sequence[Profile] = ("whole", "mig", "shared")

MEMORY_SLICES = 8
COMPUTE_SLICES = 7
MULTIPROCESSORS = 16
"""Of one compute slice."""
_MIB = 2**20
_GIB = 2**30


class _Partition(Struct, frozen=True):
    """A kind of partition: its slices, NVIDIA's number for it, and the memory slices it may start at."""

    compute: int
    memory: int
    number: int
    starts: Sequence[int]


_PARTITIONS = (
    _Partition(1, 1, 19, (0, 1, 2, 3, 4, 5, 6)),
    _Partition(1, 2, 15, (0, 2, 4, 6)),
    _Partition(2, 2, 14, (0, 2, 4)),
    _Partition(3, 4, 9, (0, 4)),
    _Partition(4, 4, 5, (0,)),
    _Partition(7, 8, 0, (0,)),
)


class Machine(Struct, frozen=True, kw_only=True):
    """`count` GPUs of `model` with `memory` (a quantity) each; `shares` are those of a shared one."""

    node_name: str
    profile: Profile
    count: int
    model: str
    memory: str
    shares: int

    @property
    def memory_bytes(self) -> int:
        return Quantity.parse(self.memory).nano // 10**9


def pool(machine: Machine) -> Pool:
    """All devices of `machine`; the whole GPUs first."""
    indexes = range(machine.count)
    gpus = [_gpu(machine, index) for index in indexes]
    if machine.profile != "mig":
        return Pool(machine.node_name, gpus)
    partitions = [part for index in indexes for part in _partitions(machine, index)]
    return Pool(machine.node_name, [*gpus, *partitions], [_counter_set(machine, index) for index in indexes])


def is_of(name: str, gpu: str) -> bool:
    """Whether the device `name` is `gpu` or a part of it."""
    return name == gpu or name.startswith(f"{gpu}-mig-")


def _gpu(machine: Machine, index: int) -> Device:
    attributes = _attributes(machine, index)
    if machine.profile == "whole":
        return device(f"gpu-{index}", attributes, {"memory": machine.memory})
    if machine.profile == "mig":
        return device(
            f"gpu-{index}",
            attributes | {"type": "gpu"},
            {"memory": machine.memory, "multiprocessors": COMPUTE_SLICES * MULTIPROCESSORS},
            consumes_counters=[_consumption(machine, index, COMPUTE_SLICES, range(MEMORY_SLICES))],
        )
    part = str(max(1, machine.memory_bytes // machine.shares // _MIB)) + "Mi"
    return device(
        f"gpu-{index}",
        attributes,
        {
            "memory": capacity(machine.memory, default=part, min="1Mi", step="1Mi"),
            "shares": capacity(machine.shares, default="1", min="1", step="1"),
        },
        allow_multiple_allocations=True,
    )


def _attributes(machine: Machine, index: int) -> dict[str, AttributeValue]:
    return {
        "index": index,
        "uuid": f"gpu-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{index}.{machine.node_name}')}",
        "model": machine.model,
        "driverVersion": version("1.0.0"),
    }


def _partitions(machine: Machine, index: int) -> Iterator[Device]:
    parent = _attributes(machine, index)
    for kind in _PARTITIONS:
        memory = machine.memory_bytes * kind.memory // MEMORY_SLICES
        profile = f"{kind.compute}g.{math.ceil(memory / _GIB)}gb"
        for start in kind.starts:
            name = f"gpu-{index}-mig-{profile.replace('.', '')}-{kind.number}-{start}"
            identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{machine.node_name}")
            own: Mapping[str, AttributeValue] = {
                "type": "mig",
                "profile": profile,
                "uuid": f"mig-{identity}",
                "parentUUID": str(parent["uuid"]),
            }
            slices = range(start, start + kind.memory)
            yield device(
                name,
                {**parent, **own},
                {"memory": size(memory), "multiprocessors": kind.compute * MULTIPROCESSORS},
                consumes_counters=[_consumption(machine, index, kind.compute, slices)],
            )


def _counter_set(machine: Machine, index: int) -> CounterSet:
    everything = _consumption(machine, index, COMPUTE_SLICES, range(MEMORY_SLICES))
    return CounterSet(name=everything.counter_set, counters=everything.counters)


def _consumption(machine: Machine, index: int, compute: int, slices: range) -> DeviceCounterConsumption:
    return DeviceCounterConsumption(
        counter_set=f"gpu-{index}-counter-set",
        counters={
            "multiprocessors": Counter(value=str(compute * MULTIPROCESSORS)),
            "memory": Counter(value=size(machine.memory_bytes * len(slices) // MEMORY_SLICES)),
            **{f"memory-slice-{number}": Counter(value="1") for number in slices},
        },
    )
