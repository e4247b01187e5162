"""Field ownership: server-side apply, and keeping `metadata.managedFields` for every other write.

Each manager owns a set of fields. A plain write (create, update, patch) takes what it adds or changes and
takes it away from whoever owned it. An apply says the whole of what its manager wants: fields of others
that it would change are conflicts (unless forced), fields it applied before but no longer does are removed
unless somebody else owns them too.

Managers of different versions are compared in the version of the request: what can be owned has the same
path in every served version, for lists of requests and devices are owned as a whole.
Source: apimachinery/pkg/util/managedfields, sigs.k8s.io/structured-merge-diff/merge/update.go.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from drakit.apiserver.apply_fields import (
    Fields,
    Path,
    compare,
    fields_of,
    from_fields_v1,
    path_text,
    to_fields_v1,
    with_parents,
)
from drakit.apiserver.apply_merge import merge, remove
from drakit.apiserver.schema import Type
from drakit.errors import BadRequest, Conflict
from drakit.transport import Document

MAX_UPDATE_MANAGERS = 10
"""More entries of plain writers than this are folded into one (capManagersManager)."""
_ANCIENT = "ancient-changes"

_STRIPPED: Fields = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        ("f:metadata",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "generation",
                "managedFields",
                "resourceVersion",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
            )
        ),
    }
)
_ALWAYS_THERE = frozenset(
    {"spec", "status", "metadata", "template", "devices", "strategy", "updateStrategy", "jobTemplate"}
)
"""Structs that Go objects hold by value: an empty one is there before anybody sets it."""


class _Entry(Struct, frozen=True):
    """One entry of managedFields; `written` is how it stands in the store, as long as it is unchanged."""

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

    def text(self) -> str:
        """The manager as conflicts name it."""
        shown = f'"{self.manager}"'
        if self.subresource:
            shown += f' with subresource "{self.subresource}"'
        return f"{shown} using {self.api_version}" if self.operation == "Update" else shown


def _listed(document: Document | None) -> Any:
    return ((document or {}).get("metadata") or {}).get("managedFields")


def _read(document: Document | None, *, is_as_stored: bool) -> list[_Entry]:
    entries = _listed(document)
    if not isinstance(entries, list):
        return []
    return [
        _Entry(
            manager=str(entry.get("manager") or ""),
            operation=str(entry.get("operation") or "Update"),
            api_version=str(entry.get("apiVersion") or ""),
            subresource=str(entry.get("subresource") or ""),
            time=str(entry.get("time") or ""),
            fields=from_fields_v1(entry.get("fieldsV1")),
            written=entry if is_as_stored else None,
        )
        for entry in entries
        if isinstance(entry, dict)
    ]


def _write(document: Document, entries: list[_Entry]) -> None:
    entries = _capped([entry for entry in entries if entry.fields])
    metadata = document["metadata"]
    if not entries:
        metadata.pop("managedFields", None)
        return
    entries.sort(key=lambda e: (e.operation, e.time, e.manager, e.api_version, e.subresource))
    metadata["managedFields"] = [entry.written or _written(entry) for entry in entries]


def _written(entry: _Entry) -> Document:
    return {
        "manager": entry.manager,
        "operation": entry.operation,
        "apiVersion": entry.api_version,
        "time": entry.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": to_fields_v1(entry.fields),
        **({"subresource": entry.subresource} if entry.subresource else {}),
    }


def _capped(entries: list[_Entry]) -> list[_Entry]:
    """Fold the oldest plain writers into one entry per version when there are too many."""
    writers = sorted((e for e in entries if e.operation == "Update"), key=lambda e: e.time)
    excess = len(writers) - MAX_UPDATE_MANAGERS
    if excess <= 0:
        return entries
    ancient: dict[tuple[str, str], _Entry] = {}
    folded = writers[: excess + 1]
    for entry in folded:
        key = (entry.api_version, entry.subresource)
        known = ancient.get(key)
        fields = entry.fields | known.fields if known else entry.fields
        ancient[key] = replace(entry, manager=_ANCIENT, fields=fields, written=None)
    return [entry for entry in entries if entry not in folded] + list(ancient.values())


def _counted(fields: Fields, type_: Type | None, subresource: str) -> Fields:
    """The fields that the endpoint does not ignore: it ignores status on the object, all but status on
    `status`."""
    if subresource == "status":
        return frozenset([path for path in fields if path[0] == "f:status"])
    if type_ is not None and type_.keeps_status:
        return fields
    return frozenset([path for path in fields if path[0] != "f:status"])


def _before(old: Document | None, new: Document, type_: Type | None) -> Document:
    """The object before the write; for a new one, what Go has before anybody sets a field."""
    if old is not None:
        return old
    zero = _zero(new, type_)
    return zero if isinstance(zero, dict) else {}


def _zero(value: Any, type_: Type | None) -> Any:
    if not isinstance(value, dict) or type_ is None or type_.shape != "object" or type_.is_atomic:
        return None
    zero: Document = {}
    for name, item in value.items():
        field = type_.fields.get(name)
        is_inline = name in _ALWAYS_THERE or name in type_.required
        if is_inline and field is not None and field.shape == "object":
            zero[name] = _zero(item, field)
        elif item is None or (not item and name in type_.required):
            zero[name] = item
    return zero


# --- plain writes ---------------------------------------------------------------------------------


def track_managed_fields(
    old: Document | None,
    new: Document,
    *,
    manager: str,
    type_: Type | None,
    api_version: str,
    subresource: str = "",
    now: str,
) -> None:
    """Set `new`'s managedFields after a create, update or patch by `manager`; `old` is None on create.

    Both documents are in `api_version`; only `new["metadata"]` is changed. managedFields that the client
    sent are taken as they are (a list with one empty entry clears them); without any, the old ones stay.
    """
    entries = _read(new, is_as_stored=old is not None and _listed(new) == _listed(old))
    if not entries:
        entries = _read(old, is_as_stored=True)
    elif len(entries) == 1 and not entries[0].fields and not entries[0].manager:
        entries = []
    difference = compare(_bare(_before(old, new, type_)), _bare(new), type_)
    touched = _counted(difference.changed, type_, subresource)
    entries = _disown(entries, touched, _counted(difference.removed, type_, subresource))
    changed = touched - _STRIPPED
    if changed:
        own = _Entry(manager, "Update", api_version, subresource, now, changed)
        known = next((entry for entry in entries if entry.identity == own.identity), None)
        if known is not None:
            entries.remove(known)
            own = replace(own, fields=known.fields | changed)
        entries.append(own)
    _write(new, entries)


def restore_times(old: Document, new: Document) -> None:
    """Give `new` back the managedFields of `old` if only their times differ and all else is the same: a
    write that changes nothing is none. Only `new["metadata"]` is changed; apiVersion and kind do not count.
    """
    before, after = old.get("metadata") or {}, new["metadata"]
    entries, known = after.get("managedFields"), before.get("managedFields")
    if not entries or not known or entries == known:
        return
    if _is_other(before, after, ("managedFields",)) or _is_other(
        old, new, ("metadata", "apiVersion", "kind")
    ):
        return
    timeless = [
        [{k: v for k, v in entry.items() if k != "time"} for entry in rows] for rows in (entries, known)
    ]
    if timeless[0] == timeless[1]:
        after["managedFields"] = known


def _is_other(old: Document, new: Document, apart_from: tuple[str, ...]) -> bool:
    """Whether the two differ in more than the fields `apart_from`."""
    return any(
        key not in old or key not in new or old[key] != new[key]
        for key in old.keys() | new.keys()
        if key not in apart_from
    )


def _disown(entries: list[_Entry], changed: Fields, removed: Fields) -> list[_Entry]:
    """The entries without what somebody else has now set, or what is gone."""
    gone = changed | removed
    return [
        entry if entry.fields.isdisjoint(gone) else replace(entry, fields=entry.fields - gone, written=None)
        for entry in entries
    ]


def _bare(document: Document) -> Document:
    """The document without managedFields, which own nothing and are long."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return document
    return {**document, "metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}


# --- apply ----------------------------------------------------------------------------------------


def server_side_apply(
    live: Document | None,
    applied: Document,
    *,
    manager: str,
    force: bool,
    type_: Type | None,
    api_version: str,
    subresource: str = "",
    now: str,
) -> Document:
    """The object after `manager` applied the configuration `applied` to `live` (None: a new object).

    All documents are in `api_version`; the arguments stay unchanged. The result carries its
    managedFields and has neither been defaulted nor validated. Raises BadRequest for a configuration
    that cannot be applied, Conflict (with one cause per field) if others own what would change.
    """
    check_head(applied, api_version)
    config = _pruned(_bare(applied), type_)
    base: Document = live if live is not None else {"metadata": {}}
    entries = _read(live, is_as_stored=True)
    own = _Entry(manager, "Apply", api_version, subresource, now, frozenset())
    last = next((entry for entry in entries if entry.identity == own.identity), None)
    own = replace(own, fields=_counted(fields_of(config, type_), type_, subresource) - _STRIPPED)
    others = [entry for entry in entries if entry.identity != own.identity]
    merged = merge(_bare(base), config, type_)
    if last is not None:
        merged = _without_unwanted(merged, last, [own, *others], type_)
    difference = compare(_bare(base), merged, type_)
    others = _take_over(others, _counted(difference.changed, type_, subresource), force)
    others = _disown(others, frozenset(), _counted(difference.removed, type_, subresource))
    is_change = bool(difference.changed or difference.removed)
    if last is not None and not is_change and (last.fields, last.api_version) == (own.fields, api_version):
        own = replace(own, time=last.time)
    result: Document = {**merged, "metadata": dict(merged.get("metadata") or {})}
    _write(result, [own, *others])
    return result


def check_head(applied: Document, api_version: str) -> None:
    """Raises BadRequest for a configuration of another version, or one that brings managedFields."""
    given = applied.get("apiVersion") or ""
    if given != api_version:
        text = "Incorrect version specified in apply patch. Specified patch version"
        raise BadRequest(f"{text}: {given}, expected: {api_version}")
    metadata = applied.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise BadRequest("the configuration's metadata is no object")
    if metadata and metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")


def _pruned(value: Any, type_: Type | None) -> Any:
    """The configuration without nulls and without fields that the type does not know."""
    if isinstance(value, dict):
        if type_ is None or type_.shape == "any" or (type_.shape == "object" and not type_.fields):
            return value
        if type_.shape == "map":
            return {key: _pruned(item, type_.items) for key, item in value.items() if item is not None}
        return {
            key: _pruned(item, type_.fields.get(key))
            for key, item in value.items()
            if item is not None and (key in type_.fields or type_.is_preserving)
        }
    if isinstance(value, list) and type_ is not None and type_.shape == "list":
        return [_pruned(item, type_.items) for item in value]
    return value


def _without_unwanted(merged: Document, last: _Entry, entries: list[_Entry], type_: Type | None) -> Document:
    """Take out what this manager applied before and nobody wants now."""
    wanted: Fields = frozenset().union(*(with_parents(entry.fields, type_) for entry in entries))
    prefixes = {path[:length] for path in wanted for length in range(1, len(path) + 1)}
    gone = frozenset(path for path in with_parents(last.fields, type_) if path not in prefixes)
    document: Document = remove(merged, gone, type_)
    return document


def _take_over(others: list[_Entry], changed: Fields, force: bool) -> list[_Entry]:
    """The others' entries without the fields this apply changes. Raises Conflict unless forced."""
    conflicts = [(entry, path) for entry in others for path in sorted(entry.fields & changed)]
    if conflicts and not force:
        raise _conflict(conflicts)
    return _disown(others, changed, frozenset())


def _conflict(conflicts: list[tuple[_Entry, Path]]) -> Conflict:
    conflicts = sorted(conflicts, key=lambda pair: (pair[0].text(), pair[1]))
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
    for name in dict.fromkeys(entry.text() for entry, _ in conflicts):
        lines.append(f"conflicts with {name}:")
        lines += [f"- {path_text(path)}" for entry, path in conflicts if entry.text() == name]
    text = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    return Conflict(text, details={"causes": causes})
