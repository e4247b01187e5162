"""Extended resources of a pod, looked at as what they are: requests for devices.

The scheduler makes them one special claim when the pod has found its node, so no claim is there to look at
before. It depends on the node: what a node counts itself, from a device plugin, needs no device there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from drakit.allocator import State
from drakit.model.meta import ObjectMeta
from drakit.model.resource import IMPLICIT_PREFIX, ResourceClaim, ResourceClaimSpec
from drakit.model.validation.names import extended_resource_name
from drakit.planner.evidence import try_all
from drakit.profile import Gate, Profile
from drakit.scheduler.extended import ExtendedResources
from drakit.scheduler.node import NodeInfo
from drakit.scheduler.plan import special_uid
from drakit.scheduler.pod import PodInfo

_NAMED = "extended resource"


def is_extended(claim: str) -> bool:
    """Whether `claim`, as reports name it, stands for extended resources: no claim's name has a space."""
    return claim.startswith(_NAMED)


def called(claim: str) -> str:
    """`claim NAME`; extended resources under their own names."""
    return claim if is_extended(claim) else f"claim {claim}"


def requested(claim: str, request: str) -> str:
    """`request NAME`; an extended resource under its own name, its requests are not the user's."""
    return claim if is_extended(claim) and "," not in claim else f"request {request}"


def nobody_offers(
    pod: PodInfo, extended: ExtendedResources, nodes: Iterable[NodeInfo], profile: Profile
) -> list[str]:
    """What is said of the extended resources of `pod` that no class stands behind and no node counts."""
    counted = {name for node in nodes for name, number in node.allocatable.items() if number}
    asked = {name for name, number in pod.requests.items() if number and name not in extended}
    is_on = profile.is_on(Gate.EXTENDED_RESOURCE)
    said: list[str] = []
    for name in sorted(asked - counted):
        if name.startswith(IMPLICIT_PREFIX) and is_on:
            said.append(f"deviceclass {name.removeprefix(IMPLICIT_PREFIX)} of resource {name} does not exist")
        elif name.startswith(IMPLICIT_PREFIX) or extended_resource_name(name):
            off = "" if is_on else f" (feature {Gate.EXTENDED_RESOURCE} is off)"
            said.append(f"no node has resource {name} and no deviceclass stands behind it{off}")
    return said


def with_extended(
    pod: PodInfo,
    claims: list[ResourceClaim],
    nodes: Sequence[NodeInfo],
    extended: ExtendedResources,
    state: State,
) -> tuple[list[ResourceClaim], list[NodeInfo], int]:
    """`claims` and the one for the extended resources of `pod`, the nodes of which that is true, and how
    many nodes are left over.

    Where nodes differ in what they count themselves, those are looked at where the pod fits, or else those
    that are most.
    """
    wanted = extended.wanted_by(pod)
    kinds: dict[frozenset[str], list[NodeInfo]] = {}
    for node in nodes:
        by_device = frozenset(name for name in wanted if not node.allocatable.get(name))
        kinds.setdefault(by_device, []).append(node)
    choices = [
        ([*claims, _claim(pod, by_device, extended)] if by_device else claims, members)
        for by_device, members in kinds.items()
    ]
    if len(choices) < 2:
        return (*choices[0], 0) if choices else (claims, [], 0)
    for asked, members in choices:
        if try_all(asked, state, [node.node for node in members]):
            return asked, members, 0
    asked, members = max(choices, key=lambda choice: len(choice[1]))
    return asked, members, len(nodes) - len(members)


def _claim(pod: PodInfo, resources: frozenset[str], extended: ExtendedResources) -> ResourceClaim:
    """The special claim, with the resources for a name."""
    requests, _ = extended.requests(pod, resources)
    name = f"{_NAMED}{'s' * (len(resources) > 1)} {', '.join(sorted(resources))}"
    return ResourceClaim(
        metadata=ObjectMeta(name=name, uid=special_uid(pod)),
        spec=msgspec.convert({"devices": {"requests": requests}}, ResourceClaimSpec),
    )
