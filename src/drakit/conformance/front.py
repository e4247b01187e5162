"""What stands before the API server: it notes what the driver asks for, and can misbehave.

`Front` wraps the HTTP application and can be slow, hang, answer errors or declare watches expired. `Door`
is the port in front of that; while it is shut, connections are refused and those that were open are cut.

A watch that begins with all there is counts as a list too: its client lists where a server has no such watch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct, structs

from drakit.apiserver.app import API
from drakit.apiserver.http import Application
from drakit.apiserver.incoming import Message, Receive, Scope, Send
from drakit.apiserver.route import find_target, verb_of
from drakit.errors import APIError, Expired, InternalError

_REFUSALS = (400, 403, 409, 413, 415, 422)
_NEVER = 1 << 62
_POLL_SECONDS = 0.005
_JSON_HEADERS = [(b"content-type", b"application/json")]


class Use(Struct, frozen=True, order=True):
    """A permission that was used, in the terms of a ClusterRole. `resource` is "pods" or "pods/status"."""

    group: str
    resource: str
    verb: str


class Refusal(Struct, frozen=True):
    """A request of the driver that the API server turned down."""

    use: Use
    code: int
    message: str


class Front:
    """The ASGI application before that of `api`, with faults to set."""

    def __init__(self, api: API) -> None:
        self._api = api
        self._app = Application(api)
        self._open = asyncio.Event()
        self._open.set()
        self._watches: set[asyncio.Event] = set()
        self._oldest = 0
        self.delay = 0.0
        """Seconds before each request is looked at."""
        self.error_code = 0
        """Answer every request with this code; 0 for none."""
        self.uses: Counter[Use] = Counter()
        self.refusals: list[Refusal] = []

    def clear(self) -> None:
        """Behave again."""
        self.delay, self.error_code, self._oldest = 0.0, 0, 0
        self._open.set()

    def hang(self) -> None:
        """Answer nothing until `clear`."""
        self._open.clear()

    async def end_watches(self) -> None:
        """End the driver's watches, and return when they have; others are not touched."""
        ending = set(self._watches)
        for watch in ending:
            watch.set()
        while ending & self._watches:
            await asyncio.sleep(_POLL_SECONDS)

    def expire_watches(self, before: int | None = None) -> None:
        """Watches from a revision older than `before` (None: any) are told that it is expired."""
        self._oldest = _NEVER if before is None else before

    def count(self, resource: str, *verbs: str) -> int:
        """How often the driver asked for one of `verbs` on `resource`."""
        return sum(n for use, n in self.uses.items() if use.resource == resource and use.verb in verbs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        use = self._use(scope, query)
        if use is not None:
            self.uses[use] += 1
            if query.get("sendInitialEvents") == "true":
                self.uses[structs.replace(use, verb="list")] += 1
        await self._open.wait()
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.error_code:
            fault = InternalError("a fault made by the conformance suite", code=self.error_code)
            await _answer(send, self.error_code, msgspec.json.encode(fault.status()))
        elif use is not None and use.verb == "watch":
            await self._watch(scope, receive, send, query)
        elif use is not None:
            await self._app(scope, *self._noting(use, receive, send))
        else:
            await self._app(scope, receive, send)

    def _use(self, scope: Scope, query: dict[str, str]) -> Use | None:
        """The permission a request needs, None for what is no resource."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        try:
            target = find_target(scope["path"], self._api.registry.kinds)
            verb = verb_of(method, target, query.get("watch", "") in ("1", "true"))
        except APIError:
            return None
        at = target.attributes(verb)
        return Use(at.group, f"{at.resource}/{at.subresource}" if at.subresource else at.resource, verb)

    async def _watch(self, scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
        revision = query.get("resourceVersion", "")
        if revision.isdecimal() and 0 < int(revision) < self._oldest:
            error = Expired(f"too old resource version: {revision} ({self._oldest})").status()
            await _answer(send, 200, msgspec.json.encode({"type": "ERROR", "object": error}) + b"\n")
            return
        ended = asyncio.Event()
        self._watches.add(ended)
        waiting = asyncio.ensure_future(ended.wait())

        async def receive_or_end() -> Message:
            asked = asyncio.ensure_future(receive())
            try:
                await asyncio.wait([asked, waiting], return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not asked.done():
                    asked.cancel()
            return await asked if asked.done() and not asked.cancelled() else {"type": "http.disconnect"}

        try:
            await self._app(scope, receive_or_end, send)
        finally:
            self._watches.discard(ended)
            waiting.cancel()

    def _noting(self, use: Use, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """`receive` and `send`, with refusals written down; that a driver died amid its request is none."""
        code, is_gone = 0, False

        async def hear() -> Message:
            nonlocal is_gone
            message = await receive()
            is_gone = is_gone or message["type"] == "http.disconnect"
            return message

        async def note(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            elif code in _REFUSALS and not is_gone and message.get("body"):
                with contextlib.suppress(msgspec.DecodeError):
                    status: Any = msgspec.json.decode(message["body"])
                    self.refusals.append(Refusal(use, code, str(status.get("message", ""))[:500]))
            await send(message)

        return hear, note


async def _answer(send: Send, code: int, body: bytes) -> None:
    headers = [*_JSON_HEADERS, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Door:
    """A TCP port that leads to `target`, the port of a server on this machine, while it is open."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        """Let connections in, at the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._enter, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Refuse connections and cut those there are."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        await asyncio.sleep(_POLL_SECONDS)  # connections that were just taken come in, to be turned away
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(_POLL_SECONDS)  # aborted transports close on a later turn of the loop

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._server is None:
            writer.transport.abort()
            return
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._relay(reader, writer)
        writer.transport.abort()
        self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            both = [_pump(reader, inner_writer), _pump(inner_reader, writer)]
            pumps = [asyncio.ensure_future(pump) for pump in both]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            inner_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
