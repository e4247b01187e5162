"""What an embedded node says in its plugins folder, and what drivers make of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from drakit.cli.driver_run import command
from drakit.drivers import build
from drakit.errors import UsageError
from drakit.pluginapi.folder import FolderNote, read_note, write_note


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_note(tmp_path) == FolderNote(), "a kubelet writes none"
    note = FolderNote("/data/nodes/node-0/plugins", "0/2")
    write_note(tmp_path, note)
    assert read_note(tmp_path) == note
    assert [path.name for path in tmp_path.iterdir()] == ["node.json"]


def test_a_folder_as_the_host_calls_it() -> None:
    here = Path("/var/lib/kubelet/plugins/gpu.example.com")
    assert FolderNote().of(here) == here
    assert FolderNote("/data/plugins").of(here) == Path("/data/plugins/gpu.example.com")


def test_a_damaged_note(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text('{"share": 1}')
    with pytest.raises(UsageError, match=f"{tmp_path}/node.json: Expected `str`"):
        read_note(tmp_path)


def test_what_there_is_once_is_divided_and_what_is_simulated_is_not() -> None:
    shares = [{device.name: device for device in build("cpu", {}, "n", f"{i}/2").devices()} for i in range(2)]
    cpus = [{device.attributes["cpuID"].int_ for device in share.values()} for share in shares]
    assert not cpus[0] & cpus[1]
    whole = build("memory", {}, "n").devices()[0].capacity["size"].value
    half = build("memory", {}, "n", "1/2").devices()[0].capacity["size"].value
    assert half != whole
    assert len(build("gpu", {"count": "3"}, "n", "1/2").devices()) == 3
    with pytest.raises(UsageError, match="option share: 'x'"):
        build("blockdev", {}, "n", "x")


def test_a_driver_in_a_pod_keeps_to_its_share(tmp_path: Path) -> None:
    write_note(tmp_path, FolderNote(share="2/2"))
    done = CliRunner().invoke(command, ["memory", f"--plugins-dir={tmp_path}"])
    assert str(done.exception) == "driver memory, option share: '2/2' is not INDEX/COUNT, like 0/2 or 1/2"
