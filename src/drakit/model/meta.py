"""What every object of the API carries: ObjectMeta, owner references, label selectors, conditions."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class Base(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A part of an API object: JSON names on the wire, snake_case here, unknown fields ignored."""


class OwnerReference(Base, frozen=True, kw_only=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Base, frozen=True, kw_only=True):
    """Times are RFC 3339 text as on the wire."""

    name: str = ""
    namespace: str = ""
    generate_name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    owner_references: list[OwnerReference] = field(default_factory=list)
    finalizers: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """`namespace/name`, or `name` for what has no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Condition(Base, frozen=True, kw_only=True):
    type: str
    status: str = "Unknown"
    observed_generation: int = 0
    last_transition_time: str | None = None
    reason: str = ""
    message: str = ""


class NodeSelectorRequirement(Base, frozen=True, kw_only=True):
    key: str
    operator: str
    values: list[str] = field(default_factory=list)


class NodeSelectorTerm(Base, frozen=True, kw_only=True):
    match_expressions: list[NodeSelectorRequirement] = field(default_factory=list)
    match_fields: list[NodeSelectorRequirement] = field(default_factory=list)


class NodeSelector(Base, frozen=True, kw_only=True):
    node_selector_terms: list[NodeSelectorTerm] = field(default_factory=list)


class Node(Base, frozen=True, kw_only=True):
    """What allocation needs of a Node: its name and labels; `spec`/`status` stay documents."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
