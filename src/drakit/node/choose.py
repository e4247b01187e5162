"""Which container runtime a node uses."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from drakit.errors import UsageError
from drakit.node.bubblewrap import find_bwrap
from drakit.node.cdi_folder import HOST_FOLDERS
from drakit.node.cri import SOCKETS, CRIRuntime
from drakit.node.image import ImageStore
from drakit.node.oci import OCIRuntime, find_programs, may_make_namespaces
from drakit.node.paths import NodePaths
from drakit.node.pod_network import NodeNetwork
from drakit.node.process import ProcessRuntime
from drakit.node.runtime import Runtime

NAMES = ("oci", "cri", "process", "bubblewrap", "plain")


async def choose_runtime(
    name: str | None,
    paths: NodePaths,
    *,
    images: ImageStore | Path | None = None,
    cdi_folders: Sequence[str | os.PathLike[str]] | None = None,
    network: NodeNetwork | None = None,
    cri_socket: str | None = None,
) -> Runtime:
    """The runtime `name`, or the best this machine has: `cri` where a runtime listens at one of the usual
    sockets that can run pods and gives them CDI devices, `oci` for root with runc and conmon, else `process`,
    which is bubblewrap where that works and plain processes where not. `bubblewrap` and `plain` insist.

    With `cri`, the runtime at `cri_socket` (default: the first usual one) is taken as it is, and `paths.cdi`
    becomes the folder in which that runtime looks for devices.

    `images` is the local image store or its folder (default: the node's own). The node's CDI folder wins
    over the host's; `oci` joins pods by `network`. Raises UsageError when what was asked for is not there.
    """
    if name is not None and name not in NAMES:
        raise UsageError(f"unknown runtime {name!r}: choose one of {', '.join(NAMES)}")
    paths.create()
    if name == "cri" or (name is None and may_make_namespaces()):
        found = await _find_cri(paths, cri_socket, insists=name == "cri")
        if found is not None:
            paths.cdi = Path(found.cdi_folders[-1])
            paths.cdi.mkdir(mode=0o755, parents=True, exist_ok=True)
            return found
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


async def _find_cri(paths: NodePaths, socket: str | None, *, insists: bool) -> CRIRuntime | None:
    """The runtime at `socket`, where this node had one before, or at a usual place; without `insists` None
    unless it can run every pod. Raises UsageError."""
    note = paths.runtime / "cri" / "socket"
    if insists and not socket and note.exists():
        socket = note.read_text()
    there = [socket] if socket else [path for path in SOCKETS if os.access(path, os.W_OK)]
    if insists and not there:
        raise UsageError(f"runtime cri: no socket at {', '.join(SOCKETS)}: name one with --cri-socket")
    for path in there:
        try:
            runtime = await CRIRuntime.connect(path, paths.root)
        except UsageError:
            if insists:
                raise
            continue
        if insists or not runtime.problem:
            note.parent.mkdir(exist_ok=True)
            note.write_text(path)
            return runtime
        await runtime.close()
    return None
