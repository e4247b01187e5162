from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from drakit.cli.cel import command
from drakit.errors import UsageError

SLICE = """
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: s}
spec:
  driver: gpu.example.com
  pool: {name: node-1, generation: 1, resourceSliceCount: 1}
  nodeName: node-1
  devices:
  - {name: gpu-0, attributes: {productName: {string: A100}}}
  - {name: gpu-1, attributes: {productName: {string: L4}}}
"""
CLASS = """
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu}
spec: {selectors: [{cel: {expression: "EXPRESSION"}}]}
"""


def test_cases_in_results_out() -> None:
    lines = [
        {"expression": "device.driver == 'a'", "device": {"driver": "a"}},
        {"expression": "1", "device": {}},
        {"expression": "device.attributes['a'].x == 1", "device": {"driver": "a"}},
    ]
    result = CliRunner().invoke(command, ["--cases"], input="\n".join(map(json.dumps, lines)))
    assert [json.loads(line) for line in result.output.splitlines()] == [
        {"match": True, "maxCost": 3, "actualCost": 3},
        {"compileError": "must evaluate to bool or the unknown type, not int"},
        {"matchError": "no such key: x", "maxCost": 5, "actualCost": 5},
    ]


def test_eval_shows_devices_values_and_near_misses(tmp_path: Path) -> None:
    file = tmp_path / "slices.yaml"
    file.write_text(SLICE)
    expression = 'device.attributes["gpu.example.com"].productname == "A100"'
    result = CliRunner().invoke(command, ["eval", expression, "--snapshot", str(file)])
    assert result.exit_code == 0
    assert "no such key: productname" in result.output
    assert "exists on 0 of 2 devices; did you mean gpu.example.com/productName?" in result.output


def test_check_warns_of_what_would_stop_scheduling(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(SLICE + CLASS.replace("EXPRESSION", "device.attributes['gpu.example.com'].mig == 1"))
    result = CliRunner().invoke(command, ["check", str(file)])
    assert result.exit_code == 0
    assert "warning: would stop scheduling on gpu.example.com/node-1/gpu-0 and 1 more" in result.output
    file.write_text(CLASS.replace("EXPRESSION", "nobody"))
    with pytest.raises(UsageError, match="1 of 1 selectors do not compile"):
        CliRunner().invoke(command, ["check", str(file)], catch_exceptions=False)
