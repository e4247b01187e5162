"""In which shape a client wants its answer, and the answer in that shape.

An object is stored as JSON without apiVersion and kind; these are the collection's business. So an
answer in the storage version is stored bytes behind a fixed beginning, and a list is the bytes of its
items with commas in between: nothing is decoded. Other versions, Tables and metadata-only answers are
made from decoded documents.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

import msgspec
import yaml
from msgspec import Struct

from drakit.apiserver import events
from drakit.apiserver.decoding import encode
from drakit.apiserver.route import Target
from drakit.apiserver.table import table
from drakit.errors import NotAcceptable
from drakit.store import Entry
from drakit.transport import Document

Shape = Literal["object", "table", "metadata"]
JSON = "application/json"
_SHAPES: dict[str, Shape] = {
    "": "object",
    "Table": "table",
    "PartialObjectMetadata": "metadata",
    "PartialObjectMetadataList": "metadata",
}


class View(Struct, frozen=True):
    """`include_object` matters to Tables: Metadata (the default), Object or None."""

    shape: Shape = "object"
    is_yaml: bool = False
    include_object: str = "Metadata"
    asked: str = ""

    @property
    def content_type(self) -> str:
        return "application/yaml" if self.is_yaml else JSON


def accepted(header: str) -> list[tuple[str, dict[str, str]]]:
    """The media ranges of an Accept header with their parameters, the preferred first."""
    ranges: list[tuple[float, str, dict[str, str]]] = []
    for part in (header or "*/*").split(","):
        name, *rest = [word.strip() for word in part.split(";")]
        parameters = dict(word.partition("=")[::2] for word in rest if "=" in word)
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        ranges.append((quality, name.lower(), parameters))
    ranges.sort(key=lambda row: -row[0])
    return [(name, parameters) for quality, name, parameters in ranges if quality > 0]


@lru_cache(maxsize=256)
def view_for(accept: str, include_object: str = "") -> View:
    """The first shape of the Accept header that the server can make. Raises NotAcceptable without one."""
    for name, parameters in accepted(accept):
        shape = _SHAPES.get(parameters.get("as", ""))
        if shape is None or parameters.get("g", "meta.k8s.io") != "meta.k8s.io":
            continue
        if name in (JSON, "*/*", "application/*", "text/html"):
            return View(shape, False, include_object or "Metadata")
        if name in ("application/yaml", "application/x-yaml", "text/yaml"):
            return View(shape, True, include_object or "Metadata")
    raise NotAcceptable(
        "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, "
        "application/vnd.kubernetes.protobuf, application/json;stream=watch, "
        "application/vnd.kubernetes.protobuf;stream=watch",
        details={},
    )


class One(Struct, frozen=True, kw_only=True):
    """One object. `document` is the decoded entry where somebody has it already."""

    target: Target
    entry: Entry
    status: int = 200
    document: Document | None = None


class Many(Struct, frozen=True, kw_only=True):
    """A list as of `revision`; `continue_token` and `remaining` when it goes on."""

    target: Target
    entries: Sequence[Entry]
    revision: int
    continue_token: str = ""
    remaining: int | None = None

    def metadata(self) -> Document:
        meta: Document = {"resourceVersion": str(self.revision)}
        if self.continue_token:
            meta["continue"] = self.continue_token
        if self.remaining is not None:
            meta["remainingItemCount"] = self.remaining
        return meta


class Plain(Struct, frozen=True, kw_only=True):
    """A document that is no stored object: a Status, a review, a Scale."""

    document: Document
    status: int = 200


Answer = One | Many | Plain


def stored_document(entry: Entry) -> Document:
    """The object without apiVersion and kind."""
    document: Document = msgspec.json.decode(entry.value)
    return document


def represent(stored: Document, target: Target) -> Document:
    """A stored object in the version of `target`, with apiVersion and kind."""
    kind = target.kind
    if kind.group == events.GROUP:
        return events.from_core(stored)
    full = {"kind": kind.kind, "apiVersion": kind.storage_api_version, **stored}
    if kind.custom is not None:
        full = kind.custom.read(full)
    return encode(full, kind, target.version)


def is_as_stored(target: Target) -> bool:
    """Whether stored bytes are the answer but for apiVersion and kind."""
    kind = target.kind
    return target.version == kind.storage_version and kind.group != events.GROUP and kind.custom is None


def typed_bytes(entry: Entry, target: Target) -> bytes:
    """The JSON of an object that is as stored, with kind and apiVersion."""
    head = f'{{"kind":"{target.kind.kind}","apiVersion":"{target.api_version}",'
    return head.encode() + entry.value[1:]


def to_bytes(answer: Answer, view: View) -> bytes:
    """The body of `answer` in the shape of `view`."""
    if view.shape == "object" and not view.is_yaml and not isinstance(answer, Plain):
        target = answer.target
        if isinstance(answer, One):
            if is_as_stored(target):
                return typed_bytes(answer.entry, target)
        elif is_as_stored(target):
            meta = msgspec.json.encode(answer.metadata())
            head = f'{{"kind":"{target.kind.list_name}","apiVersion":"{target.api_version}","metadata":'
            items = b",".join([entry.value for entry in answer.entries])
            return head.encode() + meta + b',"items":[' + items + b"]}"
    document = to_document(answer, view)
    if view.is_yaml:
        return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True).encode()
    return msgspec.json.encode(document)


def to_document(answer: Answer, view: View) -> Document:
    """The body of `answer` as a document; shares nothing that anybody else will change."""
    if isinstance(answer, Plain):
        return answer.document
    target = answer.target
    if isinstance(answer, One):
        document = represent(answer.document or stored_document(answer.entry), target)
        if view.shape == "table":
            return as_table(target, [document], document["metadata"].get("resourceVersion", ""), view)
        return partial(document) if view.shape == "metadata" else document
    with _no_collection():
        documents = [represent(stored_document(entry), target) for entry in answer.entries]
    if view.shape == "object":
        items = [_without_type(document) for document in documents]
        kind, api_version = target.kind.list_name, target.api_version
        return {"kind": kind, "apiVersion": api_version, "metadata": answer.metadata(), "items": items}
    if view.shape == "table":
        return as_table(target, documents, str(answer.revision), view) | {"metadata": answer.metadata()}
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": answer.metadata(),
        "items": [partial(document) for document in documents],
    }


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """While many documents are decoded, none of them is garbage: looking for it costs seven times the
    decoding of ten thousand slices."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _without_type(document: Document) -> Document:
    return {key: value for key, value in document.items() if key not in ("kind", "apiVersion")}


def partial(document: Document) -> Document:
    """Only the metadata."""
    kind = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return {**kind, "metadata": document.get("metadata") or {}}


def as_table(target: Target, documents: Sequence[Document], resource_version: str, view: View) -> Document:
    now = datetime.datetime.now(datetime.UTC)
    result: Document = table(
        target.kind.kind,
        documents,
        group=target.kind.group,
        version=target.version,
        now=now,
        resource_version=resource_version,
        include_object=view.include_object,
        columns=target.kind.custom.columns if target.kind.custom else None,
    )
    return result
