"""config.json of a container, and its root file system where no overlay can be mounted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from drakit.model.cdi import ContainerEdits, DeviceNode, Hook, IntelRdt
from drakit.model.cdi import Mount as CDIMount
from drakit.node.image import Image
from drakit.node.oci_config import PIDS_LIMIT, User, build, device_entry
from drakit.node.overlay import drop_rootfs, mount_rootfs
from drakit.node.runtime import (
    ContainerSpec,
    Limits,
    Mount,
    RuntimeFailed,
    Sandbox,
    Security,
    UnresolvableCDI,
)

IMAGE = Image(reference="i", id="sha256:1", env=["A=image", "B=image"], cwd="/work")
SANDBOX = Sandbox(uid="u", namespace="n", name="p", hostname="h", pid=42)
EVERY = frozenset(range(41))


def config(edits: ContainerEdits | None = None, sandbox: Sandbox = SANDBOX, **more: Any) -> dict[str, Any]:
    spec = ContainerSpec(name="c", attempt=0, image=IMAGE, args=["run"], log_path="/l", **more)
    user = User(more["security"].user or 0) if "security" in more else User()
    return build(
        spec,
        sandbox,
        edits or ContainerEdits(),
        rootfs="/r",
        user=user,
        cgroup="/g",
        bounding=EVERY,
    )


def test_variables_later_ones_win() -> None:
    env = config(ContainerEdits(env=["C=device"]), env=["B=pod", "C=pod"])["process"]["env"]
    assert {"A=image", "B=pod", "C=device", "HOSTNAME=h"} <= set(env)
    assert len({entry.partition("=")[0] for entry in env}) == len(env)


LIMITS = [
    (Limits(), {"shares": 2}, None),
    (Limits(cpu_request=250), {"shares": 256}, None),
    (Limits(cpu_limit=500), {"shares": 512, "quota": 50_000, "period": 100_000}, None),
    (Limits(cpu_request=100, cpu_limit=5), {"shares": 102, "quota": 1000, "period": 100_000}, None),
    (Limits(memory_limit=1 << 20), {"shares": 2}, {"limit": 1 << 20}),
]


@pytest.mark.parametrize(("limits", "cpu", "memory"), LIMITS)
def test_limits(limits: Limits, cpu: dict[str, int], memory: dict[str, int] | None) -> None:
    resources = config(limits=limits)["linux"]["resources"]
    assert resources["cpu"] == cpu
    assert resources.get("memory") == memory
    assert resources["pids"] == {"limit": PIDS_LIMIT}


def test_namespaces() -> None:
    def kinds(sandbox: Sandbox) -> dict[str, str | None]:
        return {n["type"]: n.get("path") for n in config(sandbox=sandbox)["linux"]["namespaces"]}

    assert kinds(SANDBOX) == {
        "mount": None,
        "pid": None,
        "network": "/proc/42/ns/net",
        "ipc": "/proc/42/ns/ipc",
        "uts": "/proc/42/ns/uts",
    }
    host = Sandbox(
        uid="u", namespace="n", name="p", pid=42, is_host_network=True, is_host_pid=True, is_host_ipc=True
    )
    assert kinds(host) == {"mount": None}


CAPABILITIES = [
    (Security(), True, False),
    (Security(added_capabilities=["NET_ADMIN"]), True, True),
    (Security(dropped_capabilities=["ALL"], added_capabilities=["CAP_NET_ADMIN"]), False, True),
    (Security(dropped_capabilities=["chown"]), False, False),
    (Security(is_privileged=True), True, True),
]


@pytest.mark.parametrize(("security", "chown", "net_admin"), CAPABILITIES)
def test_capabilities(security: Security, chown: bool, net_admin: bool) -> None:
    bounding = config(security=security)["process"]["capabilities"]["bounding"]
    assert ("CAP_CHOWN" in bounding, "CAP_NET_ADMIN" in bounding) == (chown, net_admin)


def test_a_user_has_none_by_itself() -> None:
    assert config(security=Security(user=1000))["process"]["capabilities"]["effective"] == []


def test_an_unknown_capability() -> None:
    with pytest.raises(RuntimeFailed, match="unknown capability FLY"):
        config(security=Security(added_capabilities=["FLY"]))


def test_devices_open_what_they_name_and_nothing_more() -> None:
    edits = ContainerEdits(device_nodes=[DeviceNode(path="/dev/x", host_path="/dev/null", permissions="r")])
    linux = config(edits)["linux"]
    assert linux["devices"][0] | {"fileMode": 0} == {
        "path": "/dev/x",
        "type": "c",
        "major": 1,
        "minor": 3,
        "fileMode": 0,
        "uid": 0,
        "gid": 0,
    }
    rules = linux["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert rules[-1] == {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (DeviceNode(path="/dev/nope"), "No such file"),
        (DeviceNode(path="/dev/x", host_path="/etc/passwd"), "is not a device"),
        (DeviceNode(path="/dev/x", host_path="/dev/null", type="b"), "is not a device of that type"),
    ],
)
def test_devices_that_are_none(node: DeviceNode, words: str) -> None:
    with pytest.raises(UnresolvableCDI, match=words):
        device_entry(node)


def test_numbers_of_a_device_need_no_file() -> None:
    entry, access = device_entry(DeviceNode(path="/dev/y", type="c", major=9, minor=8, file_mode=0o600))
    assert (entry["major"], entry["minor"], entry["fileMode"], access) == (9, 8, 0o600, "rwm")


def test_mounts_parents_first_and_the_device_wins() -> None:
    edits = ContainerEdits(
        mounts=[CDIMount(host_path="/h/dev", container_path="/a/b", options=["ro"], type="bind")]
    )
    mounts = config(
        edits, mounts=[Mount(source="/h/1", target="/a/b/c"), Mount(source="/h/2", target="/a/b")]
    )["mounts"]
    ours = [(m["source"], m["destination"]) for m in mounts if m["destination"].startswith("/a")]
    assert ours == [("/h/dev", "/a/b"), ("/h/1", "/a/b/c")]


def test_hooks_and_the_rest() -> None:
    edits = ContainerEdits(
        hooks=[Hook(hook_name="createRuntime", path="/h", args=["h", "x"], timeout=3)],
        additional_gids=[7],
        intel_rdt=IntelRdt(clos_id="gold"),
    )
    made = config(edits)
    assert made["hooks"] == {"createRuntime": [{"path": "/h", "args": ["h", "x"], "timeout": 3}]}
    assert made["process"]["user"]["additionalGids"] == [7]
    assert made["linux"]["intelRdt"]["closID"] == "gold"


@pytest.mark.needs_root
def test_without_an_overlay_the_layers_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drakit.node.overlay._mount", lambda *arguments: -1)
    low, high, folder = tmp_path / "low", tmp_path / "high", tmp_path / "c"
    for path in (low / "d", high / "d", folder):
        path.mkdir(parents=True)
    (low / "d" / "same").write_text("low")
    (low / "d" / "gone").write_text("low")
    (low / "link").symlink_to("d")
    (high / "d" / "same").write_text("high")
    os.mknod(high / "d" / "gone", 0o020000, os.makedev(0, 0))
    root = mount_rootfs([str(low), str(high)], folder)
    assert (root / "d" / "same").read_text() == "high"
    assert not (root / "d" / "gone").exists()
    assert os.readlink(root / "link") == "d"
    drop_rootfs(folder)
    assert list(folder.iterdir()) == []


def test_what_a_pod_may_share_and_set() -> None:
    shared = structs.replace(SANDBOX, shares_processes=True, sysctls={"net.core.somaxconn": "9"})
    linux = config(sandbox=shared)["linux"]
    assert {"type": "pid", "path": "/proc/42/ns/pid"} in linux["namespaces"]
    assert linux["sysctl"] == {"net.core.somaxconn": "9"}
    assert {"type": "pid"} in config()["linux"]["namespaces"]


def test_huge_pages_and_system_calls() -> None:
    limits = Limits(huge_pages={"2MB": 4 << 20})
    pages = config(limits=limits)["linux"]["resources"]["hugepageLimits"]
    assert pages == [{"pageSize": "2MB", "limit": 4 << 20}]
    assert "seccomp" not in config()["linux"]
    assert "seccomp" in config(security=Security(seccomp="RuntimeDefault"))["linux"]
    assert "seccomp" not in config(security=Security(seccomp="RuntimeDefault", is_privileged=True))["linux"]


PROPAGATION = {
    "None": ("rprivate", None),
    "HostToContainer": ("rslave", "rslave"),
    "Bidirectional": ("rshared",) * 2,
}


@pytest.mark.parametrize("name", PROPAGATION)
def test_mounts_that_come_later(name: str) -> None:
    of_mount, of_root = PROPAGATION[name]
    built = config(mounts=[Mount(source="/s", target="/t", propagation=name)])
    assert of_mount in next(mount for mount in built["mounts"] if mount["destination"] == "/t")["options"]
    assert built["linux"].get("rootfsPropagation") == of_root
