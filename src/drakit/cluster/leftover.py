"""What a killed cluster left running: its containers go on, so that the next `dra up` takes them over.

Whoever deletes the data instead has to end them first, or nobody ever would. The data of an ephemeral cluster
no `dra up` will ever take over: the next one of the same user sweeps them away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from drakit.cluster.place import Place
from drakit.drivers.net.driver import NetDriver
from drakit.drivers.net.give_back import notes_of, release
from drakit.errors import DRAError, UsageError
from drakit.node.choose import NAMES, choose_runtime
from drakit.node.paths import NodePaths
from drakit.node.pod_network import PodNetwork
from drakit.node.volume import unmount_volumes

_YOUNG_SECONDS = 60.0

_log = logging.getLogger(__name__)


async def remove_leftovers(place: Place) -> None:
    """End the containers of the nodes of `place`, which the caller holds, and undo their mounts.

    Raises UsageError where that fails: the data must not be deleted then.
    """
    for folder in sorted(place.nodes.glob("*/")):
        paths = NodePaths(folder)
        for kind in sorted(path.name for path in paths.runtime.glob("*/") if path.name in NAMES):
            await _remove_containers(kind, paths)
        for pod in paths.pods.glob("*/"):
            unmount_volumes(pod)
        await _give_back_interfaces(paths)
        paths.remove_sockets()
    await PodNetwork(place.network).remove()
    if mounted := _mounts_below(place.root):
        raise UsageError(f"{mounted[0]} is still mounted: unmount it before the data are deleted")


async def sweep(temporary: Path | None = None) -> None:
    """Remove what killed clusters of this user left in the folder `temporary` (default: the system's): data
    of ephemeral ones with all that ran, and short ways to the sockets of folders that are gone."""
    folder = temporary or Path(tempfile.gettempdir())
    for path in folder.glob("drakit-????????"):
        try:
            if _is_old(path) and Place(path).is_cluster() and not Place(path).is_held():
                await _sweep_cluster(Place(path))
        except (DRAError, OSError) as error:
            _log.info("what is left in %s: %s", path, error)
    for path in folder.glob(f"drakit-{os.geteuid()}-????????"):
        with contextlib.suppress(OSError):  # its owner, or another who sweeps, was faster
            if _is_old(path) and not any(link.is_symlink() and link.exists() for link in path.iterdir()):
                shutil.rmtree(path, ignore_errors=True)


async def _sweep_cluster(place: Place) -> None:
    place.hold()
    try:
        await remove_leftovers(place)
        shutil.rmtree(place.root, ignore_errors=True)
    finally:
        place.release()


def _is_old(path: Path) -> bool:
    """Whether it is this user's, and nobody is just making it."""
    found = path.lstat()
    return found.st_uid == os.geteuid() and found.st_mtime < time.time() - _YOUNG_SECONDS


async def _give_back_interfaces(paths: NodePaths) -> None:
    """Have the machine's network interfaces that pods had back, with their names."""
    folder = paths.real_plugins / NetDriver.name
    if notes_of(folder).is_dir():
        try:
            await asyncio.to_thread(release, folder)
        except OSError as error:
            raise UsageError(f"network interfaces of {paths.root.name}: {error.strerror}") from None


async def _remove_containers(kind: str, paths: NodePaths) -> None:
    try:
        runtime = await choose_runtime(kind, paths)
        for container in await runtime.containers():
            await runtime.remove(container.id)
        for sandbox in await runtime.sandboxes():
            await runtime.remove_sandbox(sandbox.uid)
    except DRAError as error:
        raise UsageError(f"containers of {paths.root.name} still run: {error}") from None


def _mounts_below(root: Path) -> list[str]:
    """Mount points below `root`, from the kernel's own list (octal escapes for blanks and the like)."""
    rows = [line.split()[4] for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]
    points = [
        os.fsdecode(re.sub(rb"\\(\d{3})", lambda found: bytes([int(found[1], 8)]), row)) for row in rows
    ]
    return [point for point in points if point.startswith(f"{root.resolve()}/")]
