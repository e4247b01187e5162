"""Acknowledged writes survive kill -9, at any moment, again and again on the same file."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drakit.store import Store

pytestmark = pytest.mark.anyio

WRITER = Path(__file__).with_name("writer.py")
ROUNDS = 12


@pytest.mark.parametrize("durability", ["normal", "full"])
async def test_acknowledged_writes_survive_kill_9(tmp_path: Path, durability: str) -> None:
    path, chance = tmp_path / "state.db", random.Random(durability)
    acknowledged: dict[str, tuple[int, str]] = {}
    count = 0
    for number in range(ROUNDS):
        lines = _killed(path, durability, number, after=chance.randrange(1, 400))
        for line in lines:
            key, revision, state = line.split()
            if int(revision) > acknowledged.get(key, (0, ""))[0]:
                acknowledged[key] = int(revision), state
        count += len(lines)
        await _check(path, acknowledged)
    assert count > ROUNDS * 10


def _killed(path: Path, durability: str, seed: int, after: int) -> list[str]:
    """What a writer had acknowledged when it was killed, `after` lines or later."""
    command = [sys.executable, str(WRITER), str(path), durability, str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(after)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
    assert writer.returncode == -signal.SIGKILL
    return [line for line in lines if line.endswith("\n")]


async def _check(path: Path, acknowledged: dict[str, tuple[int, str]]) -> None:
    store = Store(path, history_changes=20_000)
    newest = max(revision for revision, _ in acknowledged.values())
    assert store.revision >= newest
    for key, (revision, state) in acknowledged.items():
        entry = store.get("pods", key)
        if entry is None or entry.revision != revision:
            later = [c for c in store.history("pods", max(store.floor, revision)) if c.key == key]
            assert later or (entry is None and state == "gone"), f"{key} lost its write at {revision}"
        else:
            assert entry.value[:8].hex() == state
    await store.close()
