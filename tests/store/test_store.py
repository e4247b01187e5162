"""The store: order, optimistic lock, history, restart, and what a disk can do to it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from drakit.errors import Expired, InsufficientStorage, InternalError, ServiceUnavailable, UsageError
from drakit.store import Change, Durability, Entry, Stale, Store

pytestmark = pytest.mark.anyio

PODS = "pods"


@pytest.fixture(params=["memory", "normal", "full"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    kind: str = request.param
    if kind == "memory":
        return Store()
    durability: Durability = "full" if kind == "full" else "normal"
    return Store(tmp_path / "state.db", durability=durability)


async def put(store: Store, key: str, value: str, expected: int = 0) -> Entry:
    return await store.write(PODS, key, expected, lambda revision: value.encode())


def keys(store: Store, prefix: str = "", after: str = "") -> list[str]:
    return [entry.key for entry in store.page(PODS, prefix, after)]


async def test_a_write_gets_the_next_revision_and_is_visible_once_acknowledged(store: Store) -> None:
    done = store.write(PODS, "a/x", 0, lambda revision: f"at {revision}".encode())
    assert store.get(PODS, "a/x") is None
    entry = await done
    assert entry == store.get(PODS, "a/x") == Entry("a/x", store.revision, f"at {store.revision}".encode())
    later = await put(store, "a/x", "next", entry.revision)
    assert later.revision == entry.revision + 1
    await store.close()


async def test_a_write_at_another_revision_is_stale_and_changes_nothing(store: Store) -> None:
    entry = await put(store, "a", "1")
    for expected in (0, entry.revision - 1, entry.revision + 1):
        with pytest.raises(Stale) as stale:
            store.write(PODS, "a", expected, lambda revision: b"2")
        assert stale.value.entry == entry
    assert store.get(PODS, "a") == entry
    await store.close()


async def test_a_write_is_checked_against_writes_not_yet_committed(store: Store) -> None:
    first = store.write(PODS, "a", 0, lambda revision: b"1")
    with pytest.raises(Stale):
        store.write(PODS, "a", 0, lambda revision: b"2")
    head = store.head(PODS, "a")
    assert head is not None
    assert head.value == b"1"
    second = store.write(PODS, "a", head.revision, lambda revision: b"2")
    assert (await first).revision + 1 == (await second).revision
    await store.close()


async def test_keys_are_listed_in_order_by_prefix_and_from_a_key_on(store: Store) -> None:
    for key in ("b/2", "a/1", "b/10", "c/1", "b/1"):
        await put(store, key, key)
    assert keys(store) == ["a/1", "b/1", "b/10", "b/2", "c/1"]
    assert keys(store, "b/") == ["b/1", "b/10", "b/2"]
    assert keys(store, "b/", "b/10") == ["b/2"]
    assert keys(store, "d/") == []
    assert store.count(PODS) == 5
    await store.close()


async def test_a_deleted_key_can_be_made_again(store: Store) -> None:
    entry = await put(store, "a", "1")
    gone = await store.write(PODS, "a", entry.revision, None)
    assert gone == Entry("a", entry.revision + 1, b"")
    assert store.get(PODS, "a") is None
    again = await put(store, "a", "2")
    assert again.revision == gone.revision + 1
    await store.close()


async def test_delete_and_make_again_in_one_batch(store: Store) -> None:
    entry = await put(store, "a", "1")
    gone = store.write(PODS, "a", entry.revision, None)
    again = store.write(PODS, "a", 0, lambda revision: b"2")
    await asyncio.gather(gone, again)
    found = store.get(PODS, "a")
    assert found is not None
    assert found.value == b"2"
    await store.close()


async def test_subscribers_see_the_changes_of_their_collection_in_order(store: Store) -> None:
    seen: list[Change] = []
    stop = store.subscribe(PODS, seen.extend)
    first = await put(store, "a", "1")
    await store.write("nodes", "n", 0, lambda revision: b"n")
    second = await put(store, "a", "2", first.revision)
    await store.write(PODS, "a", second.revision, None)
    assert [(c.entry, c.previous) for c in seen] == [(first, None), (second, first), (None, second)]
    assert store.history(PODS, first.revision) == seen[1:]
    stop()
    await put(store, "b", "1")
    assert len(seen) == 3
    await store.close()


async def test_a_page_as_of_an_earlier_revision(store: Store) -> None:
    for key in ("a", "b", "c"):
        await put(store, key, "1")
    then = store.revision
    found = store.get(PODS, "b")
    assert found is not None
    await store.write(PODS, "b", found.revision, None)
    await put(store, "d", "1")
    await put(store, "a", "2", then - 2)
    assert keys(store) == ["a", "c", "d"]
    page = list(store.page_at(PODS, "", "", then))
    assert [(entry.key, entry.value) for entry in page] == [("a", b"1"), ("b", b"1"), ("c", b"1")]
    assert [entry.key for entry in store.page_at(PODS, "", "a", then)] == ["b", "c"]
    await store.close()


async def test_history_is_bounded_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = Store(path, history_changes=20)
    entry = await put(store, "a", "0")
    for number in range(100):
        entry = await put(store, "a", str(number), entry.revision)
    assert len(store.history(PODS, store.floor)) <= 25
    with pytest.raises(Expired):
        store.history(PODS, store.floor - 1)
    floor, revision = store.floor, store.revision
    await store.close()
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM log").fetchone()[0] <= 28
    again = Store(path, history_changes=20)
    assert (again.floor, again.revision) == (floor, revision)
    assert [c.revision for c in again.history(PODS, floor)] == list(range(floor + 1, revision + 1))
    await again.close()


async def test_history_is_bounded_in_bytes(tmp_path: Path) -> None:
    store = Store(None, history_bytes=10_000)
    entry = await put(store, "a", "x" * 1000)
    for _ in range(50):
        entry = await put(store, "a", "x" * 1000, entry.revision)
    assert len(store.history(PODS, store.floor)) <= 8
    await store.close()


async def test_everything_is_there_after_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = Store(path)
    first = await put(store, "a", "1")
    await put(store, "a", "2", first.revision)
    gone = await put(store, "b", "1")
    await store.write(PODS, "b", gone.revision, None)
    await put(store, "b", "2")
    await store.write("nodes", "n", 0, lambda revision: b"n")
    before = list(store.page(PODS)), list(store.page("nodes")), store.history(PODS, 1), store.revision
    await store.close()
    again = Store(path)
    assert (
        list(again.page(PODS)),
        list(again.page("nodes")),
        again.history(PODS, 1),
        again.revision,
    ) == before
    await put(again, "c", "1")
    await again.close()


async def test_a_closed_store_takes_no_writes(store: Store) -> None:
    pending = store.write(PODS, "a", 0, lambda revision: b"1")
    await store.close()
    assert (await pending).value == b"1"
    with pytest.raises(ServiceUnavailable):
        store.write(PODS, "b", 0, lambda revision: b"1")
    await store.close()


# --- what a disk can do ---------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["normal", "full"])
async def test_a_full_disk_refuses_writes_and_the_store_goes_on(
    tmp_path: Path, durability: Durability
) -> None:
    store = Store(tmp_path / "state.db", durability=durability)
    await put(store, "a", "1")
    assert store._log is not None
    connection = store._log._db
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    revision = store.revision
    big = store.write(PODS, "big", 0, lambda revision: b"x" * 100_000)
    behind = store.write(PODS, "small", 0, lambda revision: b"x")
    for write in (big, behind):
        with pytest.raises(InsufficientStorage, match="nothing was stored"):
            await write
    assert store.revision == revision
    assert keys(store) == ["a"]
    connection.execute("PRAGMA max_page_count = 1000000")
    entry = await put(store, "big", "x" * 100_000)
    assert entry.revision == revision + 1
    await store.close()


@pytest.mark.parametrize("durability", ["normal", "full"])
async def test_a_table_that_breaks_while_in_use_refuses_writes(
    tmp_path: Path, durability: Durability
) -> None:
    store = Store(tmp_path / "state.db", durability=durability)
    await put(store, "a", "1")
    assert store._log is not None
    store._log._db.execute("INSERT INTO log VALUES (3, 'pods', 'stranger', 0, NULL, 0)")
    with pytest.raises(InternalError, match="nothing was stored"):
        await put(store, "b", "1")
    store._log._db.execute("DELETE FROM log WHERE revision = 3")
    await put(store, "b", "1")
    assert keys(store) == ["a", "b"]
    await store.close()


@pytest.mark.needs_root
async def test_a_really_full_disk(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = await asyncio.create_subprocess_exec(
        "mount", "-t", "tmpfs", "-o", "size=512k", "none", str(place), stderr=asyncio.subprocess.DEVNULL
    )
    if await mounted.wait():
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        store = Store(place / "state.db", durability="full")
        await put(store, "a", "1")
        with pytest.raises(InsufficientStorage):
            await put(store, "big", "x" * 1_000_000)
        await put(store, "b", "2")
        await store.close()
        again = Store(place / "state.db")
        assert keys(again) == ["a", "b"]
        await again.close()
    finally:
        await (await asyncio.create_subprocess_exec("umount", str(place))).wait()


async def _filled(path: Path) -> None:
    store = Store(path)
    for number in range(200):
        await put(store, f"key-{number}", "v" * 2000)
    await store.close()


def _overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize(
    ("at", "data"),
    [
        pytest.param(0, b"not a database at all", id="header"),
        pytest.param(4096 * 3, os.urandom(8192), id="pages"),
        pytest.param(None, b"V", id="one byte of a value"),
    ],
)
async def test_a_damaged_file_is_refused_in_one_line_and_left_alone(
    tmp_path: Path, at: int | None, data: bytes
) -> None:
    path = tmp_path / "state.db"
    await _filled(path)
    _overwrite(path, path.read_bytes().index(b"vvvv" * 100) if at is None else at, data)
    before = path.read_bytes()
    with pytest.raises(UsageError) as refused:
        Store(path)
    assert str(path) in str(refused.value)
    assert "damaged" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == before


async def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await _filled(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UsageError, match="damaged"):
        Store(path)


async def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(UsageError, match="not written by this version of drakit"):
        Store(path)


async def test_a_file_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = Store(path)
    await put(store, "a", "1")
    with pytest.raises(UsageError, match="in use by another process"):
        Store(path)
    await store.close()


async def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot open the data file"):
        Store(Path("/proc/drakit/state.db"))


async def test_backup_is_a_store_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    await put(store, "a", "1")
    pending = store.write(PODS, "b", 0, lambda revision: b"2")
    await store.backup(tmp_path / "backup.db")
    await pending
    await put(store, "c", "3")
    await store.close()
    copy = Store(tmp_path / "backup.db")
    assert keys(copy) == ["a", "b"]
    await copy.close()
    with pytest.raises(UsageError, match="memory only"):
        await Store().backup(tmp_path / "other.db")
