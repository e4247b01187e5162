"""The API over HTTPS: a bare ASGI application on uvicorn.

Bare because watches are most of the work and want nothing between an event's bytes and the socket. A
watch that its client no longer reads fills its queue and is dropped; stopping the server ends all watches
first, so that none of them holds it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import uvicorn

from drakit.apiserver import read, repeats, streams
from drakit.apiserver.app import API, BOOKMARK_SECONDS, internal, watch_limit
from drakit.apiserver.auth import User
from drakit.apiserver.body import media_type, read_body
from drakit.apiserver.documents import Documents
from drakit.apiserver.impersonate import impersonated
from drakit.apiserver.incoming import JSON, Incoming, Receive, Scope, Send, SlowReader
from drakit.apiserver.protocol import Protocol
from drakit.apiserver.registry import Call
from drakit.apiserver.view import Answer, View, to_bytes, view_for
from drakit.apiserver.watch import Watch
from drakit.apiserver.websocket_protocol import WebSocketProtocol
from drakit.errors import APIError, BadRequest, Expired, Timeout, UsageError

_log = logging.getLogger(__name__)

ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]

_GRACE = 2
BODY_SECONDS = 30
CALL_SECONDS = 60
MAX_CONNECTIONS = 20_000
_BODY_METHODS = ("POST", "PUT", "PATCH", "DELETE")
_MAX_CHUNK = 256 << 10


def _warning_headers(warnings: list[str]) -> list[tuple[bytes, bytes]]:
    headers = []
    for text in dict.fromkeys(warnings):
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\r", " ")
        headers.append((b"warning", f'299 - "{quoted}"'.encode()))
    return headers


class Application:
    """The ASGI application over `api`."""

    def __init__(self, api: API) -> None:
        self._api = api
        self._documents = Documents(api)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await streams.websocket(self._api, scope, receive, send)
        elif scope["type"] == "http":
            request = Incoming(scope, receive, send)
            await self._handle(request)
            key = (request.method, request.status)
            self._api.requests[key] = self._api.requests.get(key, 0) + 1

    async def _handle(self, request: Incoming) -> None:
        warnings: list[str] = []
        try:
            user = self._api.authenticate(request.header(b"authorization"), request.certificate)
            user = impersonated(user, request.header_list, self._api.authorizer)
            path = request.path.rstrip("/")
            depth = 3 if path.startswith("/api/") else 4 if path.startswith("/apis/") else sys.maxsize
            is_static = path.count("/") < depth
            if not (is_static and await self._documents.answer(request, user)):
                await self._resource(request, user, warnings)
        except APIError as error:
            await self._fail(request, error, warnings)
        except SlowReader:
            _log.info("%s %s: the client does not read; dropped", request.method, request.path)
        except RecursionError:
            await self._fail(request, BadRequest("the request is nested too deeply"), warnings)
        except Exception as error:
            _log.exception("%s %s failed", request.method, request.path)
            await self._fail(request, internal(error), warnings)

    async def _fail(self, request: Incoming, error: APIError, warnings: list[str]) -> None:
        if request.status:
            return
        more = _warning_headers(warnings)
        seconds = (error.details or {}).get("retryAfterSeconds")
        if seconds:
            more.append((b"retry-after", str(seconds).encode()))
        await request.answer(error.code, msgspec.json.encode(error.status()), more=more)

    # --- resources ----------------------------------------------------------------------------------

    async def _resource(self, request: Incoming, user: User, warnings: list[str]) -> None:
        method = "GET" if request.method == "HEAD" else request.method
        call = self._api.route(user, method, request.path, request.query)
        warnings += call.warnings
        call.warnings = warnings
        call.user_agent = request.header(b"user-agent")
        if call.target.subresource == "log":
            await streams.logs(self._api, call, request)
            return
        if call.target.subresource in streams.SOCKETS:
            raise streams.without_upgrade(self._api, call)
        view = view_for(request.header(b"accept"), request.query.get("includeObject", ""))
        if call.verb == "watch":
            await self._watch(request, call, view)
            return
        if method in _BODY_METHODS:
            header = request.header(b"content-type")
            call.content_type = media_type(header) or JSON
            body = await self._body(request)
            call.document, call.raw = read_body(body, header, is_patch=method == "PATCH")
            if call.field_validation != "Ignore":
                call.odd = repeats.in_body(body, call.document, call.content_type)
        answer = await self._call(call)
        status = getattr(answer, "status", 200)
        data = to_bytes(answer, view)
        await request.answer(status, data, view.content_type, more=_warning_headers(call.warnings))

    async def _call(self, call: Call) -> Answer:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await self._api.call(call)
        except TimeoutError:
            text = "Timeout: request did not complete within requested timeout - context deadline exceeded"
            raise Timeout(text, details={}) from None

    async def _body(self, request: Incoming) -> bytes:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await request.body()
        except TimeoutError:
            text = f"the body of the request did not come within {BODY_SECONDS} seconds"
            raise Timeout(text, code=408, details={}) from None

    async def _watch(self, request: Incoming, call: Call, view: View) -> None:
        more = _warning_headers(call.warnings)
        try:
            watch = read.watch(self._api.registry, call)
        except Expired as error:
            line = b'{"type":"ERROR","object":' + msgspec.json.encode(error.status()) + b"}\n"
            await request.answer(200, line, JSON, more=more)
            return
        await request.start(200, JSON, more=more)
        gone = asyncio.ensure_future(_until_gone(request.receive, watch.close))
        try:
            await self._pump(request, watch, call, view)
        finally:
            watch.close()
            gone.cancel()
        await request.write(b"", is_last=True)

    async def _pump(self, request: Incoming, watch: Watch, call: Call, view: View) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + watch_limit(call.query)
        with_bookmarks = read.is_true(call.query, "allowWatchBookmarks")
        await request.write(b"")
        while (left := end - loop.time()) > 0:
            items = await watch.take(min(left, BOOKMARK_SECONDS))
            if items is None:
                return
            if not items and with_bookmarks:
                items = [watch.bookmark()]
            size, lines = 0, []
            for item in items:
                lines.append(line := watch.line(item, view))
                size += len(line)
                if size > _MAX_CHUNK:
                    await request.write(b"".join(lines))
                    size, lines = 0, []
            if lines:
                await request.write(b"".join(lines))


async def _until_gone(receive: Receive, then: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    then()


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the program, not to its server."""
        yield


