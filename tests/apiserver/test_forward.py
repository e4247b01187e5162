"""Port-forward over the channels of older clients; the tunnel of kubectl is tested with kubectl."""

from __future__ import annotations

import asyncio

import pytest

from drakit.apiserver.forward import Tunnel, ports, serve_channels
from drakit.errors import BadRequest
from drakit.podio import Connection
from drakit.spdy import Framer, SPDYError

pytestmark = pytest.mark.anyio


class Loud:
    """The pod's end: says back in capitals what it hears, until the client ends."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        return await self._said.get()

    async def write(self, data: bytes) -> None:
        await self._said.put(data.upper())

    async def end(self) -> None:
        await self._said.put(b"")

    def close(self) -> None: ...


async def connect(port: int) -> Connection:
    if port == 9:
        raise BadRequest("nobody listens")
    return Loud()


class Client:
    """The client's end of the WebSocket: frames to send, frames it got."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.got: asyncio.Queue[bytes] = asyncio.Queue()

    async def give(self, frame: bytes) -> None:
        await self.got.put(frame)


async def test_two_ports_and_one_that_nobody_listens_to() -> None:
    client = Client()
    serving = asyncio.create_task(serve_channels([80, 9], connect, client.sent.get, client.give))
    assert [await client.got.get() for _ in range(4)] == [b"\0P\0", b"\1P\0", b"\2\x09\0", b"\3\x09\0"]
    assert await client.got.get() == b"\3nobody listens"
    await client.sent.put(b"\0hello")
    assert await client.got.get() == b"\0HELLO"
    await client.sent.put(None)
    async with asyncio.timeout(5):
        await serving


async def test_a_tunnel_refuses_what_is_no_forwarding() -> None:
    client, framer = Client(), Framer(is_client=True)
    serving = asyncio.create_task(Tunnel(connect, client.give).run(client.sent.get))
    number, opening = framer.open({"streamType": "stdin", "port": "80"})
    await client.sent.put(opening)
    assert [event.kind for event in framer.receive(await client.got.get())] == ["reset"]
    assert number == 1
    await client.sent.put(b"\x80\x02" + bytes(6))
    with pytest.raises(SPDYError):
        async with asyncio.timeout(5):
            await serving


PORTS = {"80": [80], "80,443": [80, 443]}


@pytest.mark.parametrize("text", PORTS)
def test_ports(text: str) -> None:
    assert ports([text]) == PORTS[text]


@pytest.mark.parametrize(
    "texts", [[], [""], ["0"], ["65536"], ["x"], ["80,,"], ["1" * 101 + ","], ["1,"] * 99]
)
def test_what_are_no_ports(texts: list[str]) -> None:
    with pytest.raises(BadRequest):
        ports(texts)
