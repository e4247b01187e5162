"""Where a node keeps its files, and which runtime it gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drakit.errors import UsageError
from drakit.node.choose import choose_runtime
from drakit.node.paths import SOCKET_PATH_LIMIT, NodePaths

LONGEST_DRIVER = "d" * 63


@pytest.mark.parametrize("root", ["/n", "/home/somebody/.local/state/drakit/nodes/node-0", "/x" * 120])
def test_sockets_always_fit(root: str) -> None:
    paths = NodePaths(root)
    for path in (
        paths.plugins_registry / f"{LONGEST_DRIVER}-reg.sock",
        paths.plugins / LONGEST_DRIVER / "dra.sock",
    ):
        assert len(os.fsencode(path)) <= SOCKET_PATH_LIMIT


def test_nodes_do_not_share_sockets() -> None:
    deep = "/x" * 60
    assert NodePaths(f"{deep}/a").plugins != NodePaths(f"{deep}/b").plugins


def test_folders_are_private(tmp_path: Path) -> None:
    paths = NodePaths(tmp_path / "node")
    paths.create()
    paths.create()
    assert paths.plugins.stat().st_mode & 0o777 == 0o700
    paths.remove_sockets()
    assert paths.root.is_dir()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "node").write_text("in the way")
    with pytest.raises(UsageError, match="cannot make the node's folder"):
        NodePaths(tmp_path / "node").create()


@pytest.mark.anyio
async def test_the_runtime_that_was_asked_for(tmp_path: Path) -> None:
    paths = NodePaths(tmp_path)
    assert (await choose_runtime("plain", paths)).info.name == "process"
    with pytest.raises(UsageError, match="unknown runtime 'docker': choose one of oci, cri, process"):
        await choose_runtime("docker", paths)
    paths.remove_sockets()


@pytest.mark.anyio
async def test_without_the_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = NodePaths(tmp_path)
    monkeypatch.setattr("drakit.node.choose.find_programs", lambda: None)
    monkeypatch.setattr("drakit.node.choose.find_bwrap", lambda: None)
    for name in ("oci", "bubblewrap"):
        with pytest.raises(UsageError, match=f"runtime {name} cannot be used"):
            await choose_runtime(name, paths)
    runtime = await choose_runtime(None, paths)
    assert runtime.info.name == "process"
    assert "files" in runtime.info.not_isolated
    paths.remove_sockets()
