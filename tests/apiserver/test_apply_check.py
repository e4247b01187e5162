"""What server-side apply refuses before it merges, and options of writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from drakit.apiserver.apply_check import check_fits
from drakit.apiserver.schema import type_for
from drakit.errors import BadRequest
from drakit.transport import APPLY_PATCH, MERGE_PATCH
from tests.apiserver.served import Served

pytestmark = pytest.mark.anyio

PODS = "/api/v1/namespaces/default/pods"
CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
HEAD = "failed to create typed patch object (/p; /v1, Kind=Pod): "
MERGED = "associative list with keys"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with Served() as server:
        yield server


def container(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", **fields}]}}


REFUSED: list[tuple[Any, str]] = [
    ({"spec": {"foo": 1}}, ".spec.foo: field not declared in schema"),
    (
        {"spec": {"foo": 1, "bar": 1}},
        "errors:\n  .spec.bar: field not declared in schema\n  .spec.foo: field not declared in schema",
    ),
    (container(foo=1), '.spec.containers[name="c"].foo: field not declared in schema'),
    ({"spec": {"containers": {"a": 1}}}, ".spec.containers: expected list, got &{map[a:1]}"),
    ({"spec": []}, ".spec: expected map, got &{[]}"),
    ({"spec": {"hostNetwork": "x"}}, ".spec.hostNetwork: expected boolean, got &{x}"),
    ({"spec": {"priority": "x"}}, ".spec.priority: expected numeric (int or float), got string"),
    (
        {"spec": {"nodeName": 5}},
        ".spec.nodeName: expected string, got &value.valueUnstructured{Value:5}",
    ),
    (
        {"spec": {"containers": [{"name": "c"}, {"name": "c"}]}},
        '.spec.containers: duplicate entries for key [name="c"]',
    ),
    ({"spec": {"containers": ["x"]}}, f".spec.containers: element 0: {MERGED} may not have non-map elements"),
]


@pytest.mark.parametrize(("more", "text"), REFUSED)
async def test_configurations_that_do_not_fit(served: Served, more: Any, text: str) -> None:
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, **more}
    answer = await served.refused("PATCH", f"{PODS}/p", document, content_type=APPLY_PATCH, fieldManager="m")
    assert answer == (400, "BadRequest", HEAD + text)


HEADS = [
    ({}, "Specified patch version: , expected: resource.k8s.io/v1"),
    ({"apiVersion": "v1"}, "Specified patch version: v1, expected: resource.k8s.io/v1"),
]


@pytest.mark.parametrize(("document", "text"), HEADS)
async def test_configurations_of_another_version(served: Served, document: Any, text: str) -> None:
    code, _, message = await served.refused(
        "PATCH", f"{CLASSES}/c", document, content_type=APPLY_PATCH, fieldManager="m"
    )
    assert (code, message) == (400, f"Incorrect version specified in apply patch. {text}")


OPTIONS: list[tuple[str, str, dict[str, str], str]] = [
    ("POST", "", {"fieldManager": "x" * 129}, "fieldManager: Too long: may not be more than 128 bytes"),
    ("POST", "", {"fieldManager": "a\t"}, "invalid character U+0009 (at position 1)"),
    ("PATCH", MERGE_PATCH, {"force": "true"}, "force: Forbidden: may not be specified for non-apply patch"),
    ("PATCH", APPLY_PATCH, {}, "fieldManager: Required value: is required for apply patch"),
    ("PATCH", MERGE_PATCH, {"fieldValidation": "x", "dryRun": "y"}, '[dryRun: Unsupported value: ["y"]'),
    ("PUT", "", {"fieldValidation": "x"}, 'fieldValidation: Unsupported value: "x": supported values: ""'),
]


@pytest.mark.parametrize(("method", "content_type", "query", "text"), OPTIONS)
async def test_options_are_checked_first(
    served: Served, method: str, content_type: str, query: dict[str, str], text: str
) -> None:
    path = CLASSES if method == "POST" else f"{CLASSES}/c"
    kinds = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}
    code, _, message = await served.refused(
        method, path, {}, content_type=content_type or "application/json", **query
    )
    assert (code, text in message) == (422, True), message
    assert message.startswith(f'{kinds[method]}.meta.k8s.io "" is invalid: ')


async def test_names_on_the_way_in(served: Served) -> None:
    made = await served.ok(
        "POST", PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    )
    metadata = made["metadata"]
    for change, text in (
        ({"namespace": "other"}, "the namespace of the provided object does not match the namespace sent"),
        ({"name": ""}, "the name of the object (p based on URL) was undeterminable: name must be provided"),
        ({"name": "q"}, "the name of the object (q) does not match the name on the URL (p)"),
    ):
        code, _, message = await served.refused(
            "PUT", f"{PODS}/p", {**made, "metadata": {**metadata, **change}}
        )
        assert (code, message.startswith(text)) == (400, True), message
    other = {**made, "metadata": {**metadata, "uid": "x"}}
    code, _, message = await served.refused("PUT", f"{PODS}/p", other)
    assert code == 409
    assert (
        "StorageError: invalid object, Code: 4, Key: /registry/pods/default/p, ResourceVersion: 0, "
        in message
    )


def test_items_that_have_no_key() -> None:
    """Most keys are "" where they are left out; the names of an account's secrets are not."""
    applied = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "secrets": [{}]}
    with pytest.raises(BadRequest) as caught:
        check_fits(applied, type_for("v1", "ServiceAccount"))
    assert caught.value.message.endswith(
        f'.secrets: element 0: {MERGED} has an element that omits all key fields ["name"] (and '
        "doesn't have default values for any key fields)"
    )
