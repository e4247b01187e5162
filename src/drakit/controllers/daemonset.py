"""DaemonSets: one pod on every node that fits.

The pod for a node is tied to it by node affinity on the node's name; the scheduler binds it. A node fits
when its labels match the template's node selector and affinity and its taints are tolerated (with the
tolerations that every daemon gets). A node gets a new pod only when the old one is gone, since drivers hold
sockets, unless the update surges: `drakit.controllers.daemonset_update`.

Source: pkg/controller/daemon.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from drakit.client.api import DAEMON_SETS, NODES, PODS
from drakit.client.informer import key_of
from drakit.controllers.adoption import Adoption
from drakit.controllers.context import Context
from drakit.controllers.daemonset_update import plan_update
from drakit.controllers.history import CONTROLLER_REVISIONS, HASH_LABEL, History, hash_of
from drakit.controllers.pod import available_in, is_deleting, is_ready, is_terminal, node_name, phase
from drakit.controllers.recent import Recent
from drakit.controllers.toleration import tolerates
from drakit.controllers.workload import PodControl, pod_from, write_status
from drakit.errors import BadRequest, NotFound
from drakit.model.meta import NodeSelector
from drakit.model.selector import read_node_selector
from drakit.transport import Document

GENERATION_LABEL = "pod-template-generation"
_PREFIX = "node.kubernetes.io/"
_TOLERATED = [
    {"key": _PREFIX + "not-ready", "operator": "Exists", "effect": "NoExecute"},
    {"key": _PREFIX + "unreachable", "operator": "Exists", "effect": "NoExecute"},
    {"key": _PREFIX + "disk-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": _PREFIX + "memory-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": _PREFIX + "pid-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": _PREFIX + "unschedulable", "operator": "Exists", "effect": "NoSchedule"},
]


class DaemonSets:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._queue = context.queue()
        self._recorder = context.recorder("daemonset-controller")
        self._sets = context.informer(DAEMON_SETS)
        self._nodes = context.informer(NODES)
        pods = context.informer(PODS)
        recent = Recent(pods, context.clock)
        self._control = PodControl(context.client, DAEMON_SETS, recent, self._recorder)
        self._adoption = Adoption(context.client, self._sets, pods, recent)
        revisions = context.informer(CONTROLLER_REVISIONS)
        self._history = History(context.client, DAEMON_SETS, revisions, Recent(revisions, context.clock))
        self._sets.add_handler(lambda old, new: self._queue.add(key_of(new)) if new else None)
        self._nodes.add_handler(self._node_changed)
        pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=2, name="daemonset")

    def _pod_changed(self, old: Document | None, new: Document | None) -> None:
        for key in self._adoption.concerned(new or old):
            self._queue.add(key)

    def _node_changed(self, old: Document | None, new: Document | None) -> None:
        if old is not None and new is not None and _placement(old) == _placement(new):
            return
        for daemon_set in self._sets.items():
            self._queue.add(key_of(daemon_set))

    async def _sync(self, key: str) -> None:
        daemon_set = self._sets.get(key)
        if daemon_set is None:
            return
        if is_deleting(daemon_set):
            return
        spec = daemon_set["spec"]
        name = hash_of(await self._history.update(daemon_set))
        matcher = _Matcher(spec["template"].get("spec") or {})
        wanted = {node["metadata"]["name"]: node for node in self._nodes.items() if matcher.fits(node)}
        by_node: dict[str, list[Document]] = {}
        for pod in await self._adoption.gather(daemon_set):
            by_node.setdefault(_target(pod), []).append(pod)
        surplus = [pod for node, pods in by_node.items() if node not in wanted for pod in pods]
        surplus += [pod for node in wanted for pod in _surplus(by_node.get(node, []))]
        await self._control.delete(daemon_set, [pod for pod in surplus if not is_deleting(pod)])
        missing = {node for node in wanted if not by_node.get(node)}
        there = {node: [p for p in by_node.get(node, []) if p not in surplus] for node in wanted}
        update = plan_update(daemon_set, there, name, self._clock.now())
        await self._control.delete(daemon_set, update.outdated)
        pods = [self._pod(daemon_set, node, name) for node in sorted(missing | update.surging)]
        for pod in await self._control.create(daemon_set, pods):
            by_node.setdefault(_target(pod), []).append(pod)
        running = {node: _best(by_node[node]) for node in wanted if by_node.get(node)}
        await self._report(daemon_set, wanted, running, by_node, name)
        in_use = {hash_of(pod) for pods in by_node.values() for pod in pods}
        await self._history.trim(daemon_set, {name, *in_use})

    def _pod(self, daemon_set: Document, node: str, name: str) -> Document:
        """The pod of `daemon_set` for `node`, with what ties it there."""
        pod = pod_from(daemon_set, DAEMON_SETS, daemon_set["spec"]["template"])
        spec = dict(pod["spec"])
        affinity = dict(spec.get("affinity") or {})
        on_nodes = dict(affinity.get("nodeAffinity") or {})
        field = {"key": "metadata.name", "operator": "In", "values": [node]}
        terms = (on_nodes.get(_REQUIRED) or {}).get("nodeSelectorTerms") or [{}]
        # The name alone decides: every term of the template was checked on this node already.
        on_nodes[_REQUIRED] = {"nodeSelectorTerms": [{**term, "matchFields": [field]} for term in terms]}
        spec["affinity"] = affinity | {"nodeAffinity": on_nodes}
        spec["tolerations"] = [*(spec.get("tolerations") or ()), *_daemon_tolerations(spec)]
        generation = str(daemon_set["metadata"].get("generation", 1))
        labels = (pod["metadata"].get("labels") or {}) | {HASH_LABEL: name, GENERATION_LABEL: generation}
        return pod | {"metadata": pod["metadata"] | {"labels": labels}, "spec": spec}

    async def _report(
        self,
        daemon_set: Document,
        wanted: dict[str, Document],
        running: dict[str, Document],
        by_node: dict[str, list[Document]],
        name: str,
    ) -> None:
        min_ready, now = daemon_set["spec"].get("minReadySeconds") or 0, self._clock.now()
        waits = [w for pod in running.values() if (w := available_in(pod, min_ready, now)) is not None]
        available = sum(1 for wait in waits if wait == 0)
        stray = [n for n, pods in by_node.items() if n not in wanted and any(node_name(p) for p in pods)]
        status: Document = {
            "desiredNumberScheduled": len(wanted),
            "currentNumberScheduled": len(running),
            "numberMisscheduled": len(stray),
            "numberReady": sum(1 for pod in running.values() if is_ready(pod)),
            "updatedNumberScheduled": sum(1 for pod in running.values() if hash_of(pod) == name) or None,
            "numberAvailable": available or None,
            "numberUnavailable": len(wanted) - available or None,
            "observedGeneration": daemon_set["metadata"].get("generation", 0),
        }
        try:
            await write_status(self._client, DAEMON_SETS, daemon_set, status)
        except NotFound:
            return
        late = [wait for wait in waits if wait > 0]
        if late:
            self._queue.add_after(key_of(daemon_set), min(late))


_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


class _Matcher:
    """Which nodes a daemon's pod template fits."""

    def __init__(self, spec: Document) -> None:
        self._labels: dict[str, str] = spec.get("nodeSelector") or {}
        self._tolerations = [*(spec.get("tolerations") or ()), *_daemon_tolerations(spec)]
        affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED)
        self._is_broken = False
        self._affinity = None
        if affinity:
            try:
                self._affinity = read_node_selector(msgspec.convert(affinity, NodeSelector))
            except (BadRequest, msgspec.ValidationError):
                self._is_broken = True

    def fits(self, node: Document) -> bool:
        meta = node["metadata"]
        labels = meta.get("labels") or {}
        if self._is_broken or any(labels.get(key) != value for key, value in self._labels.items()):
            return False
        if self._affinity is not None and not self._affinity.matches(meta["name"], labels):
            return False
        taints = (node.get("spec") or {}).get("taints") or ()
        return all(
            any(tolerates(toleration, taint) for toleration in self._tolerations)
            for taint in taints
            if taint.get("effect") in ("NoSchedule", "NoExecute")
        )


