"""What an API server would refuse of a manifest whatever else there is in its cluster.

Its version must be served, its fields known, their values of the right types; objects of resource.k8s.io must
keep their rules too. What stands where another version has it is told with its fix (`misplaced`), as is a
field whose name is nearly right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from drakit.apiserver.decoding import decode
from drakit.apiserver.kinds import RESOURCE_GROUP, Kind, kinds_for
from drakit.apiserver.schema import Type, type_for
from drakit.apiserver.strategy import Context, strategy_for
from drakit.errors import BadRequest
from drakit.planner.misplaced import Misplaced, misplaced
from drakit.profile import Profile
from drakit.transport import Document

_UNKNOWN = re.compile(r'unknown field "([^"]*)"')
_STRICT = "strict decoding error: "


class Admission:
    """The kinds of a server of `profile`. Documents that are handed in are never changed."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        rows = kinds_for(profile).rows
        self._kinds = {(row.group, row.kind): row for row in rows}

    def read(self, document: Document) -> tuple[Document, list[Misplaced]]:
        """The document as a server keeps it (defaults set, of resource.k8s.io in v1), and what keeps a server
        from reading it: then it is as it was. Kinds that are not built in are taken as they are."""
        group, _, version = str(document.get("apiVersion") or "").rpartition("/")
        kind = self._kinds.get((group, str(document.get("kind"))))
        if not version:
            return document, list(self._unversioned(document))
        if kind is None:
            return document, []
        if problems := list(misplaced(document)) or list(self._unserved(document, kind, version)):
            return document, problems
        try:
            return self._decoded(document, kind, version), []
        except BadRequest as error:
            return document, list(self._told(document, kind, version, error.message))

    def admitted(self, document: Document) -> tuple[Document, list[Misplaced]]:
        """As `read`, and what breaks the rules of resource.k8s.io."""
        kept, problems = self.read(document)
        group = str(kept.get("apiVersion") or "").rpartition("/")[0]
        if problems or group != RESOURCE_GROUP:
            return kept, problems
        context = Context(profile=self._profile, now="", namespace_labels=lambda _: {}, find=lambda *_: None)
        errors = strategy_for(str(kept["kind"]), group).rules.check(kept, None, context)
        return kept, [Misplaced(_owner(kept), error.field, error.message) for error in errors]

    def _unversioned(self, document: Document) -> Iterator[Misplaced]:
        kind = self._kinds.get((RESOURCE_GROUP, str(document.get("kind"))))
        if kind is not None:
            yield Misplaced(_owner(document), "apiVersion", f"missing: write {kind.storage_api_version}")

    def _unserved(self, document: Document, kind: Kind, version: str) -> Iterator[Misplaced]:
        if version not in kind.versions:
            has = ", ".join(kind.api_version(served) for served in kind.versions)
            what = f"{kind.api_version(version)} {kind.kind}"
            text = f"Kubernetes {self._profile.version} does not serve {what}: write {has}"
            yield Misplaced(_owner(document), "apiVersion", text)

    def _decoded(self, document: Document, kind: Kind, version: str) -> Document:
        try:
            copied = msgspec.to_builtins(document, str_keys=True)
        except RecursionError:
            raise BadRequest("it is nested too deeply") from None
        return decode(copied, kind, version, self._profile, field_validation="Strict").document

    def _told(self, document: Document, kind: Kind, version: str, message: str) -> Iterator[Misplaced]:
        """One row for each unknown field, else one for the message."""
        strays = _UNKNOWN.findall(message) if _STRICT in message else []
        for path in strays:
            type_ = type_for(kind.api_version(version), kind.kind, self._profile.version)
            close = difflib.get_close_matches(path.rpartition(".")[2], _fields(type_, path), 1)
            text = "unknown field" + (f": did you mean {close[0]}?" if close else "")
            yield Misplaced(_owner(document), path, text)
        if not strays:
            prefix = f'in version "{version}" cannot be handled as a {kind.kind}: '
            yield Misplaced(_owner(document), "", message.partition(prefix)[2] or message)


def _owner(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    return f"{document.get('kind')} {name}".strip()


def _fields(type_: Type | None, path: str) -> list[str]:
    """The fields of the object that the field at `path` stands in."""
    for step in re.findall(r"[^.\[\]]+|\[[^\]]*\]", path.rpartition(".")[0]):
        if type_ is None:
            break
        type_ = type_.items if step.startswith("[") or type_.shape == "map" else type_.fields.get(step)
    return list(type_.fields) if type_ is not None else []
