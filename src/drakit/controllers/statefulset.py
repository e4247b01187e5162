"""StatefulSets: pods with names and numbers, made and replaced in order.

Pod NAME-N is made when the pods before it run and are ready, and goes when those after it have gone; with
`podManagementPolicy: Parallel` nobody waits. A failed pod is replaced under its name. An update replaces
pods from the highest number down to `partition`, one (`maxUnavailable`) at a time, each when the one before
is back; with OnDelete people delete them. Volumes are not made: a set with `volumeClaimTemplates` gets no
pods, and an event says why.

Source: pkg/controller/statefulset.
"""

from __future__ import annotations

from msgspec import Struct

from drakit.client.api import PODS, Resource
from drakit.client.informer import key_of
from drakit.controllers.adoption import Adoption
from drakit.controllers.context import Context
from drakit.controllers.history import CONTROLLER_REVISIONS, HASH_LABEL, History, hash_of, template_of
from drakit.controllers.pod import available_in, is_deleting, is_ready, is_terminal, phase
from drakit.controllers.recent import Recent
from drakit.controllers.workload import PodControl, pod_from, portion, write_status
from drakit.errors import NotFound
from drakit.transport import Document

STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
POD_NAME, POD_INDEX = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"
_WORKERS = 2


class StatefulSets:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._queue = context.queue()
        self._recorder = context.recorder("statefulset-controller")
        self._sets = context.informer(STATEFUL_SETS)
        pods, revisions = context.informer(PODS), context.informer(CONTROLLER_REVISIONS)
        recent = Recent(pods, context.clock)
        self._control = PodControl(context.client, STATEFUL_SETS, recent, self._recorder)
        self._adoption = Adoption(context.client, self._sets, pods, recent)
        self._history = History(context.client, STATEFUL_SETS, revisions, Recent(revisions, context.clock))
        self._sets.add_handler(lambda old, new: self._queue.add(key_of(new)) if new else None)
        pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=_WORKERS, name="statefulset")

    def _pod_changed(self, old: Document | None, new: Document | None) -> None:
        for key in self._adoption.concerned(new or old):
            self._queue.add(key)

    async def _sync(self, key: str) -> None:
        stateful_set = self._sets.get(key)
        if stateful_set is None or is_deleting(stateful_set):
            return
        pods = await self._adoption.gather(stateful_set)
        update = await self._history.update(stateful_set)
        known = {hash_of(row): row for row in self._history.all(stateful_set)}
        current_name = ((stateful_set.get("status") or {}).get("currentRevision") or "").rpartition("-")[2]
        state = State(stateful_set, pods, known.get(current_name, update), update, self._clock.now())
        if stateful_set["spec"].get("volumeClaimTemplates"):
            text = "spec.volumeClaimTemplates: volumes are not made here: no pods are created"
            self._recorder.event(stateful_set, "Warning", "FailedCreate", text)
        else:
            await self._act(state)
        await self._report(state)
        in_use = {hash_of(pod) for pod in pods} | {hash_of(state.current), hash_of(update)}
        await self._history.trim(stateful_set, in_use)

    async def _act(self, state: State) -> None:
        """The next step towards the wanted pods."""
        owner = state.owner
        for pod in state.broken():
            name = pod["metadata"]["name"]
            text = f"StatefulSet {key_of(owner)} is recreating {phase(pod).lower()} pod {name}"
            self._recorder.event(owner, "Warning", "RecreatingFailedPod", text)
            await self._control.delete(owner, [pod])
        missing = [self._pod(state, number) for number in state.to_create()]
        made = await self._control.create(owner, missing)
        state.pods |= {number_of(owner, pod): pod for pod in made}
        await self._control.delete(owner, state.to_delete())

    def _pod(self, state: State, number: int) -> Document:
        """The pod with that number, of the template its number is due."""
        owner, revision = state.owner, state.revision_for(number)
        pod = pod_from(owner, STATEFUL_SETS, template_of(revision))
        name = f"{owner['metadata']['name']}-{number}"
        metadata = {key: value for key, value in pod["metadata"].items() if key != "generateName"}
        labels = {POD_NAME: name, POD_INDEX: str(number), HASH_LABEL: hash_of(revision)}
        metadata |= {"name": name, "labels": (metadata.get("labels") or {}) | labels}
        spec = pod["spec"] | {"hostname": name, "subdomain": owner["spec"].get("serviceName") or ""}
        return pod | {"metadata": metadata, "spec": spec}

    async def _report(self, state: State) -> None:
        owner = state.owner
        pods = [pod for pod in state.pods.values() if not is_terminal(pod)]
        current, update = hash_of(state.current), hash_of(state.update)
        updated = sum(hash_of(pod) == update and not is_deleting(pod) for pod in pods)
        is_done = state.is_settled() and updated == state.replicas
        name = state.update["metadata"]["name"] if is_done else state.current["metadata"]["name"]
        waits = [wait for pod in pods if (wait := state.available_in(pod)) is not None]
        if is_done:
            current = update
        status: Document = {
            "replicas": len(pods),
            "readyReplicas": sum(is_ready(pod) for pod in pods) or None,
            "availableReplicas": sum(wait == 0 for wait in waits),
            "currentReplicas": sum(hash_of(p) == current and not is_deleting(p) for p in pods) or None,
            "updatedReplicas": updated or None,
            "currentRevision": name,
            "updateRevision": state.update["metadata"]["name"],
            "collisionCount": 0,
            "observedGeneration": owner["metadata"].get("generation", 0),
        }
        try:
            await write_status(self._client, STATEFUL_SETS, owner, status)
        except NotFound:
            return
        late = [wait for wait in waits if wait > 0]
        if late:
            self._queue.add_after(key_of(owner), min(late))


