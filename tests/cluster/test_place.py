"""The data folder: one holder at a time, and a note that is true or not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from drakit.cluster.log import log_to
from drakit.cluster.place import Place, Running, write_atomic
from drakit.errors import UsageError

RUNNING = Running(
    pid=os.getpid(),
    server="https://127.0.0.1:1",
    kubeconfig="/nowhere",
    version="1.37",
    nodes=["node-0"],
    drivers=[],
    runtime="process",
    started="2026-01-01T00:00:00Z",
)


def test_only_one_process_holds_a_folder(tmp_path: Path) -> None:
    first, second = Place(tmp_path / "a"), Place(tmp_path / "a")
    first.hold()
    first.announce(RUNNING)
    with pytest.raises(UsageError, match=rf"already runs in .* \(pid {os.getpid()}.*dra down"):
        second.hold()
    assert second.running() == RUNNING
    first.release()
    second.hold()
    assert first.running() is None
    second.release()


def test_a_note_left_by_a_killed_process_counts_as_none(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.announce(RUNNING)
    assert place.running() is None


def test_a_damaged_note_counts_as_none(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.hold()
    (tmp_path / "running.json").write_bytes(b'{"pid": "x')
    assert place.running() is None
    place.release()


def test_what_exists_only_while_it_runs_is_gone_afterwards(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.hold()
    place.announce(RUNNING)
    place.kubeconfig.write_text("x")
    place.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drakit.log", "lock"]


def test_the_admin_token_is_made_once_and_private(tmp_path: Path) -> None:
    place = Place(tmp_path)
    token = place.token()
    assert len(token) > 30
    assert Place(tmp_path).token() == token
    assert stat.S_IMODE((place.pki / "admin.token").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = Place(tmp_path / "file" / "x")
    for use in (place.create, place.hold, lambda: log_to(place)):
        with pytest.raises(UsageError, match=r"cannot use data folder .*Choose another with --data-dir"):
            use()


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "drakit.log").mkdir()
    with pytest.raises(UsageError, match=r"drakit.log: Is a directory"):
        Place(tmp_path).create()


def test_the_port_is_remembered(tmp_path: Path) -> None:
    assert Place(tmp_path).last_port() == 0
    Place(tmp_path).remember_port(4321)
    assert Place(tmp_path).last_port() == 4321


def test_an_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"one")
    write_atomic(path, b"two", 0o644)
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_deletion_cut_short_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    place.hold()
    place.token()
    place.release()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", _busy)
        with pytest.raises(OSError, match="busy"):
            place.delete()
    assert place.is_cluster()
    place.delete()
    assert not tmp_path.exists()


def _busy(path: Path) -> None:
    raise OSError(f"{path} is busy")


def test_deleting_leaves_what_is_not_the_clusters(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert not place.is_cluster()
    place.hold()
    place.token()
    place.remember_port(1)
    place.release()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("x")
    assert place.is_cluster()
    place.delete()
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "text"]
