"""A snapshot brought to life: the allocator's state, the nodes, and the claims a pod wants.

A claim that waits is looked at as the scheduler would: what is allocated is taken, and the claims of the
pod are allocated together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from drakit.allocator import State
from drakit.errors import UsageError
from drakit.model.meta import Node
from drakit.model.resource import (
    MAX_RESERVED_FOR,
    DeviceClass,
    DeviceTaintRule,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
)
from drakit.planner.extended import nobody_offers, with_extended
from drakit.planner.readable import readable
from drakit.planner.snapshot import Snapshot
from drakit.profile import VERSIONS, Gate, Profile, profile_for
from drakit.scheduler.extended import ExtendedResources
from drakit.scheduler.node import NodeInfo
from drakit.scheduler.plan import Restriction
from drakit.scheduler.pod import PodInfo, read_pod
from drakit.scheduler.readiness import readiness
from drakit.transport import Document

T = TypeVar("T")

_NEWEST = "9999"
"""When a class was created that has yet to be: the newest class wins an extended resource."""
_PLENTY = {"pods": "1000", "cpu": "1000", "memory": "1Pi", "ephemeral-storage": "1Pi"}


class Situation:
    """What is published, taken and wanted. Raises UsageError for objects that cannot be read."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.profile = profile_of(snapshot)
        self.state = State(self.profile)
        self.extended = ExtendedResources(is_on=self.profile.is_on(Gate.EXTENDED_RESOURCE))
        for device_class in _read(snapshot.device_classes, DeviceClass, "DeviceClass"):
            self.state.apply_class(device_class)
            created = device_class.metadata.creation_timestamp or _NEWEST
            resource = device_class.spec.extended_resource_name
            self.extended.put(device_class.metadata.name, created, resource)
        for rule in _read(snapshot.device_taint_rules, DeviceTaintRule, "DeviceTaintRule"):
            self.state.apply_taint_rule(rule)
        self.slices = _read(snapshot.resource_slices, ResourceSlice, "ResourceSlice")
        for published in self.slices:
            self.state.apply_slice(published)
        self.claims = {
            c.metadata.key: c for c in _read(snapshot.resource_claims, ResourceClaim, "ResourceClaim")
        }
        for claim in self.claims.values():
            if claim.status.allocation:
                self.state.take(claim.metadata.uid, claim.status.allocation, claim.metadata.key)
        templates = _read(snapshot.resource_claim_templates, ResourceClaimTemplate, "ResourceClaimTemplate")
        self.templates = {template.metadata.key: template for template in templates}
        self.readable = partial(readable, snapshot, self.profile)
        """Around what looks into nodes and pods."""
        with self.readable():
            self._populate(snapshot)

    def _populate(self, snapshot: Snapshot) -> None:
        names = [_name(pod, "Pod") for pod in snapshot.pods]
        self.pods = {
            f"{pod['metadata'].get('namespace', 'default')}/{name}": pod
            for name, pod in zip(names, snapshot.pods, strict=True)
        }
        self.nodes = {_name(node, "Node"): _node(node) for node in snapshot.nodes}
        for pod in self.pods.values():
            self._place(pod)

    def _place(self, document: Document) -> None:
        node = self.nodes.get((document.get("spec") or {}).get("nodeName", ""))
        if node and (document.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            node.add(_read_pod(document))


class Wanted(Struct, frozen=True):
    """Who asks, and for what: `claims` are to be allocated together, on one of `nodes`.

    `missing` says, in words, what does not exist yet. `excluded` counts the other nodes by the reason
    why the pod cannot run there.
    """

    subject: str
    claims: list[ResourceClaim]
    nodes: list[Node]
    excluded: dict[str, int]
    missing: list[str]
    settled: str = ""
    """Not empty when there is nothing to explain: it is allocated, bound, or over."""
    notes: list[str] = field(default_factory=list)
    """What to know about `claims`: that one is not there yet and what it would be is looked at."""
    own: list[str] = field(default_factory=list)
    """All claims of the pod, with those that have their devices."""


def wanted_by_pod(situation: Situation, key: str) -> Wanted:
    """What the pod `namespace/name` waits for."""
    document = situation.pods.get(key)
    if document is None:
        raise UsageError(f"there is no pod {key}")
    with situation.readable():
        return _wanted_by(situation, key, document)


def _wanted_by(situation: Situation, key: str, document: Document) -> Wanted:
    spec, status = document.get("spec") or {}, document.get("status") or {}
    claims, missing, notes = _claims_of(situation, document)
    missing += [text for claim in claims if (text := _obstacle(claim, document))]
    missing += _undeclared(spec)
    if gates := [gate.get("name", "") for gate in spec.get("schedulingGates") or ()]:
        missing.append(f"its scheduling gates are still there: {', '.join(gates)}")
    settled = ""
    if spec.get("nodeName"):
        settled = _on_its_node(key, spec["nodeName"], status)
    pod = _read_pod(document)
    missing += nobody_offers(pod, situation.extended, situation.nodes.values(), situation.profile)
    nodes, excluded = _nodes_for(situation, pod, claims)
    waiting = [claim for claim in claims if claim.status.allocation is None]
    if situation.extended.wanted_by(pod):
        waiting, nodes, other = with_extended(pod, waiting, nodes, situation.extended, situation.state)
        if other:
            excluded["node(s) with other resources from device plugins, where it does not fit either"] = other
    elif not claims and not missing:
        settled = settled or f"pod {key} asks for no devices"
    open_nodes = [node.node for node in nodes]
    own = [claim.metadata.key for claim in claims]
    return Wanted(f"pod {key}", waiting, open_nodes, excluded, missing, settled, notes, own)


def wanted_by_claim(situation: Situation, key: str) -> Wanted:
    """What the claim `namespace/name` would need, with any node allowed."""
    claim = situation.claims.get(key)
    if claim is None:
        raise UsageError(f"there is no resourceclaim {key}")
    settled = ""
    if claim.status.allocation:
        users = ", ".join(user.name for user in claim.status.reserved_for) or "nobody"
        settled = f"claim {key} is allocated and reserved for {users}"
    nodes = [node.node for node in situation.nodes.values()]
    return Wanted(f"claim {key}", [claim], nodes, {}, [], settled)


def _on_its_node(key: str, node: str, status: Document) -> str:
    phase = status.get("phase", "Pending")
    text = f"pod {key} is on node {node} ({phase})"
    if phase != "Pending":
        return text
    reasons = [
        f"container {row['name']}: {waiting['reason']}"
        + (f", {waiting['message']}" if waiting.get("message") else "")
        for row in status.get("containerStatuses") or ()
        if (waiting := row["state"]["waiting"]).get("reason")
    ]
    waits = "; ".join(reasons) or "its containers have yet to start"
    return f"{text} and has its devices: {waits}; its events say more (kubectl describe pod)"


def _claims_of(situation: Situation, pod: Document) -> tuple[list[ResourceClaim], list[str], list[str]]:
    """The claims of `pod`: those that exist and those its templates would make; what is missing; what to note
    about the claims."""
    namespace = pod["metadata"].get("namespace", "default")
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    names = {row["name"]: row.get("resourceClaimName") for row in statuses}
    claims: dict[str, ResourceClaim] = {}
    missing: list[str] = []
    notes: list[str] = []
    for row in (pod.get("spec") or {}).get("resourceClaims") or ():
        template_name = row.get("resourceClaimTemplateName")
        name = row.get("resourceClaimName") or names.get(row.get("name", ""))
        claim = situation.claims.get(f"{namespace}/{name}") if name else None
        if claim is None and template_name:
            template = situation.templates.get(f"{namespace}/{template_name}")
            if template is None:
                missing.append(f"resourceclaimtemplate {namespace}/{template_name} does not exist")
                continue
            claim = _to_be(pod, row.get("name", ""), template)
            notes.append(
                f"claim {claim.metadata.key} is not created yet: this is about what template"
                f" {namespace}/{template_name} will make"
            )
        if claim is None:
            if name or not template_name:
                missing.append(f"resourceclaim {namespace}/{name} does not exist")
            continue
        claims[claim.metadata.uid or claim.metadata.key] = claim
    return list(claims.values()), missing, notes


def _undeclared(spec: Document) -> Iterator[str]:
    """What containers ask for that the pod does not have."""
    declared = [row.get("name") for row in spec.get("resourceClaims") or ()]
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        for row in (container.get("resources") or {}).get("claims") or ():
            if row.get("name") not in declared:
                yield (
                    f"container {container.get('name')} asks for claim {row.get('name')!r},"
                    " which spec.resourceClaims of the pod does not declare"
                )


def _to_be(pod: Document, pod_claim: str, template: ResourceClaimTemplate) -> ResourceClaim:
    """The claim that the template will make for the pod."""
    meta = msgspec.structs.replace(
        template.metadata,
        name=f"{pod['metadata']['name']}-{pod_claim}",
        uid=f"{template.metadata.namespace}/{pod_claim}",
    )
    return ResourceClaim(metadata=meta, spec=template.spec.spec)


def _obstacle(claim: ResourceClaim, pod: Document) -> str:
    """What keeps the pod from using the claim whatever devices are free, or ""."""
    key, status = claim.metadata.key, claim.status
    if claim.metadata.deletion_timestamp:
        return f"resourceclaim {key} is being deleted"
    if status.allocation is None:
        return ""
    uid = pod["metadata"].get("uid")
    is_reserved = any(user.uid == uid for user in status.reserved_for)
    if not is_reserved and len(status.reserved_for) >= MAX_RESERVED_FOR:
        return f"resourceclaim {key} is reserved for {MAX_RESERVED_FOR} pods, the most there can be"
    ready = readiness(msgspec.to_builtins(claim))
    if ready.failure:
        return ready.failure
    if ready.missing:
        return (
            f"resourceclaim {key} is allocated, its driver has yet to say ready: {', '.join(ready.missing)}"
        )
    return ""


def _nodes_for(
    situation: Situation, pod: PodInfo, claims: Sequence[ResourceClaim]
) -> tuple[list[NodeInfo], dict[str, int]]:
    restrictions = [
        Restriction(msgspec.to_builtins(claim), is_stuck=False) for claim in claims if claim.status.allocation
    ]
    nodes: list[NodeInfo] = []
    excluded: dict[str, int] = {}
    for node in situation.nodes.values():
        reasons = [rejection.text for rejection in node.reject(pod, situation.extended)]
        reasons += [
            f"node(s) where the devices of claim {r.claim['metadata']['name']} cannot be used"
            for r in restrictions
            if not r.allows(node)
        ]
        for reason in reasons[:1]:
            excluded[reason] = excluded.get(reason, 0) + 1
        if not reasons:
            nodes.append(node)
    return nodes, excluded


def _node(document: Document) -> NodeInfo:
    """A node that does not say what it has is not held back by that."""
    info = NodeInfo(document["metadata"]["name"])
    status = document.get("status") or {}
    info.update(document if status.get("allocatable") else {**document, "status": {"allocatable": _PLENTY}})
    return info


def profile_of(snapshot: Snapshot) -> Profile:
    """That of the cluster that the snapshot was taken of. Raises UsageError for an unknown feature gate."""
    return profile_for(_known(snapshot.version), snapshot.feature_gates)


def _known(version: str) -> str:
    """`version`, or the newest one known for a newer one."""
    numbers = version.removeprefix("v").split(".")[:2]
    if all(number.isdigit() for number in numbers):
        newest = [int(number) for number in VERSIONS[-1].split(".")]
        return VERSIONS[-1] if [int(number) for number in numbers] > newest else version
    return version


def _read(documents: Iterable[Document], type: type[T], kind: str) -> list[T]:
    found: list[T] = []
    for document in documents:
        try:
            found.append(msgspec.convert(document, type))
        except msgspec.ValidationError as error:
            raise UsageError(f"{kind} {_name(document, kind)}: {error}") from None
    return found


def _read_pod(document: Document) -> PodInfo:
    """The pod as the scheduler sees it; one of a manifest may lack what the server fills in."""
    meta = document["metadata"]
    filled = {"namespace": "default", **meta}
    spec = dict(document.get("spec") or {})
    for kind in ("initContainers", "containers"):
        spec[kind] = [_with_requests(container) for container in spec.get(kind) or ()]
    uid = f"{filled['namespace']}/{meta['name']}"
    return read_pod({**document, "metadata": {"uid": uid, **filled}, "spec": spec})


def _with_requests(container: Document) -> Document:
    """A limit without a request is the request as well."""
    resources = container.get("resources") or {}
    requests = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {**container, "resources": {**resources, "requests": requests}}


def _name(document: Document, kind: str) -> str:
    """The object's name; UsageError for a document that is no object."""
    meta = document.get("metadata")
    name = meta.get("name") if isinstance(meta, dict) else None
    if not name or not isinstance(name, str):
        raise UsageError(f"a {kind} without metadata.name")
    return name
