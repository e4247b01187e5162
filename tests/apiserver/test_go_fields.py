"""What becomes of empty and absent fields: as in Go's structs, whichever way the schema puts it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from drakit.apiserver import compiled
from drakit.apiserver.checker import Checker
from drakit.apiserver.go_fields import zero_of
from drakit.apiserver.schema import type_for

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
