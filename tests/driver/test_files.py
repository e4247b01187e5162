"""The checkpoint and the CDI files on disk."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import pytest

from drakit.driver.cdi import CDIFiles
from drakit.driver.checkpoint import Checkpoint, write_file
from drakit.driver.claim import PreparedClaim, PreparedDevice
from drakit.errors import RecoverableError, UsageError
from drakit.model import cdi

LAMP = PreparedDevice(
    request="main/sub", pool="n", name="lamp-0", edits=cdi.ContainerEdits(env=["A=b"]), state={"x": [1]}
)
CLAIM = PreparedClaim(namespace="default", name="light", uid="u-1", is_complete=True, devices=[LAMP])


def test_checkpoint_survives(tmp_path: Path) -> None:
    path = tmp_path / "driver" / "checkpoint.json"
    checkpoint = Checkpoint(path)
    checkpoint.refresh()
    view = checkpoint.claims
    checkpoint.put(CLAIM)
    assert dict(view) == {"u-1": CLAIM}
    again = Checkpoint(path)
    again.refresh()
    assert dict(again.claims) == {"u-1": CLAIM}
    again.drop("u-1")
    checkpoint.refresh()
    assert dict(view) == {}
    assert os.listdir(path.parent) == ["checkpoint.json"]


def test_damaged_checkpoint_of_this_boot_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    path.write_text('{"version": 1, "claims": {"u')
    with pytest.raises(UsageError, match=r"checkpoint .*checkpoint\.json cannot be read"):
        Checkpoint(path).refresh()
    assert path.exists()


def test_damaged_checkpoint_of_an_earlier_boot_is_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.json"
    path.write_text("")
    os.utime(path, (0, 0))
    checkpoint = Checkpoint(path)
    with caplog.at_level(logging.ERROR):
        checkpoint.refresh()
    assert dict(checkpoint.claims) == {}
    assert (tmp_path / "checkpoint.damaged").exists()
    assert "damaged, starting empty" in caplog.text


def test_checkpoint_of_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    path.write_text(json.dumps({"version": 2, "claims": {}}))
    with pytest.raises(UsageError, match="newer drakit"):
        Checkpoint(path).refresh()


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    checkpoint = Checkpoint(path)
    checkpoint.put(CLAIM)
    before = path.read_bytes()
    path.unlink()
    path.mkdir()
    with pytest.raises(RecoverableError, match="cannot write"):
        checkpoint.drop("u-1")
    assert list(checkpoint.claims) == ["u-1"]
    assert os.listdir(tmp_path) == ["checkpoint.json"]
    assert before


def test_full_disk() -> None:
    with pytest.raises(RecoverableError, match="cannot write /dev/full/x"):
        write_file(Path("/dev/full/x"), b"x")


def test_cdi_files(tmp_path: Path) -> None:
    files = CDIFiles(tmp_path / "cdi", "lamp.example.com")
    bare = PreparedDevice(request="r", pool="n", name="lamp-1", cdi_device_ids=["a/b=c"])
    named = files.write("u-1", [LAMP, bare])
    assert [device.cdi_device_ids for device in named] == [
        ["k8s.lamp.example.com/claim=u-1-main.sub-lamp-0"],
        ["a/b=c"],
    ]
    (path,) = (tmp_path / "cdi").iterdir()
    assert path.name == "k8s.lamp.example.com-claim_u-1.json"
    spec = cdi.decode(path.read_bytes(), str(path))
    assert (spec.cdi_version, spec.kind) == ("0.5.0", "k8s.lamp.example.com/claim")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    registry = cdi.Registry([cdi.SpecFile(str(path), 0, spec)])
    assert registry.resolve(named[0].cdi_device_ids).env == ["A=b"]
    assert files.write("u-1", named) == named
    (tmp_path / "cdi" / ".k8s.lamp.example.com-claim_u-2.json.new").write_text("half")
    (tmp_path / "cdi" / "k8s.other-claim_u-1.json").write_text("{}")
    files.keep(["u-1"])
    assert files.has("u-1")
    files.keep([])
    files.remove("u-1")
    assert os.listdir(tmp_path / "cdi") == ["k8s.other-claim_u-1.json"]


def test_claim_without_edits_has_no_file(tmp_path: Path) -> None:
    files = CDIFiles(tmp_path / "cdi", "lamp.example.com")
    files.write("u-1", [PreparedDevice(request="r", pool="n", name="lamp-1")])
    assert not (tmp_path / "cdi").exists()


def test_shares_of_one_device_have_names_of_their_own(tmp_path: Path) -> None:
    files = CDIFiles(tmp_path / "cdi", "lamp.example.com")
    shares = [
        PreparedDevice(request="r", pool="n", name="lamp-0", share_id=share, edits=LAMP.edits)
        for share in ("s1", "s2")
    ]
    names = [device.cdi_device_ids for device in files.write("u-1", shares)]
    assert names[0] != names[1]
    with pytest.raises(cdi.CDIError, match="env"):
        files.write(
            "u-2", [PreparedDevice(request="r", pool="n", name="x", edits=cdi.ContainerEdits(env=["="]))]
        )
