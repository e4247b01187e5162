"""Patches whose outcome is no object of the kind: what the client is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from drakit.apiserver.patch_refusal import go_text
from drakit.transport import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from tests.apiserver.served import Served, pod

pytestmark = pytest.mark.anyio

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with Served() as server:
        await server.ok("POST", PODS, pod("p", labels={}))
        yield server


SHOWN = [
    ({"b": 1, "a": [True, None, "x y"]}, "map[a:[true <nil> x y] b:1]"),
    ({"f": 1.5, "m": {}}, "map[f:1.5 m:map[]]"),
]


@pytest.mark.parametrize(("value", "text"), SHOWN)
def test_go_prints_maps(value: Any, text: str) -> None:
    assert go_text(value) == text


STRATEGIC = [
    ({"spec": {"foo": 1}}, 'strict decoding error: unknown field "spec.foo"'),
    ({"spec": "x"}, "cannot restore struct from: string"),
    ({"metadata": {"labels": []}}, "cannot restore map from slice"),
    ({"spec": {"activeDeadlineSeconds": "x"}}, "cannot convert string to int64"),
    ({"spec": {"nodeName": 5}}, "cannot convert int64 to string"),
]


@pytest.mark.parametrize(("patch", "why"), STRATEGIC)
async def test_strategic_merge_patches_are_shown_as_maps(served: Served, patch: Any, why: str) -> None:
    answer = await served.refused(
        "PATCH", f"{PODS}/p", patch, content_type=STRATEGIC_PATCH, fieldValidation="Strict"
    )
    assert answer == (422, "Invalid", f' "" is invalid: patch: Invalid value: "{go_text(patch)}": {why}')


OTHERS: list[tuple[str, Any]] = [
    (MERGE_PATCH, {"spec": {"foo": 1}}),
    (JSON_PATCH, [{"op": "add", "path": "/spec/foo", "value": 1}]),
]


@pytest.mark.parametrize(("content_type", "patch"), OTHERS)
async def test_other_patches_are_shown_by_their_outcome(
    served: Served, content_type: str, patch: Any
) -> None:
    path = f"{PODS}/p"
    code, _, text = await served.refused(
        "PATCH", path, patch, content_type=content_type, fieldValidation="Strict"
    )
    assert (code, text.startswith(r' "" is invalid: patch: Invalid value: "{\"apiVersion\":\"v1\",')) == (
        422,
        True,
    )
    assert r"\"foo\":1," in text
    assert text.endswith('": strict decoding error: unknown field "spec.foo"')
    await served.ok("PATCH", path, patch, content_type=content_type)


FORMATS = [
    (
        JSON_PATCH,
        {},
        "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
    ),
    (
        MERGE_PATCH,
        [],
        "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
    ),
    (STRATEGIC_PATCH, [], "json: cannot unmarshal array into Go value of type map[string]interface {}"),
]


@pytest.mark.parametrize(("content_type", "patch", "text"), FORMATS)
async def test_patches_of_the_wrong_shape(served: Served, content_type: str, patch: Any, text: str) -> None:
    answer = await served.refused("PATCH", f"{PODS}/p", patch, content_type=content_type)
    assert answer == (400, "BadRequest", text)
