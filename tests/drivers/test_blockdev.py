"""Block devices, from a sysfs of our own and a real loop device."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakit.client.clock import Clock
from drakit.driver import Claim, DeviceNode, PreparedDevice, RecoverableError
from drakit.drivers import build
from drakit.drivers.blockdev import BlockDriver
from drakit.errors import DRAError, UsageError
from tests.driver.make import NODE, Kubelet, cluster

pytestmark = pytest.mark.anyio

NAME = "dra.blockdev"
PCI = "devices/pci0000:00/0000:00:1d.0/0000:3b:00.0/nvme/nvme0/nvme0n1"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def machine(root: Path) -> Path:
    """Two loop devices, the second without a file, and an NVMe disk with a partition."""
    block = root / "sys/block"
    loop = {"ro": "0", "removable": "0", "queue__rotational": "0", "queue__logical_block_size": "512"}
    write(block / "loop0", dev="7:0", size="2048", loop__backing_file="/images/disk one.img", **loop)
    write(block / "loop1", dev="7:1", size="0", **loop)
    write(block / "loop10", dev="7:10", size="8", **{**loop, "ro": "1"})
    nvme = root / "sys" / PCI
    write(nvme, dev="259:0", size="2000000", ro="0", removable="0", queue__rotational="0", serial="")
    write(nvme, device__model="SuperDisk  9000 ", device__serial="S1", device__numa_node="1")
    write(nvme / "nvme0n1p1", dev="259:1", partition="1")
    (block / "nvme0n1").symlink_to(nvme)
    for process in ("self", "1"):
        write(root / "proc" / process, mountinfo="20 1 8:1 / / rw - ext4 /dev/sda1 rw")
    return root


def driver(root: Path, devices: str = "loop*,nvme*", **options: str) -> BlockDriver:
    built = build("blockdev", {"root": str(root), "devices": devices, **options}, NODE)
    assert isinstance(built, BlockDriver)
    return built


async def prepare(of: BlockDriver, name: str, **more: object) -> PreparedDevice:
    result = {"request": "my-disk", "driver": NAME, "pool": NODE, "device": name, **more}
    document = {
        "metadata": {"namespace": "default", "name": "c", "uid": "u1"},
        "status": {"allocation": {"devices": {"results": [result]}}},
    }
    (prepared,) = await of.prepare(Claim.of(document, NAME))
    return prepared


def test_devices(tmp_path: Path) -> None:
    loop, _, nvme = driver(machine(tmp_path)).devices()
    assert (loop.name, nvme.name) == ("loop0", "nvme0n1")
    assert loop.capacity["size"].value == "1Mi"
    assert loop.attributes["backingFile"].string == "/images/disk one.img"
    assert (loop.attributes["type"].string, nvme.attributes["type"].string) == ("loop", "disk")
    texts = {key: value.string for key, value in nvme.attributes.items() if value.string is not None}
    assert texts == {
        "type": "disk",
        "kernelName": "nvme0n1",
        "model": "SuperDisk 9000",
        "serial": "S1",
        "resource.kubernetes.io/pciBusID": "0000:3b:00.0",
        "resource.kubernetes.io/pcieRoot": "pci0000:00",
    }
    assert nvme.attributes["resource.kubernetes.io/numaNode"].int_ == 1
    assert nvme.attributes["rotational"].bool_ is False
    assert nvme.taints == []


def test_disks_must_be_named(tmp_path: Path) -> None:
    built = build("blockdev", {"root": str(machine(tmp_path))}, NODE)
    assert [found.name for found in built.devices()] == ["loop0", "loop10"]


def test_the_nodes_of_one_machine_share_them(tmp_path: Path) -> None:
    root = machine(tmp_path)
    shares = [{found.name for found in driver(root, share=f"{i}/2").devices()} for i in range(2)]
    assert shares[0] | shares[1] == {"loop0", "loop10", "nvme0n1"}
    assert not shares[0] & shares[1]


async def test_what_a_container_gets(tmp_path: Path) -> None:
    built = driver(machine(tmp_path))
    given = await prepare(built, "nvme0n1")
    assert given.edits.device_nodes == [
        DeviceNode(
            path="/dev/nvme0n1", host_path="/dev/nvme0n1", type="b", major=259, minor=0, permissions="rw"
        )
    ]
    assert given.edits.env == ["BLOCKDEV_MY_DISK=/dev/nvme0n1", "BLOCKDEV_MY_DISK_SIZE=1024000000"]
    for read_only in (await prepare(built, "loop10"), await prepare(built, "loop0", adminAccess=True)):
        assert read_only.edits.device_nodes[0].permissions == "r"
    with pytest.raises(DRAError, match="loop1 is not there"):
        await prepare(built, "loop1")


MOUNT = "21 20 259:1 / /data rw - ext4 /dev/nvme0n1p1 rw"
SWAP = "Filename Type Size Used Priority\n/dev/nvme0n1p1 partition 1 0 -1"


@pytest.mark.parametrize("use", ["self", "1", "holder", "swap"])
async def test_what_is_in_use_is_not_given_away(use: str, tmp_path: Path) -> None:
    root = machine(tmp_path)
    built = driver(root)
    if use in ("self", "1"):  # a container that the driver is in, or the machine around it
        write(root / "proc" / use, mountinfo=MOUNT)
    elif use == "swap":
        write(root / "proc", swaps=SWAP)
    else:
        (root / "sys" / PCI / "nvme0n1p1/holders/dm-0").mkdir(parents=True)
    text = {"holder": "is a part of dm-0", "swap": "used for swapping"}.get(use, "is mounted at /data")
    with pytest.raises(RecoverableError, match=f"/dev/nvme0n1 is not given away: it {text}|{text}"):
        await prepare(built, "nvme0n1")
    (taint,) = driver(root, "nvme*").devices()[0].taints
    assert (taint.key, taint.effect) == ("dra.blockdev/in-use", "NoSchedule")


async def test_devices_come_and_go(tmp_path: Path) -> None:
    class Impatient(Clock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds / 500)

    root = machine(tmp_path)
    built = driver(root)
    built._clock = Impatient()
    told = asyncio.Event()
    built.on_changed(told.set)
    watching = asyncio.create_task(built.watch())
    write(root / "sys/block/loop1", size="16")
    async with asyncio.timeout(10):
        await told.wait()
    watching.cancel()
    assert [found.name for found in built.devices()] == ["loop0", "loop1", "loop10", "nvme0n1"]


def test_bad_options() -> None:
    with pytest.raises(UsageError, match="option share"):
        build("blockdev", {"share": "x/y"}, NODE)


# --- a real one -----------------------------------------------------------------------------------


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A loop device of 4 MiB, its kernel name."""
    losetup = shutil.which("losetup")
    if os.geteuid() != 0 or losetup is None:
        pytest.skip("loop devices need root and losetup")
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4 * 2**20))
    made = subprocess.run([losetup, "--find", "--show", image], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"this machine has no loop device to give: {made.stderr.strip()}")
    path = made.stdout.strip()
    yield path.removeprefix("/dev/")
    subprocess.run([losetup, "--detach", path], check=True)


async def test_a_real_loop_device(loop: str, tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, lab.running(build("blockdev", {"devices": loop}, NODE)):
        (item,) = await lab.slices(NAME)
        (found,) = item["spec"]["devices"]
        assert (found["name"], found["capacity"]["size"]["value"]) == (loop, "4Mi")
        async with Kubelet.meet(lab, NAME) as kubelet:
            reference = await lab.claim("c", loop, driver=NAME)
            assert (await kubelet.prepare(reference))["c"].error == ""
            assert f'"path": "/dev/{loop}"' in next(lab.cdi.iterdir()).read_text()
