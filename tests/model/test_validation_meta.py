"""Rules of metadata that recorded requests do not show, in apimachinery's words."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.model.selector import parse_labels, read_labels
from drakit.model.validation.meta import any_meta
from drakit.model.validation.names import dns_1035_label, dns_label, dns_subdomain

OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an owner without a name": (
        {"ownerReferences": [{**OWNER, "name": ""}]},
        ['metadata.ownerReferences.name: Invalid value: "": must not be empty'],
    ),
    "an owner of no version": (
        {"ownerReferences": [{**OWNER, "apiVersion": "a/b/c"}]},
        ['metadata.ownerReferences.apiVersion: Invalid value: "a/b/c": version must not be empty'],
    ),
    "a manager with a long name": (
        {"managedFields": [{"manager": "m" * 129, "operation": "Apply", "fieldsType": "FieldsV1"}]},
        ["metadata.managedFields[0].manager: Too long: may not be more than 128 bytes"],
    ),
    "a manager that cannot be shown": (
        {"managedFields": [{"manager": "\u00e9\n", "operation": "Update"}]},
        [
            'metadata.managedFields[0].manager: Invalid value: "\u00e9\\n": invalid character U+000A '
            "(at position 2)"
        ],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_metadata(case: tuple[dict[str, Any], list[str]]) -> None:
    meta, errors = case
    assert list(map(str, any_meta({"name": "x", **meta}, False, dns_subdomain))) == errors


def test_two_controllers_are_named_by_kind() -> None:
    owners = [{**OWNER, "controller": True}, {**OWNER, "name": "q", "controller": True}]
    (error,) = any_meta({"name": "x", "ownerReferences": owners}, False, dns_subdomain)
    assert error.message.endswith('Found "true" in references for Pod/p and Pod/q')


def test_what_stands_before_the_dash_of_a_generated_name_is_not_looked_at() -> None:
    assert any_meta({"name": "x", "generateName": "9-"}, False, dns_1035_label) == []


def test_a_label_with_dots() -> None:
    assert dns_label("a.b") == ["must not contain dots"]


@pytest.mark.parametrize(
    "text", ["a=b", "a==b", "a!=b", "a in (b)", "a notin (b)", "a in (b,c)", "a", "!a", "a>1"]
)
def test_selectors_are_shown_as_written(text: str) -> None:
    assert str(parse_labels(text)) == text


def test_a_selector_document_is_shown_as_upstream_shows_it() -> None:
    rows = [{"key": "b", "operator": "In", "values": ["1"]}]
    assert str(read_labels({"matchLabels": {"a": "x"}, "matchExpressions": rows})) == "a=x,b in (1)"
