"""Taking turns: within this process by a lock, with other instances of the driver by one on a file."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from drakit.client.clock import Clock
from drakit.errors import RecoverableError

_POLL_SECONDS = 0.02


class Turns:
    """The lock `name` in `folder`, which is made if need be."""

    def __init__(self, folder: Path, clock: Clock, name: str = "lock") -> None:
        self._folder = folder
        self._name = name
        self._clock = clock
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else has a turn meanwhile. Raises RecoverableError if the file cannot be used."""
        async with self._lock:
            descriptor = self._open()
            try:
                while not _try_lock(descriptor):
                    await self._clock.sleep(_POLL_SECONDS)
                yield
            finally:
                os.close(descriptor)

    def _open(self) -> int:
        path, flags = self._folder / self._name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            try:
                return os.open(path, flags, 0o600)
            except FileNotFoundError:
                self._folder.mkdir(parents=True, exist_ok=True)
                return os.open(path, flags, 0o600)
        except OSError as error:
            raise RecoverableError(f"cannot lock {self._folder}: {error.strerror}") from None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
