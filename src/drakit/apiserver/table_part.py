"""The parts of a document that many rows of a Table show."""

from __future__ import annotations

import datetime
from typing import Any

from drakit.apiserver.table_text import age
from drakit.transport import Document

Time = datetime.datetime


def named(document: Document, now: Time) -> tuple[str, str]:
    metadata = document.get("metadata") or {}
    return str(metadata.get("name", "")), age(metadata.get("creationTimestamp"), now)


def spec_of(document: Document) -> Document:
    return document.get("spec") or {}


def status_of(document: Document) -> Document:
    return document.get("status") or {}


def template_cells(document: Document) -> list[Any]:
    """Names and images of a template's containers."""
    spec = spec_of(spec_of(document).get("template") or {})
    containers = spec.get("containers") or []
    names = ",".join(str(container.get("name", "")) for container in containers)
    return [names, ",".join(str(container.get("image", "")) for container in containers)]
