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
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import uvicorn

from drakit.apiserver import discovery, openapi_protobuf, read, streams
from drakit.apiserver.app import API, BOOKMARK_SECONDS, internal, watch_limit
from drakit.apiserver.auth import Attributes, User
from drakit.apiserver.backup import BACKUP_PATH, BACKUP_TYPE, copy_of, parts
from drakit.apiserver.body import MAX_BODY, media_type, read_body
from drakit.apiserver.impersonate import impersonated
from drakit.apiserver.protocol import Protocol
from drakit.apiserver.registry import Call
from drakit.apiserver.route import no_such_path
from drakit.apiserver.view import Answer, View, accepted, to_bytes, view_for
from drakit.apiserver.watch import Watch
from drakit.errors import APIError, BadRequest, Expired, RequestTooLarge, Timeout, UsageError

_log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_GRACE = 2
BODY_SECONDS = 30
WRITE_SECONDS = 60
CALL_SECONDS = 60
MAX_CONNECTIONS = 20_000
_HEALTH = ("/healthz", "/livez", "/readyz")
_BODY_METHODS = ("POST", "PUT", "PATCH", "DELETE")
_MAX_CHUNK = 256 << 10


class SlowReader(Exception):
    """The client does not take its answer: the connection is to be given up."""


class Incoming:
    """One HTTP request: its parts, and how to answer it once."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        self.query = dict(self.pairs)
        self.header_list: Headers = scope["headers"]
        self.headers: dict[bytes, str] = {key: value.decode("latin-1") for key, value in self.header_list}
        self.receive = receive
        self._send = send
        self.status = 0

    def header(self, name: bytes) -> str:
        return self.headers.get(name, "")

    async def body(self) -> bytes:
        """The whole body. Raises RequestTooLarge beyond the limit."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise BadRequest("the client went away")
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > MAX_BODY:
                raise RequestTooLarge(f"Request entity too large: limit is {MAX_BODY}", details={})
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)

    async def _pass_on(self, message: Message) -> None:
        """Send, to a client that reads. Raises SlowReader for one that does not."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._send(message)
        except TimeoutError:
            raise SlowReader from None

    async def start(
        self, status: int, content_type: str, *, length: int | None = None, more: Headers = ()
    ) -> None:
        self.status = status
        headers = [(b"content-type", content_type.encode()), (b"cache-control", b"no-cache, private"), *more]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        await self._pass_on({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, is_last: bool = False) -> None:
        await self._pass_on({"type": "http.response.body", "body": data, "more_body": not is_last})

    async def answer(
        self,
        status: int,
        body: bytes,
        content_type: str = _JSON,
        *,
        more: Headers = (),
    ) -> None:
        await self.start(status, content_type, length=len(body), more=more)
        await self.write(b"" if self.method == "HEAD" else body, is_last=True)


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
            user = self._api.authenticate(request.header(b"authorization"))
            user = impersonated(user, request.header_list, self._api.authorizer)
            path = request.path.rstrip("/")
            depth = 3 if path.startswith("/api/") else 4 if path.startswith("/apis/") else sys.maxsize
            is_static = path.count("/") < depth
            if not (is_static and await self._static(request, user)):
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
        if call.target.subresource == "exec":
            raise streams.without_upgrade(self._api, call)
        view = view_for(request.header(b"accept"), request.query.get("includeObject", ""))
        if call.verb == "watch":
            await self._watch(request, call, view)
            return
        if method in _BODY_METHODS:
            header = request.header(b"content-type")
            call.content_type = media_type(header) or _JSON
            body = await self._body(request)
            call.document, call.raw = read_body(body, header, is_patch=method == "PATCH")
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
            await request.answer(200, line, _JSON, more=more)
            return
        await request.start(200, _JSON, more=more)
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

    # --- everything else ----------------------------------------------------------------------------

    async def _static(self, request: Incoming, user: User) -> bool:
        """Answer what is no resource; False if the path is none of these."""
        path = request.path.rstrip("/") or "/"
        self._api.authorizer.check(user, Attributes(request.method.lower().replace("head", "get"), path=path))
        if request.method not in ("GET", "HEAD"):
            return False
        if path.startswith(_HEALTH):
            await self._health(request, path)
        elif path == "/version":
            await request.answer(200, msgspec.json.encode(discovery.version_info(self._api.profile)))
        elif path == "/metrics":
            await request.answer(200, self._api.metrics(), "text/plain; version=0.0.4; charset=utf-8")
        elif path.startswith("/openapi"):
            await self._openapi(request, path)
        elif path == BACKUP_PATH:
            await self._backup(request)
        else:
            return await self._discovery(request, path)
        return True

    async def _health(self, request: Incoming, path: str) -> None:
        name = path.split("/")[1]
        if "verbose" in request.query:
            checks = ("ping", "log", "etcd")
            lines = [f"[+]{check} ok" for check in checks]
            body = "\n".join([*lines, f"{name} check passed", ""])
            await request.answer(200, body.encode(), _TEXT)
        else:
            await request.answer(200, b"ok", _TEXT)

    async def _backup(self, request: Incoming) -> None:
        async with copy_of(self._api.store) as copy:
            await request.start(200, BACKUP_TYPE, length=copy.stat().st_size)
            if request.method == "GET":
                async for part in parts(copy):
                    await request.write(part)
            await request.write(b"", is_last=True)

    async def _openapi(self, request: Incoming, path: str) -> None:
        openapi, accept = self._api.openapi, request.header(b"accept")
        if path == "/openapi/v2":
            if any(name in openapi_protobuf.ACCEPTED for name, _ in accepted(accept)):
                await request.answer(200, openapi.v2_protobuf, openapi_protobuf.CONTENT_TYPE)
                return
            view_for(accept)
            await request.answer(200, openapi.v2)
            return
        if path == "/openapi/v3":
            await request.answer(200, openapi.index)
            return
        parts = path.removeprefix("/openapi/v3/").split("/")
        group, version = ("", parts[1]) if len(parts) == 2 and parts[0] == "api" else ("", "")
        if len(parts) == 3 and parts[0] == "apis":
            group, version = parts[1], parts[2]
        try:
            body = openapi.v3(group, version)
        except KeyError:
            raise no_such_path() from None
        etag = f'"{openapi.hash(group, version)}"'.encode()
        if request.header(b"if-none-match").encode() == etag:
            await request.answer(304, b"", more=[(b"etag", etag)])
            return
        await request.answer(200, body, more=[(b"etag", etag)])

    async def _discovery(self, request: Incoming, path: str) -> bool:
        kinds, accept = self._api.registry.kinds, request.header(b"accept")
        document: Mapping[str, Any] | None = discovery.document_at(
            kinds, path, accept, request.header(b"host")
        )
        content_type = _JSON
        if path in ("/api", "/apis") and (version := discovery.wants_aggregated(accept)):
            content_type = discovery.content_type(version)
        if path == "/":
            document = {"paths": self._paths()}
        if document is None:
            return False
        await request.answer(200, msgspec.json.encode(document), content_type)
        return True

    def _paths(self) -> list[str]:
        paths = ["/api", "/api/v1", "/apis", *_HEALTH, "/metrics", "/openapi/v2", "/openapi/v3", "/version"]
        for group, versions in self._api.registry.kinds.group_versions().items():
            if group:
                paths += [f"/apis/{group}", *(f"/apis/{group}/{version}" for version in versions)]
        return sorted(paths)


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
    api: API, host: str, port: int, *, certfile: Path, keyfile: Path, app: ASGI | None = None
) -> Server:
    """Serve `api` on `host` and `port` (0: any that is free). Raises UsageError if that is taken.

    `app` is what stands before `Application(api)`, if anything does.
    """
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
    config = uvicorn.Config(
        app or Application(api),
        http=Protocol,
        limit_concurrency=MAX_CONNECTIONS,
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
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
