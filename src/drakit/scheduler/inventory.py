"""The nodes of the cluster and which pod is on which, assumed ones included.

A pod is *assumed* on a node from the decision until the informer shows it bound there or the binding
fails. Nodes stand in one order; each attempt starts where the last one stopped, so that pods spread even
when only a few nodes are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from drakit.scheduler.node import NodeInfo
from drakit.scheduler.pod import PodInfo, read_pod
from drakit.transport import Document

ENOUGH = 8
"""Feasible nodes that are compared when a pod likes all of them alike."""


class Inventory:
    """Nodes by name, pods by uid."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        self._placed: dict[str, NodeInfo] = {}
        self._order: list[NodeInfo] = []
        self._start = 0
        self._soft_taints = 0
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
        node = self._node(name)
        node.add(pod)
        self._placed[pod.uid] = node

    def put_pod(self, document: Document) -> None:
        """The informer shows a pod on a node."""
        uid, name = document["metadata"]["uid"], document["spec"]["nodeName"]
        node = self._placed.get(uid)
        if node is not None and node.name == name:
            known = node.pods[uid]
            if known.document["metadata"].get("generation") == document["metadata"].get("generation"):
                node.pods[uid] = known.with_document(document)
                return
        self.place(read_pod(document), name)

    def remove_pod(self, uid: str) -> bool:
        """The pod uses nothing any more. Whether it was on a node."""
        node = self._placed.pop(uid, None)
        if node is None:
            return False
        self.revision += 1
        node.remove(uid)
        if node.document is None and not node.pods:
            self._nodes.pop(node.name, None)
        return True

    def _node(self, name: str) -> NodeInfo:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = NodeInfo(name)
        return node


def enough(count: int, *, has_preferences: bool) -> int:
    """How many feasible nodes out of `count` are compared.

    With preferences as many as upstream (all up to 100, then a shrinking share); without, the nodes
    differ only in how full they are and a few will do.
    """
    if not has_preferences:
        return ENOUGH
    if count <= 100:
        return count
    return max(100, count * max(5, 50 - count // 125) // 100)
