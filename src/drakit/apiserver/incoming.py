"""One HTTP request as it comes in over ASGI, and the way to answer it.

A body has a largest size; an answer that the client does not take is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from drakit.apiserver.body import MAX_BODY
from drakit.apiserver.protocol import CLIENT
from drakit.errors import BadRequest, RequestTooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

JSON = "application/json"
WRITE_SECONDS = 60


def certificate_of(scope: Scope) -> tuple[str, tuple[str, ...]] | None:
    """The user name and groups of the client's certificate, None without one."""
    found: tuple[str, tuple[str, ...]] | None = scope.get("state", {}).get(CLIENT)
    return found


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
        self.certificate = certificate_of(scope)
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
        content_type: str = JSON,
        *,
        more: Headers = (),
    ) -> None:
        await self.start(status, content_type, length=len(body), more=more)
        await self.write(b"" if self.method == "HEAD" else body, is_last=True)
