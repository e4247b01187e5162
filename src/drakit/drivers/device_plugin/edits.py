"""What a device plugin says a container needs, as CDI edits."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from drakit.driver import ContainerEdits, DeviceNode, Mount
from drakit.errors import RecoverableError
from drakit.pluginapi.deviceplugin import ContainerAllocation, PluginDeviceNode

MAX_NODES = 1000
"""Device files of one folder that go to a container."""


def edits(allocation: ContainerAllocation) -> ContainerEdits:
    """Environment, mounts and device nodes of `allocation`. Raises RecoverableError where the machine does
    not have what it names."""
    return ContainerEdits(
        env=[f"{key}={value}" for key, value in sorted(allocation.envs.items())],
        mounts=[
            Mount(
                host_path=mount.host_path,
                container_path=mount.container_path,
                options=["rbind", "ro" if mount.is_read_only else "rw"],
            )
            for mount in allocation.mounts
        ],
        device_nodes=[node for given in allocation.device_nodes for node in _nodes(given)],
    )


def _nodes(given: PluginDeviceNode) -> Iterator[DeviceNode]:
    """The device file, or all files of a folder such as /dev/snd, as a kubelet's runtime does it."""
    try:
        path = Path(given.host_path).resolve(strict=True)
        if not path.is_dir():
            yield _node(given.container_path, path, given.permissions)
            return
        found = sorted(entry for entry in path.rglob("*") if _is_device(entry))
    except OSError as error:
        raise RecoverableError(f"device {given.host_path}: {error.strerror}") from None
    if len(found) > MAX_NODES:
        raise RecoverableError(f"device folder {given.host_path} has more than {MAX_NODES} devices")
    for entry in found:
        inside = Path(given.container_path) / entry.relative_to(path)
        yield _node(str(inside), entry, given.permissions)


def _node(container_path: str, host_path: Path, permissions: str) -> DeviceNode:
    if not _is_device(host_path):
        raise RecoverableError(f"{host_path} is no device file")
    return DeviceNode(path=container_path, host_path=str(host_path), permissions=permissions)


def _is_device(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
