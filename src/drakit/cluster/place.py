"""Where an embedded cluster lives on disk, and the note by which other commands find it.

DATA/state.db           the store                    DATA/pki/        CA, server certificate, tokens
DATA/nodes/NAME/        a node's checkpoint, sockets and containers
DATA/drakit.log         what the rooms had to say    DATA/lock        held while a cluster runs here
DATA/kubeconfig, DATA/running.json                   only while it runs
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shlex
import shutil
from pathlib import Path

import msgspec
from msgspec import Struct

from drakit.errors import UsageError

_FILES = ("lock", "port", "kubeconfig", "running.json", "up.out")
_FILE_STARTS = ("state.db", "drakit.log", ".kubeconfig.", ".running.json.", ".port.")
"""What stands in a data folder beside its folders; `delete` touches nothing else."""


class Running(Struct, frozen=True):
    """A running cluster as `dra status`, `dra down` and others see it. `pid` is the one process."""

    pid: int
    server: str
    kubeconfig: str
    version: str
    nodes: list[str]
    drivers: list[str]
    runtime: str
    started: str


def default_data_dir() -> Path:
    """$DRAKIT_DATA_DIR, or `drakit` under the user's state folder."""
    if path := os.environ.get("DRAKIT_DATA_DIR"):
        return Path(path)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "drakit"


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data` in one step: a reader sees the old file or the new one, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class Place:
    """The data folder of one cluster. At most one process holds it at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.state = self.root / "state.db"
        self.pki = self.root / "pki"
        self.nodes = self.root / "nodes"
        self.network = self.nodes / "network.json"
        self.images = self.root / "images"
        self.log = self.root / "drakit.log"
        self.kubeconfig = self.root / "kubeconfig"
        self._running = self.root / "running.json"
        self._port = self.root / "port"
        self._lock: int | None = None

    def create(self) -> None:
        """Make the folder where there is none; UsageError if this user cannot write in it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path in (self.root / "lock", self.log):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            where = "" if error.filename == str(self.root) else f"{error.filename}: "
            raise UsageError(
                f"cannot use data folder {self.root}: {where}{error.strerror}. Choose another with --data-dir"
            ) from None

    def hold(self) -> None:
        """Create the folder and take its lock; UsageError if another process has it."""
        self.create()
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise self.is_taken() from None
        self._lock = descriptor
        self.forget()

    @property
    def down(self) -> str:
        """The command that stops the cluster here."""
        is_usual = self.root == default_data_dir().absolute()
        return "dra down" if is_usual else f"dra down --data-dir {shlex.quote(str(self.root))}"

    def is_taken(self) -> UsageError:
        """The error for whoever wants to start a second cluster here."""
        running = self.running()
        who = f" (pid {running.pid}, {running.server})" if running else ""
        return UsageError(
            f"a cluster already runs in {self.root}{who}. Stop it with `{self.down}`,"
            " or start another one with --data-dir or --ephemeral"
        )

    def announce(self, running: Running) -> None:
        write_atomic(self._running, msgspec.json.encode(running))

    def running(self) -> Running | None:
        """The cluster that runs here now, or None. A note left by a killed process counts as none."""
        try:
            running = msgspec.json.decode(self._running.read_bytes(), type=Running)
        except (OSError, msgspec.MsgspecError):
            return None
        return running if self.is_held() else None

    def forget(self) -> None:
        """Remove what exists only while a cluster runs."""
        for path in (self._running, self.kubeconfig):
            path.unlink(missing_ok=True)

    def release(self) -> None:
        """Forget, and let go of the lock."""
        if self._lock is not None:
            self.forget()
            os.close(self._lock)
            self._lock = None

    def is_cluster(self) -> bool:
        """Whether a cluster was ever started in this folder."""
        return (self.root / "lock").is_file() and self.log.is_file()

    def delete(self) -> None:
        """Delete what clusters write into the folder, and the folder if nothing else is in it.

        What `is_cluster` looks for goes last, so that a deletion cut short can be done again.
        """
        for path in sorted(self.root.glob("*"), key=lambda path: path.name in ("lock", self.log.name)):
            if path.is_dir() and not path.is_symlink() and path in (self.nodes, self.images, self.pki):
                shutil.rmtree(path)
            elif path.is_file() and (path.name in _FILES or path.name.startswith(_FILE_STARTS)):
                path.unlink()
        with contextlib.suppress(OSError):
            self.root.rmdir()

    def last_port(self) -> int:
        """The port the cluster had the last time, so that kubeconfigs made then still work; 0 if none."""
        try:
            return int(self._port.read_text())
        except (OSError, ValueError):
            return 0

    def remember_port(self, port: int) -> None:
        write_atomic(self._port, str(port).encode())

    def token(self, name: str = "admin") -> str:
        """The bearer token of the admin, or of `node-NAME`: made once, and readable by its owner only."""
        path = self.pki / f"{name}.token"
        with contextlib.suppress(OSError):
            if token := path.read_text().strip():
                return token
        self.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
        token = secrets.token_urlsafe(32)
        write_atomic(path, token.encode())
        return token

    def is_held(self) -> bool:
        """Whether some process, this one or another, holds the folder."""
        if self._lock is not None:
            return True
        try:
            descriptor = os.open(self.root / "lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False
