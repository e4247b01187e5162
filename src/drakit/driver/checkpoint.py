"""Which claims are prepared, on disk.

The file is the one memory of a driver: a claim is entered before its preparation begins and completed
when it is done, and goes when it is undone. So after kill -9 at any point, what may have been touched is
known. Writes replace the file in one step. Another instance of the driver may write it too, under the
lock that the caller holds: `refresh` reads what changed. When the machine has started again since, nothing
of what was prepared is left but what is on disk, and no container: the claims are there as if their
preparation had stopped somewhere.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
from msgspec import Struct, field, structs

from drakit.driver.claim import PreparedClaim
from drakit.errors import RecoverableError, UsageError

_log = logging.getLogger(__name__)


class _Content(Struct, forbid_unknown_fields=True):
    version: int = 1
    boot: str = ""
    claims: dict[str, PreparedClaim] = field(default_factory=dict)


class Checkpoint:
    """The claims in the file `path`, by UID."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._claims: dict[str, PreparedClaim] = {}
        self._stamp: tuple[int, int, int] | None = None

    @property
    def claims(self) -> Mapping[str, PreparedClaim]:
        """A view that follows every change."""
        return MappingProxyType(self._claims)

    def refresh(self) -> None:
        """Read the file if it is not the one last read or written. Raises UsageError if it is damaged.

        A file that a power failure damaged is put aside: no container outlived that.
        """
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        content = _Content()
        if stamp is not None:
            try:
                content = msgspec.json.decode(self._path.read_bytes(), type=_Content)
                if content.version != 1:
                    raise UsageError(f"{self._path} is of a newer drakit (version {content.version})")
            except (msgspec.DecodeError, OSError) as error:
                self._put_aside(error)
                stamp = None
        claims = content.claims
        if content.boot not in ("", _boot_id()):
            claims = {uid: structs.replace(claim, is_complete=False) for uid, claim in claims.items()}
        self._claims.clear()
        self._claims.update(claims)
        self._stamp = stamp

    def put(self, claim: PreparedClaim) -> None:
        """Enter or replace `claim`, on disk first. Raises RecoverableError if that is not possible."""
        self._write({**self._claims, claim.uid: claim})
        self._claims[claim.uid] = claim

    def drop(self, uid: str) -> None:
        """Forget the claim `uid`, on disk first. Raises RecoverableError if that is not possible."""
        self._write({key: claim for key, claim in self._claims.items() if key != uid})
        self._claims.pop(uid, None)

    def _write(self, claims: dict[str, PreparedClaim]) -> None:
        write_file(self._path, msgspec.json.encode(_Content(boot=_boot_id(), claims=claims)))
        self._stamp = self._stamp_now()

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _put_aside(self, error: Exception) -> None:
        if not isinstance(error, msgspec.DecodeError) or self._path.stat().st_mtime >= _boot_time():
            raise UsageError(
                f"checkpoint {self._path} cannot be read ({error}): restore it, or remove it when no"
                " container uses the driver's devices any more"
            ) from None
        damaged = self._path.with_suffix(".damaged")
        self._path.rename(damaged)
        _log.error("checkpoint of an earlier boot is damaged, starting empty; it is kept as %s", damaged)


def write_file(path: Path, data: bytes) -> None:
    """Replace the file `path` with `data` in one step. Raises RecoverableError, the old file untouched.

    A crash may leave the hidden file `.<name>.new`. One writer at a time.
    """
    hidden = path.with_name(f".{path.name}.new")
    try:
        try:
            try:
                hidden.write_bytes(data)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                hidden.write_bytes(data)
            hidden.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                hidden.unlink()
            raise
    except OSError as error:
        raise RecoverableError(f"cannot write {path}: {error.strerror}") from None


@functools.cache
def _boot_id() -> str:
    """Another one after each start of the machine; "" where nobody knows."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _boot_time() -> float:
    with open("/proc/stat", "rb") as file:
        return next((float(line.split()[1]) for line in file if line.startswith(b"btime")), 0.0)
