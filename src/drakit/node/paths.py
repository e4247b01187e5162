"""Where one node keeps its files.

Drivers meet the node at unix sockets, and a socket's path must fit into 108 bytes. A data directory may
be deeper than that, so the two socket folders move to a short private directory when they must; the rest
stays under the root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

from drakit.errors import UsageError

SOCKET_PATH_LIMIT = 100
"""Bytes a socket path may have; the kernel's limit is 107."""

_ROOM_FOR_NAME = 72
"""Bytes of the longest socket's own name: `<driver of 63 bytes>-reg.sock`, `<driver>/dra.sock`."""


class NodePaths:
    """The folders and files of one node below `root`, made by `create()`.

    `plugins_registry` and `plugins` are what a driver is started with (the kubelet's
    /var/lib/kubelet/plugins_registry and plugins), `cdi` the folder drivers write CDI files to.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self._sockets, registry, plugins = self._socket_folders()
        self.plugins_registry = self._sockets / registry
        self.plugins = self._sockets / plugins
        self.cdi = self.root / "cdi"
        self.pods = self.root / "pods"
        self.logs = self.root / "logs"
        self.images = self.root / "images"
        self.runtime = self.root / "runtime"
        self.checkpoint = self.root / "claims.json"

    def create(self) -> None:
        """Make every folder, private to this user. Raises UsageError naming the one that cannot be."""
        self._make(self.root, self._sockets)
        owner = os.lstat(self._sockets)
        if owner.st_uid != os.geteuid() or stat.S_ISLNK(owner.st_mode):
            raise UsageError(f"{self._sockets} belongs to another user: remove it")
        self._make(
            self.plugins_registry, self.plugins, self.cdi, self.pods, self.logs, self.images, self.runtime
        )

    def _make(self, *folders: Path) -> None:
        for folder in folders:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"cannot make the node's folder {folder}: {error.strerror}") from None

    def remove_sockets(self) -> None:
        """Delete the private socket folder, where there is one outside of the root."""
        if self._sockets != self.root:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _socket_folders(self) -> tuple[Path, str, str]:
        if len(os.fsencode(self.root / "plugins_registry")) + 1 + _ROOM_FOR_NAME <= SOCKET_PATH_LIMIT:
            return self.root, "plugins_registry", "plugins"
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]
        return Path(f"/tmp/drakit-{os.geteuid()}-{digest}"), "r", "p"
