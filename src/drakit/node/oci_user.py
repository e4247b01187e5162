"""Whom a container runs as: the security context first, then the image, whose names its passwd explains."""

from __future__ import annotations

from pathlib import Path

from drakit.node.oci_config import User
from drakit.node.runtime import ContainerSpec, RuntimeFailed


def find_user(spec: ContainerSpec, rootfs: Path) -> User:
    """The user, group and further groups of `spec`. Raises RuntimeFailed for a name the image lacks."""
    security = spec.security
    name, _, group = spec.image.user.partition(":")
    uid, gid = security.user, security.group
    if uid is None:
        uid, primary = _passwd(rootfs, name) if name else (0, 0)
    else:
        primary = _passwd(rootfs, str(uid))[1]
    if gid is None:
        gid = _group(rootfs, group) if group and security.user is None else primary
    return User(uid, gid, tuple(security.groups))


def _passwd(rootfs: Path, name: str) -> tuple[int, int]:
    for fields in _lines(rootfs, "passwd"):
        if len(fields) > 3 and name in (fields[0], fields[2]):
            return int(fields[2]), int(fields[3])
    if not name.isdigit():
        raise RuntimeFailed(f"the image's user {name!r} is not in its /etc/passwd")
    return int(name), 0


def _group(rootfs: Path, name: str) -> int:
    for fields in _lines(rootfs, "group"):
        if len(fields) > 2 and name in (fields[0], fields[2]):
            return int(fields[2])
    if not name.isdigit():
        raise RuntimeFailed(f"the image's group {name!r} is not in its /etc/group")
    return int(name)


def _lines(rootfs: Path, name: str) -> list[list[str]]:
    path = rootfs / "etc" / name
    try:
        if path.is_symlink() or path.parent.is_symlink():
            return []  # it could point at the host's file
        return [line.split(":") for line in path.read_text(errors="replace").splitlines()[:10_000]]
    except OSError:
        return []
