"""What killed clusters leave in the temporary folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drakit.cluster.leftover import sweep
from drakit.cluster.place import Place

pytestmark = pytest.mark.anyio


def _aged(path: Path) -> Path:
    os.utime(path, (1, 1), follow_symlinks=False)
    return path


async def test_only_what_nobody_needs_is_swept_away(tmp_path: Path) -> None:
    user = os.geteuid()
    dead, young, held = (tmp_path / f"drakit-{name}" for name in ("deadbeef", "youngone", "heldheld"))
    for path in (dead, young, held):
        Place(path).create()
        (path / "nodes" / "node-0").mkdir(parents=True)
    keeper = Place(held)
    keeper.hold()
    links, stale, strange = (tmp_path / f"drakit-{user}-{digit * 8}" for digit in "123")
    for path in (links, stale, strange):
        path.mkdir()
    (links / "p").symlink_to(held)
    (stale / "p").symlink_to(tmp_path / "gone")
    (strange / "p").mkdir()
    other = tmp_path / "drakit-notours"
    other.mkdir()
    for path in (dead, held, links, stale, strange, other):
        _aged(path)
    await sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {young.name, held.name, links.name, other.name}
    keeper.release()
