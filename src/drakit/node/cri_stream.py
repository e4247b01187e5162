"""exec and attach at a container runtime: streams over SPDY/3.1, at the URL that the runtime gave for them.

The client opens a stream each for errors, stdin, stdout, stderr and terminal sizes; how it ended comes at
last as a Status on the stream of errors. TCP holds back a runtime whose output nobody reads. Source:
apimachinery/pkg/util/remotecommand (v4.channel.k8s.io).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from drakit.node.runtime import RuntimeFailed
from drakit.spdy import Event, Framer, SPDYError

_PROTOCOL = "v4.channel.k8s.io"
_CHUNK = 64 << 10
_QUEUED = 8
_CONNECT_SECONDS = 10.0
_EXEC_ID = re.compile(r' "[0-9a-f]{64}"')
"""A new number for each try: a probe that fails should say the same each time."""
_OUTPUTS = {"stdout": 1, "stderr": 2}


class StreamSession:
    """A running command or an attached container; made by `open_stream`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, stdin: bool, tty: bool
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._framer = Framer(is_client=True)
        self._names: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        names = ["error", *(["stdin"] if stdin else []), "stdout"]
        for name in [*names, *(["resize"] if tty else ["stderr"])]:
            number, opening = self._framer.open({"streamType": name})
            self._names[number], self._numbers[name] = name, number
            writer.write(opening)
        self._chunks: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(_QUEUED)
        self._verdict = b""
        self._is_over = False
        self._pump = asyncio.create_task(self._receive())

    async def read(self) -> tuple[int, bytes] | None:
        """The next output as (1 for stdout, 2 for stderr, data); None when both have ended."""
        if self._is_over and self._chunks.empty():
            return None
        return await self._chunks.get()

    async def write(self, data: bytes) -> None:
        await self._send("stdin", data)

    async def close_stdin(self) -> None:
        if (number := self._numbers.pop("stdin", None)) is not None:
            with contextlib.suppress(OSError):
                self._writer.write(self._framer.end(number))
                await self._writer.drain()

    async def resize(self, width: int, height: int) -> None:
        await self._send("resize", json.dumps({"Width": width, "Height": height}).encode())

    async def wait(self) -> int:
        """The exit code. Raises RuntimeFailed when it could not run, or the runtime went away."""
        await asyncio.wait([self._pump])
        return exit_code(self._verdict)

    async def kill(self) -> None:
        """Hang up; the runtime ends a command whose client is gone."""
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        self._writer.close()

    async def _send(self, name: str, data: bytes) -> None:
        number = self._numbers.get(name)
        if number is None:
            return
        try:
            self._writer.write(self._framer.data(number, data))
            await self._writer.drain()
        except OSError:
            self._numbers.pop(name, None)

    async def _receive(self) -> None:
        try:
            while data := await self._reader.read(_CHUNK):
                for event in self._framer.receive(data):
                    await self._take(event)
                if self._verdict and _is_whole(self._verdict):
                    break
        except (OSError, SPDYError):
            pass  # without a verdict, `wait` says what that means
        finally:
            self._is_over = True
            self._writer.close()
            with contextlib.suppress(asyncio.QueueFull):
                self._chunks.put_nowait(None)

    async def _take(self, event: Event) -> None:
        name = self._names.get(event.stream, "")
        if event.kind == "data" and name in _OUTPUTS:
            await self._chunks.put((_OUTPUTS[name], event.data))
        elif event.kind == "data" and name == "error":
            self._verdict += event.data
        elif event.kind == "send":
            self._writer.write(event.data)
        elif event.kind == "reset":
            self._numbers.pop(name, None)


def _is_whole(verdict: bytes) -> bool:
    try:
        json.loads(verdict)
    except ValueError:
        return False
    return True


def exit_code(verdict: bytes) -> int:
    """The exit code in the Status `verdict`. Raises RuntimeFailed where it says that nothing ran."""
    try:
        status = json.loads(verdict)
    except ValueError:
        said = verdict.decode(errors="replace").strip()
        raise RuntimeFailed(said or "the runtime ended the stream without a word") from None
    if status.get("status") == "Success":
        return 0
    causes: list[Mapping[str, str]] = (status.get("details") or {}).get("causes") or []
    for cause in causes:
        if cause.get("reason") == "ExitCode" and str(cause.get("message")).isdigit():
            return int(cause["message"])
    text = str(status.get("message") or "the runtime gives no reason")
    raise RuntimeFailed(_EXEC_ID.sub("", text))


async def open_stream(url: str, *, stdin: bool, tty: bool) -> StreamSession:
    """Connect to what the runtime serves at `url`. Raises RuntimeFailed."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise RuntimeFailed(f"the runtime serves streams at {url}: only http is spoken here")
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc}", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    lines += [f"X-Stream-Protocol-Version: {_PROTOCOL}", "Content-Length: 0"]
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            head = await reader.readuntil(b"\r\n\r\n")
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise RuntimeFailed(f"the runtime's stream at {parts.netloc}: {error or 'no answer'}") from None
    first = head.partition(b"\r\n")[0].decode(errors="replace")
    if " 101 " not in first:
        writer.close()
        raise RuntimeFailed(f"the runtime refuses to stream: {first}")
    return StreamSession(reader, writer, stdin=stdin, tty=tty)
