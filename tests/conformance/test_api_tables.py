"""The Tables a real API server made of real objects."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from drakit.apiserver.table import table
from drakit.apiserver.view import partial
from tests.recorded import cases

RECORDED = cases("api/tables")
CASES = [row for row in RECORDED if row["table"]["kind"] == "Table"]
LISTED = {(row["name"]): row["objects"]["items"] for row in CASES if row["objects"]}


def _objects(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of the case, or those of the list that the Table is about."""
    if case["objects"]:
        return list(case["objects"]["items"])
    return LISTED["resourceclaims"][: len(case["table"]["rows"])]


def _moment(objects: list[dict[str, Any]], rows: list[dict[str, Any]]) -> datetime.datetime:
    """The time of the recording: the first object's creation plus the age its row shows."""
    for document, row in zip(objects, rows, strict=True):
        ages = [
            cell for cell in row["cells"] if isinstance(cell, str) and cell[:-1].isdigit() and cell[-1] == "s"
        ]
        if ages:
            created = datetime.datetime.fromisoformat(document["metadata"]["creationTimestamp"])
            return created + datetime.timedelta(seconds=int(ages[-1][:-1]))
    return datetime.datetime.now(datetime.UTC)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_table_as_recorded(case: dict[str, Any]) -> None:
    expected, objects = case["table"], _objects(case)
    first = case["objects"] or {"kind": "ResourceClaimList", "apiVersion": "resource.k8s.io/v1"}
    group, _, version = first["apiVersion"].rpartition("/")
    shown = [row["object"] for row in expected["rows"]]
    include = "Metadata" if not shown or shown[0] else "None"
    if shown and shown[0] and shown[0]["kind"] != "PartialObjectMetadata":
        include = "Object"
    made = table(
        first["kind"].removesuffix("List"),
        objects,
        group=group,
        version=version,
        now=_moment(objects, expected["rows"]),
        resource_version=expected["metadata"]["resourceVersion"],
        include_object=include,
        kubernetes="1.36",
    )
    assert made["columnDefinitions"] == expected["columnDefinitions"]
    assert made["rows"] == expected["rows"]
    assert made["metadata"]["resourceVersion"] == expected["metadata"]["resourceVersion"]


def test_metadata_only_list_as_recorded() -> None:
    case = next(row for row in RECORDED if row["table"]["kind"] == "PartialObjectMetadataList")
    assert [partial(document) for document in LISTED["resourceclaims"]] == [
        {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", **item}
        for item in case["table"]["items"]
    ]
