"""What becomes of empty and absent fields: as in Go's structs, whichever way the schema puts it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from drakit.apiserver import compiled
from drakit.apiserver.checker import Checker
from drakit.apiserver.go_fields import zero_of
from drakit.apiserver.repeats import in_order
from drakit.apiserver.schema import type_for
from drakit.errors import BadRequest

Doc = dict[str, Any]

CASES: dict[str, tuple[str, str, Doc, Doc]] = {
    "values go when empty": (
        "v1",
        "Pod",
        {"spec": {"containers": [{"name": "c", "tty": False, "image": ""}], "hostNetwork": False}},
        {"spec": {"containers": [{"name": "c", "resources": {}}]}},
    ),
    "pointers stay": (
        "v1",
        "Pod",
        {"spec": {"containers": [], "hostUsers": False, "priority": 0}},
        {"spec": {"containers": [], "hostUsers": False, "priority": 0}},
    ),
    "a value in v1beta1, a pointer since": (
        "resource.k8s.io/v1beta1",
        "ResourceSlice",
        {"spec": {"driver": "d", "allNodes": False, "nodeName": ""}},
        {"spec": {"driver": "d", "pool": {"name": "", "generation": 0, "resourceSliceCount": 0}}},
    ),
    "times nobody set": (
        "v1",
        "Pod",
        {"spec": {"containers": None}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {
            "spec": {"containers": None},
            "status": {
                "conditions": [
                    {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": None}
                ]
            },
        },
    ),
    "lists nobody set": (
        "resource.k8s.io/v1",
        "ResourceClaim",
        {"spec": {}, "status": {"devices": [{"driver": "d", "pool": "p", "device": "x"}]}},
        {
            "spec": {"devices": {"requests": None}},
            "status": {"devices": [{"driver": "d", "pool": "p", "device": "x", "conditions": None}]},
        },
    ),
    "two Events": (
        "events.k8s.io/v1",
        "Event",
        {"reason": ""},
        {
            "eventTime": None,
            "regarding": {},
            "deprecatedSource": {},
            "deprecatedFirstTimestamp": None,
            "deprecatedLastTimestamp": None,
        },
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_empty_and_absent_as_in_go(case: tuple[str, str, Doc, Doc]) -> None:
    api_version, kind, given, kept = case
    type_ = type_for(api_version, kind)
    assert type_ is not None
    expected = {**zero_of(type_), **kept}
    assert compiled.check(copy.deepcopy(given), type_) == expected
    assert Checker("").check(copy.deepcopy(given), type_) == expected


def test_a_zero_belongs_to_the_document() -> None:
    type_ = type_for("v1", "Pod")
    assert type_ is not None
    compiled.check({}, type_)["spec"]["containers"] = ["changed"]
    assert compiled.check({}, type_)["spec"] == {"containers": None}


WRONG: dict[str, tuple[Doc, str]] = {
    "a named type": (
        {"metadata": {"uid": 1}},
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.uid of type types.UID",
    ),
    "an item of a named type": (
        {"spec": {"containers": [{"securityContext": {"capabilities": {"add": [1]}}}]}},
        "json: cannot unmarshal number into Go struct field "
        "Capabilities.spec.containers.securityContext.capabilities.add of type v1.Capability",
    ),
    "the first of two": (
        {"spec": {"nodeName": 1, "hostNetwork": "x"}},
        "json: cannot unmarshal number into Go struct field PodSpec.spec.nodeName of type string",
    ),
    "what decodes itself before what came first": (
        {"spec": {"nodeName": 1, "overhead": {"cpu": "x"}}},
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_wrong_types_as_go_names_them(case: tuple[Doc, str]) -> None:
    document, text = case
    type_ = type_for("v1", "Pod")
    assert type_ is not None
    with pytest.raises(BadRequest) as caught:
        Checker("").check(document, type_)
    assert caught.value.message == text


def test_bytes_may_be_a_list_of_numbers() -> None:
    type_ = type_for("v1", "Secret")
    assert type_ is not None
    assert Checker("").check({"data": {"a": [104, 105], "b": []}}, type_)["data"] == {"a": "aGk=", "b": ""}


def test_what_is_taken_as_it_is_may_repeat_fields() -> None:
    raw = b'{"spec":{"config":[{"opaque":{"driver":"d","driver":"e","parameters":{"a":1,"a":2}}}]}}'
    found = in_order(raw, (), type_for("resource.k8s.io/v1", "DeviceClass"))
    assert found == ['duplicate field "spec.config[0].opaque.driver"']


def test_a_null_among_items_is_a_zero() -> None:
    type_ = type_for("v1", "Pod")
    assert type_ is not None
    kept = Checker("").check({"spec": {"containers": [None, {"name": "c"}]}}, type_)
    assert kept["spec"]["containers"] == [{"name": "", "resources": {}}, {"name": "c", "resources": {}}]
