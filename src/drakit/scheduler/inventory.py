"""The nodes of the cluster and which pod is on which, assumed ones included.

A pod is *assumed* on a node from the decision until the informer shows it bound there or the binding
fails. Nodes stand in one order; each attempt starts where the last one stopped, so that pods spread even
when only a few nodes are looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from drakit.scheduler.node import NodeInfo
from drakit.scheduler.pod import PodInfo, read_pod
from drakit.transport import Document

ENOUGH = 100
"""Nodes of a cluster that are compared in any case; of more of them a share is."""


SOME = 32


class Inventory:
    """Nodes by name, pods by uid."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        self._placed: dict[str, NodeInfo] = {}
        self._order: list[NodeInfo] = []
        self._start = 0
        self._soft_taints = 0
        self._priorities: Counter[int] = Counter()
        self._nominated: dict[str, NodeInfo] = {}
        self.with_terms: dict[str, NodeInfo] = {}
        """The nodes that have pods with rules about other pods, by name."""
        self.revision = 0
        """Changes whenever a node or what is on it does."""

    def __contains__(self, pod_uid: object) -> bool:
        return pod_uid in self._placed

    def __len__(self) -> int:
        return len(self._order)

    @property
    def has_soft_taints(self) -> bool:
        return self._soft_taints > 0

    def get(self, name: str) -> NodeInfo | None:
        """The node, if it exists."""
        node = self._nodes.get(name)
        return node if node is not None and node.document is not None else None

    def all(self) -> list[NodeInfo]:
        """Every existing node, in the order in which they are looked at from the beginning."""
        return self._order

    # --- nodes ------------------------------------------------------------------------------------

    def put_node(self, document: Document) -> None:
        self.revision += 1
        node = self._node(document["metadata"]["name"])
        if node.document is None:
            self._order.append(node)
        self._soft_taints -= bool(node.soft_taints)
        node.update(document)
        self._soft_taints += bool(node.soft_taints)

    def remove_node(self, name: str) -> None:
        """The node is gone; its pods are remembered in case it comes back."""
        node = self._nodes.get(name)
        if node is None or node.document is None:
            return
        self.revision += 1
        self._order.remove(node)
        self._soft_taints -= bool(node.soft_taints)
        node.document, node.soft_taints = None, ()
        if not node.pods:
            del self._nodes[name]

    def rotation(self) -> Iterator[NodeInfo]:
        """Every node once, from where the last rotation was left."""
        count = len(self._order)
        for _ in range(count):
            self._start = (self._start + 1) % count
            yield self._order[self._start - 1]

    # --- pods -------------------------------------------------------------------------------------

    def place(self, pod: PodInfo, name: str) -> None:
        """`pod` is, or is assumed to be, on the node `name`."""
        self.remove_pod(pod.uid)
        self.revision += 1
        self.nominate(pod, None)
        node = self._node(name)
        node.add(pod)
        self._placed[pod.uid] = node
        self._priorities[pod.priority] += 1
        if pod.terms is not None:
            self.with_terms[name] = node

    def put_pod(self, document: Document) -> bool:
        """The informer shows a pod on a node. Whether that is news to other pods."""
        meta = document["metadata"]
        uid, name = meta["uid"], document["spec"]["nodeName"]
        node = self._placed.get(uid)
        if node is not None and node.name == name:
            known = node.pods[uid]
            before = known.document["metadata"]
            if before.get("generation") == meta.get("generation") and known.labels == (
                meta.get("labels") or {}
            ):
                node.refresh(known.with_document(document))
                return False
        self.place(read_pod(document), name)
        return True

    def remove_pod(self, uid: str) -> bool:
        """The pod uses nothing any more. Whether it was on a node."""
        node = self._placed.pop(uid, None)
        if node is None:
            return False
        self.revision += 1
        pod = node.pods[uid]
        node.remove(uid)
        self._priorities[pod.priority] -= 1
        if not self._priorities[pod.priority]:
            del self._priorities[pod.priority]
        if not node.with_terms:
            self.with_terms.pop(node.name, None)
        if node.document is None and not node.pods:
            self._nodes.pop(node.name, None)
        return True

    def nominate(self, pod: PodInfo, name: str | None) -> None:
        """`pod` is promised room on the node `name`, or has no such promise any more."""
        before = self._nominated.get(pod.uid)
        if before is not None:
            if before.name == name:
                return
            del self._nominated[pod.uid]
            del before.nominated[pod.uid]
            self.revision += 1
        if name is not None and (node := self.get(name)) is not None:
            node.nominated[pod.uid] = pod
            self._nominated[pod.uid] = node
            self.revision += 1

    def has_less_important(self, priority: int) -> bool:
        """Whether any pod on a node has a lower priority."""
        return min(self._priorities, default=priority) < priority

    def _node(self, name: str) -> NodeInfo:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = NodeInfo(name)
        return node


def a_batch(count: int) -> int:
    """How many nodes out of `count` are compared at a time when a pod likes all alike: all up to 100; in
    larger clusters upstream's choice is a matter of chance, and some do."""
    return ENOUGH if count <= ENOUGH else SOME


def enough(count: int) -> int:
    """How many feasible nodes out of `count` are compared: all up to 100, then a shrinking share."""
    if count <= ENOUGH:
        return count
    return max(ENOUGH, count * max(5, 50 - count // 125) // 100)
