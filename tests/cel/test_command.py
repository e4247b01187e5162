from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from drakit import cel
from drakit.cli.cel import command
from drakit.errors import CELError, UsageError

SLICE = """
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: s}
spec:
  driver: gpu.example.com
  pool: {name: node-1, generation: 1, resourceSliceCount: 1}
  nodeName: node-1
  devices:
  - name: gpu-0
    attributes: {productName: {string: A100}, index: {int: 0}, mig: {bool: false},
                 driverVersion: {version: 5.1.0}}
    capacity: {memory: {value: 40Gi}}
  - name: gpu-1
    attributes: {productName: {string: L4}, index: {int: 1}, mig: {bool: false},
                 driverVersion: {version: 5.1.0}, uuid: {string: x}}
    capacity: {memory: {value: 24Gi}}
"""
CLASS = """
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu}
spec: {selectors: [{cel: {expression: "EXPRESSION"}}]}
"""
CLAIM = """
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: c}
spec:
  devices:
    requests:
    - name: r
      exactly:
        deviceClassName: gpu
        selectors: [{cel: {expression: "EXPRESSION"}}]
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


DOCUMENT = {"driver": "a", "attributes": {"x": {"int": 1}}, "capacity": None}


@pytest.mark.parametrize("expression", ["device.driver == 'a'", "device.attributes['a'].x in [1].map(i, i)"])
def test_devices_as_documents(expression: str) -> None:
    selector = cel.compile(expression, version="1.37")
    assert selector.matches(DOCUMENT) is selector.explain(DOCUMENT).value is True
    for ask in (selector.matches, selector.explain):
        with pytest.raises(CELError, match="no device: Expected `object`, got `int`"):
            ask({"attributes": 3})


@pytest.mark.parametrize("line", ["[]", "{}", '{"expression": 1}', "[" * 100_000])
def test_what_is_no_case(line: str) -> None:
    result = CliRunner().invoke(command, ["--cases"], input='\ufeff{"expression": "true"}\n' + line)
    assert json.loads(result.output) == {"match": True, "maxCost": 0, "actualCost": 0}
    assert isinstance(result.exception, UsageError)
    assert "line 2" in str(result.exception)


def test_files_nested_too_deeply(tmp_path: Path) -> None:
    file = tmp_path / "deep.yaml"
    for text in ("[" * 100_000 + "]" * 100_000, "a:\n  " + "- " * 100_000):
        file.write_text(text)
        result = CliRunner().invoke(command, ["check", str(file)])
        assert str(result.exception) == f"{file}: exceeded max depth of 500"


def evaluated(tmp_path: Path, expression: str, *options: str) -> tuple[str, int]:
    file = tmp_path / "slices.yaml"
    file.write_text(SLICE)
    result = CliRunner().invoke(command, ["eval", expression, "--snapshot", str(file), *options])
    text = str(result.exception) if isinstance(result.exception, UsageError) else result.output
    return text, result.exit_code


G = 'device.attributes["gpu.example.com"]'
MISTAKES = {
    # what someone writes first: what they are told
    f'{G}.productname == "A100"': "exists on 0 of 2 devices; did you mean gpu.example.com/productName?",
    f'{G}.memory == "40Gi"': 'did you mean device.capacity["gpu.example.com"].memory?',
    f'{G}.productName = "A100"': "hint: `=` is no operator: to compare, write `==`",
    f'{G}.productName == "a100"': "no device has " + G + ".productName 'a100': did you mean 'A100'?",
    'device.attributes.productName == "A100"': f"hint: the domain is missing: {G}.productName",
    'device.attributes["gpu.example.com/index"] == 1': f"hint: write {G}.index",
    'device.attributes["gpu.example.com/index"].int == 1': f"hint: write {G}.index instead of",
    'attributes["gpu.example.com"].index == 1': "hint: write device.attributes",
    'device.productName == "A100"': f"hint: write {G}.productName",
    f'{G}.index == "1"': f"hint: {G}.index is a number: compare it with one, without quotes",
    f"{G}.productName == 100": f'hint: {G}.productName is text: put quotes around it, "100"',
    f'{G}.mig == "false"': f"write {G}.mig == false, without quotes",
    f'{G}.driverVersion >= "5.0.0"': f'is a version: write {G}.driverVersion.compareTo(semver("5.0.0")) >= 0',
    'device.capacity["gpu.example.com"].memory >= "40Gi"': 'hint: a capacity is compared with quantity()',
    f'{G}.productName.contians("A")': "hint: did you mean contains?",
    'device.driver == "gpu.example.con"': "did you mean 'gpu.example.com'?",
    'device.driver == "gpu.example.com" and true': "hint: write `&&` for `and`",
    "device.driver == \u201cgpu.example.com\u201d": "hint: use straight quotes",
    'device.attributes["gpu.amd.com"].cores == 1': "nothing of gpu.amd.com is published, but",
    f'{G}.uuid == "x"': f'guard it: "uuid" in {G} && ..., or {G}.?uuid.orValue(...)',
    "device.driver == gpu.example.com": "text stands in quotes: 'gpu.example.com'",
    "device.driver": "hint: a selector says yes or no",
}  # fmt: skip


@pytest.mark.parametrize("expression", MISTAKES)
def test_a_beginners_mistakes_are_answered(tmp_path: Path, expression: str) -> None:
    text, code = evaluated(tmp_path, expression)
    assert MISTAKES[expression] in text
    assert code in (1, 2)


def test_eval_says_who_matches(tmp_path: Path) -> None:
    text, code = evaluated(tmp_path, f'{G}.productName == "A100"')
    assert "matches 1 of 2 devices; cost at most 5" in text
    assert code == 0
    assert f"{G}.productName  =>  'L4'" in text
    text, code = evaluated(tmp_path, f'{G}.productName == "A100"', "-o", "json")
    found = json.loads(text)
    assert code == 0
    assert found["maxCost"] == 5
    assert [row["match"] for row in found["rows"]] == [True, False]


def checked(tmp_path: Path, text: str, *options: str) -> tuple[str, int]:
    file = tmp_path / "all.yaml"
    file.write_text(text)
    result = CliRunner().invoke(command, ["check", str(file), *options])
    return result.output + str(result.exception or ""), result.exit_code


def test_check_warns_of_what_would_stop_scheduling(tmp_path: Path) -> None:
    quoted = G.replace('"', "'")
    text, code = checked(tmp_path, SLICE + CLASS.replace("EXPRESSION", f"{quoted}.uuid == 'x'"))
    assert code == 0
    assert "warning: would stop scheduling on gpu.example.com/node-1/gpu-0: no such key: uuid" in text
    text, code = checked(tmp_path, CLASS.replace("EXPRESSION", "nobody"))
    assert code == 1
    assert "1 problem in 1 selector" in text


def test_check_asks_the_class_and_earlier_selectors_first(tmp_path: Path) -> None:
    quoted = G.replace('"', "'")
    guard = CLASS.replace("EXPRESSION", f"has({quoted}.uuid)")
    claim = CLAIM.replace("EXPRESSION", f"{quoted}.uuid == 'x'")
    text, code = checked(tmp_path, SLICE + guard + claim)
    assert code == 0
    assert "warning" not in text
    assert "2 selectors compile; tried on 2 devices" in text


def test_check_says_where_the_fields_of_a_request_belong(tmp_path: Path) -> None:
    claim = CLAIM.replace("EXPRESSION", "true").replace("      exactly:\n        ", "      ")
    text, code = checked(
        tmp_path, SLICE + claim.replace("        selectors", "      selectors"), "-o", "json"
    )
    assert code == 1
    assert "a request has no deviceClassName, selectors: put it under `exactly`" in text


def test_check_refuses_what_is_no_manifest(tmp_path: Path) -> None:
    text, code = checked(tmp_path, "root:x:0:0\n")
    assert code == 1
    assert "all.yaml: 'root:x:0:0' is no Kubernetes object" in text
