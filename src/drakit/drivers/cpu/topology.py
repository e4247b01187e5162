"""The CPUs of this machine, as sysfs tells."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from drakit.drivers.cpu import cpuset
from drakit.errors import UsageError

_ARCHITECTURES = {"aarch64": "arm64", "amd64": "x86_64"}
_ARM_VENDORS = {"0x41": "ARM", "0x42": "Broadcom", "0x46": "Fujitsu", "0x48": "HiSilicon", "0x61": "Apple"}


class CPU(Struct, frozen=True):
    """One logical CPU. `core` counts within its socket; `l3` is None where there is no such cache.

    `siblings` are the CPUs of the same core, itself among them.
    """

    id: int
    core: int
    socket: int
    numa: int
    l3: int | None
    kind: str
    siblings: frozenset[int]


class Topology(Struct, frozen=True):
    """The CPUs that may be used, cores together, and what is true for all of them."""

    cpus: Sequence[CPU]
    architecture: str
    vendor: str

    @property
    def has_smt(self) -> bool:
        """Whether any core runs more than one CPU."""
        return any(len(cpu.siblings) > 1 for cpu in self.cpus)


def read(
    root: Path,
    wanted: frozenset[int] | None,
    allowed: Iterable[int] | None = None,
    share: tuple[int, int] = (0, 1),
) -> Topology:
    """The online CPUs below `root` ("/"), of these `wanted` (None: all), of these the `allowed` ones, and of
    these the part `share` (INDEX, COUNT).

    Raises UsageError if sysfs cannot be read or a wanted CPU is not there.
    """
    system = root / "sys" / "devices" / "system"
    try:
        online = cpuset.parse((system / "cpu" / "online").read_text())
        numa = _numa_nodes(system / "node")
        kinds = _kinds(root)
        chosen = online if allowed is None else online & frozenset(allowed)
        if wanted is not None:
            if missing := wanted - chosen:
                there = cpuset.format(chosen)
                raise UsageError(f"driver cpu: no CPU {cpuset.format(missing)} here: there are {there}")
            chosen = wanted
        index, count = share
        chosen = frozenset(sorted(chosen)[index::count])
        cpus = [_read_cpu(system / "cpu" / f"cpu{number}", number, numa, kinds) for number in chosen]
        vendor = _vendor((root / "proc" / "cpuinfo").read_text(errors="replace"))
    except (OSError, ValueError) as error:
        raise UsageError(f"driver cpu: cannot read the CPUs of this machine: {error}") from None
    machine = platform.machine().lower()
    # Cores come in the order of their first CPU, and the CPUs of a core one after another.
    cpus.sort(key=lambda cpu: (min(cpu.siblings & chosen), cpu.id))
    return Topology(cpus, _ARCHITECTURES.get(machine, machine), vendor)


def _read_cpu(folder: Path, number: int, numa: dict[int, int], kinds: dict[int, str]) -> CPU:
    topology = folder / "topology"
    return CPU(
        id=number,
        core=_integer(topology / "core_id"),
        socket=max(0, _integer(topology / "physical_package_id")),
        numa=numa.get(number, 0),
        l3=_l3(folder / "cache"),
        kind=kinds.get(number, "standard"),
        siblings=cpuset.parse((topology / "thread_siblings_list").read_text()) | {number},
    )


def _l3(folder: Path) -> int | None:
    for index in sorted(folder.glob("index*")):
        if _integer(index / "level") == 3 and (index / "id").exists():
            return _integer(index / "id")
    return None


def _numa_nodes(folder: Path) -> dict[int, int]:
    """The NUMA node of each CPU; a kernel without NUMA has none, which is one node 0."""
    return {
        cpu: int(node.name.removeprefix("node"))
        for node in folder.glob("node[0-9]*")
        for cpu in cpuset.parse((node / "cpulist").read_text())
    }


def _kinds(root: Path) -> dict[int, str]:
    """Which CPUs of a hybrid machine are performance cores and which are efficient ones."""
    found: dict[int, str] = {}
    for name, kind in (("cpu_core", "p-core"), ("cpu_atom", "e-core")):
        path = root / "sys" / "devices" / name / "cpus"
        if path.exists():
            found |= dict.fromkeys(cpuset.parse(path.read_text()), kind)
    return found


def _vendor(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "vendor_id":
            return value
        if key == "CPU implementer":
            return _ARM_VENDORS.get(value, value)
    return "unknown"


def _integer(path: Path) -> int:
    return int(path.read_text())
