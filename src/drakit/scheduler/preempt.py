"""Room for a pod by having less important ones leave.

A node is worth trying when fewer pods on it could help: it lacks an amount it has, a port, or distance.
There all pods of lower priority are taken away in thought; if the pod fits then, they come back one by
one, the most important first, as long as it still fits. Of the nodes the one that loses least is taken.
Pods that a disruption budget protects leave only where nobody else does. Devices are no reason to make a
pod leave: its claims would stay allocated as long as it ends. Source:
pkg/scheduler/framework/plugins/defaultpreemption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from drakit.client.clock import parse_timestamp
from drakit.scheduler.budget import Budgets
from drakit.scheduler.node import NodeInfo
from drakit.scheduler.pod import PodInfo, is_deleting
from drakit.scheduler.reason import Rejection

CANDIDATES = 100
"""Nodes on which room is looked for."""


class Eviction(Struct, frozen=True):
    """The pods that have to leave `node` for another pod; none when they are leaving already."""

    node: str
    victims: tuple[PodInfo, ...]


def may_preempt(pod: PodInfo, node: NodeInfo | None) -> bool:
    """Whether other pods may have to leave for `pod`; not while some are on their way out of `node`, which
    it is promised."""
    if pod.spec.get("preemptionPolicy") == "Never":
        return False
    leaving = node.pods.values() if node is not None else ()
    return not any(other.priority < pod.priority and is_deleting(other.document) for other in leaving)


def find_eviction(
    pod: PodInfo,
    nodes: Iterable[NodeInfo],
    rejections: Mapping[str, tuple[Rejection, ...]],
    fits: Callable[[NodeInfo], bool],
    budgets: Budgets,
) -> Eviction | None:
    """The node where making room for `pod` costs least. `fits(node)` says whether the pod fits on a node
    as it is at that moment."""
    best: tuple[_Cost, Eviction] | None = None
    tried = 0
    for node in nodes:
        reasons = rejections.get(node.name) or ()
        if not reasons or not all(reason.is_resolvable for reason in reasons):
            continue
        victims, protected = _victims(pod, node, fits, budgets)
        if not victims:
            continue
        tried += 1
        cost = _cost(victims, protected)
        if best is None or cost < best[0]:
            best = (cost, Eviction(node.name, tuple(victims)))
        if tried >= CANDIDATES:
            break
    return best[1] if best else None


def _victims(
    pod: PodInfo, node: NodeInfo, fits: Callable[[NodeInfo], bool], budgets: Budgets
) -> tuple[list[PodInfo], int]:
    """The pods that have to leave `node`, none where that does not help, and how many of them a budget
    protects. The node is as before afterwards."""
    lower = sorted((o for o in node.pods.values() if o.priority < pod.priority), key=_importance)
    violated = budgets.violated_by(lower)
    lower.sort(key=lambda other: other.uid not in violated)
    for other in lower:
        node.remove(other.uid)
    if not fits(node):
        for other in lower:
            node.add(other)
        return [], 0
    victims: list[PodInfo] = []
    for other in lower:
        node.add(other)
        if not fits(node):
            node.remove(other.uid)
            victims.append(other)
    for victim in victims:
        node.add(victim)
    return victims, sum(victim.uid in violated for victim in victims)


_Cost = tuple[int, int, int, int, float]


def _cost(victims: list[PodInfo], protected: int) -> _Cost:
    """Protected ones, highest priority, sum of priorities, number, and the earlier the longest-lived one of
    the highest priority has started the worse."""
    highest = max(victim.priority for victim in victims)
    earliest = min(_started(victim) for victim in victims if victim.priority == highest)
    total = sum(victim.priority + (1 << 31) for victim in victims)
    return protected, highest, total, len(victims), -earliest


def _importance(pod: PodInfo) -> tuple[int, float]:
    """Higher priority first, then who started earlier."""
    return -pod.priority, _started(pod)


def _started(pod: PodInfo) -> float:
    text = pod.status.get("startTime")
    return parse_timestamp(text) if text else float("inf")
