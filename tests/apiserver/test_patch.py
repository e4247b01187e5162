"""Patches: what becomes of an object, and which patches are refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from drakit.apiserver.patch import MAX_OPERATIONS, apply_patch
from drakit.apiserver.schema import type_for
from drakit.errors import APIError, BadRequest, Invalid, RequestTooLarge, UnsupportedMediaType
from drakit.transport import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH

POD = type_for("v1", "Pod")
A = {"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}
B = {"name": "b", "image": "y"}
C = {"name": "c", "image": "z"}


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "finalizers": ["f/1"]},
        "spec": {"containers": list(containers), **spec},
    }


STRATEGIC: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        "items are merged by their key",
        pod(A, B),
        {"spec": {"containers": [{"name": "b", "image": "new"}]}},
        pod(A, {"name": "b", "image": "new"}),
    ),
    ("a new item is appended", pod(A), {"spec": {"containers": [B]}}, pod(A, B)),
    (
        "nested lists merge too",
        pod(A),
        {"spec": {"containers": [{"name": "a", "env": [{"name": "F", "value": "2"}]}]}},
        pod({**A, "env": [{"name": "E", "value": "1"}, {"name": "F", "value": "2"}]}),
    ),
    (
        "$patch: delete takes an item out",
        pod(A, B),
        {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}},
        pod(B),
    ),
    (
        "$patch: replace replaces the list",
        pod(A, B),
        {"spec": {"containers": [{"$patch": "replace"}, C]}},
        pod(C),
    ),
    (
        "$patch: replace replaces an object",
        pod(A, nodeSelector={"x": "1"}),
        {"spec": {"securityContext": {"runAsUser": 1, "$patch": "replace"}}},
        pod(A, nodeSelector={"x": "1"}, securityContext={"runAsUser": 1}),
    ),
    (
        "an atomic list is replaced",
        pod({**A, "args": ["1", "2"]}),
        {"spec": {"containers": [{"name": "a", "args": ["3"]}]}},
        pod({**A, "args": ["3"]}),
    ),
    (
        "$setElementOrder orders what it names",
        pod(A, B, C),
        {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}]}},
        pod(C, B, A),
    ),
    (
        "$setElementOrder keeps the others where they were",
        pod(A, B, C),
        {
            "spec": {
                "$setElementOrder/containers": [{"name": "d"}, {"name": "a"}, {"name": "c"}],
                "containers": [{"name": "d"}],
            }
        },
        pod({"name": "d"}, A, B, C) | {"spec": {"containers": [B, {"name": "d"}, A, C]}},
    ),
    (
        "$retainKeys drops the other fields",
        pod(A, volumes=[{"name": "v", "emptyDir": {}}]),
        {
            "spec": {
                "volumes": [{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]
            }
        },
        pod(A, volumes=[{"name": "v", "hostPath": {"path": "/x"}}]),
    ),
    (
        "primitives are united",
        pod(A),
        {"metadata": {"finalizers": ["f/2", "f/1"]}},
        {**pod(A), "metadata": {"name": "p", "finalizers": ["f/1", "f/2"]}},
    ),
    (
        "$deleteFromPrimitiveList takes values out",
        pod(A),
        {"metadata": {"$deleteFromPrimitiveList/finalizers": ["f/1"]}},
        {**pod(A), "metadata": {"name": "p", "finalizers": []}},
    ),
    ("null deletes", pod(A, nodeName="n"), {"spec": {"nodeName": None}}, pod(A)),
    (
        "maps merge key by key",
        pod(A, nodeSelector={"x": "1", "y": "2"}),
        {"spec": {"nodeSelector": {"x": None, "z": "3"}}},
        pod(A, nodeSelector={"y": "2", "z": "3"}),
    ),
]


@pytest.mark.parametrize(
    ("current", "patch", "expected"), [row[1:] for row in STRATEGIC], ids=[r[0] for r in STRATEGIC]
)
def test_strategic_merge_patch(
    current: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]
) -> None:
    before, given = copy.deepcopy(current), copy.deepcopy(patch)
    assert apply_patch(current, patch, STRATEGIC_PATCH, POD) == expected
    assert (current, patch) == (before, given), "the arguments stay as they are"


def test_merge_patch_follows_rfc_7386() -> None:
    current = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    patch = {"a": {"b": None, "c": [3]}, "e": {"f": None, "g": 1}}
    assert apply_patch(current, patch, MERGE_PATCH, None) == {"a": {"c": [3]}, "d": 1, "e": {"g": 1}}
    assert current == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_json_patch_changes_a_copy() -> None:
    current = {"a": [1, 2], "b": {"c": 1}}
    operations = [
        {"op": "add", "path": "/a/1", "value": 9},
        {"op": "remove", "path": "/b/c"},
        {"op": "test", "path": "/a/0", "value": 1},
    ]
    assert apply_patch(current, operations, JSON_PATCH, None) == {"a": [1, 9, 2], "b": {}}
    assert current == {"a": [1, 2], "b": {"c": 1}}


REFUSED: list[tuple[str, Any, str, type[APIError]]] = [
    ("a test that fails", [{"op": "test", "path": "/metadata/name", "value": "zz"}], JSON_PATCH, Invalid),
    ("a path that is not there", [{"op": "remove", "path": "/nothing/here"}], JSON_PATCH, Invalid),
    ("an unknown operation", [{"op": "fly", "path": "/x"}], JSON_PATCH, Invalid),
    ("an operation that is none", ["x"], JSON_PATCH, BadRequest),
    ("an operation without a path", [{"op": "add", "value": 1}], JSON_PATCH, Invalid),
    ("a path that is no text", [{"op": "add", "path": 1}], JSON_PATCH, BadRequest),
    ("no list", {"op": "add"}, JSON_PATCH, BadRequest),
    ("the document replaced by a number", [{"op": "replace", "path": "", "value": 3}], JSON_PATCH, Invalid),
    ("too many operations", [{}] * (MAX_OPERATIONS + 1), JSON_PATCH, RequestTooLarge),
    ("a merge patch that is a list", [], MERGE_PATCH, BadRequest),
    (
        "a strategic item without its key",
        {"spec": {"containers": [{"image": "x"}]}},
        STRATEGIC_PATCH,
        BadRequest,
    ),
    ("a strategic item that is a string", {"spec": {"containers": ["x"]}}, STRATEGIC_PATCH, BadRequest),
    ("an unknown directive", {"spec": {"$patch": "explode"}}, STRATEGIC_PATCH, BadRequest),
    ("an order that is no list", {"spec": {"$setElementOrder/containers": 3}}, STRATEGIC_PATCH, BadRequest),
    ("an unknown format", {}, "application/x-patch", UnsupportedMediaType),
]


@pytest.mark.parametrize(
    ("patch", "format", "error"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused_patches(patch: Any, format: str, error: type[APIError]) -> None:
    with pytest.raises(error):
        apply_patch(pod(A), patch, format, POD)


def test_custom_resources_have_no_strategic_patch() -> None:
    with pytest.raises(UnsupportedMediaType):
        apply_patch({}, {}, STRATEGIC_PATCH, None)
