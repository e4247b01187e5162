"""Processes: starting them, knowing them again after a restart, and waiting for their end at no cost.

Children are started with `posix_spawn`: no fork of this process (gRPC's threads would not survive one), no
transport that kills them when the event loop closes. A container's process must outlive the agent, so a
process is known by its pid and its start time, which together no other process ever has. The end of any
process, child or not, is awaited on a pidfd.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from drakit.node.runtime import RuntimeFailed

_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them, and that would be inherited


class ProgramFailed(RuntimeFailed):
    """A program could not be started, failed or took too long; the text ends in what it said."""


def started_at_ticks(pid: int) -> int:
    """When `pid` was started, in clock ticks since boot; 0 when there is no such living process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def is_alive(pid: int, ticks: int) -> bool:
    """Whether the process that had `pid` and started at `ticks` still runs."""
    return pid > 0 and ticks > 0 and started_at_ticks(pid) == ticks


def start_time(ticks: int) -> float:
    """`ticks` since boot as seconds since the epoch."""
    with open("/proc/stat", "rb") as file:
        boot = next(int(line.split()[1]) for line in file if line.startswith(b"btime"))
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def usage(pid: int) -> tuple[float, int]:
    """CPU seconds used and bytes in memory of the process and all its living descendants."""
    parents: dict[int, list[int]] = {}
    costs: dict[int, tuple[int, int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(name))
            costs[int(name)] = (int(fields[11]) + int(fields[12]), int(fields[21]))
    ticks = pages = 0
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        cost = costs.get(current, (0, 0))
        ticks, pages = ticks + cost[0], pages + cost[1]
        waiting += parents.get(current, [])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGESIZE")


def send_signal(pid: int, ticks: int, number: int) -> None:
    """Signal the process `pid` if it still is the one started at `ticks`."""
    if is_alive(pid, ticks):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def wait_gone(pid: int, ticks: int) -> None:
    """Return when the process has ended; a child of ours is left to whoever reaps it."""
    if not is_alive(pid, ticks):
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if is_alive(pid, ticks):
            await readable(descriptor)
    finally:
        os.close(descriptor)


async def readable(descriptor: int) -> None:
    """Return when reading from `descriptor` would not block."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def writable(descriptor: int) -> None:
    """Return when writing to `descriptor` would not block."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class Child:
    """A child process. `wait` may be called by several; the first one reaps it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ticks = started_at_ticks(pid)
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code (128 + signal where one killed it), None while it runs."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._code = 255  # somebody else reaped it: the code is lost
            else:
                if pid:
                    code = os.waitstatus_to_exitcode(status)
                    self._code = code if code >= 0 else 128 - code
        return self._code

    async def wait(self) -> int:
        """The exit code, when it has ended."""
        while (code := self.poll()) is None:
            try:
                descriptor = os.pidfd_open(self.pid)
            except ProcessLookupError:
                continue
            try:
                await readable(descriptor)
            finally:
                os.close(descriptor)
        return code

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal it; nothing when it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill_group(self) -> None:
        """Kill it and what it started in its process group; for one that began a session of its own."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    descriptors: Mapping[int, int | str] | None = None,
    new_session: bool = False,
) -> Child:
    """Start `argv` (found on PATH) with stdin, stdout and stderr on /dev/null unless `descriptors` says
    which open descriptor or path (opened for reading and writing) each number of the child is.

    Raises ProgramFailed when it cannot be started.
    """
    wanted: dict[int, int | str] = {0: "/dev/null", 1: "/dev/null", 2: "/dev/null"}
    wanted |= descriptors or {}
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = []
    for number, source in sorted(wanted.items()):
        if isinstance(source, str):
            actions.append((os.POSIX_SPAWN_OPEN, number, source, os.O_RDWR, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, source, number))
    try:
        pid = os.posix_spawnp(
            argv[0],
            list(argv),
            dict(os.environ if env is None else env),
            file_actions=actions,
            setsid=new_session,
            setsigdef=_DEFAULT_SIGNALS,
        )
    except (OSError, ValueError) as error:
        raise ProgramFailed(f"cannot run {argv[0]}: {error}") from None
    return Child(pid)


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    descriptors: Mapping[int, int | str] | None = None,
) -> str:
    """What `argv` printed, when it has ended well. Raises ProgramFailed, and kills what takes too long."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        try:
            child = spawn(argv, env=env, descriptors={1: writer, 2: writer, **(descriptors or {})})
        finally:
            os.close(writer)
        try:
            async with asyncio.timeout(timeout):
                output = await _collect(reader, child)
                code = await child.wait()
        except TimeoutError:
            raise ProgramFailed(f"{argv[0]} took longer than {timeout:g} s") from None
        finally:
            child.kill()
            child.poll()
    finally:
        os.close(reader)
    text = output.decode(errors="replace").strip()
    if code != 0:
        raise ProgramFailed(f"{os.path.basename(argv[0])}: exit code {code}: {text[-1000:] or 'no output'}")
    return text


async def _collect(reader: int, child: Child) -> bytes:
    """What comes through `reader` until its end, or until `child` has ended and nothing more is there: a
    grandchild may hold the other end open for ever."""
    ended = asyncio.ensure_future(child.wait())
    output = b""
    try:
        while True:
            ready = asyncio.ensure_future(readable(reader))
            try:
                await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ready.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await ready
            try:
                data = os.read(reader, 65536)
            except BlockingIOError:
                if ended.done():
                    return output
                continue
            if not data:
                return output
            output = (output + data)[-(1 << 20) :]
    finally:
        ended.cancel()
