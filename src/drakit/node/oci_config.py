"""A container as the OCI runtime specification's config.json: a pure function of what the agent asked for.

Defaults are those of Docker and containerd (capabilities, masked paths, device rules), so that an image
finds the surroundings it expects. Reading device numbers of host files is the one look at the machine.
"""

from __future__ import annotations

import os
import stat
from typing import Any

import msgspec
from msgspec import Struct

from drakit.model.cdi import ContainerEdits, DeviceNode
from drakit.node.runtime import (
    DEFAULT_PATH,
    ContainerSpec,
    Limits,
    RuntimeFailed,
    Sandbox,
    UnresolvableCDI,
    merged_env,
)
from drakit.node.seccomp import seccomp

PIDS_LIMIT = 4096
"""Processes of one container: a fork bomb ends in its container."""

# fmt: off
_CAPABILITIES = [
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
    "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
]
_ALL_CAPABILITIES = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
]
MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
]
# fmt: on
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_DEVICES = [
    (1, 3),
    (1, 5),
    (1, 7),
    (1, 8),
    (1, 9),
    (5, 0),
    (5, 2),
    (136, None),
]  # null zero full random tty pty
_QUIET = ["nosuid", "noexec", "nodev"]
_PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}


class User(Struct, frozen=True):
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


def build(
    spec: ContainerSpec,
    sandbox: Sandbox,
    edits: ContainerEdits,
    *,
    rootfs: str,
    user: User,
    cgroup: str,
    bounding: frozenset[int],
    target_pid: int = 0,
) -> dict[str, Any]:
    """The config.json of `spec` with the CDI `edits` in place. `bounding` holds the numbers of the
    capabilities this process may give away; with a `target_pid` it sees the processes that one sees."""
    security = spec.security
    env = merged_env([DEFAULT_PATH], spec.image.env, [f"HOSTNAME={sandbox.hostname}"], spec.env, edits.env)
    capabilities = _capabilities(spec, bounding)
    config: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "root": {"path": rootfs, "readonly": security.is_root_read_only},
        "process": {
            "terminal": spec.has_terminal,
            "user": {"uid": user.uid, "gid": user.gid}
            | _present(additionalGids=sorted({*user.groups, *edits.additional_gids})),
            "args": spec.argv,
            "cwd": spec.cwd or spec.image.cwd or "/",
            "env": env,
            "noNewPrivileges": not (security.allows_escalation or security.is_privileged),
            "capabilities": _capability_sets(capabilities, user),
        },
        "mounts": _mounts(spec, edits, sandbox),
        "linux": {
            "namespaces": _namespaces(sandbox, target_pid),
            "cgroupsPath": cgroup,
            "resources": _resources(spec.limits) | {"devices": _device_rules(security.is_privileged)},
        },
    }
    if not security.is_privileged:
        config["linux"] |= {"maskedPaths": MASKED, "readonlyPaths": READ_ONLY}
        config["linux"] |= _present(seccomp=seccomp(security.seccomp, capabilities))
    config["linux"] |= _present(sysctl=sandbox.sysctls, rootfsPropagation=_root_propagation(spec))
    _add_devices(config, edits.device_nodes)
    _add_rest(config, edits)
    return config


def _present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


def _capabilities(spec: ContainerSpec, bounding: frozenset[int]) -> list[str]:
    security = spec.security
    names = list(_ALL_CAPABILITIES if security.is_privileged else _CAPABILITIES)
    dropped = {name.removeprefix("CAP_").upper() for name in security.dropped_capabilities}
    added = [name.removeprefix("CAP_").upper() for name in security.added_capabilities]
    names = [] if "ALL" in dropped else [name for name in names if name not in dropped]
    names += _ALL_CAPABILITIES if "ALL" in added else added
    if unknown := [name for name in names if name not in _ALL_CAPABILITIES]:
        raise RuntimeFailed(f"unknown capability {unknown[0]}")
    wanted = dict.fromkeys(names)
    return [f"CAP_{name}" for name in wanted if _ALL_CAPABILITIES.index(name) in bounding]


def _capability_sets(capabilities: list[str], user: User) -> dict[str, list[str]]:
    own = capabilities if user.uid == 0 else []
    return {"bounding": capabilities, "effective": own, "permitted": own}


def _namespaces(sandbox: Sandbox, target_pid: int) -> list[dict[str, str]]:
    namespaces: list[dict[str, str]] = [{"type": "mount"}]
    if target_pid:
        namespaces.append({"type": "pid", "path": f"/proc/{target_pid}/ns/pid"})
    elif sandbox.shares_processes:
        namespaces.append({"type": "pid", "path": f"/proc/{sandbox.pid}/ns/pid"})
    elif not sandbox.is_host_pid:
        namespaces.append({"type": "pid"})
    own = {
        "network": None if sandbox.is_host_network else "net",
        "ipc": None if sandbox.is_host_ipc else "ipc",
        "uts": None if sandbox.is_host_network else "uts",
    }
    for kind, name in own.items():
        if name:
            namespaces.append({"type": kind, "path": f"/proc/{sandbox.pid}/ns/{name}"})
    return namespaces


