"""TCP connections into the network of a pod."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial

from drakit.netlink import inside
from drakit.node.runtime import Sandbox

_CHUNK = 64 << 10
_SECONDS = 10.0


class PodConnection:
    """A connection to a port of a pod; made by `open_connection`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """The next bytes from the pod; b"" at its end."""
        try:
            return await self._reader.read(_CHUNK)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send `data`; dropped when the pod takes no more."""
        with contextlib.suppress(OSError):
            self._writer.write(data)
            await self._writer.drain()

    async def end(self) -> None:
        """Send no more; reading goes on."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


async def dial(sandbox: Sandbox, port: int, hosts: tuple[str, ...]) -> socket.socket:
    """A socket connected to `port` of the first of `hosts` that answers, from inside of the pod's network:
    the host has no way into that, or the address may be loopback's. Raises OSError."""
    problem: OSError | None = None
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if sandbox.is_host_network or not sandbox.pid:
            connection = socket.socket(family)
        else:
            connection = await asyncio.to_thread(
                inside, f"/proc/{sandbox.pid}/ns/net", partial(socket.socket, family)
            )
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (host, port))
            return connection
        except OSError as error:
            connection.close()
            problem = error
        except BaseException:
            connection.close()
            raise
    raise problem or OSError("no address to connect to")


async def open_connection(sandbox: Sandbox, port: int) -> PodConnection:
    """A connection to what listens on loopback in the pod, as port-forward means it. Raises OSError."""
    try:
        async with asyncio.timeout(_SECONDS):
            connection = await dial(sandbox, port, ("127.0.0.1", "::1"))
            return PodConnection(*await asyncio.open_connection(sock=connection))
    except TimeoutError:
        raise OSError(f"no answer within {_SECONDS:g} s") from None
