"""One attempt's view of a pod's claims, and what pods with like claims share.

A `Plan` is made for one attempt and thrown away after it. A `Memory` outlives attempts: it belongs to the
specs of a pod's claims and is forgotten as soon as something comes back that could prove it wrong.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from drakit.allocator import Allocator, State
from drakit.model.meta import NodeSelector, ObjectMeta
from drakit.model.resource import (
    EXTENDED_CLAIM_ANNOTATION,
    AllocationResult,
    ResourceClaim,
    ResourceClaimSpec,
)
from drakit.model.selector import NodeMatcher, read_node_selector
from drakit.scheduler.claim import nodes_of
from drakit.scheduler.node import NodeInfo
from drakit.scheduler.pod import PodInfo
from drakit.scheduler.request import Amounts
from drakit.transport import Document


def placeholder(index: int) -> str:
    """Stands for the name of a pod's claim in texts that pods with like claims share."""
    return f"{{claim {index}}}"


class Awaited(Struct, frozen=True):
    """What a pod waits for before it can be scheduled. `is_busy`: the controllers should be at it, which
    takes its time when many pods come at once."""

    text: str
    is_busy: bool = False


class Memory:
    """What is known of claims with certain specs: the nodes they do not fit on, and why; `tried` are the
    nodes on which they were tried at all.

    Pods with like claims share it and its allocator. The allocator's claims have placeholders for names:
    whoever shows its words puts the real names in. `reasons` hold for the state `revision`.
    """

    __slots__ = ("allocator", "claims", "misfits", "reasons", "revision", "tried")

    def __init__(self, specs: Sequence[ResourceClaimSpec], state: State) -> None:
        self.claims = [
            ResourceClaim(metadata=ObjectMeta(name=placeholder(index)), spec=spec)
            for index, spec in enumerate(specs)
        ]
        self.allocator = Allocator(self.claims, state, share_id=_share_id)
        self.misfits: set[str] = set()
        self.tried: set[str] = set()
        self.revision = -1
        self.reasons: dict[str, str] = {}


class Variant:
    """The claims to allocate as they are for one kind of node: nodes differ in which extended resources
    they have to provide as devices. `members` are uid and name (namespace/name) of each claim,
    `special` the claim for extended resources, None without."""

    __slots__ = ("mappings", "members", "memory", "special")

    def __init__(self, documents: list[Document], memory: Memory | None) -> None:
        self.members = [(document["metadata"]["uid"], _shown(document)) for document in documents]
        self.memory = memory
        self.special: Document | None = None
        self.mappings: list[Document] = []

    def named(self, text: str) -> str:
        """`text` of the allocator with the real names of the claims."""
        for index, (_, name) in enumerate(self.members):
            text = text.replace(placeholder(index), name)
        return text


class Plan:
    """A pod's claims during one attempt. `claims` are all that exist, `wanted` those without allocation,
    `offers` the allocations found, by node; `shares`, by node, what the devices stand for of the node's own
    resources (as the pod's status says it), and what the pod needs with that."""

    __slots__ = (
        "blocking",
        "claims",
        "extended",
        "has_alternatives",
        "offers",
        "pod",
        "restrictions",
        "shares",
        "variants",
        "wanted",
    )

    def __init__(self, pod: PodInfo, claims: list[Document]) -> None:
        self.pod = pod
        self.claims = claims
        self.wanted: list[Document] = []
        self.restrictions: list[Restriction] = []
        self.extended: dict[str, int] = {}
        self.variants: dict[frozenset[str], Variant] = {}
        self.offers: dict[str, tuple[Variant, list[AllocationResult]]] = {}
        self.shares: dict[str, tuple[list[Document], Amounts]] = {}
        self.blocking: dict[str, Document] = {}
        self.has_alternatives = False
        """Whether one node may give better alternatives of a request than another."""

    @property
    def is_plain(self) -> bool:
        """Whether all there is to it are claims to allocate."""
        return bool(self.wanted) and not self.restrictions and not self.extended

    def named_nodes(self) -> frozenset[str] | None:
        """The only nodes that allocated claims allow, None if they allow any."""
        named = [r.names for r in self.restrictions if r.names is not None]
        return frozenset.intersection(*named) if named else None


