"""A folder of files that is replaced as a whole, as the kubelet writes what comes from the API.

The files lie in a new folder `..<time>`, which the link `..data` then points at in one step; every name in
the folder is a link through it. A reader sees all of the old content or all of the new."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from drakit.node.env import ConfigFailed

_GROUP_MAY_READ, _GROUP_MAY_ENTER = 0o440, 0o2550


class File(Struct, frozen=True):
    """`owner` is a user id, -1 for whoever writes it."""

    content: bytes
    mode: int
    owner: int = -1


def write_folder(root: Path, files: Mapping[str, File], now: float, group: int | None = None) -> None:
    """Put `files` in place, by their paths below `root`, and drop what was there before. Everything belongs
    to `group`, and is for it to read, if there is one. Raises ConfigFailed for a path that leads out of
    `root`."""
    fresh = root / f"..{int(now * 1000)}"
    while fresh.exists():
        fresh = fresh.with_name(fresh.name + "x")
    fresh.mkdir(mode=0o755)
    for name, file in files.items():
        parts = name.split("/")
        if ".." in parts or name.startswith("/") or not name:
            raise ConfigFailed(f"path {name!r} leads out of the volume")
        path = fresh.joinpath(*parts)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
        if file.owner >= 0 and os.geteuid() == 0:
            os.chown(path, file.owner, -1)
    if group is not None and os.geteuid() == 0:
        _give(root, group)
        _give(fresh, group)
        for path in fresh.rglob("*"):
            _give(path, group)
    link = root / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    link.replace(root / "..data")
    _link(root, fresh, {name.partition("/")[0] for name in files})


def _give(path: Path, group: int) -> None:
    os.chown(path, -1, group)
    more = _GROUP_MAY_ENTER if path.is_dir() else _GROUP_MAY_READ
    path.chmod(path.stat().st_mode & 0o7777 | more)


def _link(root: Path, fresh: Path, names: set[str]) -> None:
    """One link for each of `names`; whatever else there is but `fresh` goes."""
    for name in names:
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"..data/{name}")
    for entry in root.iterdir():
        if entry.name.startswith(".."):
            if entry.is_dir() and not entry.is_symlink() and entry != fresh:
                shutil.rmtree(entry)
        elif entry.name not in names:
            entry.unlink()
