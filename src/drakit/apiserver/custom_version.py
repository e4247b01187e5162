"""One version of a custom resource: what its definition says about it, ready for use.

A CustomResourceDefinition becomes one row of the table of kinds for each version it serves, because
schema, columns and subresources may differ between versions. All rows share one collection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from drakit.apiserver import custom
from drakit.apiserver.custom_cel import Node, compile_rules
from drakit.apiserver.schema import Type, custom_type
from drakit.apiserver.strategy import Strategy, custom_strategy
from drakit.model.validation.field import listed, mapped
from drakit.profile import profile_for
from drakit.transport import Document

_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")
_STABILITY = {"alpha": 0, "beta": 1, "": 2}


class CustomVersion:
    """`columns` are its additionalPrinterColumns, `scale` the paths of its scale subresource (None: it has
    none), `selectable` the fields that field selectors may name, `deprecation` the warning for using it."""

    def __init__(self, definition: Document, version: Document, kubernetes: str) -> None:
        spec = definition["spec"]
        self._kubernetes = kubernetes
        subresources = mapped(version.get("subresources"))
        self.schema: Mapping[str, Any] = mapped(mapped(version.get("schema")).get("openAPIV3Schema"))
        self.has_status = subresources.get("status") is not None
        self.scale: Mapping[str, Any] | None = subresources.get("scale")
        self.columns: Sequence[Mapping[str, Any]] = listed(version.get("additionalPrinterColumns"))
        self.type: Type = custom_type(self.schema, spec["names"]["kind"], kubernetes)
        self.strategy: Strategy = custom_strategy(
            self.schema,
            lambda: self.rules,
            is_namespaced=spec["scope"] == "Namespaced",
            has_status=self.has_status,
        )
        paths = [str(mapped(row).get("jsonPath", "")).removeprefix(".") for row in _selectable(version)]
        self.selectable: Mapping[str, str] = {path: path for path in paths}
        self.deprecation = _deprecation(spec, version)
        self.is_terminating = bool(definition["metadata"].get("deletionTimestamp"))

    @cached_property
    def rules(self) -> Node | None:
        """What the schema says in CEL, compiled when the first object comes."""
        return compile_rules(self.schema, profile_for(self._kubernetes))

    def read(self, document: Document) -> Document:
        """A stored object as this version shows it: pruned, and with defaults that came after it."""
        own: Document = msgspec.json.decode(msgspec.json.encode(document))
        custom.prune(own, self.schema)
        custom.default(own, self.schema)
        return own


def _selectable(version: Document) -> list[Any]:
    return listed(version.get("selectableFields"))


def priority(version: str) -> tuple[int, int, int, str]:
    """A key that sorts versions as clients prefer them: v2, v1, v1beta2, v1alpha1, then all others."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return (3, 0, 0, version)
    word = found[2] or ""
    return (2 - _STABILITY[word], -int(found[1]), -int(found[3] or 0), version)


def _deprecation(spec: Document, version: Document) -> str | None:
    if not version.get("deprecated"):
        return None
    if version.get("deprecationWarning"):
        return str(version["deprecationWarning"])
    name, kind, group = version["name"], spec["names"]["kind"], spec["group"]
    text = f"{group}/{name} {kind} is deprecated"
    others = [
        str(row["name"])
        for row in spec["versions"]
        if row.get("served") and not row.get("deprecated") and priority(row["name"]) < priority(name)
    ]
    return f"{text}; use {group}/{min(others, key=priority)} {kind}" if others else text
