"""A node as scheduling sees it: what it offers, what its pods use, and whether a pod may join them.

The checks follow upstream's filters in their order (unschedulable, taints, selector and affinity, host
ports, resources) and, like there, the first kind that fails speaks for the node.
"""

from __future__ import annotations

import math
from collections.abc import Container

import msgspec

from drakit.model.meta import Node
from drakit.scheduler.pod import PodInfo, Port
from drakit.scheduler.reason import Rejection, Wake
from drakit.scheduler.request import Amounts, amounts
from drakit.transport import Document

_UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_WRONG_NODE = (Rejection("node(s) didn't match Pod's node affinity/selector", Wake.NODE),)
_CORDONED = (Rejection("node(s) were unschedulable", Wake.NODE),)
_NO_PORTS = (
    Rejection(
        "node(s) didn't have free ports for the requested pod ports", Wake.POD_GONE, is_resolvable=True
    ),
)
_FULL = Wake.NODE | Wake.POD_GONE


class NodeInfo:
    """One node and the pods on it, those among them that are only about to be bound."""

    __slots__ = (
        "_score",
        "allocatable",
        "document",
        "hard_taints",
        "is_unschedulable",
        "labels",
        "name",
        "node",
        "nominated",
        "pods",
        "ports",
        "scored",
        "soft_taints",
        "used",
        "with_terms",
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
        self.scored = (0, 0)
        """CPU and memory in use as nodes are compared: pods that ask for nothing count a little."""
        self.ports: list[Port] = []
        self.pods: dict[str, PodInfo] = {}
        self.with_terms: dict[str, PodInfo] = {}
        """The pods with rules about other pods."""
        self.nominated: dict[str, PodInfo] = {}
        """Pods that are promised room here once others have gone."""
        self._score: tuple[tuple[int, ...], int] | None = None

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
        self._score = None

    def add(self, pod: PodInfo) -> None:
        """Count `pod`; counting one twice changes nothing."""
        if pod.uid in self.pods:
            return
        self.pods[pod.uid] = pod
        if pod.terms is not None:
            self.with_terms[pod.uid] = pod
        self.scored = (self.scored[0] + pod.size[2], self.scored[1] + pod.size[3])
        self._score = None
        for resource, number in pod.requests.items():
            self.used[resource] = self.used.get(resource, 0) + number
        self.ports.extend(pod.ports)

    def refresh(self, pod: PodInfo) -> None:
        """`pod`, which is counted already, in a newer state."""
        self.pods[pod.uid] = pod
        if pod.uid in self.with_terms:
            self.with_terms[pod.uid] = pod

    def remove(self, uid: str) -> None:
        pod = self.pods.pop(uid, None)
        if pod is None:
            return
        self.with_terms.pop(uid, None)
        self.scored = (self.scored[0] - pod.size[2], self.scored[1] - pod.size[3])
        self._score = None
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
        if not self.is_chosen_by(pod):
            return _WRONG_NODE
        if pod.ports and any(_clash(mine, theirs) for mine in pod.ports for theirs in self.ports):
            return _NO_PORTS
        return self.lacks(pod, pod.requests, by_device)

    def is_chosen_by(self, pod: PodInfo) -> bool:
        """Whether the node meets `pod`'s node selector and required affinity."""
        if not pod.node_selector and pod.required is None:
            return True
        labels = self.labels
        if any(labels.get(key) != value for key, value in pod.node_selector.items()):
            return False
        return pod.required is None or pod.required.matches(self.name, labels)

    def is_open_to(self, pod: PodInfo) -> bool:
        """Whether `pod` tolerates the node's taints."""
        return all(tolerates(pod, taint) for taint in self.hard_taints)

    def lacks(self, pod: PodInfo, requests: Amounts, by_device: Container[str] = ()) -> tuple[Rejection, ...]:
        """What of `requests` there is too little of for `pod`, what is promised to more important pods
        taken as used."""
        allocatable, used, count = self.allocatable, self.used, len(self.pods)
        if not requests and not self.nominated and count < allocatable.get("pods", 0):
            return ()
        found: list[Rejection] = []
        if self.nominated:
            used, count = self._with_nominated(pod)
        if count + 1 > allocatable.get("pods", 0):
            found.append(Rejection("Too many pods", _FULL, is_resolvable=allocatable.get("pods", 0) > 0))
        for resource, wanted in requests.items():
            if not wanted:
                continue
            has = allocatable.get(resource, 0)
            if not has and resource in by_device:
                continue
            free = has - used.get(resource, 0)
            if wanted > free:
                text = f"Insufficient {resource}"
                found.append(
                    Rejection(text, _FULL, resource, wanted, max(free, 0), is_resolvable=wanted <= has)
                )
        return tuple(found)

    def _with_nominated(self, pod: PodInfo) -> tuple[Amounts, int]:
        used, count = dict(self.used), len(self.pods)
        for other in self.nominated.values():
            if other.uid != pod.uid and other.uid not in self.pods and other.priority >= pod.priority:
                count += 1
                for resource, number in other.requests.items():
                    used[resource] = used.get(resource, 0) + number
        return used, count

    def score(self, pod: PodInfo) -> int:
        """How well `pod` fits in, higher is better: how much cpu and memory it would leave, and whether it
        makes the use of the two more even. The sum of upstream's LeastAllocated and BalancedAllocation."""
        known = self._score
        if known is not None and known[0] == pod.size:
            return known[1]
        cpu, memory = pod.size[:2]
        score = self._free(pod.size[2:])
        if cpu or memory:
            score += 50 + (50 + self._balance(cpu, memory) - self._balance(0, 0)) // 2
        self._score = (pod.size, score)
        return score

    def _free(self, wanted: tuple[int, ...]) -> int:
        """The mean of cpu and memory left, 0 to 100."""
        total = weights = 0
        for resource, more, used in zip(("cpu", "memory"), wanted, self.scored, strict=True):
            if has := self.allocatable.get(resource, 0):
                weights += 1
                total += max(has - used - more, 0) * 100 // has
        return total // weights if weights else 0

    def _balance(self, cpu: int, memory: int) -> int:
        """How alike the shares of cpu and memory in use are, 0 to 100."""
        shares = [
            min((self.used.get(resource, 0) + more) / has, 1.0)
            for resource, more in (("cpu", cpu), ("memory", memory))
            if (has := self.allocatable.get(resource, 0))
        ]
        spread = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
        return math.floor((1 - spread) * 100)

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
