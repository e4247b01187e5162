"""What a client may not do to the server: send without end, never read, take too long."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from drakit.apiserver import http, incoming, protocol, watch
from drakit.apiserver.body import MAX_BODY
from drakit.apiserver.http import Application, Server, serve
from drakit.apiserver.tls import certificates
from tests.apiserver.asgi import request
from tests.apiserver.served import ADMIN, Served, config_map

pytestmark = pytest.mark.anyio

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with Served(tokens={"secret": ADMIN}) as made:
        yield made


@pytest.fixture
async def server(served: Served, tmp_path: Path) -> AsyncIterator[Server]:
    files = certificates(tmp_path / "pki")
    made = await serve(served.api, "127.0.0.1", 0, certfile=files.certificate, keyfile=files.key)
    yield made
    await made.stop()


async def _connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return await asyncio.open_connection("127.0.0.1", server.port, ssl=context)


async def _is_well(served: Served) -> bool:
    return (await request(served.api, "GET", "/healthz")).status == 200


async def test_head_without_end(served: Served, server: Server) -> None:
    reader, writer = await _connect(server)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    line = b"x-filler: " + b"y" * 8000 + b"\r\n"
    for _ in range(protocol.MAX_HEAD // len(line) + 20):
        writer.write(line)
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 431 ")
    writer.close()
    assert await _is_well(served)


async def test_large_head_is_taken(server: Server) -> None:
    reader, writer = await _connect(server)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-filler: " + b"y" * 500_000 + b"\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_head_that_does_not_come(
    served: Served, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)
    reader, writer = await _connect(server)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
    writer.close()
    assert await _is_well(served)


async def test_body_beyond_the_limit(served: Served) -> None:
    headers = {"content-type": "application/json"}
    answer = await request(served.api, "POST", MAPS, b" " * (MAX_BODY + 1), headers=headers)
    assert (answer.status, answer.document["reason"]) == (413, "RequestEntityTooLarge")


async def _unread(served: Served, path: str, query: bytes = b"") -> bool:
    """Whether the application gives up on a client that sends a request and never reads."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        await asyncio.Event().wait()

    headers = [(b"authorization", b"Bearer secret")]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "headers": headers}
    await asyncio.wait_for(Application(served.api)(scope, receive, send), 10)
    return True


@pytest.mark.parametrize("query", [b"", b"watch=true"])
async def test_client_that_never_reads(served: Served, query: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "WRITE_SECONDS", 0.05)
    assert await _unread(served, MAPS, query)
    assert await _is_well(served)


async def test_call_that_takes_too_long(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CALL_SECONDS", 0)
    headers = {"content-type": "application/json"}
    answer = await request(served.api, "POST", MAPS, b'{"metadata":{"name":"x"}}', headers=headers)
    assert (answer.status, answer.document["reason"]) == (504, "Timeout")


async def test_watchers_have_a_limit(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_WATCHERS", 0)
    answer = await request(served.api, "GET", MAPS, query=b"watch=true")
    assert (answer.status, answer.document["reason"]) == (429, "TooManyRequests")
    assert answer.header("retry-after") == ["1"]


async def test_slow_watcher_is_dropped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_QUEUE", 3)
    kind = served.api.registry.kinds.resource("", "configmaps")
    assert kind is not None
    events = served.watch(MAPS, resourceVersion=str(served.api.store.revision))
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    for number in range(8):
        await served.ok("POST", MAPS, config_map(f"m{number}"))
    assert (await first)["type"] == "ADDED"
    rest = [event async for event in events]
    assert len(rest) < 7
    assert len(served.api.registry.hub(kind)) == 0


async def test_lists_come_in_pages(served: Served) -> None:
    for number in range(5):
        await served.ok("POST", MAPS, config_map(f"m{number}"))
    page = await served.ok("GET", MAPS, limit="2")
    assert (len(page["items"]), page["metadata"]["remainingItemCount"]) == (2, 3)
