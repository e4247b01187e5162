"""The HTTP transport against a real server on a socket."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from drakit.client import http
from drakit.client.api import PODS, Client
from drakit.client.credential import CredentialSource
from drakit.client.http import HTTPTransport, Lines
from drakit.client.kubeconfig import Config, ExecPlugin
from drakit.errors import Expired, NotFound, ServiceUnavailable, UsageError
from drakit.transport import Document, Request
from tests.client.fake_clock import FakeClock, settle

pytestmark = pytest.mark.anyio

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connected(
    handler: Handler, clock: FakeClock | None = None, **config: object
) -> AsyncIterator[Client]:
    async with serving(handler) as server:
        client = Client(HTTPTransport(Config(server=server, **config), clock=clock))  # type: ignore[arg-type]
        try:
            yield client
        finally:
            await client.close()


async def test_a_request_as_it_arrives() -> None:
    arrived: list[tuple[str, str, str | None, object]] = []

    async def handler(request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        arrived.append((request.method, request.path_qs, request.headers.get("Authorization"), body))
        return web.json_response({"items": []}, headers={"Warning": '299 - "old \\"version\\""'})

    async with connected(handler, token="t") as client:
        await client.list(PODS, "ns", label_selector="a in (b,c)")
        await client.create(PODS, {"metadata": {"name": "x"}}, "ns")
        response = await client.request(Request(method="GET", path="/api"))
        assert response.warnings == ['old "version"']
    assert arrived[0] == (
        "GET",
        "/api/v1/namespaces/ns/pods?labelSelector=a%20in%20%28b%2Cc%29",
        "Bearer t",
        None,
    )
    assert arrived[1][0] == "POST"
    assert arrived[1][3] == {"metadata": {"name": "x"}}


async def test_failures_are_the_errors_of_the_status() -> None:
    async def handler(request: web.Request) -> web.Response:
        if "text" in request.path:
            return web.Response(text="nothing here", status=404)
        return web.json_response({"kind": "Status", "reason": "NotFound", "message": "gone"}, status=404)

    async with connected(handler) as client:
        with pytest.raises(NotFound, match="gone"):
            await client.get(PODS, "p", "ns")
        with pytest.raises(NotFound, match="nothing here"):
            await client.get(PODS, "text", "ns")


async def test_nobody_there() -> None:
    client = Client(HTTPTransport(Config(server="http://127.0.0.1:1")))
    with pytest.raises(ServiceUnavailable, match=r"cannot reach http://127\.0\.0\.1:1"):
        await client.get(PODS, "p", "ns")
    with pytest.raises(ServiceUnavailable, match="cannot reach"):
        async for _ in client.watch(PODS):
            pass
    await client.close()


@pytest.mark.parametrize(("method", "tries"), [("GET", 3), ("PUT", 3), ("PATCH", 3), ("POST", 1)])
async def test_a_dropped_connection(method: str, tries: int) -> None:
    seen = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal seen
        seen += 1
        await request.read()
        assert request.transport is not None
        request.transport.close()
        await asyncio.sleep(0)
        return web.Response()

    content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    async with connected(handler) as client:
        with pytest.raises(ServiceUnavailable):
            await client.request(
                Request(method=method, path="/api/v1/x", content_type=content_type, document={})
            )
    assert seen >= tries
    assert (seen == 1) == (method == "POST")


async def test_retry_after_is_honoured() -> None:
    answers = [429, 503, 200]

    async def handler(request: web.Request) -> web.Response:
        status = answers.pop(0)
        return web.json_response({"n": status}, status=status, headers={"Retry-After": "7"})

    clock = FakeClock()
    async with connected(handler, clock) as client:
        task = asyncio.create_task(client.create(PODS, {}, "ns"))
        for _ in range(2):
            while not clock.pending:
                await asyncio.sleep(0.001)
            assert clock.pending == [7]
            await clock.advance(7)
        assert await task == {"n": 200}


async def test_retry_after_ends() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"reason": "ServiceUnavailable"}, status=503, headers={"Retry-After": "0"})

    async with connected(handler) as client:
        with pytest.raises(ServiceUnavailable):
            await client.get(PODS, "p", "ns")


async def test_watch_streams_large_lines() -> None:
    big = {"type": "ADDED", "object": {"metadata": {"name": "x" * 300_000}}}
    line = json.dumps(big).encode() + b"\n"

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.query["watch"] == "true"
        response = web.StreamResponse()
        await response.prepare(request)
        data = line * 3
        for start in range(0, len(data), 10_000):
            await response.write(data[start : start + 10_000])
        return response

    async with connected(handler) as client:
        events = [event async for event in client.watch(PODS, timeout_seconds=5)]
    assert events == [big] * 3


async def test_a_refused_watch() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"reason": "Expired", "message": "too old"}, status=410)

    async with connected(handler) as client:
        with pytest.raises(Expired):
            async for _ in client.watch(PODS, resource_version="1"):
                pass


async def test_a_watch_cut_short_just_ends() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type": "BOOKMARK", "object": {}}\n{"type": "AD')
        assert request.transport is not None
        request.transport.abort()
        return response

    async with connected(handler) as client:
        events: list[Document] = [event async for event in client.watch(PODS)]
    assert [event["type"] for event in events] == ["BOOKMARK"]


def test_lines_however_they_are_cut() -> None:
    data = b"one\n\ntwo two\nthree"
    for size in range(1, len(data) + 1):
        lines = Lines()
        found = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
        assert found == [b"one", b"two two"]


async def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    file, clock = tmp_path / "token", FakeClock()
    source = CredentialSource(Config(server="http://h", token_file=file), clock)
    with pytest.raises(UsageError, match="cannot read token file"):
        await source.get()
    file.write_text("old\n")
    assert (await source.get()).token == "old"
    file.write_text("new\n")
    assert (await source.get()).token == "old"
    await clock.advance(61)
    assert (await source.get()).token == "new"


def plugin(tmp_path: Path, script: str) -> ExecPlugin:
    file = tmp_path / "login.py"
    file.write_text(script)
    return ExecPlugin(command=sys.executable, args=(str(file),), env=(("WHO", "me"),), where="users[u].exec")


PRINTS = """
import json, os, pathlib
count = pathlib.Path(__file__).with_name("count")
count.write_text(count.read_text() + "x" if count.exists() else "x")
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
token = os.environ["WHO"] + str(len(count.read_text()))
status = {"token": token, "expirationTimestamp": "2027-01-15T09:00:00Z"}
print(json.dumps({"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}))
"""


async def test_a_program_runs_again_when_its_token_expires(tmp_path: Path) -> None:
    clock = FakeClock()
    source = CredentialSource(Config(server="http://h", exec_plugin=plugin(tmp_path, PRINTS)), clock)
    assert (await source.get()).token == "me1"
    assert (await source.get()).token == "me1"
    await clock.advance(3595)
    second = await source.get()
    assert second.token == "me2"
    assert source.refuse(second)
    assert (await source.get()).token == "me3"


async def test_a_refused_token_is_replaced_once(tmp_path: Path) -> None:
    tokens = []

    async def handler(request: web.Request) -> web.Response:
        tokens.append(request.headers["Authorization"])
        ok = tokens[-1] == "Bearer me2"
        return web.json_response({}, status=200 if ok else 401)

    async with connected(handler, exec_plugin=plugin(tmp_path, PRINTS)) as client:
        await client.get(PODS, "p", "ns")
    assert tokens == ["Bearer me1", "Bearer me2"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("print('hello')", "no JSON"),
        ("print('{}')", "no ExecCredential"),
        ('print(\'{"kind": "ExecCredential", "status": {}}\')', "neither token nor"),
    ],
)
async def test_programs_that_go_wrong(script: str, message: str, tmp_path: Path) -> None:
    source = CredentialSource(Config(server="http://h", exec_plugin=plugin(tmp_path, script)))
    with pytest.raises(UsageError, match=rf"users\[u\]\.exec: .*{message}"):
        await source.get()


async def test_a_program_that_is_not_there() -> None:
    missing = ExecPlugin(command="/no/such/login", where="here", install_hint="install it")
    with pytest.raises(UsageError, match="cannot run /no/such/login: No such file or directory; install it"):
        await CredentialSource(Config(server="http://h", exec_plugin=missing)).get()


async def test_requests_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IN_FLIGHT", 2)
    busy, most = 0, 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await settle()
        busy -= 1
        return web.json_response({})

    async with connected(handler) as client:
        await asyncio.gather(*(client.get(PODS, f"p{n}", "ns") for n in range(10)))
    assert most == 2
