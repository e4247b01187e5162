"""A way from a pod's own network namespace to the API server.

The agent listens inside of the namespace, at the port of the API server on 127.0.0.1, and passes on what
comes: bytes both ways, TLS is between the pod and the API server. So pods reach it wherever it listens,
without an address, a route or a rule on the host. A listening socket keeps its namespace alive, so a door is
closed, with all connections through it, before its pod's end.
"""

from __future__ import annotations

import asyncio
import logging
import socket

from drakit.netlink import inside
from drakit.node.runtime import Sandbox

_CHUNK = 1 << 16

_log = logging.getLogger(__name__)


class _Door:
    """The door in the namespace that `pid` holds: its server, and the connections that are open."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.server: asyncio.Server | None = None
        self.is_closed = False
        self.connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}


class APIDoors:
    """The doors of a node's pods to the API server at `api_address` (HOST:PORT, "" where nobody knows)."""

    def __init__(self, api_address: str) -> None:
        host, _, port = api_address.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port) if host else 0
        self._doors: dict[str, _Door] = {}

    @property
    def address(self) -> str:
        """Where a pod with a network of its own finds the API server, "" if nowhere."""
        return f"127.0.0.1:{self._port}" if self._port else ""

    async def open(self, sandbox: Sandbox) -> None:
        """Have the API server at `address` for the pod of `sandbox`, unless it shares the host's network."""
        if sandbox.is_host_network or not sandbox.pid or not self._port:
            return
        known = self._doors.get(sandbox.uid)
        if known is not None and known.pid == sandbox.pid:
            return
        await self.close(sandbox.uid)  # that of a sandbox that is gone
        place = f"/proc/{sandbox.pid}/ns/net"
        try:
            listener = await asyncio.to_thread(inside, place, self._listen)
        except OSError as error:
            _log.warning("pod %s/%s has no way to the API server: %s", sandbox.namespace, sandbox.name, error)
            return
        door = self._doors[sandbox.uid] = _Door(sandbox.pid)
        door.server = await asyncio.start_server(
            lambda reader, writer: self._accept(door, reader, writer), sock=listener
        )

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", self._port))

    async def close(self, uid: str) -> None:
        """Close the door of the pod `uid`, if it has one, and all connections through it."""
        door = self._doors.pop(uid, None)
        if door is None:
            return
        door.is_closed = True
        if door.server is not None:
            door.server.close()
        for task, writer in door.connections.items():
            task.cancel()  # one that has not begun yet does nothing any more, so:
            writer.transport.abort()
        await asyncio.gather(*door.connections, return_exceptions=True)

    def _accept(self, door: _Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if door.is_closed:  # it came just before
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        door.connections[task] = writer
        task.add_done_callback(door.connections.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on, each way until it ends."""
        writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            writers.append(far_writer)
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
            for one in writers:
                one.close()
                await one.wait_closed()
        except OSError as error:
            _log.debug("a connection to the API server: %s", error)
        finally:
            for one in writers:
                one.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
