"""Starting the process that holds namespaces open (see `pause`)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from drakit.node import pause
from drakit.node.child import Child, spawn
from drakit.node.runtime import RuntimeFailed


async def hold(hostname: str, namespaces: Sequence[str]) -> Child:
    """A process in new `namespaces` ("net", "ipc", "uts", "pid") that outlives this one. Raises
    RuntimeFailed."""
    reader, writer = os.pipe()
    try:
        argv = [sys.executable, "-I", "-S", str(pause.__file__), hostname, *namespaces]
        child = spawn(argv, descriptors={1: writer, 2: writer}, new_session=True)
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as output:
        said = await asyncio.to_thread(output.read)
    first, _, pid = said.partition(b" ")
    if first != b"ready":
        child.kill()
        await child.wait()
        raise RuntimeFailed(f"cannot make the pod's sandbox: {said.decode(errors='replace').strip()[-500:]}")
    if pid:  # the one in the new pid namespace is a child of ours no more
        await child.wait()
        return Child(int(pid))
    return child
