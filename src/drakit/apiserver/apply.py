"""Field ownership: server-side apply, and keeping `metadata.managedFields` for every other write.

Each manager owns a set of fields. A plain write (create, update, patch) takes what it adds or changes and
takes it away from whoever owned it. An apply says the whole of what its manager wants: fields of others
that it would change are conflicts (unless forced), fields it applied before but no longer does are removed
unless somebody else owns them too. Of an object that nobody is known to have written, `before-first-apply`
owns everything.

Managers of different versions are compared in the version of the request: what can be owned has the same
path in every served version, for lists of requests and devices are owned as a whole.
Source: apimachinery/pkg/util/managedfields, sigs.k8s.io/structured-merge-diff/merge/update.go.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from drakit.apiserver import apply_managers as managers
from drakit.apiserver.apply_fields import Fields, compare, fields_of, with_parents
from drakit.apiserver.apply_managers import Entry
from drakit.apiserver.apply_merge import merge, remove
from drakit.apiserver.apply_upgrade import allowed_by_last_applied, with_last_applied
from drakit.apiserver.go_fields import zero_of
from drakit.apiserver.schema import Type
from drakit.errors import BadRequest, Conflict
from drakit.transport import Document

_KUBECTL = "kubectl"
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
                "clusterName",
                "generation",
                "managedFields",
                "resourceVersion",
            )
        ),
    }
)


def _without(fields: Fields, ignored: Fields) -> Fields:
    """The fields that are neither in `ignored` nor below one of these."""
    if not ignored:
        return fields
    lengths = {len(path) for path in ignored}
    return frozenset(path for path in fields if not any(path[:length] in ignored for length in lengths))


# --- plain writes ---------------------------------------------------------------------------------


def track_managed_fields(
    old: Document | None,
    new: Document,
    *,
    manager: str,
    type_: Type | None,
    api_version: str,
    subresource: str = "",
    ignored: Fields = frozenset(),
    now: str,
) -> None:
    """Set `new`'s managedFields after a create, update or patch by `manager`; `old` is None on create.

    Both documents are in `api_version`; only `new["metadata"]` is changed. managedFields that the client
    sent are taken as they are, but not on a subresource (a list that is empty or has one empty entry clears
    them); without any, the old ones stay. Whoever owns nothing but `ignored` fields owns nothing. An object
    that had no managers gets none.
    """
    entries = _entries_of(old, new, subresource)
    new["metadata"].pop("managedFields", None)
    if not entries and old is not None and old["metadata"].get("uid"):
        return
    before = old if old is not None else zero_of(type_) if type_ is not None else {}
    own = Entry(manager, "Update", api_version, subresource, now, frozenset())
    managers.write(new, _after_write(entries, before, new, own, type_, ignored))


def _entries_of(old: Document | None, new: Document, subresource: str) -> list[Entry]:
    sent = managers.listed(new)
    if subresource or sent is None:
        return managers.read(old, is_as_stored=True)
    if managers.is_reset(sent):
        return []
    is_same = old is not None and sent == managers.listed(old)
    return managers.read(new, is_as_stored=is_same) or managers.read(old, is_as_stored=True)


def _after_write(
    entries: list[Entry], before: Any, new: Document, own: Entry, type_: Type | None, ignored: Fields
) -> list[Entry]:
    """The entries when `own` has changed `before` into `new`."""
    difference = compare(_bare(before), _bare(new), type_)
    touched = _without(difference.changed, ignored)
    entries = _disown(entries, touched | _without(difference.removed, ignored))
    changed = touched - _STRIPPED
    if changed:
        known = next((entry for entry in entries if entry.identity == own.identity), None)
        if known is not None:
            entries.remove(known)
            changed |= known.fields
        entries.append(replace(own, fields=changed))
    return managers.capped(entries)


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


def _disown(entries: list[Entry], gone: Fields) -> list[Entry]:
    """The entries without what somebody else has now set, or what is gone."""
    return [
        entry if entry.fields.isdisjoint(gone) else replace(entry, fields=entry.fields - gone, written=None)
        for entry in entries
    ]


def _bare(document: Any) -> Document:
    """The document without managedFields, which own nothing and are long."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return dict(document)
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
    ignored: Fields = frozenset(),
    now: str,
) -> Document:
    """The object after `manager` applied the configuration `applied` to `live` (None: a new object).

    All documents are in `api_version`; the arguments stay unchanged. The result carries its
    managedFields and has neither been defaulted nor validated. Raises BadRequest for a configuration
    that cannot be applied, Conflict (with one cause per field) if others own what would change.
    """
    check_head(applied, api_version)
    zero = zero_of(type_) if type_ is not None else {}
    base: Any = live if live is not None else {"metadata": {}, **zero}
    entries = managers.read(live, is_as_stored=True)
    if not entries:
        first = Entry("before-first-apply", "Update", api_version, subresource, now, frozenset())
        entries = _after_write([], zero, base, first, type_, ignored)
    own = Entry(manager, "Apply", api_version, subresource, "", frozenset())
    change = _Change(_bare(base), _bare(applied), own, entries, type_, ignored, now)
    if manager != _KUBECTL:
        return change.result(force=force)
    try:
        result = change.result(force=force)
    except Conflict:
        allowed = allowed_by_last_applied(base, type_, api_version)
        change.pardon(allowed)
        result = change.result(force=True)
    return with_last_applied(result, applied)


