"""A node as scheduling sees it: what it offers, what its pods use, and whether a pod may join them.

The checks follow upstream's filters in their order (unschedulable, taints, selector and affinity, host
ports, resources) and, like there, the first kind that fails speaks for the node.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec

from drakit.model.meta import Node
from drakit.scheduler.pod import PodInfo, Port
from drakit.scheduler.reason import Rejection, Wake
from drakit.scheduler.request import SCORED_CPU, SCORED_MEMORY, Amounts, amounts
from drakit.transport import Document

_UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_WRONG_NODE = (Rejection("node(s) didn't match Pod's node affinity/selector", Wake.NODE),)
_CORDONED = (Rejection("node(s) were unschedulable", Wake.NODE),)
_NO_PORTS = (Rejection("node(s) didn't have free ports for the requested pod ports", Wake.POD_GONE),)
_FULL = Wake.NODE | Wake.POD_GONE


class NodeInfo:
    """One node and the pods on it, those among them that are only about to be bound."""

    __slots__ = (
        "allocatable",
        "document",
        "hard_taints",
        "is_unschedulable",
        "labels",
        "name",
        "node",
        "pods",
        "ports",
        "soft_taints",
        "used",
    )

    def __init__(self, name: str) -> None:
        """A node of which only the pods are known so far; `update` brings the rest."""
        self.name = name
        self.document: Document | None = None
        self.node = Node()
        self.labels: dict[str, str] = {}
        self.hard_taints: tuple[Document, ...] = ()
        self.soft_taints: tuple[Document, ...] = ()
        self.is_unschedulable = False
        self.allocatable: Amounts = {}
        self.used: Amounts = {}
        self.ports: list[Port] = []
        self.pods: dict[str, PodInfo] = {}

    def update(self, document: Document) -> None:
        spec, status = document.get("spec") or {}, document.get("status") or {}
        taints = spec.get("taints") or ()
        self.document = document
        self.node = msgspec.convert({"metadata": document["metadata"]}, Node)
        self.labels = self.node.metadata.labels
        self.hard_taints = tuple(t for t in taints if t.get("effect") in ("NoSchedule", "NoExecute"))
        self.soft_taints = tuple(t for t in taints if t.get("effect") == "PreferNoSchedule")
        self.is_unschedulable = bool(spec.get("unschedulable"))
        self.allocatable = amounts(status.get("allocatable") or status.get("capacity"))

    def add(self, pod: PodInfo) -> None:
        """Count `pod`; counting one twice changes nothing."""
        if pod.uid in self.pods:
            return
        self.pods[pod.uid] = pod
        for resource, number in pod.requests.items():
            self.used[resource] = self.used.get(resource, 0) + number
        self.ports.extend(pod.ports)

    def remove(self, uid: str) -> None:
        pod = self.pods.pop(uid, None)
        if pod is None:
            return
        for resource, number in pod.requests.items():
            self.used[resource] -= number
        for port in pod.ports:
            self.ports.remove(port)

    def reject(self, pod: PodInfo, by_device: Container[str] = ()) -> tuple[Rejection, ...]:
        """Why `pod` may not run here; nothing if it may, as far as devices are not concerned.

        `by_device` names extended resources that a DeviceClass stands behind: a node that does not
        count them itself has to provide them as devices, which is not looked at here.
        """
        if self.is_unschedulable and not tolerates(pod, _UNSCHEDULABLE):
            return _CORDONED
        for taint in self.hard_taints:
            if not tolerates(pod, taint):
                words = f"{taint.get('key', '')}: {taint.get('value', '')}"
                return (Rejection(f"node(s) had untolerated taint {{{words}}}", Wake.NODE),)
        if pod.node_selector or pod.required is not None:
            labels = self.labels
            if any(labels.get(key) != value for key, value in pod.node_selector.items()):
                return _WRONG_NODE
            if pod.required is not None and not pod.required.matches(self.name, labels):
                return _WRONG_NODE
        if pod.ports and any(_clash(mine, theirs) for mine in pod.ports for theirs in self.ports):
            return _NO_PORTS
        return self._lacks(pod, by_device)

    def _lacks(self, pod: PodInfo, by_device: Container[str]) -> tuple[Rejection, ...]:
        found: list[Rejection] = []
        allocatable, used = self.allocatable, self.used
        if len(self.pods) + 1 > allocatable.get("pods", 0):
            found.append(Rejection("Too many pods", _FULL))
        for resource, wanted in pod.requests.items():
            if not wanted:
                continue
            has = allocatable.get(resource, 0)
            if not has and resource in by_device:
                continue
            free = has - used.get(resource, 0)
            if wanted > free:
                found.append(Rejection(f"Insufficient {resource}", _FULL, resource, wanted, max(free, 0)))
        return tuple(found)

    def free_share(self, pod: PodInfo) -> float:
        """How free the node would be with `pod` on it, 0 to 100: the mean over cpu, memory and pods."""
        cpu = self._share("cpu", pod.requests.get("cpu") or SCORED_CPU)
        memory = self._share("memory", pod.requests.get("memory") or SCORED_MEMORY)
        slots = self.allocatable.get("pods", 0)
        pods = 1 - (len(self.pods) + 1) / slots if slots else 0.0
        return (cpu + memory + pods) * 100 / 3

    def _share(self, resource: str, wanted: int) -> float:
        has = self.allocatable.get(resource, 0)
        return max(0.0, 1 - (self.used.get(resource, 0) + wanted) / has) if has else 0.0

    def liking(self, pod: PodInfo) -> int:
        """Sum of the weights of `pod`'s preferred node affinities that hold here."""
        return sum(weight for weight, matcher in pod.preferred if matcher.matches(self.name, self.labels))

    def disliking(self, pod: PodInfo) -> int:
        """How many PreferNoSchedule taints of the node `pod` does not tolerate."""
        return sum(not tolerates(pod, taint) for taint in self.soft_taints)


def tolerates(pod: PodInfo, taint: Document) -> bool:
    """Whether one of `pod`'s tolerations covers `taint`."""
    for toleration in pod.tolerations:
        effect, key = toleration.get("effect"), toleration.get("key")
        if effect and effect != taint.get("effect"):
            continue
        if key and key != taint.get("key"):
            continue
        if toleration.get("operator") == "Exists":
            return True
        if key and (toleration.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def _clash(mine: Port, theirs: Port) -> bool:
    return mine[1:] == theirs[1:] and (mine[0] == theirs[0] or not mine[0] or not theirs[0])
