"""The private network of pods, and their way to the API server: in network namespaces of our own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drakit.netlink import Netlink, inside
from drakit.node.api_door import APIDoors
from drakit.node.child import Child, is_alive
from drakit.node.holder import hold
from drakit.node.pod_network import PodNetwork
from drakit.node.runtime import RuntimeFailed, Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.needs_root]


def place(pod: Child) -> str:
    return f"/proc/{pod.pid}/ns/net"


@asynccontextmanager
async def pods(count: int) -> AsyncIterator[list[Child]]:
    made = [await hold("pod", ["net"]) for _ in range(count)]
    try:
        yield made
    finally:
        for pod in made:
            pod.kill()
            await pod.wait()


def names(namespace: str = "") -> list[str]:
    with Netlink(namespace) as netlink:
        return [link.name for link in netlink.links()]


async def test_pods_reach_each_other_and_the_host_sees_nothing(tmp_path: Path) -> None:
    before = names()
    network = PodNetwork(tmp_path / "network.json")
    async with pods(2) as (one, two):
        try:
            addresses = [
                await network.of_node(index).join(pod.pid, set()) for index, pod in enumerate((one, two))
            ]
            assert addresses == ["10.244.0.2", "10.244.1.2"]
            assert names(place(one)) == ["lo", "eth0"]
            server = inside(place(one), lambda: socket.create_server((addresses[0], 80)))
            server.settimeout(5)
            with inside(place(two), lambda: socket.create_connection((addresses[0], 80), 5)) as client:
                connection, (peer, _) = server.accept()
                client.sendall(b"hello")
                assert (peer, connection.recv(9)) == (addresses[1], b"hello")
                connection.close()
            server.close()
            with pytest.raises(OSError, match="unreachable"):  # at once, not after a long wait
                inside(place(two), lambda: socket.create_connection(("192.0.2.1", 80), 5))
            assert names() == before
        finally:
            await network.remove()


async def test_the_network_outlives_its_maker(tmp_path: Path) -> None:
    note = tmp_path / "network.json"
    async with pods(2) as (one, two):
        await PodNetwork(note).of_node(0).join(one.pid, set())
        again = PodNetwork(note)
        try:
            assert await again.of_node(0).join(two.pid, {"10.244.0.2"}) == "10.244.0.3"
            holder = again._read()
            assert holder is not None
            assert names(f"/proc/{holder.pid}/ns/net") == ["lo", "bridge", "pod0.2", "pod0.3"]
        finally:
            await again.remove()
        assert not is_alive(holder.pid, holder.started)
        assert not note.exists()


async def test_addresses_go_round(tmp_path: Path) -> None:
    network = PodNetwork(tmp_path / "network.json")
    node = network.of_node(3)
    async with pods(1) as (pod,):
        with pytest.raises(RuntimeFailed, match=r"all addresses of 10.244.3.0/24 are taken"):
            await node.join(pod.pid, {f"10.244.3.{last}" for last in range(2, 255)})
        node._last = 254
        try:
            assert await node.join(pod.pid, {"10.244.3.2"}) == "10.244.3.3"
        finally:
            await network.remove()
    with pytest.raises(RuntimeFailed, match="No such file"):
        await node.join(pod.pid, set())
    await network.remove()


async def test_a_way_to_the_api_server() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    doors = APIDoors(f"127.0.0.1:{port}")
    async with pods(1) as (pod,):
        sandbox = Sandbox(uid="u", namespace="default", name="p", pid=pod.pid)
        assert doors.address == f"127.0.0.1:{port}"
        await doors.open(sandbox)
        await doors.open(sandbox)

        def connect() -> socket.socket:
            return inside(place(pod), lambda: socket.create_connection(("127.0.0.1", port), 5))

        reader, writer = await asyncio.open_connection(sock=await asyncio.to_thread(connect))
        writer.write(b"x" * 100_000)
        writer.write_eof()
        assert await reader.read() == b"X" * 100_000
        writer.close()
        await writer.wait_closed()
        held, holding = await asyncio.open_connection(sock=await asyncio.to_thread(connect))
        holding.write(b"is it there?")
        await doors.close("u")  # also what goes through it, or the namespace would live on
        with contextlib.suppress(ConnectionResetError):
            assert await held.read() == b""
        holding.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(connect)
    shared = Sandbox(uid="h", namespace="default", name="p", pid=os.getpid(), is_host_network=True)
    await doors.open(shared)
    await APIDoors("").open(sandbox)
    assert not doors._doors
    server.close()
