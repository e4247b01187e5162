"""What the agent knows of prepared claims, on disk before a driver is asked and after it has answered.

A claim is in here from just before the first NodePrepareResources call until after the last successful
NodeUnprepareResources call. So whatever dies in between, a driver that may hold something for a claim is
asked to give it back. The file is replaced in one step and synced to the disk before a write returns.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
from msgspec import Struct, field

from drakit.errors import DRAError, UsageError
from drakit.pluginapi.dra import PreparedDevice

VERSION = 1


class CheckpointFailed(DRAError):
    """The checkpoint could not be written, for example because the disk is full."""


class ClaimRecord(Struct, kw_only=True):
    """A claim that is prepared, or may be. `pods` are the UIDs of the pods it is held for; `drivers` has the
    devices of each driver, None for one that was perhaps asked but has not answered well."""

    uid: str
    namespace: str
    name: str
    pods: list[str] = field(default_factory=list)
    drivers: dict[str, tuple[PreparedDevice, ...] | None] = field(default_factory=dict)
    unprepare_skipped: list[str] = field(default_factory=list)

    @property
    def is_prepared(self) -> bool:
        return all(devices is not None for devices in self.drivers.values())


class _File(Struct):
    version: int
    claims: dict[str, ClaimRecord]


class Checkpoint:
    """The claims by UID, kept in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()
        self.claims = self._load()

    async def save(self) -> None:
        """Return when the claims as they are now are on the disk. Raises CheckpointFailed."""
        async with self._lock:
            data = msgspec.json.format(msgspec.json.encode(_File(VERSION, self.claims)), indent=1)
            await asyncio.to_thread(self._write, data)

    def _load(self) -> dict[str, ClaimRecord]:
        try:
            file = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise UsageError(
                f"cannot read the claim checkpoint {self._path}: {error}; move it away to start without it "
                "(drivers may then keep devices prepared for claims nobody knows)"
            ) from None
        if file.version != VERSION:
            raise UsageError(f"claim checkpoint {self._path} is of version {file.version}, not {VERSION}")
        return file.claims

    def _write(self, data: bytes) -> None:
        temporary = self._path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise CheckpointFailed(
                f"cannot write the claim checkpoint {self._path}: {error.strerror}"
            ) from None
