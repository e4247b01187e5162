"""The entries of `metadata.managedFields`: reading, writing, folding and naming them.

Source: apimachinery/pkg/util/managedfields/internal (managedfields.go, capmanagers.go, conflict.go).
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from drakit.apiserver.apply_fields import (
    Fields,
    Path,
    from_fields_v1,
    path_text,
    reading_order,
    to_fields_v1,
)
from drakit.errors import Conflict
from drakit.transport import Document

MAX_UPDATE_MANAGERS = 10
"""More entries of plain writers than this are folded together."""
_ANCIENT = "ancient-changes"


class Entry(Struct, frozen=True):
    """One entry of managedFields; `written` is how it stands in the store, as long as it is unchanged.

    `time` is "" for an applier that has never changed anything."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: Fields
    written: Document | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """An applier is the same in every version, a writer is not."""
        version = "" if self.operation == "Apply" else self.api_version
        return (self.operation, self.manager, version, self.subresource)

    @property
    def order(self) -> str:
        """What upstream sorts managers by: their identity as JSON."""
        names = ("manager", "operation", "apiVersion", "subresource")
        operation, manager, version, subresource = self.identity
        values = zip(names, (manager, operation, version, subresource), strict=True)
        return json.dumps({name: value for name, value in values if value}, separators=(",", ":"))

    def text(self) -> str:
        """The manager as conflicts name it."""
        shown = f'"{self.manager}"'
        if self.subresource:
            shown += f' with subresource "{self.subresource}"'
        return f"{shown} using {self.api_version}" if self.operation == "Update" else shown


def listed(document: Document | None) -> Any:
    """The managedFields of a document as they stand there."""
    return ((document or {}).get("metadata") or {}).get("managedFields")


def is_reset(entries: Any) -> bool:
    """Whether managedFields that a client sent say that nobody is to own anything."""
    return isinstance(entries, list) and entries in ([], [{}])


def read(document: Document | None, *, is_as_stored: bool) -> list[Entry]:
    """The entries of a document; none if there is one that means nothing."""
    entries = listed(document)
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        return []
    found = [
        Entry(
            manager=str(entry.get("manager") or ""),
            operation=str(entry["operation"]),
            api_version=str(entry["apiVersion"]),
            subresource=str(entry.get("subresource") or ""),
            time=str(entry.get("time") or ""),
            fields=from_fields_v1(entry.get("fieldsV1")),
            written=entry if is_as_stored else None,
        )
        for entry in entries
    ]
    return list({entry.identity: entry for entry in found}.values())


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("operation") in ("Apply", "Update")
        and bool(entry.get("apiVersion"))
        and entry.get("fieldsType") == "FieldsV1"
    )


def write(document: Document, entries: list[Entry]) -> None:
    """Set the managedFields of `document`."""
    entries = [entry for entry in entries if entry.fields]
    metadata = document["metadata"]
    if not entries:
        metadata.pop("managedFields", None)
        return
    entries.sort(key=lambda e: (e.operation, e.time, e.manager, e.api_version, e.subresource))
    metadata["managedFields"] = [entry.written or _written(entry) for entry in entries]


def _written(entry: Entry) -> Document:
    return {
        "manager": entry.manager,
        "operation": entry.operation,
        "apiVersion": entry.api_version,
        **({"time": entry.time} if entry.time else {}),
        "fieldsType": "FieldsV1",
        "fieldsV1": to_fields_v1(entry.fields),
        **({"subresource": entry.subresource} if entry.subresource else {}),
    }


def capped(entries: list[Entry]) -> list[Entry]:
    """Fold the oldest plain writers of each version into one when there are too many writers. The first of a
    version keeps its name until a second one joins it."""
    entries = [entry for entry in entries if entry.fields]
    writers = sorted((e for e in entries if e.operation == "Update"), key=lambda e: (e.time, e.order))
    left = len(writers)
    first: dict[str, Entry] = {}
    kept = {entry.identity: entry for entry in entries}
    for entry in writers:
        if left <= MAX_UPDATE_MANAGERS:
            break
        version = entry.api_version
        if version not in first:
            first[version] = entry
            continue
        bucket = Entry(_ANCIENT, "Update", version, "", entry.time, entry.fields)
        joined = kept.get(bucket.identity) or kept.pop(first[version].identity)
        del kept[entry.identity]
        kept[bucket.identity] = replace(bucket, fields=bucket.fields | joined.fields)
        left -= 1
    return list(kept.values())


def conflict(conflicts: list[tuple[Entry, Path]]) -> Conflict:
    """The refusal of an apply that would change what others own."""
    conflicts = sorted(conflicts, key=lambda pair: (pair[0].order, reading_order(pair[1])))
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {entry.text()}",
            "field": path_text(path),
        }
        for entry, path in conflicts
    ]
    if len(conflicts) == 1:
        entry, path = conflicts[0]
        text = f"Apply failed with 1 conflict: conflict with {entry.text()}: {path_text(path)}"
        return Conflict(text, details={"causes": causes})
    lines: list[str] = []
    for found in {entry.order: entry for entry, _ in conflicts}.values():
        lines.append(f"conflicts with {found.text()}:")
        lines += [f"- {path_text(path)}" for entry, path in conflicts if entry.order == found.order]
    text = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    return Conflict(text, details={"causes": causes})
