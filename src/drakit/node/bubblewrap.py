"""The command line that gives a container its own view of the host through bubblewrap.

The root is an empty tmpfs into which the host's top folders are bound read-only, so that mount points can be
made anywhere. A mount point that the host does not have needs a folder it can be made in: the deepest host
folder above it is "opened", that is, replaced by a tmpfs with each of its entries bound back into it.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
from collections.abc import Iterable

from drakit.model.cdi import ContainerEdits
from drakit.node.runtime import ContainerSpec, RuntimeFailed, UnresolvableCDI

_OWN = {"/dev", "/proc", "/tmp", "/run"}
"""Folders the container gets for itself, never the host's."""

_NS_GET_USERNS = 0xB701

_MAX_ENTRIES = 2000
"""Entries of a folder we are willing to bind back one by one."""


def bwrap_argv(bwrap: str, spec: ContainerSpec, edits: ContainerEdits, hostname: str) -> list[str]:
    """The arguments up to the container's own command. Raises RuntimeFailed for a mount that cannot be."""
    argv = [bwrap, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", hostname or "localhost"]
    argv += ["--as-pid-1", "--die-with-parent"]
    argv += [] if spec.has_terminal else ["--new-session"]  # it would lose the terminal
    binds: dict[str, list[str]] = {}
    for mount in spec.mounts:
        flag = "--ro-bind" if mount.is_read_only else "--bind"
        target = _place(mount.target)
        binds[target] = [flag, mount.source, target]
    for cdi in edits.mounts:
        target = _place(cdi.container_path)
        binds[target] = _cdi_mount(cdi.type, cdi.host_path, target, cdi.options)
    nodes: list[str] = []
    for node in edits.device_nodes:
        if not os.path.exists(node.host_path or node.path):
            raise UnresolvableCDI(
                f"CDI device node {node.path}: {node.host_path or node.path} does not exist"
            )
        if node.path.startswith("/dev/"):
            nodes += ["--dev-bind", node.host_path or node.path, node.path]
        else:
            target = _place(node.path)
            binds[target] = ["--dev-bind", node.host_path or node.path, target]
    argv += _root(_folders_to_open(binds))
    argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm", *nodes]
    for target in sorted(binds, key=lambda path: path.count("/")):
        argv += binds[target]
    return [*argv, "--chdir", spec.cwd or "/", "--"]


def _is_own(path: str) -> bool:
    return any(path == own or path.startswith(own + "/") for own in _OWN)


def _place(target: str) -> str:
    """Where `target` is behind the host's symbolic links, which the new root has too (/var/run is /run)."""
    path = os.path.normpath(target)
    return path if _is_own(path) else os.path.realpath(path)


def _cdi_mount(kind: str, source: str, target: str, options: list[str]) -> list[str]:
    if kind == "tmpfs":
        sizes = [option.removeprefix("size=") for option in options if option.startswith("size=")]
        return [*(["--size", str(_size(sizes[0]))] if sizes else []), "--tmpfs", target]
    if kind not in ("", "bind", "none"):
        raise UnresolvableCDI(f"CDI mount {target}: file system type {kind} needs the oci runtime")
    return ["--ro-bind" if "ro" in options else "--bind", source, target]


def _size(text: str) -> int:
    unit = {"k": 10, "m": 20, "g": 30}.get(text[-1:].lower(), 0)
    digits = text[:-1] if unit else text
    if not digits.isdigit():
        raise UnresolvableCDI(f"CDI mount: size={text} is not a size")
    return int(digits) << unit


def _folders_to_open(targets: Iterable[str]) -> set[str]:
    """The host's folders in which mount points must be made."""
    opened: set[str] = set()
    for target in targets:
        if _is_own(target) or os.path.exists(target):
            continue
        folder = os.path.dirname(target)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        opened.add(os.path.realpath(folder))
    return opened


def _root(opened: set[str]) -> list[str]:
    """The new root: the host's folders, those in `opened` (and all above them) taken apart."""
    apart = {"/"}
    for folder in opened:
        while folder != "/":
            apart.add(folder)
            folder = os.path.dirname(folder)
    argv: list[str] = []
    for folder in sorted(apart, key=lambda path: path.count("/") if path != "/" else -1):
        argv += ["--tmpfs", folder]
        names = sorted(os.listdir(folder))
        if len(names) > _MAX_ENTRIES:
            raise RuntimeFailed(f"cannot make a mount point in {folder}: it has {len(names)} entries")
        for name in names:
            path = os.path.join(folder, name)
            if path in _OWN:
                argv += ["--tmpfs", path] if path in ("/tmp", "/run") else []
            elif os.path.islink(path):
                argv += ["--symlink", os.readlink(path), path]
            elif path not in apart:
                argv += ["--ro-bind-try", path, path]
    return argv


def owning_user_namespace(pid: int) -> int:
    """An open descriptor of the user namespace in which bubblewrap made the mounts of `pid`: it is not the
    one `pid` is in, which has no power over them. Raises RuntimeFailed when `pid` is gone."""
    try:
        mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return fcntl.ioctl(mounts, _NS_GET_USERNS)
        finally:
            os.close(mounts)
    except OSError as error:
        raise RuntimeFailed(f"cannot enter the container: {error.strerror}") from None


@functools.cache
def find_bwrap() -> str | None:
    """The path of a bubblewrap that works here (user namespaces may be forbidden), None without one."""
    path = shutil.which("bwrap")
    if path is None:
        return None
    argv = [path, "--unshare-pid", "--unshare-ipc", "--unshare-uts", *_root(set())]
    try:
        done = subprocess.run(
            [*argv, "--proc", "/proc", "--dev", "/dev", "--", "/bin/true"], capture_output=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return path if done.returncode == 0 else None
