"""The CDI files of this node, read when a container is created.

A file is read again only when it has changed. A file that is not valid hides its devices but no others;
what is wrong with it is told together with the device that could not be found.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from drakit.model.cdi import CDIError, ContainerEdits, Registry, Spec, SpecFile, decode
from drakit.node.runtime import UnresolvableCDI

HOST_FOLDERS = ("/etc/cdi", "/var/run/cdi")
"""Where drivers of this machine put their files for every runtime; the later one wins."""


class CDIFolders:
    """The CDI files in `folders`; a later folder wins over an earlier one."""

    def __init__(self, folders: Sequence[str | os.PathLike[str]]) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._read: dict[str, tuple[tuple[int, int, int], Spec | CDIError]] = {}

    def resolve(self, names: Sequence[str]) -> ContainerEdits:
        """What the devices `names` change in a container. Raises UnresolvableCDI."""
        if not names:
            return ContainerEdits()
        files: list[SpecFile] = []
        problems: list[str] = []
        for priority, folder in enumerate(self._folders):
            for path in sorted(folder.glob("*")):
                if path.suffix not in (".json", ".yaml", ".yml"):
                    continue
                match self._load(path):
                    case Spec() as spec:
                        files.append(SpecFile(str(path), priority, spec))
                    case CDIError() as error:
                        problems.append(str(error))
        try:
            return Registry(files).resolve(names)
        except CDIError as error:
            raise UnresolvableCDI("; ".join([str(error), *problems])) from None

    def _load(self, path: Path) -> Spec | CDIError | None:
        key = str(path)
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            known = self._read.get(key)
            if known is None or known[0] != stamp:
                known = self._read[key] = (stamp, decode(path.read_bytes(), key))
            return known[1]
        except FileNotFoundError:
            self._read.pop(key, None)
            return None
        except CDIError as error:
            self._read[key] = (stamp, error)
            return error
        except OSError as error:
            return CDIError(f"{path}: {error.strerror}")
