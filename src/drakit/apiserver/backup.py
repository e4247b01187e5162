"""A copy of everything stored, while the server runs: GET /drakit/backup.

The store writes a consistent copy beside its own file, which is sent and deleted. Whoever has it knows every
secret of the cluster: it is for administrators, and for those a rule lets `get` this path.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from drakit.errors import BadRequest, InsufficientStorage, UsageError
from drakit.store import Store

BACKUP_PATH = "/drakit/backup"
BACKUP_TYPE = "application/vnd.sqlite3"


@asynccontextmanager
async def copy_of(store: Store) -> AsyncIterator[Path]:
    """The file of a copy of `store`, for as long as it is needed.

    Raises BadRequest when the store is kept in memory only, InsufficientStorage when there is no room.
    """
    if store.path is None:
        raise BadRequest("nothing to back up: this cluster keeps its data in memory only")
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=store.path.parent) as folder:
        copy = Path(folder) / "state.db"
        try:
            await store.backup(copy)
        except UsageError as error:
            raise InsufficientStorage(str(error)) from None
        yield copy


async def parts(copy: Path, size: int = 1 << 20) -> AsyncIterator[bytes]:
    """The content of `copy`, read beside the loop."""
    with copy.open("rb") as file:
        while part := await asyncio.to_thread(file.read, size):
            yield part
