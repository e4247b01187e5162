"""Commands on pipes and terminals, and processes that are waited for."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from drakit.node.child import (
    ProgramFailed,
    is_alive,
    run,
    spawn,
    start_time,
    started_at_ticks,
    usage,
    wait_gone,
)
from drakit.node.session import Session, open_session

pytestmark = pytest.mark.anyio


async def everything(session: Session) -> dict[int, bytes]:
    found = {1: b"", 2: b""}
    while chunk := await session.read():
        found[chunk[0]] += chunk[1]
    return found


async def test_streams_stay_apart() -> None:
    session = open_session(["sh", "-c", "echo out; echo err >&2; exit 5"], stdin=False, tty=False)
    assert await everything(session) == {1: b"out\n", 2: b"err\n"}
    assert await session.wait() == 5


async def test_much_in_and_out_with_a_slow_reader() -> None:
    session = open_session(["cat"], stdin=True, tty=False)
    data = os.urandom(1 << 20)

    async def feed() -> None:
        await session.write(data)
        await session.close_stdin()

    feeder = asyncio.create_task(feed())
    assert (await everything(session))[1] == data
    await feeder
    assert await session.wait() == 0


async def test_a_reader_that_went_away() -> None:
    session = open_session(["true"], stdin=True, tty=False)
    assert await session.wait() == 0
    await session.write(b"x" * 1_000_000)
    assert await everything(session) == {1: b"", 2: b""}


async def test_a_background_process_does_not_hold_the_session() -> None:
    session = open_session(["sh", "-c", "sleep 30 & echo done"], stdin=False, tty=False)
    async with asyncio.timeout(5):
        assert (await everything(session))[1] == b"done\n"
    await session.kill()


async def test_a_terminal() -> None:
    session = open_session(["sh", "-c", "stty size; tty >/dev/null && echo terminal"], stdin=True, tty=True)
    output = (await everything(session))[1]
    assert b"terminal" in output
    assert await session.wait() == 0


async def test_kill() -> None:
    session = open_session(["sh", "-c", "sleep 1000 & echo $!; wait"], stdin=True, tty=False)
    chunk = await session.read()
    assert chunk is not None
    pid = int(chunk[1])
    ticks = started_at_ticks(pid)
    await session.kill()
    async with asyncio.timeout(5):
        await wait_gone(pid, ticks)
    assert await session.wait() == 128 + signal.SIGKILL
    assert await session.read() is None


async def test_what_cannot_be_run() -> None:
    with pytest.raises(ProgramFailed, match="cannot run /no/such/program"):
        open_session(["/no/such/program"], stdin=True, tty=False)


async def test_tools() -> None:
    assert await run(["echo", "hello"]) == "hello"
    with pytest.raises(ProgramFailed, match=r"sh: exit code 3: oops"):
        await run(["sh", "-c", "echo oops >&2; exit 3"])
    with pytest.raises(ProgramFailed, match=r"sleep took longer than 0\.1 s"):
        await run(["sleep", "1000"], timeout=0.1)
    async with asyncio.timeout(5):
        assert await run(["sh", "-c", "sleep 30 & echo done"]) == "done"


async def test_a_process_is_known_by_its_start() -> None:
    child = spawn(["sleep", "1000"])
    ticks = child.ticks
    assert is_alive(child.pid, ticks)
    assert not is_alive(child.pid, ticks - 1), "another process had this pid before"
    assert abs(start_time(ticks) - start_time(started_at_ticks(os.getpid()))) < 3600
    while not usage(child.pid)[1]:  # not yet while it is only about to become `sleep`
        await asyncio.sleep(0)
    waiter = asyncio.create_task(wait_gone(child.pid, ticks))
    await asyncio.sleep(0)
    child.kill(signal.SIGTERM)
    assert await child.wait() == 128 + signal.SIGTERM
    await waiter
    assert not is_alive(child.pid, ticks)
