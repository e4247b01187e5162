"""Copies of a cluster's data: made while it runs or not, put back only while it does not.

A backup is the store alone, as one SQLite file that is checked, row by row, before it counts as one.
Certificates and tokens stay with their data folder, and containers are not in it: after a restore the
nodes stop what no longer belongs to a pod and start what does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl
import tempfile
import urllib.request
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

import msgspec
from msgspec import Struct

from drakit.client.kubeconfig import load
from drakit.cluster.place import Place
from drakit.errors import UsageError
from drakit.store.log import Log

_PATH = "/drakit/backup"
_SECONDS = 60.0


class Contents(Struct, frozen=True):
    """What a backup holds. `revision` is that of its newest write."""

    objects: int
    revision: int
    size: int


def save(place: Place, target: Path, *, force: bool = False) -> Contents:
    """Write a copy of the data in `place` to `target`, whether a cluster runs there or not.

    Raises UsageError: `target` exists (unless `force`), there is nothing to copy, or no room.
    """
    if target.exists() and not force:
        raise UsageError(f"{target} is there already: choose another name, or overwrite it with --force")
    running = place.running()
    if running is None:
        if not place.state.exists():
            raise UsageError(f"there is no data in {place.root}")
        place.hold()
    try:
        with _beside(target) as folder:
            copy = Path(folder) / "copy.db"
            if running is not None:
                _fetch(running.kubeconfig, copy)
            else:
                log = Log(place.state, "normal")
                try:
                    log.backup(copy)
                finally:
                    log.close()
            contents = check(copy)
            _keep(copy, target)
            return contents
    finally:
        if running is None:
            place.release()


def restore(place: Place, source: Path, *, force: bool = False) -> Contents:
    """Make the data in `place` what the backup `source` holds; the old data go only when the new are there.

    Raises UsageError: a cluster runs there, there are data already (unless `force`), or `source` is damaged
    or no backup.
    """
    if not source.is_file():
        raise UsageError(f"there is no backup {source}")
    place.hold()
    try:
        if place.state.exists() and not force:
            raise UsageError(f"{place.root} holds a cluster's data already: replace them with --force")
        with _beside(place.state) as folder:
            copy = Path(folder) / "copy.db"
            _copying(source, lambda: shutil.copyfile(source, copy))
            contents = check(copy, source)
            _fold(place.state)
            _keep(copy, place.state)
            return contents
    finally:
        place.release()


def check(path: Path, name: Path | None = None) -> Contents:
    """Read the whole backup at `path`, called `name`. Raises UsageError when anything in it is damaged."""
    if path.stat().st_size == 0:
        raise UsageError(f"{name or path} is empty: it is no backup")
    try:
        log = Log(path, "full")
        try:
            present: dict[tuple[str, str], bool] = {}
            revision = log.floor()
            for row in log.rows():
                present[row.collection, row.key] = row.value is not None
                revision = row.revision
        finally:
            log.close()
    except UsageError as error:
        what = str(error).replace(f"the data file {path}", "it", 1).partition(": restore a backup")[0]
        raise UsageError(f"{name or path} is no backup that can be used: {what}") from None
    return Contents(sum(present.values()), revision, path.stat().st_size)


def _fetch(kubeconfig: str, target: Path) -> None:
    """Ask the running API server for a copy."""
    config = load(kubeconfig)
    context = ssl.create_default_context(cadata=(config.ca_data or b"").decode())
    request = urllib.request.Request(
        config.server + _PATH, headers={"Authorization": f"Bearer {config.token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as response:
            _copying(target, lambda: _receive(response, target))
    except HTTPError as error:
        with error:
            raise UsageError(f"the cluster gives no backup: {_message(error)}") from None
    except OSError as error:
        raise UsageError(f"the cluster at {config.server} does not answer: {error}") from None


def _receive(response: HTTPResponse, target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(response, file, 1 << 20)
    if target.stat().st_size != int(response.headers["Content-Length"]):
        raise UsageError("the cluster stopped while it sent the backup")


def _message(error: HTTPError) -> str:
    try:
        return str(msgspec.json.decode(error.read())["message"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return str(error)


def _copying(path: Path, work: Callable[[], object]) -> None:
    try:
        work()
    except OSError as error:
        raise UsageError(f"cannot copy {path}: {error.strerror or error}") from None


def _beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder from which a file can be moved to `target` in one step."""
    try:
        return tempfile.TemporaryDirectory(prefix=".drakit-", dir=target.absolute().parent)
    except OSError as error:
        raise UsageError(f"cannot write to {target.absolute().parent}: {error.strerror}") from None


def _fold(path: Path) -> None:
    """Bring the store's write-ahead log into its file `path`: the log must never meet another file."""
    with contextlib.suppress(UsageError):  # damaged: that may be why there is a restore
        if path.exists():
            Log(path, "full").close()
    for tail in ("-wal", "-shm"):
        Path(f"{path}{tail}").unlink(missing_ok=True)


def _keep(copy: Path, target: Path) -> None:
    """Move `copy` to `target` for good: it survives the loss of power."""
    with copy.open("rb") as file:
        os.fsync(file.fileno())
    copy.chmod(0o600)
    os.replace(copy, target)
    folder = os.open(target.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
