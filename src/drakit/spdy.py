"""SPDY/3.1 framing, as far as Kubernetes' streams need it: bytes in, events out, no I/O.

kubectl's port-forward sends it through a WebSocket, and container runtimes serve exec and attach in it. Both
ends are made by one Go library, which has no flow control, no priorities and no server push; so this has none
either. Streams carry headers when they are opened, then data each way until that way is ended.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

from drakit.errors import DRAError

MAX_FRAME = 4 << 20
_MAX_HEADERS = 64 << 10
_CHUNK = 32 << 10

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN = 0x01
_VERSION = 0x8003
_CANCEL = 5

_WORDS = """options head post put delete trace accept accept-charset accept-encoding accept-language
accept-ranges age allow authorization cache-control connection content-base content-encoding content-language
content-length content-location content-md5 content-range content-type date etag expect expires from host
if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards
pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding
upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public
set-cookie keep-alive origin"""
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


_DICTIONARY = b"".join(_text(word.replace("_", " ").encode()) for word in _WORDS.split()) + _TAIL.encode()
"""What both ends prime the compression of headers with, as the protocol prescribes."""


class SPDYError(DRAError):
    """The other end does not speak SPDY/3.1 as it should: the connection is of no more use."""


class Event(Struct, frozen=True):
    """Something the other end did. `send`: these bytes are to be sent back."""

    kind: Literal["open", "reply", "data", "end", "reset", "send", "goaway"]
    stream: int = 0
    data: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Framer:
    """One end of a connection. The client's streams have odd numbers."""

    def __init__(self, *, is_client: bool) -> None:
        self._next = 1 if is_client else 2
        self._received = b""
        self._compressor = zlib.compressobj(zdict=_DICTIONARY)
        self._decompressor = zlib.decompressobj(zdict=_DICTIONARY)

    # --- what we do -------------------------------------------------------------------------------

    def open(self, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """The number of a new stream, and the bytes that open it."""
        number = self._next
        self._next += 2
        block = self._pack(headers)
        return number, _control(_SYN_STREAM, struct.pack(">IIH", number, 0, 0) + block)

    def reply(self, stream: int, headers: Mapping[str, str] | None = None) -> bytes:
        """Accept a stream that the other end has opened."""
        return _control(_SYN_REPLY, struct.pack(">I", stream) + self._pack(headers or {}))

    def data(self, stream: int, data: bytes) -> bytes:
        parts = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
        return b"".join(struct.pack(">II", stream, len(part)) + part for part in parts)

    def end(self, stream: int) -> bytes:
        """No more data from here."""
        return struct.pack(">II", stream, _FIN << 24)

    def reset(self, stream: int) -> bytes:
        """Give the stream up, both ways."""
        return _control(_RST_STREAM, struct.pack(">II", stream, _CANCEL))

    # --- what the other end does --------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """The events in what has come by now. Raises SPDYError."""
        self._received += data
        events: list[Event] = []
        start = 0
        while len(self._received) - start >= 8:
            first, flags_and_length = struct.unpack_from(">II", self._received, start)
            length = flags_and_length & 0xFFFFFF
            if length > MAX_FRAME:
                raise SPDYError(f"a frame of {length} bytes is too large")
            if len(self._received) - start < 8 + length:
                break
            body = self._received[start + 8 : start + 8 + length]
            start += 8 + length
            is_last = bool(flags_and_length >> 24 & _FIN)
            if first >> 31:
                events += self._control_event(first, body)
                number = struct.unpack(">I", body[:4])[0] if len(body) >= 4 else 0
                is_last = is_last and first & 0xFFFF in (_SYN_STREAM, _SYN_REPLY)
            else:
                number = first
                events += [Event("data", number, body)] if body else []
            if is_last:
                events.append(Event("end", number & 0x7FFFFFFF))
        self._received = self._received[start:]
        return events

    def _control_event(self, first: int, body: bytes) -> list[Event]:
        if first >> 16 != _VERSION:
            raise SPDYError(f"version {first >> 16 & 0x7FFF} is not spoken here, only 3")
        kind = first & 0xFFFF
        try:
            if kind == _SYN_STREAM:
                return [Event("open", _number(body), headers=self._unpack(body[10:]))]
            if kind == _SYN_REPLY:
                return [Event("reply", _number(body), headers=self._unpack(body[4:]))]
            if kind == _RST_STREAM:
                return [Event("reset", _number(body))]
            if kind == _PING:
                return [Event("send", data=_control(_PING, body))]
            return [Event("goaway")] if kind == _GOAWAY else []
        except (struct.error, zlib.error, UnicodeDecodeError):
            raise SPDYError(f"a frame of type {kind} is broken") from None

    def _pack(self, headers: Mapping[str, str]) -> bytes:
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            block += _text(name.lower().encode()) + _text(value.encode())
        return self._compressor.compress(block) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def _unpack(self, block: bytes) -> dict[str, str]:
        plain = self._decompressor.decompress(block, _MAX_HEADERS)
        if self._decompressor.unconsumed_tail:
            raise SPDYError(f"headers of more than {_MAX_HEADERS} bytes")
        found: list[str] = []
        at = 4
        for _ in range(2 * struct.unpack_from(">I", plain)[0]):
            (length,) = struct.unpack_from(">I", plain, at)
            found.append(plain[at + 4 : at + 4 + length].decode())
            at += 4 + length
        return dict(zip(found[::2], found[1::2], strict=True))


def _number(body: bytes) -> int:
    return int(struct.unpack_from(">I", body)[0]) & 0x7FFFFFFF


def _control(kind: int, body: bytes) -> bytes:
    return struct.pack(">II", _VERSION << 16 | kind, len(body)) + body
