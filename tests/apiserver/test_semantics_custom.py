"""Custom resources: pruning, defaults and rules of a structural schema."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from drakit.apiserver import custom
from drakit.apiserver.decoding import decode_custom
from drakit.apiserver.kinds import Kind
from drakit.apiserver.strategy import custom_strategy
from drakit.apiserver.structural import schema_rules
from drakit.errors import BadRequest
from tests.apiserver.semantics import Semantics

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 9},
                "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 4},
                "port": {"x-kubernetes-int-or-string": True},
                "note": {"type": "string", "nullable": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "rules": {
                    "type": "array",
                    "maxItems": 2,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            "weight": {"type": "number", "default": 1},
                        },
                    },
                },
                "either": {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            },
        }
    },
}  # fmt: skip


def test_pruning() -> None:
    document = {
        "apiVersion": "x.io/v1",
        "metadata": {"anything": 1},
        "spec": {"size": 1, "zz": 1, "free": {"deep": {"x": 1}}, "labels": {"a": "b"}, "rules": [{"y": 1}]},
    }
    assert custom.prune(document, SCHEMA) == ['unknown field "spec.zz"', 'unknown field "spec.rules[0].y"']
    assert document["spec"] == {"size": 1, "free": {"deep": {"x": 1}}, "labels": {"a": "b"}, "rules": [{}]}
    assert document["metadata"] == {"anything": 1}


def test_defaults_reach_into_lists() -> None:
    document = {"spec": {"size": 1, "rules": [{"name": "a"}, {"name": "b", "weight": 3}]}}
    custom.default(document, SCHEMA)
    assert document["spec"]["color"] == "red"
    assert [rule["weight"] for rule in document["spec"]["rules"]] == [1, 3]


INVALID: list[tuple[Any, ...]] = [
    ({}, "spec.size: Required value"),
    (
        {"size": "x"},
        'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"',
    ),
    ({"size": 0}, "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
    ({"size": 10}, "spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9"),
    ({"size": 1, "color": "pink"}, 'spec.color: Unsupported value: "pink": supported values: "red", "blue"'),
    ({"size": 1, "name": "A"}, "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'"),
    ({"size": 1, "name": "abcde"}, "spec.name: Too long: may not be more than 4 bytes"),
    (
        {"size": 1, "port": []},
        'spec.port: Invalid value: "array": spec.port in body must be of type integer,string: "array"',
    ),
    (
        {"size": 1, "rules": [{"name": "a"}, {"name": "b"}, {"name": "c"}]},
        "spec.rules: Too many: 3: must have at most 2 items",
    ),
    (
        {"size": 1, "rules": ["a"]},
        'spec.rules[0]: Invalid value: "string": spec.rules[0] in body must be of type object: "string"',
        'spec.rules[0]: Invalid value: "a": must be an object for an array of list-type map',
    ),
    ({"size": 1, "rules": [{"name": "a"}, {"name": "a"}]}, 'spec.rules[1]: Duplicate value: {"name":"a"}'),
    (
        {"size": 1, "labels": {"a": 1}},
        'spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer"',
    ),
    (
        {"size": 1, "either": {}},
        '<nil>: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). '
        "Found none valid",
        "spec.either.a: Required value",
    ),
    (
        {"size": 1.5},
        'spec.size: Invalid value: "number": spec.size in body must be of type integer: "number"',
        '<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.size',
    ),
]


@pytest.mark.parametrize(("spec", "texts"), [(spec, texts) for spec, *texts in INVALID])
def test_rules(spec: dict[str, Any], texts: list[str]) -> None:
    document = {"spec": spec}
    before = copy.deepcopy(document)
    assert [str(error) for error in custom.validate(document, SCHEMA)] == texts
    assert document == before


@pytest.mark.parametrize(
    "spec", [{"size": 1, "note": None}, {"size": 9, "port": "80"}, {"size": 2.0, "port": 80}]
)
def test_valid(spec: dict[str, Any]) -> None:
    assert custom.validate({"spec": spec}, SCHEMA) == []


def test_a_pattern_nobody_can_read_is_no_rule() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?<=x)y"}}}
    assert custom.validate({"a": "z"}, schema) == []


def _decode(document: Any, **more: Any) -> Any:
    kind = Kind(
        group="x.io",
        plural="things",
        kind="Thing",
        versions=("v1", "v1beta1"),
        storage_version="v1",
        is_namespaced=True,
        singular="thing",
    )
    return decode_custom(document, kind, "v1beta1", SCHEMA, **more)


def test_decoding() -> None:
    given = {
        "apiVersion": "x.io/v1beta1",
        "kind": "Thing",
        "metadata": {"name": "t", "zz": 1},
        "spec": {"y": 1},
    }
    before = copy.deepcopy(given)
    found = _decode(given)
    assert found.document == {
        "apiVersion": "x.io/v1",
        "kind": "Thing",
        "metadata": {"name": "t"},
        "spec": {"color": "red"},
    }
    assert found.warnings == ['unknown field "metadata.zz"', 'unknown field "spec.y"']
    assert given == before
    with pytest.raises(BadRequest, match="strict decoding error"):
        _decode(given, field_validation="Strict")
    assert _decode(given, field_validation="Ignore").warnings == []


def test_metadata_is_checked_like_any_other() -> None:
    with pytest.raises(
        BadRequest, match=r"cannot unmarshal number into Go struct field ObjectMeta\.metadata\.name"
    ):
        _decode({"metadata": {"name": 1}})


def test_the_strategy_keeps_the_rules() -> None:
    strategy = custom_strategy(SCHEMA, lambda: None, is_namespaced=True, has_status=True)
    context = Semantics().context
    document = {"metadata": {"name": "t", "namespace": "d"}, "spec": {"size": 0}, "status": {"x": 1}}
    strategy.prepare_create(document, context)
    assert "status" not in document
    assert document["metadata"]["generation"] == 1
    assert [error.field for error in strategy.validate_create(document, context)] == ["spec.size"]


SOLE: dict[str, Any] = {"type": "object", "properties": {
    "plain": {"type": "string"},
    "kept": {"type": "string", "nullable": True},
    "filled": {"type": "string", "default": "x"},
    "map": {"type": "object", "additionalProperties": {"type": "string", "default": "y"}},
    "list": {"type": "array", "items": {"type": "integer", "default": 7}},
    "open": {"type": "object", "additionalProperties": True},
}}  # fmt: skip


def test_nulls_go_or_are_filled_in() -> None:
    document = {"plain": None, "kept": None, "filled": None, "map": {"a": None}, "list": [None, 1]}
    custom.default(document, SOLE)
    assert document == {"kept": None, "filled": "x", "map": {"a": "y"}, "list": [7, 1]}


def test_what_is_below_any_property_is_pruned() -> None:
    document = {"open": {"a": {"b": 1}, "c": [{"d": 1}], "e": 1}}
    assert custom.prune(document, SOLE) == ['unknown field "open.a.b"', 'unknown field "open.c[0].d"']
    assert document == {"open": {"a": {}, "c": [{}], "e": 1}}


def test_text_that_is_no_bytes_is_no_fault() -> None:
    schema = {"type": "object", "properties": {"b": {"type": "string", "format": "byte"}}}
    assert len(custom.validate({"b": "\u00e9"}, schema)) == 1


def test_what_alternatives_name_must_be_declared() -> None:
    """At the root alone: upstream does not look for more."""
    named = {"allOf": [{"properties": {"q": {"minimum": 1}}}]}
    below = {"type": "object", "properties": {"a": {"type": "string"}}, **named}
    assert [str(error) for error in schema_rules({**below, "properties": {"b": below}}, "s")] == [
        "s.properties[q]: Required value: because it is defined in s.allOf[0].properties[q]"
    ]
