"""Requests to the API server's ASGI application without a socket."""

from __future__ import annotations

import asyncio
from typing import Any

from drakit.apiserver.http import Application


async def exchange(
    application: Application, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (the last of each name) and body of the answer."""
    path, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
    status, received, chunks = 0, {}, []

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        return await _never()

    async def send(message: Any) -> None:
        nonlocal status, received
        if message["type"] == "http.response.start":
            status = message["status"]
            received = {key.decode().lower(): value.decode() for key, value in message["headers"]}
        else:
            chunks.append(message.get("body", b""))

    await application(scope, receive, send)
    return status, received, b"".join(chunks)


async def _never() -> Any:
    return await asyncio.Event().wait()
