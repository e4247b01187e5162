"""What a container needs of the host to use an NVIDIA GPU: device files, libraries, nvidia-smi."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from drakit.driver import DeviceNode, Mount
from drakit.errors import RecoverableError

LIBRARIES = "/usr/local/nvidia/lib64"
"""Where containers find them; NVIDIA's images look there by themselves."""

_CONTROL = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
_FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib")
_NAME = re.compile(r"lib(cuda|cudadebugger|nvcuvid|nvidia-[a-z0-9-]+|nvoptix)\.so\.\d+")


def device_nodes(root: Path, minor: int) -> list[DeviceNode]:
    """Of the GPU `minor`, and those every GPU needs. Raises RecoverableError if its own is missing."""
    if not (root / f"dev/nvidia{minor}").exists():
        raise RecoverableError(f"/dev/nvidia{minor} is missing: is NVIDIA's driver loaded?")
    names = [*(name for name in _CONTROL if (root / "dev" / name).exists()), f"nvidia{minor}"]
    return [_node(f"/dev/{name}") for name in names]


def mig_nodes(root: Path, minor: int, instance: int, compute_instance: int) -> list[DeviceNode]:
    """The capabilities of a MIG device. Raises RecoverableError if it is not there any more."""
    folder = root / f"proc/driver/nvidia/capabilities/gpu{minor}/mig/gi{instance}"
    found = []
    for path in (folder / "access", folder / f"ci{compute_instance}/access"):
        try:
            text = path.read_text()
        except OSError:
            raise RecoverableError(f"MIG instance {instance} of GPU {minor} is not there any more") from None
        number = re.search(r"^DeviceFileMinor:\s*(\d+)", text, re.MULTILINE)
        if number is None:
            raise RecoverableError(f"{path} does not say its device file")
        found.append(_node(f"/dev/nvidia-caps/nvidia-cap{number[1]}"))
    return found


def _node(path: str) -> DeviceNode:
    return DeviceNode(path=path, host_path=path, permissions="rw")


def mounts(root: Path) -> Iterator[Mount]:
    """The driver's libraries by the names that programs ask for, and nvidia-smi; read only."""
    seen: set[str] = set()
    for folder in _FOLDERS:
        for path in sorted((root / folder).glob("lib*.so.*")):
            if _NAME.fullmatch(path.name) and path.name not in seen and path.exists():
                seen.add(path.name)
                yield _mount(f"/{folder}/{path.name}", f"{LIBRARIES}/{path.name}")
    if (root / "usr/bin/nvidia-smi").exists():
        yield _mount("/usr/bin/nvidia-smi", "/usr/bin/nvidia-smi")


def _mount(host: str, inside: str) -> Mount:
    return Mount(host_path=host, container_path=inside, options=["ro", "nosuid", "nodev", "bind"])
