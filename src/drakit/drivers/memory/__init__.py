"""Memory of each NUMA node (dra.memory), and its huge pages: many claims take parts of them.

A container finds its part as a file system of that size: a tmpfs whose pages come from that node, or a
hugetlbfs that has its pages reserved. It is mounted by the container runtime, and gone with the container.

Attributes follow ffromani/dra-driver-memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from drakit.driver import (
    AllocatedDevice,
    Claim,
    Device,
    Driver,
    Mount,
    PreparedDevice,
    capacity,
    device,
    size,
)
from drakit.driver.device import AttributeValue
from drakit.drivers.option import Options
from drakit.errors import DRAError, UsageError
from drakit.model.quantity import Quantity

CAPACITY = "size"
_MIB = 2**20


class Area(Struct, frozen=True):
    """Memory of one page size at one NUMA node, in bytes. `mount_node` is None where there is but one."""

    numa: int
    size: int
    page_size: int
    is_huge: bool
    mount_node: int | None

    @property
    def name(self) -> str:
        return (
            f"hugepages-{page_text(self.page_size)}-numa{self.numa}"
            if self.is_huge
            else f"memory-numa{self.numa}"
        )

    @property
    def step(self) -> int:
        """Claims get multiples of this."""
        return self.page_size if self.is_huge else _MIB


def page_text(size: int) -> str:
    """2mi, 1gi."""
    return f"{size >> 30}gi" if size >= 2**30 else f"{size >> 20}mi" if size >= _MIB else f"{size >> 10}ki"


def areas(root: Path, percent: int, share: tuple[int, int]) -> Iterator[Area]:
    """The memory of the machine below `root`: `percent` of ordinary memory, all huge pages that are set up,
    and of both the part `share`. Raises UsageError where there is no sysfs."""
    index, count = share
    nodes = sorted((root / "sys/devices/system/node").glob("node[0-9]*"), key=_number)
    if not nodes:
        raise UsageError(f"driver memory: there are no NUMA nodes in {root / 'sys/devices/system/node'}")
    for node in nodes:
        number = _number(node)
        mount_node = number if len(nodes) > 1 else None
        amount = _total(node / "meminfo") * percent // 100 // count // _MIB * _MIB
        if amount:
            yield Area(number, amount, 4096, False, mount_node)
        for folder in sorted((node / "hugepages").glob("hugepages-*kB")):
            page = int(folder.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
            pages = int((folder / "nr_hugepages").read_text())
            ours = pages // count + (index < pages % count)
            if ours:
                yield Area(number, ours * page, page, True, mount_node)


def _number(node: Path) -> int:
    return int(node.name.removeprefix("node"))


def _total(meminfo: Path) -> int:
    """Bytes that the node has."""
    for line in meminfo.read_text().splitlines():
        words = line.split()
        if "MemTotal:" in words:
            return int(words[-2]) * 1024
    return 0


class MemoryDriver(Driver):
    """Publishes `areas`."""

    name = "dra.memory"

    def __init__(self, node_name: str, areas: Sequence[Area]) -> None:
        super().__init__(node_name)
        self._areas = {area.name: area for area in areas}

    def devices(self) -> Sequence[Device]:
        return [_device(area) for area in self._areas.values()]

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        seen: dict[str, int] = {}
        prepared = []
        for wanted in claim.devices:
            if wanted.admin_access:  # looks after the memory, takes none of it
                prepared.append(wanted.prepared())
                continue
            count = seen[wanted.name] = seen.get(wanted.name, 0) + 1
            path = f"/mnt/{wanted.name}" + (f"-{count}" if count > 1 else "")
            prepared.append(self._mounted(wanted, path))
        return prepared

    def _mounted(self, wanted: AllocatedDevice, path: str) -> PreparedDevice:
        area = self._areas[wanted.name]
        text = wanted.consumed_capacity.get(CAPACITY, str(area.size))
        amount = Quantity.parse(text).nano // 10**9
        if amount <= 0:
            raise DRAError(f"{wanted.name}: {text!r} is no amount of memory")
        if area.is_huge:
            options = [f"pagesize={area.page_size}", f"size={amount}", f"min_size={amount}", "mode=1777"]
        else:
            options = [f"size={amount}", "mode=1777"]
            if area.mount_node is not None:
                options.append(f"mpol=bind:{area.mount_node}")
        kind = "hugetlbfs" if area.is_huge else "tmpfs"
        mount = Mount(host_path=kind, container_path=path, type=kind, options=["nosuid", "nodev", *options])
        variable = "DRA_MEMORY_" + wanted.request.partition("/")[0].replace("-", "_").upper()
        return wanted.prepared(env={variable: path, f"{variable}_SIZE": str(amount)}, mounts=[mount])


def _device(area: Area) -> Device:
    attributes: dict[str, AttributeValue] = {
        "resource.kubernetes.io/pageSize": page_text(area.page_size),
        "resource.kubernetes.io/hugeTLB": area.is_huge,
    }
    for key in ("resource.kubernetes.io/numaNode", "dra.cpu/numaNodeID", "dra.net/numaNode"):
        attributes[key] = area.numa
    step = size(area.step)
    return device(
        area.name,
        attributes,
        {CAPACITY: capacity(size(area.size), default=step, min=step, step=step)},
        allow_multiple_allocations=True,
    )


def build(options: dict[str, str], node_name: str) -> Driver:
    """Options: `percent` (50, of ordinary memory), `share` (0/1), `root` (/, where sys is)."""
    reader = Options("memory", options)
    percent = reader.integer("percent", 50, 1, 100)
    share = reader.share()
    root = Path(reader.text("root", "/"))
    reader.done()
    return MemoryDriver(node_name, list(areas(root, percent, share)))
