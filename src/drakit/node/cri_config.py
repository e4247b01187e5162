"""What the agent asks for, in the words of CRI: pure functions from specs to the fields of requests.

Labels and annotations are the kubelet's, so that tools like crictl show what they are used to; one more label
tells the containers of this node from those of others at the same runtime.
"""

from __future__ import annotations

import json
import os
from typing import Any

from drakit.node.oci_config import MASKED, READ_ONLY, cpu_values
from drakit.node.runtime import ContainerSpec, Limits, Mount, Sandbox, SandboxSpec

NODE_LABEL = "drakit.dev/node"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
CDI_DEVICES = "drakit.dev/cdi-devices"
IMAGE = "drakit.dev/image"

_PROPAGATION = {"HostToContainer": 1, "Bidirectional": 2}
_POD, _CONTAINER, _NODE, _TARGET = 0, 1, 2, 3


def sandbox_config(spec: SandboxSpec, node: str, *, cgroup_parent: str) -> dict[str, Any]:
    """A PodSandboxConfig."""
    return {
        "metadata": {"name": spec.name, "uid": spec.uid, "namespace": spec.namespace, "attempt": 0},
        "hostname": "" if spec.is_host_network else spec.hostname,
        "log_directory": spec.log_folder,
        "labels": _labels(spec, node),
        "linux": {
            "cgroup_parent": cgroup_parent,
            "sysctls": spec.sysctls,
            "security_context": {
                "namespace_options": namespaces(spec),
                "privileged": spec.is_privileged,
                "seccomp": {"profile_type": 0},
            },
        },
    }


def namespaces(spec: SandboxSpec | Sandbox) -> dict[str, int]:
    """A NamespaceOption."""
    pid = _NODE if spec.is_host_pid else _POD if spec.shares_processes else _CONTAINER
    return {
        "network": _NODE if spec.is_host_network else _POD,
        "pid": pid,
        "ipc": _NODE if spec.is_host_ipc else _POD,
    }


def container_config(sandbox: Sandbox, spec: ContainerSpec, node: str, log_folder: str) -> dict[str, Any]:
    """A ContainerConfig. CDI devices go by their names: the runtime finds out what they mean."""
    return {
        "metadata": {"name": spec.name, "attempt": spec.attempt},
        "image": {"image": spec.image.id, "user_specified_image": spec.image.reference},
        "command": spec.command,
        "args": spec.args,
        "working_dir": spec.cwd,
        "envs": [{"key": name, "value": value} for name, _, value in (e.partition("=") for e in spec.env)],
        "mounts": [_mount(mount) for mount in spec.mounts],
        "labels": _labels(sandbox, node) | {CONTAINER_NAME: spec.name},
        "annotations": {CDI_DEVICES: json.dumps(spec.cdi_devices), IMAGE: spec.image.reference},
        "log_path": os.path.relpath(spec.log_path, log_folder),
        "stdin": spec.has_stdin,
        "stdin_once": spec.is_stdin_once,
        "tty": spec.has_terminal,
        "linux": {"resources": _resources(spec.limits), "security_context": _security(sandbox, spec)},
        "CDI_devices": [{"name": name} for name in spec.cdi_devices],
    }


def _labels(of: SandboxSpec | Sandbox, node: str) -> dict[str, str]:
    return {NODE_LABEL: node, POD_NAME: of.name, POD_NAMESPACE: of.namespace, POD_UID: of.uid}


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "container_path": mount.target,
        "host_path": mount.source,
        "readonly": mount.is_read_only,
        "propagation": _PROPAGATION.get(mount.propagation, 0),
    }


def _resources(limits: Limits) -> dict[str, Any]:
    resources: dict[str, Any] = {f"cpu_{name}": value for name, value in cpu_values(limits).items()}
    resources["memory_limit_in_bytes"] = limits.memory_limit or 0
    pages = [{"page_size": size, "limit": limit} for size, limit in limits.huge_pages.items()]
    return resources | {"hugepage_limits": pages}


def _security(sandbox: Sandbox, spec: ContainerSpec) -> dict[str, Any]:
    security = spec.security
    context: dict[str, Any] = {
        "capabilities": {
            "add_capabilities": [_plain(name) for name in security.added_capabilities],
            "drop_capabilities": [_plain(name) for name in security.dropped_capabilities],
        },
        "privileged": security.is_privileged,
        "namespace_options": namespaces(sandbox) | _target(spec),
        "readonly_rootfs": security.is_root_read_only,
        "supplemental_groups": security.groups,
        "no_new_privs": not (security.allows_escalation or security.is_privileged),
        "seccomp": _seccomp(security.seccomp),
    }
    if not security.is_privileged:
        context |= {"masked_paths": MASKED, "readonly_paths": READ_ONLY}
    return context | _user(spec)


def _target(spec: ContainerSpec) -> dict[str, Any]:
    target = spec.sees_processes_of
    return {"pid": _TARGET, "target_id": target} if target else {}


def _user(spec: ContainerSpec) -> dict[str, Any]:
    """Whom it runs as; the image's own user must be named where a group is."""
    security, of_image = spec.security, spec.image.user
    user: dict[str, Any] = {}
    if security.user is not None:
        user["run_as_user"] = {"value": security.user}
    elif of_image and not of_image.isdigit():
        user["run_as_username"] = of_image
    elif of_image or security.group is not None:
        user["run_as_user"] = {"value": int(of_image or 0)}
    if security.group is not None:
        user["run_as_group"] = {"value": security.group}
    return user


def _plain(capability: str) -> str:
    return capability.upper().removeprefix("CAP_")


def _seccomp(profile: str) -> dict[str, Any]:
    if profile.startswith("/"):
        return {"profile_type": 2, "localhost_ref": profile}
    return {"profile_type": 0 if profile == "RuntimeDefault" else 1}


def cgroup_parent(uid: str, *, is_systemd: bool) -> str:
    """The parent cgroup of a pod, as a path, or as systemd names a slice below `drakit.slice`."""
    return f"/drakit-pod{uid.replace('-', '_')}.slice" if is_systemd else f"/drakit/pod{uid}"