class Server:
    """A running server; see `serve`."""

    def __init__(self, api: API, server: uvicorn.Server, task: asyncio.Task[None], port: int) -> None:
        self.port = port
        self._api = api
        self._server = server
        self._task = task

    async def stop(self) -> None:
        """Take no more requests, end all watches, finish the rest within two seconds."""
        self._server.should_exit = True
        self._api.end_watches()
        await self._task


async def serve(
    api: API,
    host: str,
    port: int,
    *,
    certfile: Path,
    keyfile: Path,
    client_ca: Path | None = None,
    app: ASGI | None = None,
) -> Server:
    """Serve `api` on `host` and `port` (0: any that is free). Raises UsageError if that is taken.

    Clients may come with a certificate of `client_ca`; one of anybody else ends the connection.
    `app` is what stands before `Application(api)`, if anything does.
    """
    listener = _listener(host, port)
    config = uvicorn.Config(
        app or Application(api),
        http=Protocol,
        limit_concurrency=MAX_CONNECTIONS,
        ws=WebSocketProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
        ssl_ca_certs=str(client_ca) if client_ca else None,
        ssl_cert_reqs=ssl.CERT_OPTIONAL if client_ca else ssl.CERT_NONE,
        timeout_keep_alive=120,
        timeout_graceful_shutdown=_GRACE,
        ws_max_size=1 << 20,
        backlog=1024,
    )
    server = _Uvicorn(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="api server")
    while not server.started:
        if task.done():
            listener.close()
            await task
            raise UsageError(f"the API server on {host} port {port} did not start")
        await asyncio.sleep(0.001)
    return Server(api, server, task, listener.getsockname()[1])


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Naming the protocol has asyncio turn Nagle's algorithm off, which would cost 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    listener.listen(1024)
    return listener
