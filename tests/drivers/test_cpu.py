"""The CPU driver on made-up machines and on this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from drakit.driver import Claim, PreparedClaim, PreparedDevice, RecoverableError
from drakit.drivers import build
from drakit.drivers.cpu import CPUDriver, cpuset, pin
from drakit.drivers.cpu.choice import choose
from drakit.drivers.cpu.topology import CPU, read
from drakit.errors import UsageError

pytestmark = pytest.mark.anyio


def machine(root: Path, *, sockets: int = 1, cores: int = 4, threads: int = 1, **more: Any) -> Path:
    """A sysfs below `root`: one NUMA node and L3 a socket; threads numbered as Linux does."""
    total = sockets * cores * threads
    system = root / "sys/devices/system"
    write(system / "cpu/online", more.get("online", f"0-{total - 1}"))
    for number in range(total):
        core = number % (sockets * cores)
        socket = core // cores
        siblings = [core + thread * sockets * cores for thread in range(threads)]
        folder = system / f"cpu/cpu{number}"
        write(folder / "topology/core_id", core % cores)
        write(folder / "topology/physical_package_id", socket)
        write(folder / "topology/thread_siblings_list", ",".join(map(str, siblings)))
        write(folder / "cache/index3/level", 3)
        write(folder / "cache/index3/id", socket)
    for socket in range(sockets):
        of_socket = [n for n in range(total) if n % (sockets * cores) // cores == socket]
        write(system / f"node/node{socket}/cpulist", cpuset.format(of_socket))
    write(root / "proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\n")
    return root


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")


def driver(root: Path, folder: Path | None = None, **options: str) -> CPUDriver:
    made = build("cpu", {"root": str(root)} | {key.replace("_", "-"): v for key, v in options.items()}, "n1")
    assert isinstance(made, CPUDriver)
    made.folder = folder or root
    return made


def claim(*devices: str, uid: str = "u1", **more: Any) -> Claim:
    results = [
        {"request": "r", "driver": "dra.cpu", "pool": "n1", "device": device, **more} for device in devices
    ]
    document = {
        "metadata": {"namespace": "default", "name": uid, "uid": uid},
        "status": {"allocation": {"devices": {"results": results}}},
    }
    return Claim.of(document, "dra.cpu")


def cpus(devices: list[PreparedDevice]) -> list[str]:
    return [device.state["cpus"] for device in devices]


# --- sets of CPUs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"), [("", []), ("0", [0]), ("0,2-4\n", [0, 2, 3, 4]), ("7-7,1", [1, 7])]
)
def test_cpuset(text: str, found: list[int]) -> None:
    assert sorted(cpuset.parse(text)) == found
    assert cpuset.parse(cpuset.format(found)) == frozenset(found)


@pytest.mark.parametrize("text", ["a", "3-1", "-1", "1-", "99999999", "1.5", "²"])
def test_no_cpuset(text: str) -> None:
    with pytest.raises(ValueError, match=r"CPU|backwards"):
        cpuset.parse(text)


# --- publishing -----------------------------------------------------------------------------------


def test_individual_devices_with_siblings_side_by_side(tmp_path: Path) -> None:
    devices = driver(machine(tmp_path, sockets=2, cores=2, threads=2)).devices()
    assert [device.name for device in devices] == [f"cpudev{index:03d}" for index in range(8)]
    assert [device.attributes["cpuID"].int_ for device in devices] == [0, 4, 1, 5, 2, 6, 3, 7]
    last = {
        name: next(item for item in (value.string, value.bool_, value.int_) if item is not None)
        for name, value in devices[-1].attributes.items()
    }
    last.pop("architecture")
    assert last == {
        "vendor": "GenuineIntel",
        "smtEnabled": True,
        "socketID": 1,
        "coreID": 1,
        "cpuID": 7,
        "coreType": "standard",
        "cacheL3ID": 1,
        "resource.kubernetes.io/numaNode": 1,
        "dra.cpu/numaNodeID": 1,
        "dra.net/numaNode": 1,
    }


@pytest.mark.parametrize("group_by", ["numa", "socket"])
def test_grouped_devices(tmp_path: Path, group_by: str) -> None:
    devices = driver(machine(tmp_path, sockets=2, cores=4, threads=2), group_by=group_by).devices()
    assert [device.name for device in devices] == [f"cpudev{group_by}000", f"cpudev{group_by}001"]
    for index, device in enumerate(devices):
        assert device.allow_multiple_allocations
        assert device.capacity["dra.cpu/cpu"].value == "8"
        assert (device.attributes["numCPUs"].int_, device.attributes["socketID"].int_) == (8, index)
        assert ("resource.kubernetes.io/numaNode" in device.attributes) == (group_by == "numa")


def test_a_share_of_the_machine(tmp_path: Path) -> None:
    devices = driver(machine(tmp_path, cores=4), cpus="1,3").devices()
    assert [(item.name, item.attributes["cpuID"].int_) for item in devices] == [
        ("cpudev000", 1),
        ("cpudev001", 3),
    ]


def test_nodes_of_one_machine_divide_its_cpus(tmp_path: Path) -> None:
    root = machine(tmp_path, cores=4)
    for options, cpus in (({}, [[0, 2], [1, 3]]), ({"cpus": "1-3"}, [[1, 3], [2]])):
        given = [driver(root, share=f"{index}/2", **options).devices() for index in range(2)]
        assert [[item.attributes["cpuID"].int_ for item in part] for part in given] == cpus


def test_no_share_of_the_machine(tmp_path: Path) -> None:
    for group_by in ("none", "numa"):
        assert driver(machine(tmp_path), cpus="", group_by=group_by).devices() == []


def test_offline_hybrid_arm_and_a_kernel_without_numa(tmp_path: Path) -> None:
    root = machine(tmp_path, cores=4, online="0-2")
    (root / "sys/devices/system/node/node0/cpulist").unlink()
    (root / "sys/devices/system/node/node0").rmdir()
    write(root / "sys/devices/cpu_core/cpus", "0-1")
    write(root / "sys/devices/cpu_atom/cpus", "2-3")
    write(root / "proc/cpuinfo", "CPU implementer\t: 0x41\n")
    found = read(root, None)
    assert [(cpu.id, cpu.kind, cpu.numa) for cpu in found.cpus] == [
        (0, "p-core", 0),
        (1, "p-core", 0),
        (2, "e-core", 0),
    ]
    assert (found.vendor, found.has_smt) == ("ARM", False)


def test_this_machine() -> None:
    ours = build("cpu", {}, "n1").devices()
    assert {item.attributes["cpuID"].int_ for item in ours} == os.sched_getaffinity(0)


BAD: dict[str, tuple[dict[str, str], str]] = {
    "unknown": ({"cpu": "1"}, "has no option 'cpu': it has cpus, share, group-by, root"),
    "cpus": ({"cpus": "x"}, "option cpus: 'x' is not the number of a CPU"),
    "not there": ({"cpus": "0,9"}, "no CPU 9 here: there are 0-3"),
    "group": ({"group-by": "core"}, "option group-by: 'core' is not one of none, numa, socket"),
    "root": ({"root": "/nowhere"}, "cannot read the CPUs of this machine"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options(case: str, tmp_path: Path) -> None:
    options, text = BAD[case]
    with pytest.raises(UsageError, match=text):
        build("cpu", {"root": str(machine(tmp_path)), **options}, "n1")


# --- choosing -------------------------------------------------------------------------------------


def smt(cores: int, l3_of: int = 2) -> list[CPU]:
    """Cores of two CPUs, n and n + 100, and an L3 cache for every `l3_of` cores."""
    return [
        CPU(number, core, 0, 0, core // l3_of, "standard", frozenset({core, core + 100}))
        for core in range(cores)
        for number in (core, core + 100)
    ]


CHOICES: dict[str, tuple[set[int], int, list[int] | None]] = {
    "none": (set(), 0, []),
    "half a core": (set(), 1, [0]),
    "a whole core": (set(), 2, [0, 100]),
    "whole cores, then half of the next": (set(), 3, [0, 1, 100]),
    "a whole core, not two halves": ({0, 1}, 2, [2, 102]),
    "the odd one from a broken core": ({3}, 3, [0, 100, 103]),
    "halves when nothing else is left": ({0, 1, 2, 3}, 2, [100, 101]),
    "all": (set(), 8, [0, 1, 2, 3, 100, 101, 102, 103]),
    "too many": ({0}, 8, None),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choose(case: str) -> None:
    taken, count, chosen = CHOICES[case]
    assert choose(smt(4), frozenset(taken), count) == chosen


def test_a_share_without_siblings_has_whole_cores() -> None:
    """Where the other CPU of a core belongs to somebody else, the one we have is the whole core."""
    ours = [cpu for cpu in smt(4) if cpu.id < 100]
    assert choose(ours, frozenset({0}), 2) == [1, 2]


async def test_groups_hand_out_cpus_of_their_own(tmp_path: Path) -> None:
    cpu = driver(machine(tmp_path, sockets=2, cores=4), group_by="numa")
    prepared: dict[str, PreparedClaim] = {}
    cpu.prepared = prepared

    async def prepare(uid: str, *devices: str, count: str | None = None) -> list[str]:
        more = {} if count is None else {"consumedCapacity": {"dra.cpu/cpu": count}}
        found = await cpu.prepare(claim(*devices, uid=uid, **more))
        prepared[uid] = PreparedClaim(
            namespace="default", name=uid, uid=uid, is_complete=True, devices=list(found)
        )
        return cpus(list(found))

    assert await prepare("a", "cpudevnuma000", count="2") == ["0-1"]
    assert await prepare("b", "cpudevnuma000", "cpudevnuma001", count="1500m") == ["2-3", "4-5"]
    with pytest.raises(RecoverableError, match="cpudevnuma000: 1 CPUs are asked for, free are: none"):
        await prepare("c", "cpudevnuma000", count="1")
    del prepared["a"]
    assert await prepare("c", "cpudevnuma000", count="1") == ["0"]
    with pytest.raises(RecoverableError, match="4 CPUs are asked for, free are: 6-7"):
        await prepare("d", "cpudevnuma001")
    (guest,) = await cpu.prepare(claim("cpudevnuma001", adminAccess=True))
    assert (guest.state, guest.edits.hooks) == ({}, [])


async def test_individual_cpus_get_a_hook(tmp_path: Path) -> None:
    cpu = driver(machine(tmp_path))
    first, second = await cpu.prepare(claim("cpudev001", "cpudev003"))
    assert first.edits.env == ["DRA_CPUSET_CPUDEV001=1"]
    (hook,) = second.edits.hooks
    assert (hook.hook_name, hook.path, hook.args[-1]) == ("createRuntime", "/bin/sh", "3")


# --- pinning --------------------------------------------------------------------------------------


def run_hook(
    folder: Path, pid: int | str, cpus: str, shell: tuple[str, ...] = ("/bin/sh",)
) -> subprocess.CompletedProcess[str]:
    state = {"ociVersion": "1.0.2", "id": "c", "status": "created", "pid": pid, "bundle": "/b"}
    more = {"annotations": {"a": '{"pid": 1}', "pid": "1"}}
    return subprocess.run(
        [*shell, *pin.hook(folder, cpus).args[1:]],
        input=json.dumps(state | more),
        capture_output=True,
        text=True,
        check=False,
        env={},
    )


@pytest.fixture
def sleeper() -> Any:
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


SHELLS = {"sh": ("/bin/sh",), "bash": ("bash", "--posix"), "busybox": ("busybox", "sh")}


@pytest.mark.parametrize("shell", SHELLS)
def test_hooks_add_up(shell: str, tmp_path: Path, sleeper: int) -> None:
    path = shutil.which(SHELLS[shell][0])
    if path is None:
        pytest.skip(f"there is no {shell} here")
    ours = sorted(os.sched_getaffinity(0))
    for index, number in enumerate(ours):
        done = run_hook(tmp_path / "c", sleeper, str(number), (path, *SHELLS[shell][1:]))
        assert (done.returncode, done.stderr) == (0, "")
        assert os.sched_getaffinity(sleeper) == set(ours[: index + 1])
    assert len(list((tmp_path / "c").iterdir())) == 1
    write(tmp_path / "c" / "999999-1", "0")
    run_hook(tmp_path / "c", sleeper, str(ours[0]))
    assert not (tmp_path / "c" / "999999-1").exists()
    assert os.sched_getaffinity(0) == set(ours)


def test_a_hook_that_cannot_pin_says_so(tmp_path: Path, sleeper: int) -> None:
    gone = run_hook(tmp_path, 9_999_999, "0")
    assert gone.returncode == 1
    assert gone.stderr == "cannot pin the container to CPUs 0: its process 9999999 does not live\n"
    assert "no pid in the state on stdin" in run_hook(tmp_path, "1", "0").stderr
    assert run_hook(tmp_path, sleeper, "8000").returncode == 1


@pytest.mark.needs_root
def test_a_cgroup_of_its_own(tmp_path: Path, sleeper: int) -> None:
    parent = Path("/sys/fs/cgroup/cpuset")
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        pytest.skip("this machine has no cpuset hierarchy of version 1")
    ours = sorted(os.sched_getaffinity(0))
    group = parent / f"drakit-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpuset.cpus").write_text(cpuset.format(ours))
        (group / "cpuset.mems").write_text((parent / "cpuset.mems").read_text())
        (group / "cgroup.procs").write_text(str(sleeper))
        done = run_hook(tmp_path, sleeper, str(ours[-1]))
        assert (done.returncode, done.stderr) == (0, "")
        assert (group / "cpuset.cpus").read_text().strip() == str(ours[-1])
        assert os.sched_getaffinity(sleeper) == {ours[-1]}
    finally:
        (parent / "cgroup.procs").write_text(str(sleeper))
        group.rmdir()