class State(Struct, eq=False):
    """A set and its pods at one moment, and what is to be done next. `pods` by number."""

    owner: Document
    owned: list[Document]
    current: Document
    update: Document
    now: float
    pods: dict[int, Document] = {}

    def __post_init__(self) -> None:
        self.pods = {number: pod for pod in self.owned if (number := number_of(self.owner, pod)) >= 0}

    @property
    def replicas(self) -> int:
        return int(self.owner["spec"].get("replicas", 1))

    @property
    def wanted(self) -> range:
        start = int((self.owner["spec"].get("ordinals") or {}).get("start") or 0)
        return range(start, start + self.replicas)

    @property
    def is_parallel(self) -> bool:
        return bool(self.owner["spec"].get("podManagementPolicy") == "Parallel")

    def _rolling(self) -> Document | None:
        strategy = self.owner["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return None
        return strategy.get("rollingUpdate") or {}

    def revision_for(self, number: int) -> Document:
        """Of which template the pod with that number is to be made: below the partition the one before."""
        rolling = self._rolling()
        if rolling is None:
            return self.current if self.pods else self.update
        return self.update if number >= self.wanted.start + (rolling.get("partition") or 0) else self.current

    def available_in(self, pod: Document) -> float | None:
        return available_in(pod, self.owner["spec"].get("minReadySeconds") or 0, self.now)

    def _is_healthy(self, number: int) -> bool:
        pod = self.pods.get(number)
        return pod is not None and not is_deleting(pod) and self.available_in(pod) == 0

    def is_settled(self) -> bool:
        """Whether all wanted pods are healthy, and there are no others."""
        return self.pods.keys() == set(self.wanted) and all(map(self._is_healthy, self.wanted))

    def broken(self) -> list[Document]:
        """Pods that have ended and are to be made anew."""
        return [self.pods[n] for n in self.wanted if n in self.pods and self._has_ended(self.pods[n])]

    @staticmethod
    def _has_ended(pod: Document) -> bool:
        return is_terminal(pod) and not is_deleting(pod)

    def to_create(self) -> list[int]:
        """The numbers that get a pod now: in order the first that is missing, when those before it are
        healthy."""
        missing = [number for number in self.wanted if number not in self.pods]
        if self.is_parallel or not missing:
            return missing
        before = [number for number in self.wanted if number < missing[0]]
        return missing[:1] if all(map(self._is_healthy, before)) else []

    def to_delete(self) -> list[Document]:
        """The pods that go now: those beyond the wanted, then those of an older template."""
        surplus = sorted((n for n in self.pods if n not in self.wanted), reverse=True)
        if surplus:
            going = [n for n in surplus if is_deleting(self.pods[n])]
            if self.is_parallel:
                return [self.pods[n] for n in surplus if n not in going]
            is_calm = not going and all(map(self._is_healthy, self.wanted))
            return [self.pods[surplus[0]]] if is_calm else []
        rolling = self._rolling()
        if rolling is None or any(number not in self.pods for number in self.wanted):
            return []
        return self._outdated(rolling)

    def _outdated(self, rolling: Document) -> list[Document]:
        """From the highest number down, as long as not too many are away; a pod that does not get healthy
        holds up those below it, unless it is itself of an older template."""
        most = max(portion(rolling.get("maxUnavailable") or 1, self.replicas, up=True), 1)
        lowest = self.wanted.start + (rolling.get("partition") or 0)
        away = 0
        going: list[Document] = []
        for number in reversed(self.wanted):
            pod = self.pods[number]
            if number < lowest or away >= most:
                break
            if is_deleting(pod):
                away += 1
            elif hash_of(pod) != hash_of(self.update):
                going.append(pod)
                away += 1
            elif not self._is_healthy(number):
                away += 1
        return going


def number_of(owner: Document, pod: Document) -> int:
    """The number in the pod's name; -1 for a name that is not of the set."""
    head, _, tail = pod["metadata"]["name"].rpartition("-")
    return int(tail) if head == owner["metadata"]["name"] and tail.isdigit() else -1
