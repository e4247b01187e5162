"""Which container runtime a node uses."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from drakit.errors import UsageError
from drakit.node.bubblewrap import find_bwrap
from drakit.node.cdi_folder import HOST_FOLDERS
from drakit.node.image import ImageStore
from drakit.node.oci import OCIRuntime, find_programs, may_make_namespaces
from drakit.node.paths import NodePaths
from drakit.node.pod_network import NodeNetwork
from drakit.node.process import ProcessRuntime
from drakit.node.runtime import Runtime

NAMES = ("oci", "process", "bubblewrap", "plain")


async def choose_runtime(
    name: str | None,
    paths: NodePaths,
    *,
    images: ImageStore | Path | None = None,
    cdi_folders: Sequence[str | os.PathLike[str]] | None = None,
    network: NodeNetwork | None = None,
) -> Runtime:
    """The runtime `name`, or the best this machine has: `oci` for root with runc and conmon, else `process`,
    which is bubblewrap where that works and plain processes where not. `bubblewrap` and `plain` insist.

    `images` is the local image store or its folder (default: the node's own). The node's CDI folder wins
    over the host's; `oci` joins pods by `network`. Raises UsageError when what was asked for is not there.
    """
    if name is not None and name not in NAMES:
        raise UsageError(f"unknown runtime {name!r}: choose one of {', '.join(NAMES)}")
    paths.create()
    folders: list[str | os.PathLike[str]] = list(cdi_folders or [*HOST_FOLDERS, paths.cdi])
    is_able = may_make_namespaces()
    programs = find_programs() if is_able else None
    if name == "oci" and programs is None:
        why = (
            "runc (or crun) and conmon are not both installed" if is_able else "it needs root (CAP_SYS_ADMIN)"
        )
        raise UsageError(f"runtime oci cannot be used: {why}")
    if programs is not None and name in (None, "oci"):
        runc, conmon = programs
        store = images if isinstance(images, ImageStore) else ImageStore(images or paths.images)
        return OCIRuntime(paths.runtime / "oci", store, folders, runc=runc, conmon=conmon, network=network)
    bwrap = await asyncio.to_thread(find_bwrap) if name != "plain" else None
    if name == "bubblewrap" and bwrap is None:
        raise UsageError("runtime bubblewrap cannot be used: no bwrap, or user namespaces are forbidden")
    kind = "bubblewrap" if bwrap else "plain"
    return ProcessRuntime(paths.runtime / kind, folders, bwrap=bwrap)