def _daemon_tolerations(spec: Document) -> list[Document]:
    more = (
        [{"key": _PREFIX + "network-unavailable", "operator": "Exists", "effect": "NoSchedule"}]
        if spec.get("hostNetwork")
        else []
    )
    have = spec.get("tolerations") or ()
    return [toleration for toleration in [*_TOLERATED, *more] if toleration not in have]


def _placement(node: Document) -> tuple[object, object]:
    return node["metadata"].get("labels"), (node.get("spec") or {}).get("taints")


def _target(pod: Document) -> str:
    """The node a daemon's pod is on or is meant for."""
    if node_name(pod):
        return node_name(pod)
    affinity = ((pod.get("spec") or {}).get("affinity") or {}).get("nodeAffinity") or {}
    for term in (affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and len(field.get("values") or ()) == 1:
                return str(field["values"][0])
    return ""


def _surplus(pods: list[Document]) -> Iterable[Document]:
    """Pods of one node that should go: failed ones, and all but the best of several of one template."""
    for name in {hash_of(pod) for pod in pods}:
        alike = [pod for pod in pods if hash_of(pod) == name]
        best = _best(alike)
        for pod in alike:
            if pod is not best or is_terminal(pod):
                yield pod


def _best(pods: list[Document]) -> Document:
    return max(
        pods,
        key=lambda pod: (
            not is_terminal(pod),
            not is_deleting(pod),
            is_ready(pod),
            phase(pod) == "Running",
            bool(node_name(pod)),
        ),
    )
