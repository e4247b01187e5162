"""The files in which a runtime remembers its sandboxes and containers.

One JSON file each, replaced in one step, so that a reader (an agent after a restart, too) sees the old or
the new state and never half of one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from drakit.node.runtime import Container, RuntimeFailed, Sandbox

T = TypeVar("T")


def write_file(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step. Raises RuntimeFailed, for example when the disk is full."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RuntimeFailed(f"cannot write {path}: {error.strerror}") from None


def _read(path: Path, type: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type)
    except (OSError, msgspec.MsgspecError):
        return None


class Records:
    """Below `root`: `sandboxes/<pod uid>.json` and `containers/<container id>/record.json`."""

    def __init__(self, root: Path) -> None:
        self._sandboxes = root / "sandboxes"
        self._containers = root / "containers"
        for folder in (self._sandboxes, self._containers):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, container_id: str) -> Path:
        """The container's own folder."""
        return self._containers / container_id

    def sandbox(self, uid: str) -> Sandbox | None:
        return _read(self._sandboxes / f"{uid}.json", Sandbox)

    def sandboxes(self) -> list[Sandbox]:
        found = (_read(path, Sandbox) for path in sorted(self._sandboxes.glob("*.json")))
        return [sandbox for sandbox in found if sandbox is not None]

    def put_sandbox(self, sandbox: Sandbox) -> None:
        write_file(self._sandboxes / f"{sandbox.uid}.json", msgspec.json.encode(sandbox))

    def drop_sandbox(self, uid: str) -> None:
        (self._sandboxes / f"{uid}.json").unlink(missing_ok=True)

    def container(self, container_id: str) -> Container | None:
        return _read(self.folder(container_id) / "record.json", Container)

    def containers(self) -> list[Container]:
        found = (self.container(path.name) for path in sorted(self._containers.iterdir()))
        return [container for container in found if container is not None]

    def put_container(self, container: Container) -> Container:
        folder = self.folder(container.id)
        folder.mkdir(mode=0o700, exist_ok=True)
        write_file(folder / "record.json", msgspec.json.encode(container))
        return container
