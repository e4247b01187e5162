"""Where one node keeps its files.

Drivers meet the node at unix sockets, and a socket's path must fit into 108 bytes. A data directory may
be deeper than that, so the two socket folders move to a short private directory when they must; the rest
stays under the root.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from drakit.errors import UsageError

SOCKET_PATH_LIMIT = 100
"""Bytes a socket path may have; the kernel's limit is 107."""

_ROOM_FOR_NAME = 45
"""Bytes kept for `/plugins_registry/<driver>-reg.sock` behind the folder the sockets live in."""


class NodePaths:
    """The folders and files of one node below `root`, made by `create()`.

    `plugins_registry` and `plugins` are what a driver is started with (the kubelet's
    /var/lib/kubelet/plugins_registry and plugins), `cdi` the folder drivers write CDI files to.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        sockets = self._socket_root()
        self.plugins_registry = sockets / "plugins_registry"
        self.plugins = sockets / "plugins"
        self.cdi = self.root / "cdi"
        self.pods = self.root / "pods"
        self.logs = self.root / "logs"
        self.images = self.root / "images"
        self.runtime = self.root / "runtime"
        self.checkpoint = self.root / "claims.json"

    def create(self) -> None:
        """Make every folder, private to this user. Raises UsageError naming the one that cannot be."""
        folders = (self.root, self.plugins_registry.parent, self.plugins_registry, self.plugins)
        for folder in (*folders, self.cdi, self.pods, self.logs, self.images, self.runtime):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"cannot make the node's folder {folder}: {error.strerror}") from None
        owner = os.lstat(self.plugins_registry.parent)
        if owner.st_uid != os.geteuid() or stat.S_ISLNK(owner.st_mode):
            raise UsageError(f"{self.plugins_registry.parent} belongs to another user: remove it")

    def _socket_root(self) -> Path:
        if len(os.fsencode(self.root)) + _ROOM_FOR_NAME <= SOCKET_PATH_LIMIT:
            return self.root
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:10]
        base = Path("/tmp") if len(tempfile.gettempdir()) > 20 else Path(tempfile.gettempdir())
        return base / f"drakit-{os.geteuid()}-{digest}"
