"""A container's own input and output, through the socket of the process that watches it (conmon, or our
shim).

Each packet from there is one byte for the stream (2 stdout, 3 stderr) and the data; what we send goes to the
container's stdin. A terminal's size goes into a pipe of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

from drakit.node.child import readable, writable
from drakit.node.runtime import NotRunning

_PACKET = 8192
"""Bytes of stdin in one packet; what is beyond the other end's buffer would be lost."""

_RECEIVED = 64 << 10
_STREAMS = {2: 1, 3: 2}


class AttachSession:
    """Attached to a container; made by `attach`."""

    def __init__(self, connection: socket.socket, folder: Path, *, stdin: bool) -> None:
        self._socket = connection
        self._folder = folder
        self._takes_stdin = stdin
        self._ended = asyncio.Event()

    async def read(self) -> tuple[int, bytes] | None:
        """The next output as (1 for stdout, 2 for stderr, data); None when the container has ended."""
        while not self._ended.is_set():
            await readable(self._socket.fileno())
            try:
                packet = self._socket.recv(_RECEIVED)
            except BlockingIOError:
                continue
            except OSError:
                packet = b""
            if not packet:
                self._ended.set()
            elif packet[0] in _STREAMS:
                return _STREAMS[packet[0]], packet[1:]
        return None

    async def write(self, data: bytes) -> None:
        """Send `data` to stdin; dropped when nobody reads it any more."""
        for start in range(0, len(data), _PACKET):
            packet = data[start : start + _PACKET]
            while self._takes_stdin:
                try:
                    self._socket.send(packet)
                    break
                except BlockingIOError:
                    await writable(self._socket.fileno())
                except OSError:
                    self._takes_stdin = False

    async def close_stdin(self) -> None:
        if self._takes_stdin:
            self._takes_stdin = False
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    async def resize(self, width: int, height: int) -> None:
        with contextlib.suppress(OSError):  # no reader: the container has ended
            pipe = os.open(self._folder / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(pipe, b"1 %d %d\n" % (min(height, 65535), min(width, 65535)))
            finally:
                os.close(pipe)

    async def wait(self) -> int:
        await self._ended.wait()
        return 0

    async def kill(self) -> None:
        """Detach; the container goes on."""
        self._ended.set()
        self._socket.close()


def attach(folder: Path, *, stdin: bool) -> AttachSession:
    """Attach to the container with the socket in `folder`. Raises NotRunning when it has ended."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setblocking(False)
    try:  # by way of a descriptor, since the folder's own path may be too long for a socket
        here = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{here}/attach")
        finally:
            os.close(here)
    except OSError as error:
        connection.close()
        raise NotRunning(
            f"cannot attach: {error.strerror}: the container has ended, or nothing watches it"
        ) from None
    return AttachSession(connection, folder, stdin=stdin)
