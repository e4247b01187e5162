"""Startup, readiness and liveness probes of one container: exec, httpGet, tcpSocket and (as TCP) grpc.

A probe goes to the pod's address, where it has one, and is made from inside of its network: the host has no
way into that, or the address may be loopback's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Literal

from drakit.client.clock import Clock
from drakit.errors import DRAError
from drakit.netlink import inside
from drakit.node.runtime import Runtime, Sandbox
from drakit.transport import Document

Kind = Literal["startup", "readiness", "liveness"]

_MAX_OUTPUT = 4096


class ProbeFailed(DRAError):
    """The probe ran and the answer was no."""


class Prober:
    """Probes the container `container_id` from when `run` is called until it is cancelled.

    `on_result(kind, is_well, message)` is called when a probe has changed its mind: after its threshold of
    successes or failures in a row.
    """

    def __init__(
        self,
        runtime: Runtime,
        container_id: str,
        spec: Document,
        sandbox: Sandbox,
        clock: Clock,
        on_result: Callable[[Kind, bool, str], None],
        on_failure: Callable[[Kind, str], None],
    ) -> None:
        self._runtime = runtime
        self._container_id = container_id
        self._spec = spec
        self._sandbox = sandbox
        self._clock = clock
        self._on_result = on_result
        self._on_failure = on_failure

    async def run(self) -> None:
        """The startup probe first and alone, then the other two side by side."""
        if startup := self._spec.get("startupProbe"):
            if not await self._follow("startup", startup, ends_at_success=True):
                return
            self._on_result("startup", True, "")
        async with asyncio.TaskGroup() as group:
            for kind in ("readiness", "liveness"):
                if probe := self._spec.get(f"{kind}Probe"):
                    group.create_task(self._follow(kind, probe))

    async def _follow(self, kind: Kind, probe: Document, *, ends_at_success: bool = False) -> bool:
        needed = int(probe.get("successThreshold") or 1)
        allowed = int(probe.get("failureThreshold") or 3)
        period = float(probe.get("periodSeconds") or 10)
        await self._clock.sleep(float(probe.get("initialDelaySeconds") or 0))
        successes = failures = 0
        while True:
            try:
                async with asyncio.timeout(float(probe.get("timeoutSeconds") or 1)):
                    await self._try(probe)
                successes, failures, message = successes + 1, 0, ""
            except TimeoutError:
                successes, failures, message = 0, failures + 1, "timed out"
            except (DRAError, OSError) as error:
                successes, failures, message = 0, failures + 1, str(error)
            if message:
                self._on_failure(kind, message)
            if successes == needed:
                if ends_at_success:
                    return True
                self._on_result(kind, True, "")
            if failures == allowed:
                self._on_result(kind, False, message)
                if kind != "readiness":
                    return False
            await self._clock.sleep(period)

    async def _try(self, probe: Document) -> None:
        """One try. Raises ProbeFailed or OSError."""
        if action := probe.get("exec"):
            await self._exec(action.get("command") or [])
        elif action := probe.get("httpGet"):
            await self._http(action)
        else:
            action = probe.get("tcpSocket") or probe.get("grpc") or {}
            connection = await self._connect(str(action.get("host") or ""), _port(self._spec, action["port"]))
            connection.close()

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
            raise ProbeFailed(output.decode(errors="replace").strip() or f"exit code {code}")

    async def _http(self, action: Document) -> None:
        if str(action.get("scheme", "HTTP")).upper() != "HTTP":
            connection = await self._connect(str(action.get("host") or ""), _port(self._spec, action["port"]))
            connection.close()  # a certificate nobody can check: that it answers must do
            return
        connection = await self._connect(str(action.get("host") or ""), _port(self._spec, action["port"]))
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            headers = {"Host": action.get("host") or "localhost", "User-Agent": "kube-probe/drakit"}
            headers |= {entry["name"]: entry["value"] for entry in action.get("httpHeaders") or []}
            lines = [f"GET {action.get('path') or '/'} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
            writer.write(("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode())
            first = (await reader.readline()).decode(errors="replace").split()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if len(first) < 2 or not first[1].isdigit() or not 200 <= int(first[1]) < 400:
            raise ProbeFailed(f"HTTP probe failed with statuscode: {' '.join(first[1:2]) or 'none'}")

    async def _connect(self, host: str, port: int) -> socket.socket:
        """A connection to `port` of the pod, or of `host`, from inside of the pod's network."""
        sandbox = self._sandbox
        if sandbox.is_host_network or not sandbox.pid:
            connection = socket.socket()
        else:
            connection = await asyncio.to_thread(inside, f"/proc/{sandbox.pid}/ns/net", socket.socket)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(
                connection, (host or sandbox.ip or "127.0.0.1", port)
            )
        except BaseException:
            connection.close()
            raise
        return connection


def _port(spec: Document, port: int | str) -> int:
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for entry in spec.get("ports") or []:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise ProbeFailed(f"no container port is called {port!r}")
