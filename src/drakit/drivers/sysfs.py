"""What several drivers read in sysfs: short texts, and where on the PCI bus something is."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

_MAX_TEXT = 64
_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_PCI_ROOT = re.compile(r"pci[0-9a-f]{4}:[0-9a-f]{2}")


class PCIPlace(Struct, frozen=True):
    """The PCI device behind something: its address and root complex, "" where there is none, and its
    folder."""

    bus_id: str = ""
    root: str = ""
    folder: Path | None = None


def text(path: Path) -> str:
    """The words in a file, as an attribute takes them; "" if it is not there."""
    try:
        found = path.read_text(errors="replace")
    except OSError:
        return ""
    return " ".join(found.split()).encode()[:_MAX_TEXT].decode(errors="ignore")


def number(path: Path) -> int | None:
    """The number in a file, None where there is none."""
    try:
        return int(text(path), 0)
    except ValueError:
        return None


def pci_place(folder: Path) -> PCIPlace:
    """The PCI device that `folder`, or one of the folders it is in, stands for."""
    folder = folder.resolve()
    root = next((part for part in folder.parts if _PCI_ROOT.fullmatch(part)), "")
    for candidate in (folder, *folder.parents):
        if _PCI.fullmatch(candidate.name):
            return PCIPlace(candidate.name, root, candidate)
    return PCIPlace("", root)
