"""Port-forward: connections of a client carried into a pod's network, many through one WebSocket.

kubectl (from 1.31 on) sends SPDY/3.1 in binary frames: for each connection it opens a stream for errors and
one for data, both with the port and one request id. The older protocol, which the official Python client
speaks, has two channels for each port that the query names: the data of one connection, and its errors; each
begins with the port's number.
Source: KEP-4006; kubelet's pkg/kubelet cri streaming, portforward.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from drakit.errors import APIError, BadRequest
from drakit.podio import Connection
from drakit.spdy import Event, Framer, SPDYError

TUNNEL, CHANNELS = "SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io"
MAX_STREAMS = 512
_QUEUED = 32
_MAX_PORTS = 100

Connect = Callable[[int], Awaitable[Connection]]
Take = Callable[[], Awaitable[bytes | None]]
"""The next binary frame, None when the client has gone."""
Give = Callable[[bytes], Awaitable[None]]


def ports(values: Sequence[str]) -> list[int]:
    """The ports that a query names. Raises BadRequest."""
    texts = ",".join(values).split(",")
    if not all(text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536 for text in texts):
        raise BadRequest("query parameter ports must be numbers from 1 to 65535")
    if len(texts) > _MAX_PORTS:
        raise BadRequest(f"no more than {_MAX_PORTS} ports at once")
    return [int(text) for text in texts]


class _Flow:
    """One connection into the pod, with what the client has sent and the pod has not yet taken."""

    def __init__(self, port: int, connect: Connect) -> None:
        self.port = port
        self._connect = connect
        self._from_client: asyncio.Queue[bytes] = asyncio.Queue(_QUEUED)
        self._is_over = False

    async def put(self, data: bytes) -> None:
        """Data of the client, b"" at their end; waits while the pod does not take what came before."""
        if not self._is_over:
            await self._from_client.put(data)

    async def run(self, give: Give) -> str:
        """Carry bytes both ways until the pod's end of it; what went wrong, or ""."""
        try:
            await self._carry(await self._connect(self.port), give)
        except APIError as error:
            return error.message
        finally:
            self._is_over = True
            while not self._from_client.empty():  # whoever waits in `put` goes on
                self._from_client.get_nowait()
        return ""

    async def _carry(self, connection: Connection, give: Give) -> None:
        sending = asyncio.create_task(self._send(connection))
        try:
            while data := await connection.read():
                await give(data)
        finally:
            sending.cancel()
            connection.close()

    async def _send(self, connection: Connection) -> None:
        while data := await self._from_client.get():
            await connection.write(data)
        await connection.end()


async def serve_channels(numbers: Sequence[int], connect: Connect, take: Take, give: Give) -> None:
    """One connection for each of the ports `numbers`, until all have ended or the client has gone."""
    flows = [_Flow(port, connect) for port in numbers]
    for index, port in enumerate(numbers):
        for channel in (2 * index, 2 * index + 1):
            await give(bytes([channel]) + port.to_bytes(2, "little"))

    async def carry(index: int) -> None:
        problem = await flows[index].run(lambda data: give(bytes([2 * index]) + data))
        if problem:
            await give(bytes([2 * index + 1]) + problem.encode())

    async def receive() -> None:
        while (frame := await take()) is not None:
            channel = frame[0] if frame else 1
            if channel % 2 == 0 and channel // 2 < len(flows) and len(frame) > 1:
                await flows[channel // 2].put(frame[1:])

    async def carry_all() -> None:
        await asyncio.gather(*(carry(index) for index in range(len(flows))))

    tasks = [asyncio.create_task(carry_all()), asyncio.create_task(receive())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Request(Struct):
    """The two streams of one connection that the client asks for."""

    errors: int = 0
    data: int = 0


class Tunnel:
    """A client's SPDY connection; `connect` opens a connection to a port of the pod."""

    def __init__(self, connect: Connect, give: Give) -> None:
        self._connect = connect
        self._give = give
        self._framer = Framer(is_client=False)
        self._requests: dict[str, _Request] = {}
        self._flows: dict[int, _Flow] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, take: Take) -> None:
        """Serve the client until it has gone. Raises SPDYError when it speaks something else."""
        try:
            while (frame := await take()) is not None:
                for event in self._framer.receive(frame):
                    await self._on(event)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _on(self, event: Event) -> None:
        flow = self._flows.get(event.stream)
        if event.kind == "open":
            await self._open(event)
        elif event.kind == "send":
            await self._give(event.data)
        elif flow is not None and event.kind == "data":
            await flow.put(event.data)
        elif flow is not None and event.kind in ("end", "reset"):
            await flow.put(b"")

    async def _open(self, event: Event) -> None:
        kind, port = event.headers.get("streamtype"), event.headers.get("port", "")
        if kind not in ("error", "data") or not port.isdigit() or not 0 < int(port[:6]) < 65536:
            await self._give(self._framer.reset(event.stream))
            return
        if len(self._requests) >= MAX_STREAMS:
            raise SPDYError(f"more than {MAX_STREAMS} connections at once")
        key = event.headers.get("requestid") or str((event.stream - 1) // 4)
        request = self._requests.setdefault(key, _Request())
        if kind == "error":
            request.errors = event.stream
        else:
            request.data = event.stream
        await self._give(self._framer.reply(event.stream))
        if request.errors and request.data:
            self._flows[request.data] = flow = _Flow(int(port), self._connect)
            task = asyncio.create_task(self._carry(key, request, flow))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, key: str, request: _Request, flow: _Flow) -> None:
        problem = await flow.run(lambda data: self._give(self._framer.data(request.data, data)))
        self._flows.pop(request.data, None)
        self._requests.pop(key, None)
        if problem:
            await self._give(self._framer.data(request.errors, problem.encode()))
        await self._give(self._framer.end(request.data) + self._framer.end(request.errors))
