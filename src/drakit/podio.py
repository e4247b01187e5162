"""What the API server asks of a node about a running pod: its logs, a command inside it, its input and
output, a connection into its network.

In a real cluster this is the kubelet's HTTPS port; in one process the node agent is handed over
directly. Neither side imports the other: they share this protocol.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct

from drakit.transport import Document


class LogOptions(Struct, frozen=True, kw_only=True):
    """The query of `GET .../pods/NAME/log`. Times are RFC 3339 text or seconds; None means not asked."""

    container: str
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    since_time: str | None = None
    limit_bytes: int | None = None


class ExecSession(Protocol):
    """A command running in a container."""

    async def read(self) -> tuple[int, bytes] | None:
        """The next output as (1 for stdout, 2 for stderr, data); None when both have ended."""
        ...

    async def write(self, data: bytes) -> None:
        """Send `data` to the command's stdin."""
        ...

    async def close_stdin(self) -> None: ...

    async def resize(self, width: int, height: int) -> None:
        """Tell the command's terminal its size in characters; nothing without a terminal."""
        ...

    async def wait(self) -> int:
        """The exit code, once the command has ended."""
        ...

    async def kill(self) -> None: ...


class Connection(Protocol):
    """A TCP connection to a port of a pod."""

    async def read(self) -> bytes:
        """The next bytes from the pod; b"" at its end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send `data`; dropped when the pod takes no more."""
        ...

    async def end(self) -> None:
        """Send no more; reading goes on."""
        ...

    def close(self) -> None: ...


class PodIO(Protocol):
    """A node's answer to logs, exec, attach and port-forward. Raises APIError (NotFound, BadRequest) as the
    kubelet does."""

    def logs(self, pod: Document, options: LogOptions) -> AsyncIterator[bytes]: ...

    async def exec(
        self, pod: Document, container: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> ExecSession: ...

    async def attach(self, pod: Document, container: str, *, stdin: bool, tty: bool) -> ExecSession:
        """The container's own input and output; the session ends with it."""
        ...

    async def connect(self, pod: Document, port: int) -> Connection: ...
