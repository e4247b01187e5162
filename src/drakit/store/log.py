"""The log on disk: one table, one row per revision.

A row says: at `revision`, `key` of `collection` got `value` (NULL: it was deleted), replacing the row at
`previous` (0: there was none). The unique index over (collection, key, previous) is the optimistic lock:
two writers cannot both replace the same row. The idea is kine's, where it serves PostgreSQL and SQLite
as etcd's stand-in.

The row with revision 0 holds the floor: rows at or below it are state, rows above it are also history.
Every row carries a checksum, for SQLite has none of its own. The file is opened for exclusive use: a
second process is refused, never let in.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from drakit.errors import InsufficientStorage, InternalError, UsageError

Durability = Literal["normal", "full"]
"""normal: an acknowledged write survives the death of the process; full: the loss of power too."""

_APPLICATION_ID = 0x64726131
_FORMAT = 1
_SCHEMA = """
CREATE TABLE log (
  revision INTEGER PRIMARY KEY,
  collection TEXT NOT NULL,
  key TEXT NOT NULL,
  previous INTEGER NOT NULL,
  value BLOB,
  checksum INTEGER NOT NULL
);
CREATE UNIQUE INDEX log_lock ON log (collection, key, previous);
INSERT INTO log VALUES (0, '', 'floor', 0, NULL, 0);
"""
_CHECKPOINT_BYTES = 8 << 20


class Row(Struct, frozen=True):
    """One revision of one key. `value` None is a deletion; `previous` 0 a creation."""

    revision: int
    collection: str
    key: str
    previous: int
    value: bytes | None

    def checksum(self) -> int:
        name = f"{self.revision} {self.collection} {self.key} {self.previous}".encode()
        return zlib.crc32(self.value or b"", zlib.crc32(name))


class Log:
    """The table in the file at `path`, made if there is none.

    Raises UsageError, one line, for a file that is damaged, in use, not ours or not writable; such a file
    stays as it is. Not for use by two threads at once.
    """

    def __init__(self, path: Path, durability: Durability) -> None:
        self.path = path
        self._unsaved = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"cannot open the data file {path}: {error}") from error
        try:
            self._open(durability)
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.Error):
                raise self._unusable(error) from error
            raise

    def _open(self, durability: Durability) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        is_new = not db.execute("SELECT 1 FROM sqlite_master").fetchone()
        if not is_new:
            found = db.execute("PRAGMA application_id").fetchone()[0], self._format()
            if found != (_APPLICATION_ID, _FORMAT):
                raise UsageError(f"the data file {self.path} was not written by this version of drakit")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={durability.upper()}")
        db.execute("PRAGMA wal_autocheckpoint=0")
        if is_new:
            setup = f"PRAGMA application_id={_APPLICATION_ID}; PRAGMA user_version={_FORMAT};"
            db.executescript(f"BEGIN IMMEDIATE; {setup} {_SCHEMA} COMMIT;")
        else:
            db.execute("BEGIN IMMEDIATE")
            db.execute("COMMIT")

    def _format(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _unusable(self, error: sqlite3.Error) -> UsageError:
        if "locked" in str(error):
            return UsageError(f"the data file {self.path} is in use by another process: stop it first")
        if "readonly" in str(error) or "unable to open" in str(error):
            return UsageError(f"cannot write the data file {self.path}: {error}")
        return self._damaged(str(error))

    def _damaged(self, what: str) -> UsageError:
        return UsageError(
            f"the data file {self.path} is damaged ({what}): restore a backup or move it away to start anew"
        )

    def floor(self) -> int:
        try:
            row = self._db.execute("SELECT previous FROM log WHERE revision = 0").fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        if row is None:
            raise self._damaged("row 0 is missing")
        return int(row[0])

    def rows(self) -> Iterator[Row]:
        """Every row in the order of revisions. Raises UsageError at the first that is damaged."""
        query = "SELECT revision, collection, key, previous, value, checksum FROM log WHERE revision > 0"
        try:
            for revision, collection, key, previous, value, checksum in self._db.execute(
                f"{query} ORDER BY revision"
            ):
                row = Row(revision, collection, key, previous, value)
                if row.checksum() != checksum:
                    raise self._damaged(f"checksum of revision {revision}")
                yield row
        except (sqlite3.Error, TypeError, AttributeError, UnicodeError) as error:
            raise self._damaged(str(error)) from error

    def append(self, rows: Sequence[Row], obsolete: Iterable[int] = (), floor: int | None = None) -> None:
        """Commit `rows`, forget the revisions `obsolete` and set the floor, all or nothing.

        Raises InsufficientStorage when the disk does not take them, InternalError when the file turns out
        to be damaged: nothing has changed then.
        """
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)",
                [(r.revision, r.collection, r.key, r.previous, r.value, r.checksum()) for r in rows],
            )
            db.executemany("DELETE FROM log WHERE revision = ?", [(revision,) for revision in obsolete])
            if floor is not None:
                db.execute("UPDATE log SET previous = ? WHERE revision = 0", (floor,))
            db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            kind = InsufficientStorage if isinstance(error, sqlite3.OperationalError) else InternalError
            raise kind(f"cannot write {self.path}, nothing was stored: {error}") from error
        self._unsaved += sum(len(row.value or b"") + 200 for row in rows)

    @property
    def is_checkpoint_due(self) -> bool:
        return self._unsaved > _CHECKPOINT_BYTES

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file; a disk that is too full for it is no error here."""
        self._unsaved = 0
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError:
            self._unsaved = _CHECKPOINT_BYTES // 2

    def backup(self, path: Path) -> None:
        """Write a consistent copy to `path`, which must not exist."""
        try:
            self._db.execute("VACUUM INTO ?", (str(path),))
        except sqlite3.Error as error:
            raise UsageError(f"cannot write the backup {path}: {error}") from error

    def abandon(self) -> None:
        """Lets go of a file that cannot be used."""
        self._db.close()

    def close(self) -> None:
        self.checkpoint()
        self._db.close()
