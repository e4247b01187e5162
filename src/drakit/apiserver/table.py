"""Lists as kubectl prints them: a `meta.k8s.io/v1` Table for any kind.

`COLUMNS` (see `table_columns`) is the table of tables: for each kind its columns and a function that
gives the cells of one object. A column's description is a text, or `@path` for what the OpenAPI says about
that field. Custom resources bring `additionalPrinterColumns` instead.
Source: pkg/printers/internalversion/printers.go, apiextensions-apiserver tableconvertor.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from drakit.apiserver.schema import type_for
from drakit.apiserver.table_columns import COLUMNS, Column, Rows
from drakit.apiserver.table_path import find
from drakit.apiserver.table_text import age
from drakit.profile import DEFAULT_VERSION
from drakit.transport import Document

_AGE = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not "
    "guaranteed to be set in happens-before order across separate operations. Clients may not set this "
    "value. It is represented in RFC3339 form and is in UTC.\n\n"
    "Populated by the system. Read-only. Null for lists."
)
_PLAIN: tuple[Column, ...] = (
    Column("Name", "@metadata.name", format="name"),
    Column("Age", "@metadata.creationTimestamp"),
)


def table(
    kind: str,
    objects: Sequence[Document],
    *,
    group: str = "",
    version: str = "v1",
    now: datetime.datetime,
    resource_version: str = "",
    include_object: str = "Metadata",
    columns: Sequence[Mapping[str, Any]] | None = None,
    with_columns: bool = True,
    kubernetes: str = DEFAULT_VERSION,
) -> Document:
    """The Table of `objects`, which are of `kind` in `group`/`version` and stay unchanged.

    `include_object` is Metadata (each row carries its metadata), Object or None. `columns` are a custom
    resource's additionalPrinterColumns. A watch sends the columns with its first event only
    (`with_columns`). Ages count to `now`.
    """
    api_version = f"{group}/{version}" if group else version
    if columns is not None:
        definitions, rows = tuple(_custom_columns(columns)), _custom_rows(columns)
    else:
        known = COLUMNS.get((group, kind))
        definitions = _definitions(api_version, kind, group, kubernetes)
        rows = known.rows if known else _plain_row
    result: Document = {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": resource_version} if resource_version else {},
        "columnDefinitions": list(definitions) if with_columns else None,
        "rows": [],
    }
    for document in objects:
        row: Document = {"cells": rows(document, now)}
        conditions = known_conditions(kind, document) if not group else None
        if conditions:
            row["conditions"] = conditions
        row["object"] = _object(document, kind, api_version, include_object)
        result["rows"].append(row)
    return result


def known_conditions(kind: str, document: Document) -> list[Document] | None:
    """Row conditions: a pod that has come to an end says so."""
    phase = (document.get("status") or {}).get("phase") if kind == "Pod" else None
    if phase == "Succeeded":
        text = "The pod has completed successfully."
        return [{"type": "Completed", "status": "True", "reason": "Succeeded", "message": text}]
    if phase == "Failed":
        text = "The pod failed."
        return [{"type": "Completed", "status": "True", "reason": "Failed", "message": text}]
    return None


def _object(document: Document, kind: str, api_version: str, include: str) -> Document | None:
    if include == "None":
        return None
    if include == "Object":
        return {"kind": kind, "apiVersion": api_version, **document}
    metadata = document.get("metadata") or {}
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}


def _plain_row(document: Document, now: datetime.datetime) -> list[Any]:
    metadata = document.get("metadata") or {}
    return [metadata.get("name", ""), age(metadata.get("creationTimestamp"), now)]


@lru_cache(maxsize=256)
def _definitions(api_version: str, kind: str, group: str, kubernetes: str) -> tuple[Document, ...]:
    known = COLUMNS.get((group, kind))
    shown = known.columns if known else _PLAIN
    return tuple(
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": _described(column.description, api_version, kind, kubernetes),
            "priority": column.priority,
        }
        for column in shown
    )


def _described(text: str, api_version: str, kind: str, kubernetes: str) -> str:
    if not text.startswith("@"):
        return text
    type_ = type_for(api_version, kind, kubernetes) or type_for("v1", "ConfigMap", kubernetes)
    *path, last = text[1:].split(".")
    for name in path:
        type_ = type_.fields.get(name) if type_ is not None else None
    properties: Mapping[str, Any] = type_.source.get("properties") or {} if type_ is not None else {}
    found = properties.get(last) or {}
    return str(found.get("description", ""))


def _custom_columns(columns: Sequence[Mapping[str, Any]]) -> list[Document]:
    name = {"name": "Name", "type": "string", "format": "name", "priority": 0}
    name["description"] = _described("@metadata.name", "v1", "ConfigMap", DEFAULT_VERSION)
    shown: list[Document] = [name]
    if not columns:
        return [*shown, {"name": "Age", "type": "date", "format": "", "description": _AGE, "priority": 0}]
    for column in columns:
        jsonpath = f"Custom resource definition column (in JSONPath format): {column.get('jsonPath', '')}"
        shown.append(
            {
                "name": column.get("name", ""),
                "type": column.get("type", "string"),
                "format": column.get("format", ""),
                "description": column.get("description") or jsonpath,
                "priority": column.get("priority", 0),
            }
        )
    return shown


def _custom_rows(columns: Sequence[Mapping[str, Any]]) -> Rows:
    def row(document: Document, now: datetime.datetime) -> list[Any]:
        if not columns:
            return _plain_row(document, now)
        cells: list[Any] = [(document.get("metadata") or {}).get("name", "")]
        return cells + [_custom_cell(document, column, now) for column in columns]

    return row


def _custom_cell(document: Document, column: Mapping[str, Any], now: datetime.datetime) -> Any:
    values = find(document, str(column.get("jsonPath", "")))
    kind = column.get("type", "string")
    if not values:
        return None
    if kind == "date":
        return age(str(values[0]), now)
    if kind in ("integer", "number", "boolean"):
        wanted = bool if kind == "boolean" else (int, float)
        return values[0] if isinstance(values[0], wanted) else None
    shown = values[0] if len(values) == 1 else values
    if isinstance(shown, bool):
        return "true" if shown else "false"
    return str(shown) if isinstance(shown, str | int | float) else _compact(shown)


def _compact(value: Any) -> str:
    """A list or an object as Go's jsonpath prints it: JSON."""
    return msgspec.json.encode(value).decode()
