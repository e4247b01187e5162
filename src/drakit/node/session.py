"""A command inside a container as an `ExecSession`: on pipes, or on a terminal of its own.

With a terminal, the command (or the tool that enters the container for it) gets the slave of a pty as its
controlling terminal, so a new size reaches it as SIGWINCH. Output waits in a bounded queue: a caller that
does not read stops the command, not this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import Mapping, Sequence

from drakit.node.child import Child, readable, spawn, writable

_CHUNK = 64 * 1024
_QUEUED_CHUNKS = 8
_LINGER_SECONDS = 1.0
"""How long output is awaited after the command's end while something else holds its pipes open."""


class Session:
    """A started command; made by `open_session`."""

    def __init__(self, child: Child, outputs: Mapping[int, int], stdin: int | None, *, tty: bool) -> None:
        self._child = child
        self._stdin = stdin
        self._terminal = outputs[1] if tty else None
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._outputs = dict(outputs)
        self._open = len(outputs)
        self._readers = [asyncio.create_task(self._pump(n, fd)) for n, fd in outputs.items()]
        self._end = asyncio.create_task(self._finish())

    async def read(self) -> tuple[int, bytes] | None:
        """The next output as (1 for stdout, 2 for stderr, data); None when both have ended."""
        while True:
            if self._chunks:
                self._room.set()
                return self._chunks.popleft()
            if not self._open:
                return None
            self._news.clear()
            await self._news.wait()

    async def write(self, data: bytes) -> None:
        """Send `data` to stdin; dropped when nobody reads it any more."""
        view = memoryview(data)
        while view and self._stdin is not None:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await writable(self._stdin)
            except OSError:
                await self.close_stdin()

    async def close_stdin(self) -> None:
        """End of stdin: on a terminal its end-of-file character, on a pipe its close."""
        if self._stdin is None:
            return
        if self._terminal is not None:
            with contextlib.suppress(OSError):
                os.write(self._stdin, b"\x04")
        else:
            os.close(self._stdin)
        self._stdin = None

    async def resize(self, width: int, height: int) -> None:
        if self._terminal is not None:
            size = struct.pack("HHHH", min(height, 65535), min(width, 65535), 0, 0)
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    async def wait(self) -> int:
        return await self._child.wait()

    async def kill(self) -> None:
        """End the command and everything this session holds."""
        self._child.kill_group()
        for task in (*self._readers, self._end):
            task.cancel()
        await asyncio.gather(*self._readers, self._end, return_exceptions=True)
        await self._child.wait()
        self._chunks.clear()
        self._close()
        self._open = 0
        self._news.set()

    async def _pump(self, number: int, descriptor: int) -> None:
        try:
            while True:
                await readable(descriptor)
                try:
                    data = os.read(descriptor, _CHUNK)
                except BlockingIOError:
                    continue
                except OSError:  # a pty whose last user is gone answers EIO
                    break
                if not data:
                    break
                while len(self._chunks) >= _QUEUED_CHUNKS:
                    self._room.clear()
                    await self._room.wait()
                self._chunks.append((number, data))
                self._news.set()
        finally:
            self._open -= 1
            self._news.set()

    async def _finish(self) -> None:
        """After the command's end, give its output a moment, then close everything."""
        await self._child.wait()
        _, late = await asyncio.wait(self._readers, timeout=_LINGER_SECONDS)
        if len(self._chunks) < _QUEUED_CHUNKS:  # not the caller is slow: nothing more comes
            for task in late:
                task.cancel()
        await asyncio.wait(self._readers)
        self._close()

    def _close(self) -> None:
        if self._stdin is not None and self._terminal is None:
            os.close(self._stdin)
        self._stdin = None
        for descriptor in self._outputs.values():
            os.close(descriptor)
        self._outputs = {}
        self._terminal = None


def open_session(
    argv: Sequence[str],
    *,
    stdin: bool,
    tty: bool,
    env: Mapping[str, str] | None = None,
    takes_terminal: bool = False,
    descriptors: Mapping[int, int] | None = None,
) -> Session:
    """Start `argv` for a caller at the other end. Raises ProgramFailed when it cannot be started.

    `takes_terminal`: `argv` makes the terminal its controlling terminal itself (as setsid --ctty does).
    `descriptors` are open ones that it gets besides its input and outputs.
    """
    more = dict(descriptors or {})
    return _on_terminal(argv, env, takes_terminal, more) if tty else _on_pipes(argv, env, stdin, more)


def _on_terminal(
    argv: Sequence[str], env: Mapping[str, str] | None, takes_terminal: bool, more: dict[int, int]
) -> Session:
    master, slave = os.openpty()
    try:
        # A session leader that opens a terminal by its path gets it as its controlling terminal.
        end = slave if takes_terminal else os.ttyname(slave)
        child = spawn(argv, env=env, descriptors={0: end, 1: end, 2: end, **more}, new_session=True)
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    os.set_blocking(master, False)
    return Session(child, {1: master}, master, tty=True)


def _on_pipes(
    argv: Sequence[str], env: Mapping[str, str] | None, stdin: bool, more: dict[int, int]
) -> Session:
    pipes = [os.pipe() for _ in range(3 if stdin else 2)]
    (out_reader, out_writer), (error_reader, error_writer) = pipes[:2]
    descriptors: dict[int, int | str] = {1: out_writer, 2: error_writer, **more}
    if stdin:
        descriptors[0] = pipes[2][0]
    theirs = [out_writer, error_writer, *([pipes[2][0]] if stdin else [])]
    ours = [out_reader, error_reader, *([pipes[2][1]] if stdin else [])]
    try:
        child = spawn(argv, env=env, descriptors=descriptors, new_session=True)
    except BaseException:
        for descriptor in ours:
            os.close(descriptor)
        raise
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    for descriptor in ours:
        os.set_blocking(descriptor, False)
    return Session(child, {1: out_reader, 2: error_reader}, ours[2] if stdin else None, tty=False)
