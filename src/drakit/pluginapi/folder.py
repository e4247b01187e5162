"""What an embedded node says in its plugins folder to the drivers that use it.

A driver in a pod has that folder under the usual name, /var/lib/kubelet/plugins, and cannot see where it
really is; and several nodes may be on one machine. A kubelet writes no such note: there the names are the
host's, and the machine is the node's.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from drakit.errors import UsageError

_NAME = "node.json"


class FolderNote(Struct, frozen=True):
    """`plugins` is the folder as the host calls it, "" for as it is called here; `share` (INDEX/COUNT) the
    node's part of the machine, "" for all of it."""

    plugins: str = ""
    share: str = ""

    def of(self, folder: Path) -> Path:
        """The driver's `folder` in the plugins folder, as the host calls it."""
        return Path(self.plugins) / folder.name if self.plugins else folder


def read_note(plugins_dir: Path) -> FolderNote:
    """What the node says in `plugins_dir`. Raises UsageError if that is damaged."""
    path = plugins_dir / _NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=FolderNote)
    except (FileNotFoundError, NotADirectoryError):
        return FolderNote()
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{path}: {error}") from None


def write_note(plugins_dir: Path, note: FolderNote) -> None:
    """Put `note` into `plugins_dir`. Raises UsageError if that cannot be."""
    path = plugins_dir / _NAME
    hidden = path.with_name(f".{_NAME}")
    try:
        hidden.write_bytes(msgspec.json.encode(note))
        os.replace(hidden, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
