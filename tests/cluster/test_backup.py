"""Backups of a stopped cluster, and putting them back; of a running one, see tests/e2e/test_backup.py."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from drakit.cluster.backup import restore, save
from drakit.cluster.place import Place
from drakit.errors import UsageError
from drakit.store import Store

pytestmark = pytest.mark.anyio


async def written(place: Place, **values: str) -> None:
    """A store in `place` with these values."""
    store = Store(place.state)
    for key, value in values.items():
        entry = store.get("things", key)
        await store.write(
            "things", key, entry.revision if entry else 0, lambda _, value=value: value.encode()
        )
    await store.close()


async def read(place: Place) -> dict[str, str]:
    store = Store(place.state)
    found = {entry.key: entry.value.decode() for entry in store.page("things")}
    await store.close()
    return found


def files(place: Place) -> list[str]:
    return sorted(path.name for path in place.root.iterdir() if path.name not in ("lock", "drakit.log"))


async def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    place, file = Place(tmp_path / "data"), tmp_path / "backup"
    await written(place, a="1", b="2")
    await written(place, b="3")
    saved = save(place, file)
    assert (saved.objects, saved.size) == (2, file.stat().st_size)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await written(place, a="changed", c="new")
    assert restore(place, file, force=True) == saved
    assert await read(place) == {"a": "1", "b": "3"}
    assert files(place) == ["state.db"]
    elsewhere = Place(tmp_path / "other")
    assert restore(elsewhere, file).revision == saved.revision
    assert await read(elsewhere) == {"a": "1", "b": "3"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "data", "other"]


async def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    place, file = Place(tmp_path / "data"), tmp_path / "backup"
    await written(place, a="1")
    save(place, file)
    before = file.read_bytes()
    await written(place, a="2")
    with pytest.raises(UsageError, match=r"is there already: .* --force"):
        save(place, file)
    assert file.read_bytes() == before
    with pytest.raises(UsageError, match=r"holds a cluster's data already: .* --force"):
        restore(place, file)
    assert await read(place) == {"a": "2"}
    save(place, file, force=True)
    assert file.read_bytes() != before


def _truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes) -> bytes:
    return data.replace(b"precious", b"pretious")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_truncated, "damaged"),
        (_flipped, "checksum of revision"),
        (lambda data: b"", "is empty"),
        (lambda data: b"hello", "not a database"),
    ],
)
async def test_a_damaged_backup_changes_nothing(
    tmp_path: Path, damage: Callable[[bytes], bytes], told: str
) -> None:
    place, file = Place(tmp_path / "data"), tmp_path / "backup"
    await written(place, a="precious", **{f"b{number}": "x" * 1000 for number in range(50)})
    save(place, file)
    file.write_bytes(damage(file.read_bytes()))
    before = place.state.read_bytes()
    with pytest.raises(UsageError, match=f"backup.*{told}"):
        restore(place, file, force=True)
    assert place.state.read_bytes() == before
    assert files(place) == ["state.db"]


async def test_a_damaged_store_can_be_replaced(tmp_path: Path) -> None:
    place, file = Place(tmp_path / "data"), tmp_path / "backup"
    await written(place, a="1")
    save(place, file)
    place.state.write_bytes(b"rubbish")
    with pytest.raises(UsageError, match="damaged"):
        save(place, tmp_path / "another")
    assert not (tmp_path / "another").exists()
    restore(place, file, force=True)
    assert await read(place) == {"a": "1"}


async def test_what_is_not_there_or_in_use_is_said(tmp_path: Path) -> None:
    place, file = Place(tmp_path / "data"), tmp_path / "backup"
    with pytest.raises(UsageError, match="there is no data in"):
        save(place, file)
    with pytest.raises(UsageError, match="there is no backup"):
        restore(place, file)
    assert not place.root.exists()
    await written(place, a="1")
    save(place, file)
    with pytest.raises(UsageError, match="cannot write to"):
        save(place, tmp_path / "missing" / "backup")
    holder = Place(tmp_path / "data")
    holder.hold()
    with pytest.raises(UsageError, match="already runs"):
        restore(place, file, force=True)
    holder.release()
