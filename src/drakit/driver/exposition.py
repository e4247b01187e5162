"""/metrics and /healthz of a driver over plain HTTP, for Prometheus and a kubelet's probes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from drakit.driver.metrics import Metrics
from drakit.errors import UsageError

_SECONDS = 5.0


async def serve_metrics(
    metrics: Metrics,
    is_healthy: Callable[[], bool],
    host: str,
    port: int,
    listening: Callable[[int], None] = lambda _: None,
) -> None:
    """Serve until cancelled; `listening` is told the port, of which 0 is any free one.

    Raises UsageError if the address cannot be had.
    """

    def answer(path: str) -> tuple[str, str]:
        if path == "/metrics":
            return "200 OK", metrics.text()
        if path == "/healthz":
            return ("200 OK", "ok\n") if is_healthy() else ("503 Service Unavailable", "not serving\n")
        return "404 Not Found", "there are /metrics and /healthz\n"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                words = head.split(b"\r\n", 1)[0].decode("latin-1").split()
                status, body = answer(words[1]) if len(words) == 3 else ("400 Bad Request", "")
                data = body.encode()
                headers = f"Content-Type: text/plain; version=0.0.4\r\nContent-Length: {len(data)}"
                writer.write(f"HTTP/1.1 {status}\r\n{headers}\r\nConnection: close\r\n\r\n".encode() + data)
                await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_server(handle, host, port, limit=8192)
    except OSError as error:
        raise UsageError(f"cannot serve metrics on {host}:{port}: {error.strerror}") from None
    async with server:
        listening(server.sockets[0].getsockname()[1])
        await server.serve_forever()
