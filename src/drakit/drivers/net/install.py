"""The hook with a Python of its own: for a driver in a container, on a host that has neither.

Container runtimes run hooks on the host. So the driver copies what the hook needs out of its image into its
own folder there: the interpreter, the modules that the hook imports, their shared libraries, and the dynamic
loader, which starts the interpreter and is told where the libraries are. Nothing of the host is used.

    hook-DIGEST/loader          what the interpreter names in its header
    hook-DIGEST/bin/python3.13  hook-DIGEST/lib/lib*.so*  hook-DIGEST/lib/python3.13/
    hook-DIGEST/hook.py         hook-DIGEST/drakit/netlink.py

Which modules these are is seen by importing the hook once, and which libraries the loader lists. The copy
must import the hook too, from its own files alone, before it gets its name, which comes from its content.
A driver at work holds a lock on its copy. One that nobody holds and no prepared claim names is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import drakit
from drakit.drivers.net import hook
from drakit.drivers.net.plan import Program
from drakit.errors import UsageError

_ENVIRONMENT = {"LC_ALL": "C"}
"""Of the hook: what it imports depends on the locale."""

_FLAGS = ("-I", "-S")
_IMPORT = """
import sys
sys.path.insert(0, sys.argv[1])
with open(sys.argv[2]) as file:
    exec(compile(file.read(), sys.argv[2], "exec"), {"__name__": "hook"})
import json
files = {getattr(module, "__file__", None) for module in sys.modules.values()} - {None}
with open("/proc/self/maps") as maps:
    parts = [line.split(None, 5) for line in maps]
