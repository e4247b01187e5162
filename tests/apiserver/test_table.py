"""Tables: lengths of time, what a pod comes to, columns of custom resources."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from drakit.apiserver.table import table
from drakit.apiserver.table_columns import COLUMNS
from drakit.apiserver.table_path import find
from drakit.apiserver.table_text import age, human, selector_text

NOW = datetime.datetime(2026, 11, 22, 12, 0, 0, tzinfo=datetime.UTC)
Doc = dict[str, Any]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (3600 * 3 - 1, "179m"),
        (3600 * 3, "3h"),
        (3600 * 5 + 60, "5h1m"),
        (3600 * 8, "8h"),
        (3600 * 47, "47h"),
        (86400 * 2, "2d"),
        (86400 * 3 + 3600, "3d1h"),
        (86400 * 8, "8d"),
        (86400 * 365, "365d"),
        (86400 * 365 * 2, "2y"),
        (86400 * (365 * 2 + 3), "2y3d"),
        (86400 * 365 * 9, "9y"),
    ],
)
def test_lengths_of_time(seconds: int, text: str) -> None:
    assert human(seconds) == text


def test_no_time_is_unknown() -> None:
    assert [age(None, NOW), age("yesterday", NOW), age("2026-11-22T11:59:00Z", NOW)] == [
        "<unknown>",
        "<unknown>",
        "60s",
    ]


def _pod(status: Doc, **spec: Any) -> list[Any]:
    containers = [{"name": "a"}, {"name": "b"}]
    document = {"metadata": {"name": "p"}, "spec": {"containers": containers, **spec}, "status": status}
    cells: list[Any] = table("Pod", [document], now=NOW)["rows"][0]["cells"]
    return cells[1:4]


def _state(name: str, **state: Any) -> Doc:
    return {"name": name, "ready": "running" in state, "restartCount": 0, "state": state}


PODS: list[tuple[str, Doc, Doc, list[Any]]] = [
    ("nothing known", {}, {}, ["0/2", "", "0"]),
    ("pending", {"phase": "Pending"}, {}, ["0/2", "Pending", "0"]),
    (
        "gated",
        {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]},
        {},
        ["0/2", "SchedulingGated", "0"],
    ),
    (
        "running",
        {"phase": "Running", "containerStatuses": [_state("a", running={}), _state("b", running={})]},
        {},
        ["2/2", "Running", "0"],
    ),
    (
        "one waits",
        {
            "phase": "Running",
            "containerStatuses": [_state("a", running={}), _state("b", waiting={"reason": "ErrImagePull"})],
        },
        {},
        ["1/2", "ErrImagePull", "0"],
    ),
    (
        "one has ended, one runs, the pod is not ready",
        {
            "phase": "Running",
            "containerStatuses": [_state("a", terminated={"reason": "Completed"}), _state("b", running={})],
        },
        {},
        ["1/2", "NotReady", "0"],
    ),
    (
        "killed",
        {"phase": "Failed", "containerStatuses": [_state("a", terminated={"signal": 9, "exitCode": 137})]},
        {},
        ["0/2", "Signal:9", "0"],
    ),
    ("evicted", {"phase": "Failed", "reason": "Evicted"}, {}, ["0/2", "Evicted", "0"]),
    (
        "an init container runs",
        {"phase": "Pending", "initContainerStatuses": [_state("i", running={})]},
        {"initContainers": [{"name": "i"}, {"name": "j"}]},
        ["0/2", "Init:0/2", "0"],
    ),
    (
        "an init container failed",
        {"phase": "Pending", "initContainerStatuses": [_state("i", terminated={"exitCode": 3})]},
        {"initContainers": [{"name": "i"}]},
        ["0/2", "Init:ExitCode:3", "0"],
    ),
]


@pytest.mark.parametrize(("status", "spec", "cells"), [row[1:] for row in PODS], ids=[row[0] for row in PODS])
def test_pods(status: Doc, spec: Doc, cells: list[Any]) -> None:
    assert _pod(status, **spec) == cells


def test_restarts_say_when() -> None:
    ended = {"terminated": {"finishedAt": "2026-11-22T11:58:00Z"}}
    status = {
        "phase": "Running",
        "containerStatuses": [{**_state("a", running={}), "restartCount": 2, "lastState": ended}],
    }
    assert _pod(status)[2] == "2 (2m ago)"


def test_deleted_pods_terminate() -> None:
    document = {"metadata": {"name": "p", "deletionTimestamp": "x"}, "status": {"phase": "Running"}}
    assert table("Pod", [document], now=NOW)["rows"][0]["cells"][2] == "Terminating"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ({}, "Running"),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, "Complete"),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, "Failed"),
        ({"conditions": [{"type": "Suspended", "status": "True"}]}, "Suspended"),
        ({"conditions": [{"type": "Complete", "status": "False"}]}, "Running"),
    ],
)
def test_jobs(status: Doc, text: str) -> None:
    document = {"metadata": {"name": "j"}, "spec": {"completions": 3}, "status": {"succeeded": 1, **status}}
    cells = table("Job", [document], group="batch", now=NOW)["rows"][0]["cells"]
    assert cells[:3] == ["j", text, "1/3"]


@pytest.mark.parametrize(("group", "kind"), sorted(COLUMNS))
def test_every_row_fills_its_columns(group: str, kind: str) -> None:
    made = table(kind, [{"metadata": {"name": "x"}}], group=group, now=NOW)
    assert len(made["rows"][0]["cells"]) == len(made["columnDefinitions"])
    assert all(column["description"] for column in made["columnDefinitions"])


def test_what_a_watch_and_includes_leave_out() -> None:
    document = {"metadata": {"name": "c"}, "data": {"a": "b"}}
    bare = table("ConfigMap", [document], now=NOW, with_columns=False, include_object="None")
    assert bare["columnDefinitions"] is None
    assert bare["rows"] == [{"cells": ["c", "1", "<unknown>"], "object": None}]
    full = table("ConfigMap", [document], now=NOW, include_object="Object")
    assert full["rows"][0]["object"] == {"kind": "ConfigMap", "apiVersion": "v1", **document}


COLUMN = {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'}
CUSTOM: Doc = {
    "metadata": {"name": "x", "creationTimestamp": "2026-11-22T11:59:57Z"},
    "spec": {"size": 3, "on": True, "list": ["a", "b"], "a.b": "dotted"},
    "status": {"conditions": [{"type": "Other", "status": "no"}, {"type": "Ready", "status": "True"}]},
}


def test_custom_columns() -> None:
    columns = [
        COLUMN,
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "Missing", "type": "string", "jsonPath": ".spec.nothing"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    made = table("Thing", [CUSTOM], group="x.io", now=NOW, columns=columns)
    assert made["columnDefinitions"][0]["name"] == "Name"
    assert made["rows"][0]["cells"] == ["x", "True", 3, True, None, "3s"]
    plain = table("Thing", [CUSTOM], group="x.io", now=NOW, columns=[])
    assert plain["rows"][0]["cells"] == ["x", "3s"]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (".spec.size", [3]),
        ("{.spec.size}", [3]),
        ("$.spec.list[1]", ["b"]),
        (".spec.list[-1]", ["b"]),
        (".spec.list[9]", []),
        (".spec.list[*]", ["a", "b"]),
        (".spec['a.b']", ["dotted"]),
        (r".spec.a\.b", ["dotted"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".spec[", []),
        ("", [CUSTOM]),
    ],
)
def test_paths(path: str, values: list[Any]) -> None:
    assert find(CUSTOM, path) == values


def test_selectors_as_text() -> None:
    terms = [{"key": "a", "operator": "In", "values": ["2", "1"]}, {"key": "b", "operator": "DoesNotExist"}]
    selector = {"matchLabels": {"z": "1", "y": "2"}, "matchExpressions": terms}
    assert selector_text(selector) == "y=2,z=1,a in (1,2),!b"
    assert selector_text({}) == "<none>"


NEWER: list[tuple[str, str, Doc, list[Any]]] = [
    (
        "apiregistration.k8s.io",
        "APIService",
        {"spec": {}, "status": {"conditions": [{"type": "Available", "status": "True", "reason": "Local"}]}},
        ["x", "Local", "True", "<unknown>"],
    ),
    (
        "apiregistration.k8s.io",
        "APIService",
        {
            "spec": {"service": {"namespace": "a", "name": "b"}},
            "status": {"conditions": [{"type": "Available", "status": "False", "reason": "Why"}]},
        },
        ["x", "a/b", "False (Why)", "<unknown>"],
    ),
    (
        "autoscaling",
        "HorizontalPodAutoscaler",
        {
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "w"},
                "maxReplicas": 5,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}
                ],
            }
        },
        ["x", "Deployment/w", "cpu: <unknown>/80%", "<unset>", 5, 0, "<unknown>"],
    ),
    (
        "certificates.k8s.io",
        "CertificateSigningRequest",
        {
            "spec": {"signerName": "s/t", "username": "u", "expirationSeconds": 3600},
            "status": {"conditions": [{"type": "Approved"}], "certificate": "x"},
        },
        ["x", "<unknown>", "s/t", "u", "60m", "Approved,Issued"],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "FlowSchema",
        {"spec": {"priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": 7}},
        ["x", "p", 7, "<none>", "<unknown>", "?"],
    ),
]


@pytest.mark.parametrize(("group", "kind", "document", "cells"), NEWER)
def test_rows_of_the_kinds_around(group: str, kind: str, document: Doc, cells: list[Any]) -> None:
    made = table(kind, [{"metadata": {"name": "x"}, **document}], group=group, now=NOW)
    assert made["rows"][0]["cells"] == cells
