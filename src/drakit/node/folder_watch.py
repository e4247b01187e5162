"""Being told that a folder's entries changed, without asking again and again (inotify on the event loop)."""

from __future__ import annotations

import asyncio
import ctypes
import os
from pathlib import Path

from drakit.client.clock import Clock
from drakit.node.child import readable

_CREATE, _DELETE, _MOVED_FROM, _MOVED_TO, _ATTRIB = 0x100, 0x200, 0x40, 0x80, 0x4
_EVENTS = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _ATTRIB
_POLL_SECONDS = 1.0


class FolderWatch:
    """Watches `folder`, which must exist. Where the user has no inotify watch left, it looks every second."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor >= 0 and (
            libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _EVENTS) < 0
        ):
            self.close()

    async def changed(self) -> None:
        """Return when something changed since the last return; or just after a while, where nobody tells."""
        if self._descriptor < 0:
            await self._clock.sleep(_POLL_SECONDS)
            return
        await readable(self._descriptor)
        await asyncio.sleep(0)  # several changes often come together
        try:
            os.read(self._descriptor, 65536)
        except BlockingIOError:
            return

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
