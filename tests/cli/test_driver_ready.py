"""`dra driver ready`: the registration socket of a driver, whatever it is called."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from drakit.cli.driver import command
from drakit.pluginapi.sockets import registry_socket

DRIVER, UID = "gpu.example.com", "11111111-1111-1111-1111-111111111111"


@pytest.mark.parametrize("uid", ["", UID])
@pytest.mark.parametrize("length", [30, 60])
def test_ready(uid: str, length: int) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="d" * (length - len("/tmp/") - 8)) as folder:
        path = registry_socket(DRIVER, Path(folder), uid)
        words = ["ready", DRIVER, "--registry-dir", folder, "--pod-uid", uid]
        missing = CliRunner().invoke(command, words)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            found = CliRunner().invoke(command, words)
    assert (missing.exit_code, found.exit_code) == (1, 0)
    assert f"nobody answers at {path}" in str(missing.exception)
    assert found.output == f"{path} is served\n"
    assert (UID in path.name) == (uid == UID and length == 30)
