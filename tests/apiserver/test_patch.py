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
    ("a new item comes first", pod(A), {"spec": {"containers": [B]}}, pod(B, A)),
    (
        "nested lists merge too",
        pod(A),
        {"spec": {"containers": [{"name": "a", "env": [{"name": "F", "value": "2"}]}]}},
        pod({**A, "env": [{"name": "F", "value": "2"}, {"name": "E", "value": "1"}]}),
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
        pod(A, nodeSelector={"x": "1"}, securityContext={"runAsGroup": 2}),
        {"spec": {"securityContext": {"runAsUser": 1, "$patch": "replace"}}},
        pod(A, nodeSelector={"x": "1"}, securityContext={"runAsUser": 1}),
    ),
    (
        "an object with $patch that was not there is nothing",
        pod(A),
        {"spec": {"securityContext": {"runAsUser": 1, "$patch": "replace"}}},
        pod(A),
    ),
    (
        "nulls of what was not there go, in lists too",
        pod(A),
        {"spec": {"securityContext": {"runAsUser": None}, "hostAliases": [{"ip": "i", "hostnames": None}]}},
        pod(A, securityContext={}, hostAliases=[{"ip": "i"}]),
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
        pod({"name": "d"}, A, B, C),
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
        {**pod(A), "metadata": {"name": "p", "finalizers": ["f/2", "f/1"]}},
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


LENIENT: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "replace what is not there": ([{"op": "replace", "path": "/x", "value": 1}], {"a": [1, 2], "x": 1}),
    "no value is null": ([{"op": "add", "path": "/a/-"}], {"a": [1, 2, None]}),
    "indices from the end": ([{"op": "remove", "path": "/a/-2"}], {"a": [2]}),
    "an index with a zero before it": ([{"op": "remove", "path": "/a/01"}], {"a": [1]}),
    "before the first slash": ([{"op": "remove", "path": "b/a"}], {}),
    "nothing is null": ([{"op": "test", "path": "/x", "value": None}], {"a": [1, 2]}),
    "copied nothing": ([{"op": "copy", "from": "/x", "path": "/y"}], {"a": [1, 2], "y": None}),
    "by no document": ([{"op": "replace", "path": "", "value": 3}], {"a": [1, 2]}),
}


@pytest.mark.parametrize("case", LENIENT.values(), ids=LENIENT)
def test_json_patch_takes_more_than_the_standard(case: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
    operations, expected = case
    assert apply_patch({"a": [1, 2]}, operations, JSON_PATCH, None) == expected


@pytest.mark.parametrize("value", [1.0, True, "1"])
def test_a_json_patch_tells_numbers_apart(value: Any) -> None:
    with pytest.raises(Invalid):
        apply_patch({"a": 1}, [{"op": "test", "path": "/a", "value": value}], JSON_PATCH, None)


def test_what_json_patches_copy_is_bounded() -> None:
    operations = [{"op": "copy", "from": "/a", "path": "/b"}] * 4
    with pytest.raises(Invalid):
        apply_patch({"a": "x" * (1 << 20)}, operations, JSON_PATCH, None)


def test_merge_patch_drops_nulls_where_nothing_was() -> None:
    patch = {"a": {"b": None}, "c": [{"d": None}], "e": [{"f": None}]}
    current = {"a": 1, "e": {"g": 1}}
    assert apply_patch(current, patch, MERGE_PATCH, None) == {"a": {}, "c": [{}], "e": [{"f": None}]}


SAID: dict[str, tuple[Any, str]] = {
    "directive": (
        {"$patch": "explode", "a": 1},
        "unknown patch type: explode in map: map[$patch:explode a:1]",
    ),
    "a number": ({"spec": {"$patch": 1}}, "unknown patch type: %!s(int64=1) in map: map[$patch:1]"),
    "key": ({"containers": [{"image": "x"}]}, "map: map[image:x] does not contain declared merge key: name"),
    "types": (
        {"containers": ["x"]},
        "list element types are not identical: [[map[env:[map[name:E value:1]] image:x name:a]] [x]]",
    ),
    "retained": ({"a": 1, "$retainKeys": ["b"]}, "invalid patch format of retainKeys"),
    "order": (
        {"containers": [C, B], "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}]},
        "The order in patch list:\n[map[image:z name:c] map[image:y name:b]]\n doesn't match "
        "$setElementOrder list:\n[map[name:b] map[name:c]]\n",
    ),
    "no field": (
        {"$setElementOrder/colours": []},
        'unable to find api field in struct PodSpec for the json field "colours"',
    ),
    "no list": ({"$setElementOrder/nodeName": []}, "expected slice or array type, but got: struct"),
}


@pytest.mark.parametrize("case", SAID.values(), ids=SAID)
def test_what_is_said_about_strategic_patches(case: tuple[Any, str]) -> None:
    spec, text = case
    with pytest.raises(BadRequest) as caught:
        apply_patch(pod(A), spec if "spec" in spec else {"spec": spec}, STRATEGIC_PATCH, POD)
    assert caught.value.message == text


REFUSED: list[tuple[str, Any, str, type[APIError]]] = [
    ("a test that fails", [{"op": "test", "path": "/metadata/name", "value": "zz"}], JSON_PATCH, Invalid),
    ("a path that is not there", [{"op": "remove", "path": "/nothing/here"}], JSON_PATCH, Invalid),
    ("an unknown operation", [{"op": "fly", "path": "/x"}], JSON_PATCH, Invalid),
    ("an operation that is none", ["x"], JSON_PATCH, BadRequest),
    ("an operation without a path", [{"op": "add", "value": 1}], JSON_PATCH, Invalid),
    ("a path that is no text", [{"op": "add", "path": 1}], JSON_PATCH, BadRequest),
    ("no list", {"op": "add"}, JSON_PATCH, BadRequest),
    ("the document replaced by nothing", [{"op": "replace", "path": ""}], JSON_PATCH, Invalid),
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
