"""What probes and lifecycle hooks have a container do or answer: exec, httpGet, tcpSocket, grpc and sleep.

Connections go to the pod's address, where it has one, and are made from inside of its network. Certificates
are not checked, as the kubelet does not either. Texts of failures are the kubelet's as far as it has any.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import struct

from drakit.client.clock import Clock
from drakit.errors import DRAError
from drakit.node.pod_connection import dial
from drakit.node.runtime import Runtime, Sandbox
from drakit.transport import Document

_MAX_OUTPUT = 4096
_SERVING = 1
_HEALTH = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _GOAWAY = 0, 1, 4, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_MAX_FRAMES = 100


class ActionFailed(DRAError):
    """It was tried and did not go well; the text says why."""


class Actions:
    """Of the container `container_id` with the `spec`."""

    def __init__(
        self, runtime: Runtime, container_id: str, spec: Document, sandbox: Sandbox, clock: Clock
    ) -> None:
        self._runtime = runtime
        self._container_id = container_id
        self._spec = spec
        self._sandbox = sandbox
        self._clock = clock

    async def perform(self, handler: Document) -> None:
        """Do what `handler` (a probe, a hook) asks. Raises ActionFailed, or RuntimeFailed."""
        if (sleep := handler.get("sleep")) is not None:
            await self._clock.sleep(float(sleep.get("seconds") or 0))
        elif (action := handler.get("exec")) is not None:
            await self._exec(action.get("command") or [])
        elif (action := handler.get("httpGet")) is not None:
            await self._http(action)
        elif (action := handler.get("grpc")) is not None:
            await self._grpc(action)
        elif (action := handler.get("tcpSocket")) is not None:
            _, writer = await self._connect(action)
            writer.close()
        else:
            raise ActionFailed("it names nothing to do: exec, httpGet, tcpSocket, grpc or sleep")

    async def _exec(self, command: list[str]) -> None:
        session = await self._runtime.exec(self._container_id, command, stdin=False, tty=False)
        output = b""
        try:
            while chunk := await session.read():
                output = (output + chunk[1])[:_MAX_OUTPUT]
            code = await session.wait()
        finally:
            await session.kill()
        if code != 0:
            raise ActionFailed(output.decode(errors="replace").strip() or f"exit code {code}")

    async def _http(self, action: Document) -> None:
        is_tls = str(action.get("scheme") or "HTTP").upper() == "HTTPS"
        host, port = self._host(action), self._port(action)
        path = "/" + str(action.get("path") or "/").lstrip("/")
        try:
            reader, writer = await self._connect(action, is_tls=is_tls)
        except ActionFailed as error:
            raise ActionFailed(f'Get "http{"s" * is_tls}://{host}:{port}{path}": {error}') from None
        try:
            headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/1.37", "Accept": "*/*"}
            headers |= {entry["name"]: entry["value"] for entry in action.get("httpHeaders") or []}
            lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
            writer.write(("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode())
            first = (await reader.readline()).decode(errors="replace").split()
        except (OSError, ValueError) as error:
            raise ActionFailed(f'Get "http{"s" * is_tls}://{host}:{port}{path}": {error}') from None
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if len(first) < 2 or not first[1].isdigit() or not 200 <= int(first[1]) < 400:
            raise ActionFailed(f"HTTP probe failed with statuscode: {' '.join(first[1:2]) or 'none'}")

    async def _grpc(self, action: Document) -> None:
        """grpc.health.v1.Health/Check in as much HTTP/2 as one call needs."""
        service = str(action.get("service") or "").encode()
        authority = f"{self._host(action)}:{self._port(action)}".encode()
        reader, writer = await self._connect(action)
        try:
            message = b"\x0a" + bytes([len(service)]) + service if service else b""
            writer.write(
                _PREFACE
                + _frame(_SETTINGS, 0, 0, b"")
                + _frame(_HEADERS, _END_HEADERS, 1, _request_headers(authority))
                + _frame(_DATA, _END_STREAM, 1, b"\x00" + struct.pack(">I", len(message)) + message)
            )
            status = await _health(reader, writer)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ActionFailed(f"error: health rpc failed: {error}") from None
        finally:
            writer.close()
        if status is None:
            raise ActionFailed("error: this server does not implement the grpc health protocol")
        if status != _SERVING:
            raise ActionFailed(f'service unhealthy (responded with "{_HEALTH.get(status, status)}")')

    # --- connections ------------------------------------------------------------------------------

    async def _connect(
        self, action: Document, *, is_tls: bool = False
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._host(action), self._port(action)
        try:
            connection = await dial(self._sandbox, port, (host,))
            context = _unchecked() if is_tls else None
            return await asyncio.open_connection(
                sock=connection, ssl=context, server_hostname=host if is_tls else None
            )
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else str(error)
            raise ActionFailed(f"dial tcp {host}:{port}: connect: {why}") from None

    def _host(self, action: Document) -> str:
        return str(action.get("host") or self._sandbox.ip or "127.0.0.1")

    def _port(self, action: Document) -> int:
        port: int | str = action.get("port") or 0
        if isinstance(port, int) or port.isdigit():
            return int(port)
        for entry in self._spec.get("ports") or []:
            if entry.get("name") == port:
                return int(entry["containerPort"])
        raise ActionFailed(f"no container port is called {port!r}")


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def _request_headers(authority: bytes) -> bytes:
    """HPACK without compression: each header literal, and not to be remembered."""
    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/grpc.health.v1.Health/Check"),
        (b":authority", authority),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]
    parts = (b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in headers)
    return b"".join(parts)


async def _health(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
    """The status in the answer; None when the call ends without one."""
    for _ in range(_MAX_FRAMES):
        head = await reader.readexactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        body = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _DATA and length >= 5:
            message = body[5:]
            return message[1] if message[:1] == b"\x08" and len(message) > 1 else 0
        elif kind == _GOAWAY or (kind == _HEADERS and flags & _END_STREAM):
            return None
    return None
