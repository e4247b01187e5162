"""What the agent asks for in the words of CRI."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from drakit.node.cri_config import NODE_LABEL, cgroup_parent, container_config, namespaces, sandbox_config
from drakit.node.image import Image
from drakit.node.runtime import ContainerSpec, Limits, Mount, Sandbox, SandboxSpec, Security
from drakit.pluginapi import wire

SANDBOX = Sandbox(uid="u-1", namespace="n", name="p")
POD = SandboxSpec(uid="u-1", namespace="n", name="p", hostname="h", log_folder="/logs")


def config(**more: Any) -> Any:
    """The message that goes to the runtime: it takes every field."""
    image = more.pop("image", Image(reference="busybox", id="sha256:1"))
    spec = ContainerSpec(name="c", attempt=2, image=image, log_path="/logs/c/2.log", **more)
    return wire.message("runtime.v1.ContainerConfig")(**container_config(SANDBOX, spec, "node", "/logs"))


def test_a_container() -> None:
    found = config(
        command=["run"],
        args=["x"],
        env=["A=b=c"],
        mounts=[Mount(source="/s", target="/t", is_read_only=True, propagation="HostToContainer")],
        limits=Limits(cpu_limit=500, memory_limit=1 << 20, huge_pages={"2MB": 4 << 20}),
        cdi_devices=["vendor.example.com/thing=a"],
    )
    assert (found.metadata.name, found.metadata.attempt, found.log_path) == ("c", 2, "c/2.log")
    assert (list(found.command), list(found.args)) == (["run"], ["x"])
    assert [(e.key, e.value) for e in found.envs] == [("A", "b=c")]
    assert (found.mounts[0].container_path, found.mounts[0].readonly, found.mounts[0].propagation) == (
        "/t",
        True,
        1,
    )
    resources = found.linux.resources
    assert (resources.cpu_quota, resources.cpu_period, resources.cpu_shares) == (50_000, 100_000, 512)
    assert (resources.memory_limit_in_bytes, resources.hugepage_limits[0].limit) == (1 << 20, 4 << 20)
    assert [device.name for device in found.CDI_devices] == ["vendor.example.com/thing=a"]
    assert found.labels[NODE_LABEL] == "node"


USERS = {
    "nobody said": (Security(), "", (None, "", None)),
    "the pod": (Security(user=5, group=6), "7", (5, "", 6)),
    "the image's number": (Security(), "7", (7, "", None)),
    "the image's name": (Security(group=6), "app", (None, "app", 6)),
    "a group alone": (Security(group=6), "", (0, "", 6)),
}


@pytest.mark.parametrize("name", USERS)
def test_whom_it_runs_as(name: str) -> None:
    security, of_image, expected = USERS[name]
    context = config(
        security=security, image=Image(reference="i", id="1", user=of_image)
    ).linux.security_context
    user = context.run_as_user.value if context.HasField("run_as_user") else None
    group = context.run_as_group.value if context.HasField("run_as_group") else None
    assert (user, context.run_as_username, group) == expected


def test_security() -> None:
    plain = config(security=Security(added_capabilities=["cap_net_admin"], allows_escalation=False))
    context = plain.linux.security_context
    assert list(context.capabilities.add_capabilities) == ["NET_ADMIN"]
    assert context.no_new_privs
    assert "/proc/kcore" in context.masked_paths
    assert context.seccomp.profile_type == 1
    privileged = config(security=Security(is_privileged=True, seccomp="/p.json")).linux.security_context
    assert (list(privileged.masked_paths), privileged.seccomp.localhost_ref) == ([], "/p.json")
    target = config(sees_processes_of="abc").linux.security_context.namespace_options
    assert (target.pid, target.target_id) == (3, "abc")


NAMESPACES = {
    "of its own": (POD, (0, 1, 0)),
    "shared processes": (structs.replace(POD, shares_processes=True), (0, 0, 0)),
    "the host's": (
        structs.replace(POD, is_host_network=True, is_host_pid=True, is_host_ipc=True),
        (2, 2, 2),
    ),
}


@pytest.mark.parametrize("name", NAMESPACES)
def test_namespaces(name: str) -> None:
    spec, (network, pid, ipc) = NAMESPACES[name]
    assert namespaces(spec) == {"network": network, "pid": pid, "ipc": ipc}
    made = wire.message("runtime.v1.PodSandboxConfig")(**sandbox_config(spec, "node", cgroup_parent="/x"))
    assert made.hostname == ("" if spec.is_host_network else "h")


def test_the_parent_cgroup_as_systemd_names_it() -> None:
    assert cgroup_parent("a-b", is_systemd=False) == "/drakit/poda-b"
    assert cgroup_parent("a-b", is_systemd=True) == "/drakit-poda_b.slice"
