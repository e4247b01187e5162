"""Compiled types say what the Checker says, or leave it to the Checker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from drakit.apiserver.checker import MAX_DEPTH, Checker, count_keys
from drakit.apiserver.compiled import Odd, check
from drakit.apiserver.schema import Type, type_for
from drakit.errors import BadRequest
from tests.recorded import cases

_SPOILED: list[Any] = [
    None,
    1,
    1.5,
    True,
    "",
    "text",
    [],
    {},
    [None],
    {"a": None},
    1 << 40,
    "2026-02-30T00:00:00Z",
]
_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "labels": {"a": "", "b": "x"},
        "finalizers": ["example.com/x"],
        "creationTimestamp": "2026-11-22T01:33:23Z",
        "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}],
    },
    "spec": {
        "containers": [
            {
                "name": "c",
                "resources": {"requests": {"cpu": "0.1", "memory": "1024Mi"}},
                "ports": [{"containerPort": 80}],
                "env": [{"name": "E", "value": ""}],
                "livenessProbe": {"httpGet": {"port": "http", "path": "/"}},
            }
        ],
        "terminationGracePeriodSeconds": 0,
        "hostNetwork": False,
        "tolerations": [],
        "resourceClaims": [{"name": "r", "resourceClaimName": ""}],
    },
}


def _documents(value: Any) -> list[dict[str, Any]]:
    """The objects of the API that are somewhere in `value`."""
    if isinstance(value, list):
        return [found for item in value for found in _documents(item)]
    if not isinstance(value, dict):
        return []
    own = [value] if isinstance(value.get("kind"), str) and isinstance(value.get("apiVersion"), str) else []
    return own + [found for item in value.values() for found in _documents(item)]


def _agree(document: dict[str, Any], type_: Type) -> bool:
    """Whether the compiled type had an answer; fails if it is another than the Checker's."""
    checker = Checker("")
    before = json.dumps(document)
    try:
        expected = json.dumps(checker.check(document, type_))
    except BadRequest:
        expected = ""
    try:
        got = json.dumps(check(document, type_))
    except Odd:
        return False
    assert got == expected
    assert json.dumps(document) == before
    assert not checker.stray
    assert count_keys(document) == checker.keys
    return True


def test_recorded_objects() -> None:
    rows = cases("api/requests") + cases("api/conversion")
    answered = [
        _agree(document, type_)
        for document in _documents(rows)
        if (type_ := type_for(document["apiVersion"], document["kind"], "1.36")) is not None
    ]
    assert answered.count(True) > 200


def _spots(value: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) in `value`."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [spot for key in keys for spot in [(value, key), *_spots(value[key])]]


@pytest.mark.parametrize("spoiled", _SPOILED, ids=json.dumps)
def test_one_value_replaced(spoiled: Any) -> None:
    type_ = type_for("v1", "Pod")
    assert type_ is not None
    assert _agree(_POD, type_)
    answered = 0
    for index in range(len(_spots(_POD))):
        document = json.loads(json.dumps(_POD))
        holder, key = _spots(document)[index]
        holder[key] = spoiled
        answered += _agree(document, type_)
    assert 0 < answered < len(_spots(_POD))


def test_unknown_fields_are_left_to_the_checker() -> None:
    type_ = type_for("v1", "Pod")
    assert type_ is not None
    assert not _agree({**_POD, "extra": 1}, type_)
    assert not _agree({**_POD, "spec": {**_POD["spec"], "nodename": ""}}, type_)  # type: ignore[dict-item]


def test_depth() -> None:
    type_ = type_for("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    assert type_ is not None
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(MAX_DEPTH):
        schema = {"type": "object", "not": schema}
    versions = [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]
    assert not _agree({"spec": {"versions": versions}}, type_)
    versions = [{"name": "v1", "schema": {"openAPIV3Schema": schema["not"]["not"]["not"]["not"]["not"]}}]
    assert _agree({"spec": {"versions": versions}}, type_)
