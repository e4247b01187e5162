"""Probes: what counts as well, and when a container is told to be so."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from drakit.apiserver.tls import certificates
from drakit.node.action import ActionFailed, Actions
from drakit.node.probe import Kind, Prober
from drakit.node.runtime import Sandbox
from tests.client.fake_clock import FakeClock
from tests.node.make import FakeRuntime, until

pytestmark = pytest.mark.anyio


SANDBOX = Sandbox(uid="u", namespace="default", name="p")


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A web server that always says `answer`: its port and the requests it got."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1], requests


@asynccontextmanager
async def probing(spec: dict[str, Any], runtime: FakeRuntime | None = None) -> AsyncIterator[list[Any]]:
    """Results and failures of the probes of `spec`, as they come; the test turns the clock in `[0]`."""
    clock = FakeClock()
    seen: list[Any] = [clock]

    def on_result(kind: Kind, is_well: bool, message: str) -> None:
        seen.append((kind, is_well))

    def on_failure(kind: Kind, message: str) -> None:
        seen.append((kind, message))

    actions = Actions(runtime or FakeRuntime(clock), "c", spec, SANDBOX, clock)
    prober = Prober(actions, spec, clock, on_result, on_failure)
    task = asyncio.create_task(prober.run())
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_http(tmp_path: object) -> None:
    async with server(b"HTTP/1.1 200 OK\r\n\r\n") as (port, requests):
        headers = [{"name": "X-A", "value": "b"}]
        probe = {"httpGet": {"path": "/healthz", "port": "web", "httpHeaders": headers}}
        spec = {"ports": [{"name": "web", "containerPort": port}], "readinessProbe": probe}
        async with probing(spec) as seen:
            await seen[0].advance(0)
            await until(lambda: seen[1:] == [("readiness", True)])
        assert requests[0].startswith(b"GET /healthz HTTP/1.1\r\n")
        assert b"X-A: b" in requests[0]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 500 no\r\n\r\n", b"nonsense\r\n\r\n", b""])
async def test_http_that_is_not_well(answer: bytes) -> None:
    async with server(answer) as (port, _):
        spec = {"readinessProbe": {"httpGet": {"port": port}, "failureThreshold": 1}}
        async with probing(spec) as seen:
            await seen[0].advance(0)
            await until(lambda: ("readiness", False) in seen)
        assert "HTTP probe failed with statuscode" in seen[1][1]


async def test_tcp() -> None:
    async with server(b"") as (port, _), probing({"readinessProbe": {"tcpSocket": {"port": port}}}) as seen:
        await seen[0].advance(0)
        await until(lambda: ("readiness", True) in seen)
    async with probing({"readinessProbe": {"tcpSocket": {"port": port}, "failureThreshold": 1}}) as seen:
        await seen[0].advance(0)
        await until(lambda: ("readiness", False) in seen)


GRPC = {
    "well": (b"\x08\x01", ""),
    "not well": (b"\x08\x02", "NOT_SERVING"),
    "not there": (None, "does not implement"),
}


@pytest.mark.parametrize("name", GRPC)
async def test_grpc(name: str) -> None:
    answer, problem = GRPC[name]
    asked: list[bytes] = []

    async def check(request: bytes, context: Any) -> bytes:
        asked.append(request)
        return answer or b""

    health = grpc.aio.server()
    methods = {"Check": grpc.unary_unary_rpc_method_handler(check)} if answer is not None else {}
    health.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods),))
    port = health.add_insecure_port("127.0.0.1:0")
    await health.start()
    actions = Actions(FakeRuntime(FakeClock()), "c", {}, SANDBOX, FakeClock())
    try:
        if problem:
            with pytest.raises(ActionFailed, match=problem):
                await actions.perform({"grpc": {"port": port}})
        else:
            await actions.perform({"grpc": {"port": port, "service": "mine"}})
            assert asked == [b"\x0a\x04mine"]
    finally:
        await health.stop(0)


async def test_https_with_a_certificate_nobody_knows(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    actions = Actions(FakeRuntime(FakeClock()), "c", {}, SANDBOX, FakeClock())
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        await actions.perform({"httpGet": {"scheme": "HTTPS", "port": port}})
    with pytest.raises(
        ActionFailed, match=r'Get "https://127\.0\.0\.1:\d+/": dial tcp .*: connection refused'
    ):
        await actions.perform({"httpGet": {"scheme": "HTTPS", "port": port}})


async def test_a_port_nobody_named() -> None:
    probe = {"tcpSocket": {"port": "web"}, "failureThreshold": 1}
    async with probing({"livenessProbe": probe}) as seen:
        await seen[0].advance(0)
        await until(lambda: ("liveness", False) in seen)
    assert seen[1] == ("liveness", "no container port is called 'web'")


async def test_thresholds_count_in_a_row() -> None:
    runtime = FakeRuntime(FakeClock())
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 2, "successThreshold": 2}
    async with probing({"readinessProbe": probe}, runtime) as seen:
        for seconds, code in ((0, 1), (5, 0), (5, 1), (5, 0), (5, 0), (5, 1), (5, 1)):
            runtime.exec_code = code
            await seen[0].advance(seconds)
        changes = [entry for entry in seen[1:] if isinstance(entry[1], bool)]
        assert changes == [("readiness", True), ("readiness", False)]


async def test_the_startup_probe_comes_first() -> None:
    runtime = FakeRuntime(FakeClock())
    runtime.exec_code = 1
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 10}
    async with probing({"startupProbe": probe, "readinessProbe": probe}, runtime) as seen:
        await seen[0].advance(11)
        assert {kind for kind, _ in seen[1:]} == {"startup"}
        runtime.exec_code = 0
        await seen[0].advance(5)
        assert seen[-2:] == [("startup", True), ("readiness", True)]
