"""Which container runtime a node uses."""

from __future__ import annotations

import os
from collections.abc import Sequence

from drakit.errors import UsageError
from drakit.node.bubblewrap import find_bwrap
from drakit.node.cdi_folder import HOST_FOLDERS
from drakit.node.image import ImageStore
from drakit.node.oci import OCIRuntime, find_programs
from drakit.node.paths import NodePaths
from drakit.node.process import ProcessRuntime
from drakit.node.runtime import Runtime

NAMES = ("oci", "bubblewrap", "process")


async def choose_runtime(
    name: str | None,
    paths: NodePaths,
    *,
    images: ImageStore | None = None,
    cdi_folders: Sequence[str | os.PathLike[str]] | None = None,
) -> Runtime:
    """The runtime `name`, or the best this machine has: `oci` for root with runc and conmon, else bubblewrap
    where it works, else plain processes.

    The node's own CDI folder wins over the host's. Raises UsageError when what was asked for is not there.
    """
    if name is not None and name not in NAMES:
        raise UsageError(f"unknown runtime {name!r}: choose one of {', '.join(NAMES)}")
    paths.create()
    folders: list[str | os.PathLike[str]] = (
        list(cdi_folders) if cdi_folders is not None else [*HOST_FOLDERS, paths.cdi]
    )
    programs = find_programs() if os.geteuid() == 0 else None
    if name == "oci" and programs is None:
        why = "runc (or crun) and conmon are not both installed" if os.geteuid() == 0 else "it needs root"
        raise UsageError(f"runtime oci cannot be used: {why}")
    if programs is not None and name in (None, "oci"):
        runc, conmon = programs
        store = images or ImageStore(paths.images)
        return OCIRuntime(paths.runtime / "oci", store, folders, runc=runc, conmon=conmon)
    bwrap = await find_bwrap() if name != "process" else None
    if name == "bubblewrap" and bwrap is None:
        raise UsageError(
            "runtime bubblewrap cannot be used: there is no bwrap, or user namespaces are forbidden"
        )
    kind = "bubblewrap" if bwrap else "process"
    return ProcessRuntime(paths.runtime / kind, folders, bwrap=bwrap)
