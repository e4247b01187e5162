"""HTTP/1.1 on the wire, with an end to what a client may send before a request is complete.

The client's certificate, if it has one, is read once for a connection. uvicorn limits neither the size of a
request's head nor the time it takes; Kubernetes allows 1 MiB and 32 seconds.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 1 << 20
HEAD_SECONDS = 32.0
CLIENT = "client"
"""In the `state` of a scope: the user name and groups of the client's certificate."""
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\n"
    b"431 Request Header Fields Too Large"
)


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, for one connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if (named := _named_by(transport)) is not None:
            self.app_state = {**self.app_state, CLIENT: named}
        self._deadline = self.loop.call_later(HEAD_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        is_in_head = self._head >= 0
        if is_in_head:
            self._head += len(data)
        super().data_received(data)
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def on_headers_complete(self) -> None:
        self._head = -1
        self._stop_clock()
        super().on_headers_complete()

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _named_by(transport: Any) -> tuple[str, tuple[str, ...]] | None:
    """Whom the client's certificate names, verified when the connection was made: the common name, and
    the organizations as groups."""
    tls = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert() if tls is not None else None
    if not certificate:
        return None
    parts = [pair for name in certificate.get("subject", ()) for pair in name]
    names = [value for key, value in parts if key == "commonName"]
    groups = tuple(value for key, value in parts if key == "organizationName")
    return (names[-1], groups) if names else None