code = {part[5].strip() for part in parts if "x" in part[1] and len(part) > 5 and part[5][0] == "/"}
print(json.dumps([sorted(files), sorted(code)]))
"""
_NEEDED = re.compile(r"^\s*([^\s/]+) => (/\S+) \(", re.MULTILINE)
_SECONDS = 60
_INTERPRETER_HEADER = 3
_STANDARD = Path(sysconfig.get_path("stdlib"))


class Installed:
    """The copy in `folder` that the driver uses, made by `install`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = ""
        self._held = -1

    def install(self) -> str:
        """The name of the copy, which is there from now on until `release`. Raises UsageError."""
        if self._name:
            return self._name
        try:
            with self._alone():
                if not self._name:  # another thread may have been faster
                    name, files = _wanted()
                    if not (self._folder / name).is_dir():
                        self._copy(name, files)
                    self._held = os.open(self._folder / name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    fcntl.flock(self._held, fcntl.LOCK_SH)
                    self._name = name
                return self._name
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise UsageError(f"cannot install the hook in {self._folder}: {error}") from None

    def release(self) -> None:
        """It may be removed, as far as this driver is concerned."""
        if self._held >= 0:
            os.close(self._held)
        self._name, self._held = "", -1

    def sweep(self, known: str) -> None:
        """Remove every copy that is not named in `known` and that no driver uses, and halves of copies.

        Raises OSError.
        """
        with self._alone():
            for path in self._folder.glob("hook-*"):
                if path.is_dir() and path.name not in known and not _is_held(path):
                    path.rename(path.with_name(f".{path.name}"))  # never half of one under its name
            for path in self._folder.glob(".hook-*"):
                shutil.rmtree(path, ignore_errors=True)

    def _copy(self, name: str, files: Mapping[str, Path]) -> None:
        half = Path(tempfile.mkdtemp(prefix=".hook-", dir=self._folder))
        try:
            half.chmod(0o755)
            for own, source in files.items():
                target = half / own
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
                with target.open("rb") as file:
                    os.fsync(file.fileno())
            (half / _own(_STANDARD / "lib-dynload")).mkdir(exist_ok=True)  # found by this, even if empty
            _check(half)
            half.rename(self._folder / name)
        finally:
            shutil.rmtree(half, ignore_errors=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other instance installs or removes here."""
        lock = os.open(self._folder / "hook.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def installed_program(copy: Path) -> Program:
    """The one in `copy`, as the host calls it."""
    return Program([*_interpreter(copy), *_FLAGS, str(copy / "hook.py"), str(copy)], _ENVIRONMENT)


def _interpreter(copy: Path) -> list[str]:
    return [f"{copy}/loader", "--library-path", f"{copy}/lib", f"{copy}/bin/{_python().name}"]


def _python() -> Path:
    """The interpreter itself, outside of any virtual environment."""
    return Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))


def _own(path: Path) -> str:
    """Where a part of the Python installation is in the copy."""
    return str(path.relative_to(sys.base_prefix))


def _wanted() -> tuple[str, dict[str, Path]]:
    """The name of the copy, and its files by their places in it."""
    python, source = _python(), Path(drakit.__file__).parents[1]
    loader = _loader(python)
    modules, _ = _imported([str(python), "-B"], str(source), hook.__file__)
    files = {"loader": loader, f"bin/{python.name}": python, "hook.py": Path(hook.__file__)}
    for module in (_STANDARD / "os.py", *map(Path, modules)):  # by os.py Python finds where it is
        is_ours = module.is_relative_to(source / "drakit")
        files[str(module.relative_to(source)) if is_ours else _own(module)] = module
    binaries = [path for path in files.values() if path == python or ".so" in path.suffixes]
    for binary in binaries:
        for name, path in _needed(loader, binary).items():
            files.setdefault(f"lib/{name}", path)
    digest = hashlib.sha256()
    for own, path in sorted(files.items()):
        with path.open("rb") as file:
            digest.update(f"{own}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return f"hook-{digest.hexdigest()[:12]}", files


def _imported(command: Sequence[str], source: str, script: str) -> tuple[list[str], list[str]]:
    """The modules' files, and those with code in memory, once `command`, an interpreter, has imported the
    hook."""
    environment = dict(_ENVIRONMENT)
    if path := os.environ.get("LD_LIBRARY_PATH"):
        environment["LD_LIBRARY_PATH"] = path
    done = subprocess.run(
        [*command, *_FLAGS, "-c", _IMPORT, source, script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise ValueError(f"{command[0]}: {_last_line(done.stderr) or done.returncode}")
    modules, code = json.loads(done.stdout)
    return modules, code


def _check(copy: Path) -> None:
    """Raises ValueError unless the copy imports the hook from its own files alone (and leaves bytecode)."""
    for found in _imported(_interpreter(copy), str(copy), str(copy / "hook.py")):
        if others := [path for path in found if not Path(path).is_relative_to(copy)]:
            raise ValueError(f"the copy uses {', '.join(others[:5])}")


def _needed(loader: Path, binary: Path) -> dict[str, Path]:
    """The shared libraries of `binary` by their names, as the loader finds them here."""
    command = [str(loader), "--list", str(binary)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode != 0:
        raise ValueError(f"{loader} --list {binary}: {_last_line(done.stderr) or done.returncode}")
    return {name: Path(path) for name, path in _NEEDED.findall(done.stdout)}


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _loader(python: Path) -> Path:
    """The dynamic loader that the header of the program `python` names (PT_INTERP)."""
    with python.open("rb") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":
            raise ValueError(f"{python} is no 64-bit program")
        order = "<" if header[5] == 1 else ">"
        (table,) = struct.unpack_from(f"{order}Q", header, 32)
        size, count = struct.unpack_from(f"{order}HH", header, 54)
        for number in range(count):
            file.seek(table + number * size)
            kind, _, offset, _, _, length = struct.unpack(f"{order}IIQQQQ", file.read(40))
            if kind == _INTERPRETER_HEADER:
                file.seek(offset)
                return Path(os.fsdecode(file.read(length).rstrip(b"\0")))
    raise ValueError(f"{python} has no dynamic loader")


def _is_held(path: Path) -> bool:
    """Whether a driver uses the copy."""
    held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(held)
    return False