class _Change:
    """One configuration about to be applied."""

    def __init__(
        self,
        base: Document,
        config: Document,
        own: Entry,
        entries: list[Entry],
        type_: Type | None,
        ignored: Fields,
        now: str,
    ) -> None:
        last = next((entry for entry in entries if entry.identity == own.identity), None)
        fields = _without(fields_of(config, type_), ignored)
        own = replace(own, fields=fields, time=last.time if last is not None else "")
        others = [entry for entry in entries if entry.identity != own.identity]
        merged = merge(base, config, type_)
        if last is not None:
            merged = _without_unwanted(merged, last, [own, *others], type_)
        difference = compare(base, merged, type_)
        changed = _without(difference.changed, ignored)
        self._conflicts = [(entry, path) for entry in others for path in entry.fields & changed]
        if base != merged:
            own = replace(own, time=now)
        self._entries = [
            replace(own, fields=fields - _STRIPPED),
            *_disown(others, changed | _without(difference.removed, ignored)),
        ]
        self._merged = merged

    def pardon(self, allowed: Fields) -> None:
        """Raises Conflict unless all conflicts are about `allowed` fields."""
        left = [(entry, path) for entry, path in self._conflicts if path not in allowed]
        if left:
            raise managers.conflict(left)

    def result(self, *, force: bool) -> Document:
        """The object afterwards. Raises Conflict if there are conflicts, unless forced."""
        if self._conflicts and not force:
            raise managers.conflict(self._conflicts)
        result: Document = {**self._merged, "metadata": dict(self._merged.get("metadata") or {})}
        managers.write(result, self._entries)
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


def _without_unwanted(merged: Document, last: Entry, entries: list[Entry], type_: Type | None) -> Document:
    """Take out what this manager applied before and nobody wants now.

    As upstream in three steps: what it applied goes with all that is below; what somebody owns comes back;
    and what it has not applied itself comes back as well.
    """
    if last.fields <= entries[0].fields:
        return merged
    before = with_parents(last.fields, type_)
    wanted = with_parents(frozenset().union(*(entry.fields for entry in entries)), type_)
    everything = with_parents(fields_of(merged, type_), type_)
    left = with_parents(fields_of(remove(merged, before, type_), type_), type_)
    left = with_parents(fields_of(remove(merged, everything - left - wanted, type_), type_), type_)
    document: Document = remove(merged, (everything - left) & before, type_)
    return document
