"""The root file system of a container: the image's layers below, the container's own writes on top.

An overlay mount where the kernel makes one (its folders must not lie on an overlay themselves, as in a
container), else a copy of the layers.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from drakit.node.runtime import RuntimeFailed

_libc = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2


def mount_rootfs(layers: Sequence[str], folder: Path) -> Path:
    """A writable tree of `layers` (the lowest first) below `folder`. Raises RuntimeFailed."""
    upper, work, merged = (folder / name for name in ("upper", "work", "rootfs"))
    try:
        for path in (upper, work, merged):
            path.mkdir(exist_ok=True)
        lower = ":".join(reversed([layer.replace(":", "\\:").replace(",", "\\,") for layer in layers]))
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        if _mount("overlay", str(merged), "overlay", options) != 0:
            for layer in layers:
                _copy_layer(Path(layer), merged)
    except OSError as error:
        raise RuntimeFailed(f"cannot make the root file system {merged}: {error}") from None
    return merged


def drop_rootfs(folder: Path) -> None:
    """Unmount and delete what `mount_rootfs` made below `folder`; done twice is done."""
    merged = folder / "rootfs"
    while os.path.ismount(merged):
        if _libc.umount2(os.fsencode(merged), _MNT_DETACH) != 0:
            raise RuntimeFailed(f"cannot unmount {merged}: {os.strerror(ctypes.get_errno())}")
    for name in ("rootfs", "work", "upper"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _mount(source: str, target: str, kind: str, options: str) -> int:
    arguments = (os.fsencode(text) for text in (source, target, kind))
    return int(_libc.mount(*arguments, 0, os.fsencode(options)))


def _copy_layer(layer: Path, target: Path) -> None:
    for folder, names, files in os.walk(layer):
        place = target / Path(folder).relative_to(layer)
        place.mkdir(exist_ok=True)
        shutil.copystat(folder, place)
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        for name in files + links:
            source, copy = Path(folder, name), place / name
            if os.path.islink(copy) or copy.is_file():
                copy.unlink()
            elif copy.is_dir():
                shutil.rmtree(copy)
            found = source.lstat()
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                continue  # a whiteout: the layer deletes what was below
            shutil.copy2(source, copy, follow_symlinks=False)
            os.lchown(copy, found.st_uid, found.st_gid)
