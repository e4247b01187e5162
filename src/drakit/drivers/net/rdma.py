"""The character devices by which programs use an RDMA device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from drakit.driver import DeviceNode

_CLASSES = ("infiniband_verbs", "infiniband_mad", "infiniband_cm")
_SHARED = "rdma_cm"


def device_nodes(root: Path, name: str) -> list[DeviceNode]:
    """Those of the RDMA device `name` (mlx5_0) that are there, and the one that all of them share."""
    found = sorted(set(_names(root, name)))
    if found and (root / "dev/infiniband" / _SHARED).exists():
        found.append(_SHARED)
    return [DeviceNode(path=f"/dev/infiniband/{each}", permissions="rw") for each in found]


def _names(root: Path, name: str) -> Iterator[str]:
    for kind in _CLASSES:
        for folder in (root / "sys/class" / kind).glob("*"):
            try:
                belongs = (folder / "ibdev").read_text().strip() == name
            except OSError:
                continue
            if belongs and (root / "dev/infiniband" / folder.name).exists():
                yield folder.name
