"""Requests to the ASGI application without sockets: what a client would see, byte for byte."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Struct

from drakit.apiserver.app import API
from drakit.apiserver.http import Application


class Reply(Struct):
    """An HTTP response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)


async def request(
    api: API,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    headers: dict[str, str] | None = None,
    query: bytes = b"",
    token: str | None = "secret",
    chunk: int = 1 << 20,
) -> Reply:
    """Send one request; the client goes away once it has the whole answer."""
    all_headers = {"host": "test", **(headers or {})}
    if token is not None:
        all_headers["authorization"] = f"Bearer {token}"
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(key.encode(), value.encode("latin-1")) for key, value in all_headers.items()],
    }
    parts = [body[at : at + chunk] for at in range(0, len(body), chunk)] or [b""]
    reply = Reply(0, [], b"")

    async def receive() -> dict[str, Any]:
        if parts:
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not reply.status, "a second answer"
            reply.status = message["status"]
            reply.headers = [(key.decode(), value.decode("latin-1")) for key, value in message["headers"]]
        else:
            reply.body += message["body"]

    await Application(api)(scope, receive, send)
    return reply
