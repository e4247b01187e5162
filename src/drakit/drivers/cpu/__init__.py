"""The machine's CPUs (dra.cpu): one device each, or grouped by NUMA node or socket with a capacity.

A claim has its CPUs for itself. For a single CPU that follows from the allocation; of a group a claim gets
a number of CPUs, and which ones is chosen when it is prepared, from those that no prepared claim has. The
choice is remembered with the claim. Containers are pinned by a hook (see `pin`).

Names and attributes follow kubernetes-sigs/dra-driver-cpu; architecture and vendor are ours.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from msgspec import Struct

from drakit.driver import (
    AllocatedDevice,
    Claim,
    Device,
    Driver,
    PreparedDevice,
    RecoverableError,
    capacity,
    device,
)
from drakit.driver.device import AttributeValue
from drakit.drivers.cpu import cpuset, pin, topology
from drakit.drivers.cpu.choice import choose
from drakit.drivers.cpu.topology import CPU, Topology
from drakit.drivers.option import Options
from drakit.model.quantity import Quantity

CAPACITY = "dra.cpu/cpu"
_RUN = Path("/run/dra.cpu")
"""On the host, also where the driver's own folder is in a container, and gone when the containers are."""


class _Group(Struct, frozen=True):
    """A device: the CPUs behind it, and what it is published as."""

    cpus: Sequence[CPU]
    device: Device


class CPUDriver(Driver):
    """Publishes the CPUs of `machine`, each, or grouped by "numa" or "socket"."""

    name = "dra.cpu"

    def __init__(self, node_name: str, machine: Topology, group_by: str) -> None:
        super().__init__(node_name)
        self._is_grouped = group_by != "none"
        groups = _single(machine) if group_by == "none" else _grouped(machine, group_by)
        self._groups = {group.device.name: group for group in groups}

    def devices(self) -> Sequence[Device]:
        return [group.device for group in self._groups.values()]

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        taken = {
            cpu
            for other in self.prepared.values()
            for prepared in other.devices
            for cpu in cpuset.parse(prepared.state.get("cpus", ""))
        }
        prepared = []
        for wanted in claim.devices:
            if wanted.admin_access:  # looks after the CPUs, takes none of them
                prepared.append(wanted.prepared())
                continue
            chosen = self._choose(wanted, frozenset(taken))
            taken.update(chosen)
            prepared.append(self._pinned(wanted, chosen))
        return prepared

    def _choose(self, wanted: AllocatedDevice, taken: frozenset[int]) -> list[int]:
        group = self._groups[wanted.name].cpus
        amount = wanted.consumed_capacity.get(CAPACITY)
        count = len(group) if amount is None else math.ceil(Fraction(Quantity.parse(amount).nano, 10**9))
        chosen = choose(group, taken, count)
        if chosen is None:
            free = cpuset.format({cpu.id for cpu in group} - taken)
            raise RecoverableError(f"{wanted.name}: {count} CPUs are asked for, free are: {free or 'none'}")
        return chosen

    def _pinned(self, wanted: AllocatedDevice, cpus: Sequence[int]) -> PreparedDevice:
        text = cpuset.format(cpus)
        folder = _RUN if os.geteuid() == 0 else self.folder / "containers"
        env = {f"DRA_CPUSET_{wanted.name.upper()}": text}
        return wanted.prepared(env=env, hooks=[pin.hook(folder, text)], state={"cpus": text})


def _single(machine: Topology) -> Iterable[_Group]:
    for index, cpu in enumerate(machine.cpus):
        attributes = _common(machine) | _numa(cpu) | {"socketID": cpu.socket}
        attributes |= {"coreID": cpu.core, "cpuID": cpu.id, "coreType": cpu.kind}
        attributes |= {} if cpu.l3 is None else {"cacheL3ID": cpu.l3}
        yield _Group([cpu], device(f"cpudev{index:03d}", attributes))


def _grouped(machine: Topology, group_by: str) -> Iterable[_Group]:
    for number in sorted({getattr(cpu, group_by) for cpu in machine.cpus}):
        cpus = [cpu for cpu in machine.cpus if getattr(cpu, group_by) == number]
        attributes = _common(machine) | {"socketID": cpus[0].socket, "numCPUs": len(cpus)}
        if group_by == "numa":
            attributes |= _numa(cpus[0])
        all_of_it = str(len(cpus))
        policy = capacity(all_of_it, default=all_of_it, min="1", max=all_of_it, step="1")
        yield _Group(
            cpus,
            device(
                f"cpudev{group_by}{number:03d}",
                attributes,
                {CAPACITY: policy},
                allow_multiple_allocations=True,
            ),
        )


def _common(machine: Topology) -> dict[str, AttributeValue]:
    return {
        "architecture": machine.architecture,
        "vendor": machine.vendor,
        "smtEnabled": machine.has_smt,
    }


def _numa(cpu: CPU) -> dict[str, AttributeValue]:
    """The NUMA node under the names that others look for."""
    return dict.fromkeys(
        ("resource.kubernetes.io/numaNode", "dra.cpu/numaNodeID", "dra.net/numaNode"), cpu.numa
    )


def build(options: dict[str, str], node_name: str) -> Driver:
    """Options: `cpus` (all; `0,2-3` leaves the others to somebody else, no text is none), `share` (0/1, of
    these), `group-by` (none, numa, socket), `root` (/, where sys and proc are)."""
    reader = Options("cpu", options)
    wanted = reader.text("cpus", "all")
    share = reader.share()
    group_by = reader.choice("group-by", "none", ("none", "numa", "socket"))
    root = Path(reader.text("root", "/"))
    reader.done()
    try:
        cpus = None if wanted == "all" else cpuset.parse(wanted)
    except ValueError as error:
        raise reader.error("cpus", str(error)) from None
    allowed = os.sched_getaffinity(0) if root == Path("/") else None
    return CPUDriver(node_name, topology.read(root, cpus, allowed, share), group_by)
