"""Unpacking one layer of an image into a folder that may be used as a layer of an overlay mount.

A layer is somebody's tar archive: nothing in it may land outside of the folder, whatever its names, its
links or the links it made before. Owners, modes, device nodes and the deletions of OCI layers ("whiteouts")
are kept, which needs root; without root owners and devices are left out.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import IO

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


def unpack(blob: IO[bytes], target: Path) -> None:
    """Extract the archive `blob`, compressed or not, into `target`.

    Raises ValueError for an entry that would leave `target`, tarfile.TarError for what is no archive.
    """
    root = os.path.realpath(target)
    folders: list[tuple[str, tarfile.TarInfo]] = []
    with tarfile.open(fileobj=blob, mode="r|*") as archive:
        for member in archive:
            path = _place(root, member.name)
            name = os.path.basename(path)
            if name.startswith(WHITEOUT):
                _delete(os.path.dirname(path), name)
            elif path == root or member.isdir():
                if os.path.islink(path) or not os.path.isdir(path):
                    _clear(path)
                    os.mkdir(path)
                folders.append((path, member))
            else:
                _clear(path)
                _make(archive, member, path, root)
    for path, member in reversed(folders):  # last, so that a read-only folder could still be filled
        _stamp(path, member)


def _place(root: str, name: str) -> str:
    """Where `name` goes; its folder exists afterwards and lies inside of `root`."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"{name} points outside of the image")
    if not parts:
        return root
    folder = os.path.realpath(os.path.join(root, *parts[:-1]))
    if folder != root and not folder.startswith(root + "/"):
        raise ValueError(f"{name} points outside of the image")
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, parts[-1])


def _clear(path: str) -> None:
    """Remove what an earlier entry of the same layer put at `path`."""
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)


def _make(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, root: str) -> None:
    if member.issym():
        os.symlink(member.linkname, path)
    elif member.islnk():
        os.link(_place(root, member.linkname), path, follow_symlinks=False)
        return
    elif member.isfifo():
        os.mkfifo(path)
    elif member.ischr() or member.isblk():
        if os.geteuid() != 0:
            return
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
    else:
        data = archive.extractfile(member)
        with open(path, "xb") as file:
            if data is not None:
                shutil.copyfileobj(data, file)
    _stamp(path, member)


def _stamp(path: str, member: tarfile.TarInfo) -> None:
    if os.geteuid() == 0:
        os.lchown(path, member.uid, member.gid)
    if not member.issym():
        os.chmod(path, member.mode & 0o7777)
        os.utime(path, (member.mtime, member.mtime))


def _delete(folder: str, name: str) -> None:
    """Hide `name` of the layers below, in overlayfs' way."""
    if os.geteuid() != 0:
        raise ValueError("layers with deletions need root (overlay whiteouts)")
    if name == OPAQUE:
        os.setxattr(folder, "trusted.overlay.opaque", b"y")
        return
    path = os.path.join(folder, name.removeprefix(WHITEOUT))
    _clear(path)
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
