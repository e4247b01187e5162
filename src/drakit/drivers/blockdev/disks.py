"""The block devices of a machine, as sysfs tells them."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from drakit.drivers.sysfs import pci_place, text
from drakit.errors import UsageError

_SECTOR = 512


class Disk(Struct, frozen=True, kw_only=True):
    """A block device; `kernel_name` is its name in /sys/block, texts are "" where nothing is known."""

    kernel_name: str
    number: str
    size: int
    is_rotational: bool
    is_removable: bool
    is_read_only: bool
    block_size: int
    model: str = ""
    vendor: str = ""
    serial: str = ""
    backing_file: str = ""
    numa: int | None = None
    pci_bus_id: str = ""
    pcie_root: str = ""

    @property
    def name(self) -> str:
        """The name of the device it is published as."""
        return re.sub(r"[^a-z0-9]+", "-", self.kernel_name.lower()).strip("-")

    @property
    def path(self) -> str:
        return "/dev/" + self.kernel_name.replace("!", "/")

    @property
    def kind(self) -> str:
        return "loop" if self.kernel_name.startswith("loop") else "disk"


def disks(root: Path, patterns: Sequence[str]) -> list[Disk]:
    """The devices whose names match one of `patterns` (`loop*`) and that have a medium, by name."""
    found = []
    for folder in sorted((root / "sys/block").glob("*"), key=lambda path: _natural(path.name)):
        if any(fnmatch.fnmatchcase(folder.name, pattern) for pattern in patterns):
            try:
                disk = _disk(folder)
            except (OSError, ValueError):
                continue  # it went away while we looked
            if disk.size:
                found.append(disk)
    return found


def user_of(root: Path, disk: Disk) -> str:
    """Who uses `disk` or a part of it, in words; "" if nobody does."""
    folder = root / "sys/block" / disk.kernel_name
    parts = [folder, *(path.parent for path in folder.glob("*/partition"))]
    numbers = {text(part / "dev") for part in parts}
    for words in _mounts(root):
        if words[2] in numbers:
            return f"it is mounted at {words[4]}"
    for part in parts:
        for holder in (part / "holders").glob("*"):
            return f"it is a part of {holder.name}"
    swaps = root / "proc/swaps"
    names = {"/dev/" + part.name.replace("!", "/") for part in parts}
    if swaps.exists() and any(line.split()[0] in names for line in swaps.read_text().splitlines()[1:]):
        return "it is used for swapping"
    return ""


def _mounts(root: Path) -> list[list[str]]:
    """The mounts that we see and those of the machine itself: a driver in a container sees others, and needs
    the machine's processes in sight. Raises UsageError where root may not read them."""
    text = (root / "proc/self/mountinfo").read_text()
    try:
        text += (root / "proc/1/mountinfo").read_text()
    except PermissionError as error:
        if os.geteuid() == 0:
            raise UsageError(
                f"driver blockdev cannot tell what is mounted, run it privileged: {error}"
            ) from None
    return [line.split() for line in text.splitlines()]


def _disk(folder: Path) -> Disk:
    pci = pci_place(folder)
    numa = text(folder / "device/numa_node") or text(folder / "device/device/numa_node")
    return Disk(
        kernel_name=folder.name,
        number=text(folder / "dev"),
        size=int(text(folder / "size")) * _SECTOR,
        is_rotational=text(folder / "queue/rotational") == "1",
        is_removable=text(folder / "removable") == "1",
        is_read_only=text(folder / "ro") == "1",
        block_size=int(text(folder / "queue/logical_block_size") or _SECTOR),
        model=text(folder / "device/model"),
        vendor=text(folder / "device/vendor"),
        serial=text(folder / "serial") or text(folder / "device/serial"),
        backing_file=text(folder / "loop/backing_file"),
        numa=int(numa) if numa and int(numa) >= 0 else None,
        pci_bus_id=pci.bus_id,
        pcie_root=pci.root,
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """loop2 comes before loop10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name) if part]