def _mounts(spec: ContainerSpec, edits: ContainerEdits, sandbox: Sandbox) -> list[dict[str, Any]]:
    is_privileged = spec.security.is_privileged
    sys_options = [*_QUIET, "rw" if is_privileged else "ro"]
    sysfs = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": sys_options}
    if sandbox.is_host_network:  # sysfs shows the network namespace it is mounted in, and needs to own it
        sysfs = {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", *sys_options]}
    dev: list[dict[str, Any]] = [_tmpfs("/dev", ["nosuid", "strictatime", "mode=755", "size=65536k"])]
    if is_privileged:
        dev = [{"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rw"]}]
    else:
        pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
        mqueue = {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": _QUIET}
        dev += [
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts},
            _tmpfs("/dev/shm", [*_QUIET, "mode=1777", "size=65536k"]),
            mqueue,
        ]
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc", "options": _QUIET}, *dev, sysfs]
    wanted: dict[str, dict[str, Any]] = {}
    for mount in spec.mounts:
        propagation = _PROPAGATION.get(mount.propagation, "rprivate")
        options = ["rbind", propagation, "ro" if mount.is_read_only else "rw"]
        wanted[mount.target] = _bind(mount.source, mount.target, options)
    for cdi in edits.mounts:
        entry = _bind(cdi.host_path, cdi.container_path, cdi.options or ["rbind", "rprivate", "rw"])
        if cdi.type:
            entry["type"] = cdi.type
        wanted[cdi.container_path] = entry
    return mounts + sorted(wanted.values(), key=lambda mount: mount["destination"].rstrip("/").count("/"))


def _root_propagation(spec: ContainerSpec) -> str:
    """What the container's root needs for mounts that come or go later; "" is the runtime's own choice."""
    wanted = {mount.propagation for mount in spec.mounts}
    return next((_PROPAGATION[name] for name in ("Bidirectional", "HostToContainer") if name in wanted), "")


def _tmpfs(target: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}


def _bind(source: str, target: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": source, "options": options}


def cpu_values(limits: Limits) -> dict[str, int]:
    """`shares`, and with a limit `quota` and `period` (pkg/kubelet/cm: MilliCPUToShares, MilliCPUToQuota)."""
    request = limits.cpu_request if limits.cpu_request is not None else limits.cpu_limit
    cpu = {"shares": min(max(2, (request or 0) * 1024 // 1000), 262144)}
    if limits.cpu_limit:
        cpu |= {"quota": max(1000, limits.cpu_limit * 100), "period": 100_000}
    return cpu


def _resources(limits: Limits) -> dict[str, Any]:
    """Kubernetes' CPU and memory as cgroup values."""
    resources: dict[str, Any] = {"cpu": cpu_values(limits), "pids": {"limit": PIDS_LIMIT}}
    if limits.memory_limit:
        resources["memory"] = {"limit": limits.memory_limit}
    if limits.huge_pages:
        resources["hugepageLimits"] = [
            {"pageSize": size, "limit": limit} for size, limit in limits.huge_pages.items()
        ]
    return resources


def _device_rules(is_privileged: bool) -> list[dict[str, Any]]:
    if is_privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for major, minor in _DEVICES:
        rule: dict[str, Any] = {"allow": True, "type": "c", "major": major, "access": "rwm"}
        rules.append(rule if minor is None else rule | {"minor": minor})
    return rules


def _add_devices(config: dict[str, Any], nodes: list[DeviceNode]) -> None:
    linux = config["linux"]
    for node in nodes:
        entry, access = device_entry(node)
        linux.setdefault("devices", []).append(entry)
        if entry["type"] != "p" and access:
            rule = {"allow": True, "access": access}
            linux["resources"]["devices"].append(
                rule | {key: entry[key] for key in ("type", "major", "minor")}
            )


def device_entry(node: DeviceNode) -> tuple[dict[str, Any], str]:
    """The OCI device of a CDI device node and the access it allows; what the node leaves out is read from
    the host's file. Raises UnresolvableCDI when that is not there or is no device."""
    host = node.host_path or node.path
    kind, major, minor, mode = node.type, node.major, node.minor, node.file_mode
    if not kind or (kind != "p" and not (major or minor)):
        try:
            found = os.stat(host)
        except OSError as error:
            raise UnresolvableCDI(f"CDI device node {node.path}: {host}: {error.strerror}") from None
        types = {stat.S_IFBLK: "b", stat.S_IFCHR: "c", stat.S_IFIFO: "p"}
        real = types.get(stat.S_IFMT(found.st_mode), "")
        if not real or (kind and kind.replace("u", "c") != real):
            raise UnresolvableCDI(f"CDI device node {node.path}: {host} is not a device of that type")
        kind, major, minor = kind or real, os.major(found.st_rdev), os.minor(found.st_rdev)
        mode = stat.S_IMODE(found.st_mode) if mode is None else mode
    entry: dict[str, Any] = {
        "path": node.path,
        "type": kind,
        "fileMode": 0o666 if mode is None else mode & 0o7777,
    }
    entry |= {"uid": node.uid or 0, "gid": node.gid or 0}
    if kind != "p":
        entry |= {"major": major, "minor": minor}
    return entry, {"": "rwm", "none": ""}.get(node.permissions, node.permissions)


def _add_rest(config: dict[str, Any], edits: ContainerEdits) -> None:
    for hook in edits.hooks:
        entry = _present(path=hook.path, args=hook.args, env=hook.env, timeout=hook.timeout)
        config.setdefault("hooks", {}).setdefault(hook.hook_name, []).append(entry)
    if edits.intel_rdt is not None:
        config["linux"]["intelRdt"] = msgspec.to_builtins(edits.intel_rdt)
    if edits.net_devices:
        config["linux"]["netDevices"] = {d.host_interface_name: {"name": d.name} for d in edits.net_devices}
