"""Logs as `kubectl logs` asks for them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from drakit.errors import BadRequest
from drakit.node.log_reader import LogReader
from drakit.podio import LogOptions
from tests.client.fake_clock import FakeClock

pytestmark = pytest.mark.anyio

START = 1_795_312_800  # 2026-11-22T02:00:00Z


def entry(second: int, text: str, tag: str = "F", stream: str = "stdout") -> str:
    return f"2026-11-22T02:00:{second:02}.123456789Z {stream} {tag} {text}\n"


LINES = [
    entry(1, "one"),
    entry(2, "two", stream="stderr"),
    entry(3, "thr", "P"),
    entry(3, "ee"),
    entry(4, ""),
    entry(5, "five"),
]
WHOLE = "one\ntwo\nthree\n\nfive\n"

CASES: list[tuple[dict[str, Any], str]] = [
    ({}, WHOLE),
    ({"tail_lines": 0}, ""),
    ({"tail_lines": 1}, "five\n"),
    ({"tail_lines": 2}, "\nfive\n"),
    ({"tail_lines": 3}, "three\n\nfive\n"),
    ({"tail_lines": 100}, WHOLE),
    ({"limit_bytes": 6}, "one\ntw"),
    ({"limit_bytes": 0}, ""),
    ({"since_time": "2026-11-22T02:00:04Z"}, "\nfive\n"),
    ({"since_seconds": 6}, "\nfive\n"),
    ({"timestamps": True, "tail_lines": 1}, "2026-11-22T02:00:05.123456789Z five\n"),
]


async def read(path: Path, clock: FakeClock | None = None, **options: Any) -> str:
    clock = clock or FakeClock(START + 10)
    reader = LogReader(path, LogOptions(container="c", **options), is_running=lambda: False, clock=clock)
    return b"".join([text async for text in reader.read()]).decode()


@pytest.mark.parametrize(("options", "expected"), CASES)
async def test_what_is_shown(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    path = tmp_path / "0.log"
    path.write_text("".join(LINES))
    assert await read(path, **options) == expected


async def test_a_long_log(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("".join(entry(index % 60, f"line {index} {'x' * 200}") for index in range(3000)))
    assert (await read(path)).count("\n") == 3000
    tail = await read(path, tail_lines=700)
    assert tail.count("\n") == 700
    assert tail.startswith("line 2300 ")


async def test_a_time_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="sinceTime 'yesterday' is not a time"):
        await read(tmp_path / "0.log", since_time="yesterday")


async def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    assert await read(tmp_path / "0.log") == ""


async def test_following_until_the_container_ends(tmp_path: Path) -> None:
    path, clock, running = tmp_path / "0.log", FakeClock(), [True]
    path.write_text(LINES[0])
    options = LogOptions(container="c", follow=True)
    reader = LogReader(path, options, is_running=lambda: running[0], clock=clock)
    seen: list[bytes] = []

    async def follow() -> None:
        async for text in reader.read():
            seen.append(text)

    task = asyncio.create_task(follow())
    await clock.advance(1)
    assert b"".join(seen) == b"one\n"
    with path.open("a") as file:
        file.write(LINES[1])
    await clock.advance(1)
    assert b"".join(seen) == b"one\ntwo\n"
    path.rename(tmp_path / "0.log.1")  # the log grew too long and was begun anew
    path.write_text(LINES[5])
    await clock.advance(1)
    assert b"".join(seen) == b"one\ntwo\nfive\n"
    path.write_text(LINES[0])  # truncated, as conmon does
    await clock.advance(1)
    running[0] = False
    await clock.advance(1)
    await task
