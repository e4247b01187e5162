"""Block devices (dra.blockdev): a container gets the device file of a loop device or a whole disk.

Which devices it looks after is said by name, loop devices if nothing is said: a disk that is not meant to be
given away must never be. A device that is mounted, part of another, or swapped to is not given out, and
has a taint while it is so.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from drakit.client.clock import Clock
from drakit.driver import (
    AllocatedDevice,
    Claim,
    Device,
    DeviceNode,
    DeviceTaint,
    Driver,
    PreparedDevice,
    RecoverableError,
    device,
    size,
)
from drakit.driver.device import AttributeValue
from drakit.drivers.blockdev.disks import Disk, disks, user_of
from drakit.drivers.option import Options
from drakit.errors import DRAError

LOOK_SECONDS = 5.0
NAME = "dra.blockdev"


class BlockDriver(Driver):
    """Publishes the block devices of `root` that match `patterns`, the part `share` of them."""

    name = NAME

    def __init__(
        self,
        node_name: str,
        root: Path,
        patterns: Sequence[str],
        share: tuple[int, int],
        *,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(node_name)
        self._root = root
        self._patterns = patterns
        self._share = share
        self._clock = clock or Clock()
        self._seen = self._look()

    def devices(self) -> Sequence[Device]:
        return [_device(disk, user) for disk, user in self._seen]

    async def watch(self) -> None:
        """Devices come and go, and are mounted."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            now = self._look()
            if now != self._seen:
                self._seen = now
                self.changed()

    def _look(self) -> list[tuple[Disk, str]]:
        """Our devices, each with who uses it without being a claim."""
        index, count = self._share
        found = disks(self._root, self._patterns)
        ours = [disk for disk in found if zlib.crc32(disk.name.encode()) % count == index]
        return [(disk, user_of(self._root, disk)) for disk in ours]

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        now = {disk.name: (disk, user) for disk, user in self._look()}
        return [self._given(wanted, *now.get(wanted.name, (None, ""))) for wanted in claim.devices]

    def _given(self, wanted: AllocatedDevice, disk: Disk | None, user: str) -> PreparedDevice:
        if disk is None:
            raise DRAError(f"block device {wanted.name} is not there (any more)")
        if user and not wanted.admin_access:
            raise RecoverableError(f"{disk.path} is not given away: {user}")
        major, minor = (int(part) for part in disk.number.split(":"))
        is_read_only = disk.is_read_only or wanted.admin_access
        node = DeviceNode(
            path=disk.path,
            host_path=disk.path,
            type="b",
            major=major,
            minor=minor,
            permissions="r" if is_read_only else "rw",
        )
        variable = "BLOCKDEV_" + wanted.request.partition("/")[0].replace("-", "_").upper()
        return wanted.prepared(
            env={variable: disk.path, f"{variable}_SIZE": str(disk.size)}, device_nodes=[node]
        )


def _device(disk: Disk, user: str) -> Device:
    attributes: dict[str, AttributeValue] = {
        "type": disk.kind,
        "kernelName": disk.kernel_name,
        "rotational": disk.is_rotational,
        "removable": disk.is_removable,
        "readOnly": disk.is_read_only,
        "logicalBlockSize": disk.block_size,
    }
    texts = {
        "model": disk.model,
        "vendor": disk.vendor,
        "serial": disk.serial,
        "backingFile": disk.backing_file,
        "resource.kubernetes.io/pciBusID": disk.pci_bus_id,
        "resource.kubernetes.io/pcieRoot": disk.pcie_root,
    }
    attributes |= {key: text for key, text in texts.items() if text}
    if disk.numa is not None:
        attributes["resource.kubernetes.io/numaNode"] = disk.numa
    taints = [DeviceTaint(key=f"{NAME}/in-use", effect="NoSchedule")] if user else []
    return device(disk.name, attributes, {"size": size(disk.size)}, taints=taints)


def build(options: dict[str, str], node_name: str) -> Driver:
    """Options: `devices` (loop*; patterns with commas between), `share` (0/1), `root` (/, where sys and
    proc are)."""
    reader = Options("blockdev", options)
    patterns = [part.strip() for part in reader.text("devices", "loop*").split(",") if part.strip()]
    share = reader.share()
    root = Path(reader.text("root", "/"))
    reader.done()
    return BlockDriver(node_name, root, patterns, share)
