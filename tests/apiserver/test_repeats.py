"""Fields that a body has twice or that are unknown: what is told, in which order, in every format.
After the cases of upstream's test/integration/apiserver/field_validation_test.go."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from drakit.apiserver.repeats import as_warnings, in_body, in_order
from drakit.transport import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from tests.apiserver.asgi import Reply, request
from tests.apiserver.served import ADMIN, Served

pytestmark = pytest.mark.anyio

MAPS = "/api/v1/namespaces/default/configmaps"
CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
JSON, YAML = "application/json", "application/yaml"

CLASS = """{"metadata": {"name": "d", "name": "d", "odd": 1}, "spec": {"unknown1": 1, "twice": 1, "twice": 2,
"extendedResourceName": "a.example/b", "extendedResourceName": "a.example/b",
"selectors": [{"none": {"x": 1, "x": 2}, "cel": {"expression": "a", "expression": "true"}}]}}"""
CLASS_SAID = [
    'duplicate field "metadata.name"',
    'unknown field "metadata.odd"',
    'unknown field "spec.unknown1"',
    'unknown field "spec.twice"',
    'duplicate field "spec.extendedResourceName"',
    'unknown field "spec.selectors[0].none"',
    'duplicate field "spec.selectors[0].cel.expression"',
]
MANIFEST = """apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: y
  name: d
spec:
  unknown1: 1
  twice: 1
  twice: 2
  selectors:
  - nested: 1
    cel:
      expression: a
      expression: "true"
"""
LINES = [
    'line 5: key "name" already set in map',
    'line 9: key "twice" already set in map',
    'line 14: key "expression" already set in map',
]
UNKNOWN = [
    'unknown field "spec.selectors[0].nested"',
    'unknown field "spec.twice"',
    'unknown field "spec.unknown1"',
]
MERGE = '{"data": {"k": "1", "k": "2"}, "twice": 1, "twice": 2}'
MERGE_SAID = ['duplicate field "data.k"', 'duplicate field "twice"', 'unknown field "twice"']
OPERATIONS = (
    '[{"op": "add", "path": "/data/k", "value": "v", "foo": "bar"},'
    ' {"op": "add", "path": "/data/x", "path": "/data/y", "value": "v"}]'
)
OPERATIONS_SAID = ['json patch unknown field "[0].foo"', 'json patch duplicate field "[1].path"']
APPLIED = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  k: a\n  k: b\n"
APPLIED_SAID = ['line 7: key "k" already set in map']

BODIES = [
    ("POST", CLASSES, JSON, CLASS, CLASS_SAID),
    ("POST", CLASSES, YAML, MANIFEST, LINES + UNKNOWN),
    ("PATCH", f"{MAPS}/m", MERGE_PATCH, MERGE, MERGE_SAID),
    ("PATCH", f"{MAPS}/m", STRATEGIC_PATCH, MERGE, MERGE_SAID),
    ("PATCH", f"{MAPS}/m", JSON_PATCH, OPERATIONS, OPERATIONS_SAID),
    ("PATCH", f"{MAPS}/m", APPLY_PATCH, APPLIED, APPLIED_SAID),
]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with Served(tokens={"secret": ADMIN}) as server:
        await server.ok("POST", MAPS, {"metadata": {"name": "m"}, "data": {"k": "v"}})
        yield server


async def _send(served: Served, method: str, path: str, kind: str, body: str, validation: str) -> Reply:
    query = f"fieldValidation={validation}&fieldManager=m" + ("&force=true" if kind == APPLY_PATCH else "")
    headers = {"content-type": kind}
    return await request(served.api, method, path, body.encode(), headers=headers, query=query.encode())


@pytest.mark.parametrize(("method", "path", "kind", "body", "said"), BODIES)
async def test_repeats_are_told(
    served: Served, method: str, path: str, kind: str, body: str, said: list[str]
) -> None:
    reply = await _send(served, method, path, kind, body, "Warn")
    assert reply.status in (200, 201)
    assert reply.header("warning") == [f"299 - {json.dumps(text)}" for text in said]


@pytest.mark.parametrize(("method", "path", "kind", "body", "said"), BODIES)
async def test_repeats_are_refused(
    served: Served, method: str, path: str, kind: str, body: str, said: list[str]
) -> None:
    reply = await _send(served, method, path, kind, body, "Strict")
    lines = [text for text in said if text.startswith("line ")]
    why = ", ".join(text for text in said if text not in lines)
    if lines:
        why = "".join(["yaml: unmarshal errors:", *(f"\n  {line}" for line in lines)]) + (why and f", {why}")
    before = "strict decoding error: "
    if kind == APPLY_PATCH:
        before = "error strict decoding YAML: error converting YAML to JSON: "
    assert reply.status == (422 if kind in (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH) else 400)
    assert reply.document["message"].endswith(before + why)
    assert reply.header("warning") == []


@pytest.mark.parametrize(("method", "path", "kind", "body", "said"), BODIES)
async def test_repeats_are_ignored(
    served: Served, method: str, path: str, kind: str, body: str, said: list[str]
) -> None:
    reply = await _send(served, method, path, kind, body, "Ignore")
    assert reply.status in (200, 201)
    assert reply.header("warning") == []


PLAIN = [
    (YAML, "a: 1\nb: {a: 1}\nc: [{a: 1}, {a: 2}]\n"),
    (YAML, "a: &x {b: 1}\nc:\n  <<: *x\n  d: 2\n"),
    (YAML, '{"a": "b\\": c", "d": 1}'),
    (MERGE_PATCH, '{"a": "\\": ", "b": {"a": 1}}'),
    (JSON_PATCH, "5"),
    (JSON_PATCH, "[5, null]"),
]


@pytest.mark.parametrize(("kind", "body"), PLAIN)
def test_what_comes_once_is_not_told(kind: str, body: str) -> None:
    document = json.loads(body) if kind != YAML or body[0] == "{" else {}
    assert in_body(body.encode(), document, kind) == []


def test_at_most_a_hundred_are_told() -> None:
    text = "{" + ", ".join(f'"k{number}": 1, "k{number}": 2' for number in range(200)) + "}"
    assert len(in_order(text.encode())) == 100


def test_anchors_that_contain_themselves_end() -> None:
    assert in_body(b"a: &x\n  b: *x\n  b: 1\n", {}, YAML) == [
        'yaml: unmarshal errors:\n  line 3: key "b" already set in map'
    ]


def test_lines_of_yaml_are_warnings_of_their_own() -> None:
    text = "yaml: unmarshal errors:\n  line 1: a\n  line 2: b"
    assert as_warnings([text, "c"]) == ["line 1: a", "line 2: b", "c"]
