"""The process of a driver under test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drakit.conformance.process import Process
from tests.driver.make import until

pytestmark = pytest.mark.anyio


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_what_runs_elsewhere_is_killed_by_its_own_command(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    start = f"setsid sleep 1000 & echo $! > {note}.new; mv {note}.new {note}; wait"
    process = await Process.start(
        ["sh", "-c", start], {}, tmp_path / "log", ["sh", "-c", f"kill -9 $(cat {note})"]
    )
    await until(note.exists)
    elsewhere = int(note.read_text())
    assert is_alive(elsewhere)
    await process.kill()
    await until(lambda: not is_alive(elsewhere))
    assert process.exit_code is not None
    assert not os.path.exists(f"/proc/{process.pid}")
