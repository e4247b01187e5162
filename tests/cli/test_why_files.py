"""`dra why -f`: files together, and standard input."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from drakit.cli import dra
from tests.planner.make import busy, snapshot

CLAIM = """
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: c}
spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: mine}}]}}
"""
CLASS = """
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: mine}
"""


def test_files_count_together(tmp_path: Path) -> None:
    (tmp_path / "snapshot").write_bytes(snapshot(**busy()).encode())
    (tmp_path / "class").write_text(CLASS)
    asked = ["why", "-o", "json", "--snapshot", str(tmp_path / "snapshot"), "-f", "-"]
    alone = CliRunner().invoke(dra, asked, input=CLAIM)
    (report,) = json.loads(alone.stdout)
    assert report["hints"] == ["no deviceclass is called mine: there is gpu.nvidia.com"]
    both = CliRunner().invoke(dra, [*asked, "-f", str(tmp_path / "class")], input=CLAIM)
    (report,) = json.loads(both.stdout)
    assert (report["subject"], report["is_pending"]) == ("claim default/c", False)
