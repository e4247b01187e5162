"""Nodes that stop reporting, and what becomes of their pods.

A node reports by renewing its lease. When the lease has not changed for a while by our own clock, the
node's Ready condition becomes Unknown; a node that is not ready gets the taints that say so, and loses
them when it is again. Nodes without a lease are left alone: somebody else looks after them. Pods go when
they do not tolerate a NoExecute taint of their node any more, and at once when their node is gone.

Source: pkg/controller/nodelifecycle, tainteviction and podgc, kept simple: no zones, no rate limits.
"""

from __future__ import annotations

from drakit.client.api import LEASES, NODES, PODS
from drakit.client.clock import timestamp
from drakit.client.informer import key_of
from drakit.controllers.context import Context
from drakit.controllers.deletion import delete_pod
from drakit.controllers.pod import condition, is_deleting, is_terminal, node_name
from drakit.controllers.toleration import FOREVER, eviction_time
from drakit.controllers.workload import set_condition, write_status
from drakit.errors import NotFound
from drakit.transport import Document

LEASE_NAMESPACE = "kube-node-lease"
GRACE_SECONDS = 50.0
"""Silence after which a node counts as lost (the default of --node-monitor-grace-period since 1.32)."""
QUARANTINE_SECONDS = 40.0
"""How long the pods of a vanished node are kept: the node may come back under its name."""
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
_NODE, _POD = "node:", "pod:"


