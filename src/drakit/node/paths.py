"""Where one node keeps its files.

Drivers meet the node at unix sockets, and a socket's path must fit into 108 bytes. A data directory may
be deeper than that, so the two folders with sockets are then reached through links in a short private
directory. They themselves stay under the root: drivers keep their checkpoints beside their sockets.
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
    /var/lib/kubelet/plugins_registry and plugins; `real_plugins` is the latter without a short way), `cdi`
    the folder drivers write CDI files to.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self.real_plugins = self.root / "plugins"
        self._folders = (self.root / "plugins_registry", self.real_plugins)
        self._links = self._short_folder()
        if self._links is None:
            self.plugins_registry, self.plugins = self._folders
        else:
            self.plugins_registry, self.plugins = self._links / "r", self._links / "p"
        self.cdi = self.root / "cdi"
        self.pods = self.root / "pods"
        self.logs = self.root / "logs"
        self.images = self.root / "images"
        self.runtime = self.root / "runtime"
        self.checkpoint = self.root / "claims.json"

    def create(self) -> None:
        """Make every folder, private to this user. Raises UsageError naming the one that cannot be."""
        self._make(self.root, *self._folders, self.cdi, self.pods, self.logs, self.images, self.runtime)
        if self._links is None:
            return
        self._make(self._links)
        owner = os.lstat(self._links)
        if owner.st_uid != os.geteuid() or stat.S_ISLNK(owner.st_mode):
            raise UsageError(f"{self._links} belongs to another user: remove it")
        for link, folder in zip((self.plugins_registry, self.plugins), self._folders, strict=True):
            if not link.is_symlink():
                link.symlink_to(folder)

    def _make(self, *folders: Path) -> None:
        for folder in folders:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"cannot make the node's folder {folder}: {error.strerror}") from None

    def of_kubelet(self, path: str) -> Path:
        """The host's file that `path` of a manifest means: a driver's pod mounts the kubelet's folders (and
        the CDI folder) by their usual names, and gets those of this node."""
        for usual, own in (
            ("/var/lib/kubelet/plugins_registry", self.plugins_registry),
            ("/var/lib/kubelet/plugins", self.plugins),
            ("/var/run/cdi", self.cdi),
            ("/run/cdi", self.cdi),
        ):
            if path == usual or path.startswith(usual + "/"):
                return own / path[len(usual) :].lstrip("/")
        return Path(path)

    def remove_sockets(self) -> None:
        """Delete the short way to the sockets, where there is one outside of the root."""
        if self._links is not None:
            shutil.rmtree(self._links, ignore_errors=True)

    def _short_folder(self) -> Path | None:
        """A folder with short links to those of the sockets, if their own paths are too long."""
        if len(os.fsencode(self._folders[0])) + 1 + _ROOM_FOR_NAME <= SOCKET_PATH_LIMIT:
            return None
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]
        return Path(f"/tmp/drakit-{os.geteuid()}-{digest}")
