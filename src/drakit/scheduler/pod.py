"""The part of a Pod that scheduling reads, worked out once."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from drakit.errors import BadRequest
from drakit.model.meta import NodeSelector, NodeSelectorTerm
from drakit.model.selector import NodeMatcher, read_node_selector
from drakit.scheduler.neighbours import Terms, read_terms
from drakit.scheduler.request import Amounts, pod_requests, scored_requests
from drakit.scheduler.spread import Constraint, read_constraints
from drakit.transport import Document

NODE_RESOURCES = "nodeAllocatableResourceClaimStatuses"
"""Field of a pod's status: what its devices stand for of the node's own resources."""
Port = tuple[str, str, int]
"""Host IP ("" for all), protocol, port."""


class PodInfo(Struct, frozen=True, kw_only=True, eq=False):
    """A pod to place, or one that is on a node. `size` is its cpu and memory, as asked for and as counted
    when nodes are compared; `problem` says what in its spec cannot be read."""

    document: Document
    key: str
    uid: str
    namespace: str
    name: str
    priority: int
    labels: dict[str, str]
    requests: Amounts
    size: tuple[int, int, int, int]
    ports: tuple[Port, ...]
    tolerations: tuple[Document, ...]
    node_selector: dict[str, str]
    required: NodeMatcher | None
    preferred: tuple[tuple[int, NodeMatcher], ...]
    terms: Terms | None = None
    spread: tuple[Constraint, ...] = ()
    problem: str = ""

    @property
    def spec(self) -> Document:
        spec: Document = self.document["spec"]
        return spec

    @property
    def status(self) -> Document:
        return self.document.get("status") or {}

    @property
    def has_preference(self) -> bool:
        """Whether the pod itself likes some nodes better than others."""
        return bool(self.preferred)

    @property
    def minds_others(self) -> bool:
        """Whether it matters to the pod which other pods are where."""
        return self.terms is not None or bool(self.spread)

    @property
    def nominated_node(self) -> str:
        """The node that room is being made on for the pod."""
        return str(self.status.get("nominatedNodeName") or "")

    def shape(self) -> bytes:
        """The same for pods that nodes cannot tell apart, apart from their claims and from other pods."""
        affinity = (self.spec.get("affinity") or {}).get("nodeAffinity")
        return msgspec.json.encode(
            (self.requests, self.node_selector, self.tolerations, self.ports, affinity, self.priority)
        )

    def with_document(self, document: Document) -> PodInfo:
        """The same pod after a change that left its spec alone."""
        return msgspec.structs.replace(self, document=document)


def read_pod(document: Document) -> PodInfo:
    """What scheduling needs of the Pod `document`."""
    meta, spec = document["metadata"], document.get("spec") or {}
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required: NodeMatcher | None = None
    preferred: tuple[tuple[int, NodeMatcher], ...] = ()
    problem = ""
    try:
        if hard := affinity.get("requiredDuringSchedulingIgnoredDuringExecution"):
            required = read_node_selector(msgspec.convert(hard, NodeSelector))
        preferred = tuple(
            _read_preferred(row)
            for row in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        )
    except (BadRequest, msgspec.ValidationError) as error:
        problem = f"pod {meta['namespace']}/{meta['name']}: spec.affinity.nodeAffinity: {error}"
    labels = meta.get("labels") or {}
    terms: Terms | None = None
    spread: tuple[Constraint, ...] = ()
    try:
        terms = read_terms(spec, meta["namespace"], labels)
        spread = read_constraints(spec, labels)
    except BadRequest as error:
        problem = f"pod {meta['namespace']}/{meta['name']}: a label selector in its spec: {error}"
    requests = pod_requests(spec, (document.get("status") or {}).get(NODE_RESOURCES) or ())
    return PodInfo(
        document=document,
        key=f"{meta['namespace']}/{meta['name']}",
        uid=meta["uid"],
        namespace=meta["namespace"],
        name=meta["name"],
        priority=spec.get("priority") or 0,
        labels=labels,
        requests=requests,
        size=(requests.get("cpu", 0), requests.get("memory", 0), *scored_requests(spec, requests)),
        ports=_host_ports(spec),
        tolerations=tuple(spec.get("tolerations") or ()),
        node_selector=spec.get("nodeSelector") or {},
        required=required,
        preferred=preferred,
        terms=terms,
        spread=spread,
        problem=problem,
    )


def _read_preferred(row: dict[str, Any]) -> tuple[int, NodeMatcher]:
    term = msgspec.convert(row.get("preference") or {}, NodeSelectorTerm)
    return int(row.get("weight") or 0), read_node_selector(NodeSelector(node_selector_terms=[term]))


def _host_ports(spec: Document) -> tuple[Port, ...]:
    found: list[Port] = []
    for container in (*(spec.get("containers") or ()), *_sidecars(spec)):
        for port in container.get("ports") or ():
            if number := port.get("hostPort"):
                address = port.get("hostIP") or ""
                found.append(("" if address == "0.0.0.0" else address, port.get("protocol") or "TCP", number))
    return tuple(found)


def _sidecars(spec: Document) -> list[Document]:
    return [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]


def is_terminal(document: Document) -> bool:
    """Whether the pod has ended and uses nothing of its node any more."""
    return (document.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_deleting(document: Document) -> bool:
    return document["metadata"].get("deletionTimestamp") is not None


def is_same_to_scheduling(old: Document, new: Document) -> bool:
    """Whether nothing changed between two states of a pod that could let it be scheduled."""
    before, after = old.get("status") or {}, new.get("status") or {}
    return (
        old.get("spec") == new.get("spec")
        and old["metadata"].get("labels") == new["metadata"].get("labels")
        and before.get("resourceClaimStatuses") == after.get("resourceClaimStatuses")
    )
