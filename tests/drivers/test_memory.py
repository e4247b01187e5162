"""Memory and huge pages per NUMA node, from a sysfs of our own and from this machine's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drakit.driver import Claim, Mount, PreparedDevice
from drakit.drivers import build
from drakit.errors import DRAError, UsageError
from tests.driver.make import NODE, Kubelet, cluster

pytestmark = pytest.mark.anyio

GIB = 2**30


def machine(root: Path, nodes: int = 2, pages: int = 3) -> str:
    """A machine whose nodes have 8 GiB and `pages` huge pages of 2 MiB."""
    for number in range(nodes):
        node = root / f"sys/devices/system/node/node{number}"
        folder = node / "hugepages" / "hugepages-2048kB"
        folder.mkdir(parents=True)
        (folder / "nr_hugepages").write_text(f"{pages}\n")
        (node / "meminfo").write_text(
            f"\nNode {number} MemTotal:  {8 * GIB // 1024} kB\nNode 0 MemFree: 1 kB\n"
        )
    return str(root)


def claim(*results: dict[str, object]) -> Claim:
    whole = [{"request": "buffer", "driver": "dra.memory", "pool": NODE, **result} for result in results]
    document = {
        "metadata": {"namespace": "default", "name": "c", "uid": "u1"},
        "status": {"allocation": {"devices": {"results": whole}}},
    }
    return Claim.of(document, "dra.memory")


async def prepare(options: dict[str, str], *results: dict[str, object]) -> list[PreparedDevice]:
    prepared: list[PreparedDevice] = await build("memory", options, NODE).prepare(claim(*results))  # type: ignore[assignment, misc]
    return prepared


def test_devices(tmp_path: Path) -> None:
    devices = {d.name: d for d in build("memory", {"root": machine(tmp_path)}, NODE).devices()}
    assert list(devices) == [
        "memory-numa0",
        "hugepages-2mi-numa0",
        "memory-numa1",
        "hugepages-2mi-numa1",
    ]
    memory, huge = devices["memory-numa1"], devices["hugepages-2mi-numa1"]
    assert memory.allow_multiple_allocations
    assert memory.capacity["size"].value == "4Gi"
    assert huge.capacity["size"].value == "6Mi"
    policy = huge.capacity["size"].request_policy
    assert policy is not None
    assert policy.valid_range is not None
    assert (policy.default, policy.valid_range.step) == ("2Mi", "2Mi")
    assert memory.attributes["resource.kubernetes.io/numaNode"].int_ == 1
    assert memory.attributes["resource.kubernetes.io/pageSize"].string == "4ki"
    assert (memory.attributes["resource.kubernetes.io/hugeTLB"].bool_) is False
    assert huge.attributes["resource.kubernetes.io/hugeTLB"].bool_ is True


def test_the_nodes_of_one_machine_share_it(tmp_path: Path) -> None:
    root = machine(tmp_path, nodes=1)
    sizes = []
    for share in ("0/2", "1/2"):
        driver = build("memory", {"root": root, "percent": "100", "share": share}, NODE)
        sizes.append([d.capacity["size"].value for d in driver.devices()])
    assert sizes == [["4Gi", "4Mi"], ["4Gi", "2Mi"]]
    assert len(build("memory", {"root": root, "share": "3/4"}, NODE).devices()) == 1  # no huge page is left


async def test_tmpfs_at_its_node(tmp_path: Path) -> None:
    options = {"root": machine(tmp_path)}
    one = {"device": "memory-numa1", "consumedCapacity": {"size": "1Gi"}, "shareID": "a"}
    first, second = await prepare(options, one, {**one, "shareID": "b"})
    assert first.edits.mounts == [
        Mount(
            host_path="tmpfs",
            container_path="/mnt/memory-numa1",
            type="tmpfs",
            options=["nosuid", "nodev", f"size={GIB}", "mode=1777", "mpol=bind:1"],
        )
    ]
    assert first.edits.env == ["DRA_MEMORY_BUFFER=/mnt/memory-numa1", f"DRA_MEMORY_BUFFER_SIZE={GIB}"]
    assert second.edits.mounts[0].container_path == "/mnt/memory-numa1-2"


async def test_huge_pages_are_reserved(tmp_path: Path) -> None:
    options = {"root": machine(tmp_path, nodes=1)}
    (huge,) = await prepare(options, {"device": "hugepages-2mi-numa0", "consumedCapacity": {"size": "4Mi"}})
    (mount,) = huge.edits.mounts
    assert (mount.type, mount.container_path) == ("hugetlbfs", "/mnt/hugepages-2mi-numa0")
    assert mount.options[2:] == ["pagesize=2097152", "size=4194304", "min_size=4194304", "mode=1777"]


async def test_odd_claims(tmp_path: Path) -> None:
    options = {"root": machine(tmp_path, nodes=1)}
    (admin,) = await prepare(options, {"device": "memory-numa0", "adminAccess": True})
    assert admin.edits.mounts == []
    (plain,) = await prepare(options, {"device": "memory-numa0", "consumedCapacity": {"size": "1Mi"}})
    assert not any(option.startswith("mpol") for option in plain.edits.mounts[0].options)
    with pytest.raises(DRAError, match="'0' is no amount of memory"):
        await prepare(options, {"device": "memory-numa0", "consumedCapacity": {"size": "0"}})


WRONG = [
    ({"percent": "0"}, "option percent"),
    ({"share": "2/2"}, "option share: '2/2' is not INDEX/COUNT"),
    ({"share": "1"}, "option share"),
    ({"root": "/nowhere"}, "there are no NUMA nodes in /nowhere/sys"),
    ({"size": "1"}, "has no option 'size'"),
]


@pytest.mark.parametrize(("options", "text"), WRONG)
def test_bad_options(options: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        build("memory", options, NODE)


async def test_this_machine(tmp_path: Path) -> None:
    if not Path("/sys/devices/system/node/node0/meminfo").exists():
        pytest.skip("this machine's kernel knows no NUMA nodes")
    async with cluster(tmp_path) as lab, lab.running(build("memory", {}, NODE)):
        (item,) = await lab.slices("dra.memory")
        assert item["spec"]["devices"][0]["name"] == "memory-numa0"
        async with Kubelet.meet(lab, "dra.memory") as kubelet:
            share = {"consumedCapacity": {"size": "8Mi"}, "shareID": "6c2f2a2e-5c7f-4c5b-9a52-06d1b3f6a001"}
            reference = await lab.claim("c", "memory-numa0", driver="dra.memory", **share)
            assert (await kubelet.prepare(reference))["c"].error == ""
            assert "size=8388608" in next(lab.cdi.iterdir()).read_text()


# --- enforced -------------------------------------------------------------------------------------


def fill(mount: Mount, folder: Path, sizes: tuple[str, str]) -> list[int]:
    """Mount it as a runtime does, in a mount namespace of our own, and take space: the exit codes."""
    folder.mkdir()
    take = " ; ".join(f"fallocate -l {size} {folder}/{size} 2>/dev/null; echo $?" for size in sizes)
    options = ",".join(mount.options)
    script = f"mount -t {mount.type} -o {options} {mount.host_path} {folder} || exit 32; {take}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.needs_root
async def test_no_byte_more_than_was_claimed(tmp_path: Path) -> None:
    claimed = {"device": "memory-numa0", "consumedCapacity": {"size": "4Mi"}}
    (memory,) = await prepare({"root": machine(tmp_path / "m", nodes=1)}, claimed)
    assert fill(memory.edits.mounts[0], tmp_path / "t", ("4MiB", "1KiB")) == [0, 1]


@pytest.mark.needs_root
async def test_no_huge_page_more_than_was_claimed(tmp_path: Path) -> None:
    setting = Path("/proc/sys/vm/nr_hugepages")
    if not setting.exists():
        pytest.skip("this machine's kernel has no huge pages")
    before = setting.read_text()
    try:
        setting.write_text(str(int(before) + 3))
        if int(setting.read_text()) < int(before) + 3:
            pytest.skip("this machine has no huge pages to give: its memory is in pieces")
        claimed = {"device": "hugepages-2mi-numa0", "consumedCapacity": {"size": "4Mi"}}
        (huge,) = await prepare({"root": machine(tmp_path / "m", nodes=1)}, claimed)
        assert fill(huge.edits.mounts[0], tmp_path / "t", ("4MiB", "2MiB")) == [0, 1]
    finally:
        setting.write_text(before)