class NodeLifecycle:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._queue = context.queue()
        self._recorder = context.recorder("node-controller")
        self._nodes = context.informer(NODES)
        self._pods = context.informer(PODS)
        self._leases = context.informer(LEASES)
        self._renewed: dict[str, float] = {}
        self._planned: set[str] = set()
        self._missing: dict[str, float] = {}
        self._pods.add_index("node", _node_of)
        self._nodes.add_handler(self._node_changed)
        self._pods.add_handler(self._pod_changed)
        self._leases.add_handler(self._lease_changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=4, name="node lifecycle")

    # --- what makes work --------------------------------------------------------------------------

    def _lease_changed(self, old: Document | None, new: Document | None) -> None:
        if new is None or new["metadata"].get("namespace") != LEASE_NAMESPACE:
            return
        if old is not None and old["spec"].get("renewTime") == new["spec"].get("renewTime"):
            return
        name = new["metadata"]["name"]
        is_back = name not in self._renewed
        last = self._renewed.get(name)
        self._renewed[name] = self._clock.now()
        if is_back or (last is not None and self._clock.now() - last > GRACE_SECONDS):
            self._queue.add(_NODE + name)

    def _node_changed(self, old: Document | None, new: Document | None) -> None:
        if new is None:
            assert old is not None
            self._renewed.pop(old["metadata"]["name"], None)
            self._look_at_pods(old["metadata"]["name"])
            return
        name = new["metadata"]["name"]
        if old is None or _ready(old) != _ready(new) or _taints(old) != _taints(new):
            self._queue.add(_NODE + name)
        if old is None or _taints(old) != _taints(new):
            self._missing.pop(name, None)
            self._look_at_pods(name)

    def _pod_changed(self, old: Document | None, new: Document | None) -> None:
        if new is None:
            assert old is not None
            self._planned.discard(old["metadata"]["uid"])
        elif node_name(new) and (old is None or node_name(old) != node_name(new)):
            self._queue.add(_POD + key_of(new))

    def _look_at_pods(self, node: str) -> None:
        for pod in self._pods.by_index("node", node):
            self._queue.add(_POD + key_of(pod))

    async def _sync(self, key: str) -> None:
        if key.startswith(_NODE):
            await self._sync_node(key.removeprefix(_NODE))
        else:
            await self._sync_pod(key.removeprefix(_POD))

    # --- nodes ------------------------------------------------------------------------------------

    async def _sync_node(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is None or is_deleting(node):
            return
        if name in self._renewed:
            left = self._renewed[name] + GRACE_SECONDS - self._clock.now()
            if left > 0:
                self._queue.add_after(_NODE + name, left)
            elif _ready(node) not in ("Unknown", None):
                node = await self._mark_unknown(node)
        await self._taint(node)

    async def _mark_unknown(self, node: Document) -> Document:
        now = timestamp(self._clock.now())
        conditions = (node.get("status") or {}).get("conditions") or []
        for type in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure"):
            before = condition(node, type)
            if before is not None and before.get("status") != "Unknown":
                row = {
                    **before,
                    "status": "Unknown",
                    "reason": "NodeStatusUnknown",
                    "message": "Kubelet stopped posting node status.",
                }
                conditions = set_condition([r for r in conditions if r["type"] != type], row, now)
        self._recorder.event(
            node, "Normal", "NodeNotReady", f"Node {node['metadata']['name']} status is now: NodeNotReady"
        )
        return await write_status(self._client, NODES, node, {"conditions": conditions}) or node

    async def _taint(self, node: Document) -> None:
        """Give the node the taints that its Ready condition asks for, and no other of that kind."""
        key = {"True": None, "False": NOT_READY, "Unknown": UNREACHABLE, None: None}.get(_ready(node))
        taints = _taints(node)
        kept = [t for t in taints if t.get("key") not in (NOT_READY, UNREACHABLE) or t.get("key") == key]
        for effect in ("NoSchedule", "NoExecute"):
            if key and not any(t.get("key") == key and t.get("effect") == effect for t in kept):
                added = {"timeAdded": timestamp(self._clock.now())}
                kept = [*kept, {"key": key, "effect": effect, **added}]
        if kept == taints:
            return
        meta = node["metadata"]
        patch = {
            "metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
            "spec": {"taints": kept or None},
        }
        try:
            await self._client.patch(NODES, meta["name"], patch)
        except NotFound:
            return

    # --- pods -------------------------------------------------------------------------------------

    async def _sync_pod(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None or not node_name(pod):
            return
        node = self._nodes.get(node_name(pod))
        if node is None:
            await self._collect(key, pod)
            return
        if is_deleting(pod) or is_terminal(pod):
            return
        uid = pod["metadata"]["uid"]
        tolerations = (pod.get("spec") or {}).get("tolerations") or ()
        due = eviction_time(_taints(node), tolerations, self._clock.now())
        if due == FOREVER:
            if uid in self._planned:
                self._planned.discard(uid)
                text = f"Cancelling deletion of Pod {key}"
                self._recorder.event(pod, "Normal", "TaintManagerEviction", text)
            return
        self._planned.add(uid)
        left = due - self._clock.now()
        if left > 0:
            self._queue.add_after(_POD + key, left)
            return
        text = f"Marking for deletion Pod {key}"
        self._recorder.event(pod, "Normal", "TaintManagerEviction", text)
        message = "Taint manager: deleting due to NoExecute taint"
        await delete_pod(self._client, self._clock, pod, "DeletionByTaintManager", message)

    async def _collect(self, key: str, pod: Document) -> None:
        """Delete a pod of a node that is gone for good."""
        name = node_name(pod)
        since = self._missing.setdefault(name, self._clock.now())
        left = since + QUARANTINE_SECONDS - self._clock.now()
        if left > 0:
            self._queue.add_after(_POD + key, left)
            return
        try:
            await self._client.get(NODES, name)
        except NotFound:
            message = f"PodGC: node {name} no longer exists"
            phase = "" if is_terminal(pod) else "Failed"
            await delete_pod(
                self._client,
                self._clock,
                pod,
                "DeletionByPodGC",
                message,
                phase=phase,
                grace_period_seconds=0,
            )


def _node_of(pod: Document) -> list[str]:
    return [node_name(pod)] if node_name(pod) else []


def _ready(node: Document) -> str | None:
    return (condition(node, "Ready") or {}).get("status")


def _taints(node: Document) -> list[Document]:
    return (node.get("spec") or {}).get("taints") or []