class Restriction:
    """Where an allocated claim can be used. `is_stuck`: nowhere, its devices failed to get ready."""

    __slots__ = ("claim", "is_stuck", "matcher", "names")

    def __init__(self, claim: Document, *, is_stuck: bool) -> None:
        allocation = claim["status"]["allocation"]
        self.claim = claim
        self.is_stuck = is_stuck
        self.names = nodes_of(allocation)
        self.matcher: NodeMatcher | None = None
        selector = allocation.get("nodeSelector")
        if selector and self.names is None:
            self.matcher = read_node_selector(msgspec.convert(selector, NodeSelector))

    def allows(self, node: NodeInfo) -> bool:
        if self.is_stuck:
            return False
        if self.names is not None:
            return node.name in self.names
        return self.matcher is None or self.matcher.matches(node.name, node.labels)


def claim_name(pod: PodInfo, pod_claim: Document) -> tuple[str | None, bool]:
    """The name of the claim behind an entry of `pod.spec.resourceClaims`, and whether it was made from a
    template. (None, True): there is none and none is needed; (None, False): not made yet."""
    name = pod_claim.get("resourceClaimName")
    if name:
        return name, False
    for row in pod.status.get("resourceClaimStatuses") or ():
        if row.get("name") == pod_claim.get("name"):
            return row.get("resourceClaimName") or None, True
    return None, False


def users_of(plan: Plan, uid: str) -> list[str]:
    """The containers of the pod that use the claim `uid`, in order."""
    names = {c["metadata"]["name"] for c in plan.claims if c["metadata"]["uid"] == uid}
    entries = {
        row.get("name")
        for row in plan.pod.spec.get("resourceClaims") or ()
        if claim_name(plan.pod, row)[0] in names
    }
    return [
        container["name"]
        for kind in ("initContainers", "containers")
        for container in plan.pod.spec.get(kind) or ()
        if any(r.get("name") in entries for r in (container.get("resources") or {}).get("claims") or ())
    ]


def is_reserved_for(claim: Document, uid: str) -> bool:
    """Whether the pod `uid` is among those the claim is reserved for."""
    return any(row.get("uid") == uid for row in (claim.get("status") or {}).get("reservedFor") or ())


def other_users(claim: Document, name: str) -> list[str]:
    """The names of those the claim is reserved for beside the pod `name`, of which there is one at a time."""
    rows = (claim.get("status") or {}).get("reservedFor") or ()
    return [str(row.get("name")) for row in rows if row.get("name") != name]


def special_uid(pod: PodInfo) -> str:
    """Stands for the uid of a pod's special claim until that exists."""
    return f"{pod.uid}/extended-resources"


def special_claim(pod: PodInfo, requests: list[Document]) -> Document:
    """The claim for the extended resources of `pod`, as it will be created (without the uid)."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid, "controller": True}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "generateName": f"{pod.name}-extended-resources-",
            "namespace": pod.namespace,
            "uid": special_uid(pod),
            "annotations": {EXTENDED_CLAIM_ANNOTATION: "true"},
            "ownerReferences": [owner],
        },
        "spec": {"devices": {"requests": requests}},
    }


def _shown(claim: Document) -> str:
    """The claim's name for people; a special claim has none yet."""
    meta = claim["metadata"]
    return f"{meta['namespace']}/{meta.get('name') or meta.get('generateName', '') + '*'}"


def _share_id() -> str:
    return str(uuid.uuid4())


def is_made_for(pod: PodInfo, meta: Document) -> bool:
    return any(
        owner.get("controller") and owner.get("uid") == pod.uid for owner in meta.get("ownerReferences") or ()
    )
