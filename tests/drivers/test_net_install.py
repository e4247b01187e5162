"""The hook with a Python of its own: it runs where there is nothing else, and goes when nobody needs it."""

from __future__ import annotations

import os
import struct
import subprocess
from functools import partial
from pathlib import Path

import pytest

from drakit.drivers.net import install
from drakit.drivers.net.install import Installed, installed_program
from drakit.errors import UsageError


@pytest.mark.needs_root
def test_it_needs_nothing_of_the_host(tmp_path: Path) -> None:
    program = installed_program(Path("/") / Installed(tmp_path).install())
    done = subprocess.run(
        [*program.args, '{"host": ""}'],
        preexec_fn=partial(os.chroot, tmp_path),
        env=dict(program.env),
        input='{"pid": 1}',
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "network interface for the pod: No such file or directory\n", "there is no /proc"
    assert done.returncode == 1


def test_copies_come_and_go(tmp_path: Path) -> None:
    first, second = Installed(tmp_path), Installed(tmp_path)
    name = first.install()
    made = (tmp_path / name).stat().st_ino
    (tmp_path / "hook-0123456789ab").mkdir()
    (tmp_path / "hook-ba9876543210").mkdir()
    (tmp_path / ".hook-half").mkdir()
    assert second.install() == name
    assert (tmp_path / name).stat().st_ino == made, "there is one copy of the same"
    first.release()
    second.sweep('a claim of an older driver: "/plugins/dra.net/hook-0123456789ab/loader"')
    assert {path.name for path in tmp_path.glob("*hook-*")} == {name, "hook-0123456789ab"}
    second.release()
    second.sweep("")
    assert list(tmp_path.glob("*hook-*")) == []


def test_a_copy_that_does_not_work_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = install._wanted()

    def without_socket(*_: object) -> tuple[str, dict[str, Path]]:
        return wanted[0], {own: path for own, path in wanted[1].items() if Path(own).name != "socket.py"}

    monkeypatch.setattr(install, "_wanted", without_socket)
    with pytest.raises(
        UsageError, match=f"cannot install the hook in {tmp_path}: .*No module named 'socket'"
    ):
        Installed(tmp_path).install()
    assert list(tmp_path.glob("*hook-*")) == []


def program(order: str, loader: str) -> bytes:
    """A program's header, in that byte order, that names its loader."""
    ident = b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02") + bytes(10)
    header = ident + struct.pack(f"{order}HHIQQQIHHHHHH", 3, 0, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    text = f"{loader}\0".encode()
    first = struct.pack(f"{order}IIQQQQQQ", 6, 4, 64, 0, 0, 112, 112, 8)
    return header + first + struct.pack(f"{order}IIQQQQQQ", 3, 4, 176, 0, 0, len(text), 0, 1) + text


@pytest.mark.parametrize(("order", "loader"), [("<", "/lib/ld-linux-aarch64.so.1"), (">", "/lib/ld64.so.1")])
def test_the_loader_is_the_one_in_the_header(tmp_path: Path, order: str, loader: str) -> None:
    (tmp_path / "python").write_bytes(program(order, loader))
    assert install._loader(tmp_path / "python") == Path(loader)


NO_LOADER = {
    "a script": (b"#!/bin/sh\n", "is no 64-bit program"),
    "static": (program("<", "")[:54] + bytes(10), "has no dynamic loader"),
}


@pytest.mark.parametrize("name", NO_LOADER)
def test_a_python_that_cannot_be_copied(tmp_path: Path, name: str) -> None:
    content, problem = NO_LOADER[name]
    (tmp_path / "python").write_bytes(content)
    with pytest.raises(ValueError, match=problem):
        install._loader(tmp_path / "python")
