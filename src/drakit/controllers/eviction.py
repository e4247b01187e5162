"""Deleting pods whose device is tainted, when their tolerations have run out.

A pod is looked at when its claims, the slices of its devices or the taint rules change. Its time is the
earliest at which a NoExecute taint of one of its devices is not tolerated any more; a timer brings it
back then, and only what still holds then counts, so a taint that goes away in time needs no undoing.

A DeviceTaintRule says in its status how far that is: how many pods are still to go, or, with effect
None, once for each change of its spec, what NoExecute would do.

Source: pkg/controller/devicetainteviction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drakit.client.api import DEVICE_TAINT_RULES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from drakit.client.clock import timestamp
from drakit.client.informer import Informer, key_of
from drakit.controllers.context import Context
from drakit.controllers.deletion import delete_pod
from drakit.controllers.pod import claim_names, is_deleting, is_terminal, node_name
from drakit.controllers.toleration import FOREVER, eviction_time
from drakit.controllers.workload import set_condition, write_status
from drakit.errors import NotFound
from drakit.profile import Gate
from drakit.transport import Document

_POD, _RULE = "pod:", "rule:"
_REASON = "DeviceTaintManagerEviction"
_CONDITION = "EvictionInProgress"
_REPORT_SECONDS = 1.0


class DeviceEviction:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._queue = context.queue()
        self._recorder = context.recorder("device-taint-eviction")
        self._pods = context.informer(PODS)
        self._claims = context.informer(RESOURCE_CLAIMS)
        self._slices = context.informer(RESOURCE_SLICES)
        self._rules: Informer | None = None
        self._planned: set[str] = set()
        self._evicted: dict[str, int] = {}
        self._slices.add_index("pool", _pool_of)
        self._claims.add_index("device", _devices_of)
        self._pods.add_handler(self._pod_changed)
        self._claims.add_handler(self._claim_changed)
        self._slices.add_handler(self._slice_changed)
        if context.profile.is_on(Gate.DEVICE_TAINT_RULES):
            self._rules = context.informer(DEVICE_TAINT_RULES)
            self._rules.add_handler(self._rule_changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=4, name="device eviction")

    # --- what makes work --------------------------------------------------------------------------

    def _pod_changed(self, old: Document | None, new: Document | None) -> None:
        if new is None:
            assert old is not None
            self._planned.discard(old["metadata"]["uid"])
            if claim_names(old):
                self._touch_rules()
        elif claim_names(new) and (old is None or node_name(old) != node_name(new)):
            self._queue.add(_POD + key_of(new))

    def _claim_changed(self, old: Document | None, new: Document | None) -> None:
        if (old is None or not _results(old)) and (new is None or not _results(new)):
            return
        for claim in (old, new):
            if claim is not None:
                self._look_at_users(claim)

    def _slice_changed(self, old: Document | None, new: Document | None) -> None:
        before, after = _tainted(old), _tainted(new)
        for device in before.keys() | after.keys():
            if before.get(device) != after.get(device):
                for claim in self._claims.by_index("device", device):
                    self._look_at_users(claim)

    def _rule_changed(self, old: Document | None, new: Document | None) -> None:
        if new is not None:
            self._queue.add(_RULE + key_of(new))
        elif old is not None:
            self._evicted.pop(old["metadata"]["uid"], None)
        if old is not None and new is not None and old["spec"] == new["spec"]:
            return
        for claim in self._claims.items():
            if any(_selects(rule, row) for rule in (old, new) if rule for row in _results(claim)):
                self._look_at_users(claim)

    def _look_at_users(self, claim: Document) -> None:
        for consumer in (claim.get("status") or {}).get("reservedFor") or ():
            if consumer.get("resource") == "pods" and not consumer.get("apiGroup"):
                self._queue.add(f"{_POD}{claim['metadata']['namespace']}/{consumer['name']}")

    def _touch_rules(self) -> None:
        for rule in self._rules.items() if self._rules is not None else ():
            if rule["spec"]["taint"].get("effect") == "NoExecute":
                self._queue.add_after(_RULE + key_of(rule), _REPORT_SECONDS)

    async def _sync(self, key: str) -> None:
        if key.startswith(_POD):
            await self._sync_pod(key.removeprefix(_POD))
        else:
            await self._sync_rule(key.removeprefix(_RULE))

    # --- pods -------------------------------------------------------------------------------------

    async def _sync_pod(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None or is_deleting(pod) or is_terminal(pod) or not node_name(pod):
            return
        uid = pod["metadata"]["uid"]
        due, rules = self._due(pod)
        if due == FOREVER:
            if uid in self._planned:
                self._planned.discard(uid)
                self._recorder.event(pod, "Normal", _REASON, "Cancelling deletion")
            return
        self._planned.add(uid)
        self._touch_rules()
        left = due - self._clock.now()
        if left > 0:
            self._queue.add_after(_POD + key, left)
            return
        self._recorder.event(pod, "Normal", _REASON, "Marking for deletion")
        message = "Device Taint manager: deleting due to NoExecute taint"
        await delete_pod(self._client, self._clock, pod, "DeletionByDeviceTaintManager", message)
        for rule in rules:
            self._evicted[rule] = self._evicted.get(rule, 0) + 1

    def _due(self, pod: Document) -> tuple[float, set[str]]:
        """When the pod has to go, and the uids of the taint rules that say so by now."""
        earliest, now = FOREVER, self._clock.now()
        rules: set[str] = set()
        for row in self._devices(pod):
            tolerations = row.get("tolerations") or ()
            earliest = min(earliest, eviction_time(self._taints(row), tolerations, now))
            for rule in self._rules.items() if self._rules is not None else ():
                if _selects(rule, row) and eviction_time([rule["spec"]["taint"]], tolerations, now) < FOREVER:
                    rules.add(rule["metadata"]["uid"])
        return earliest, rules

    def _devices(self, pod: Document) -> Iterator[Document]:
        """The allocation results of the claims that are reserved for the pod."""
        meta = pod["metadata"]
        for name in claim_names(pod):
            claim = self._claims.get(f"{meta['namespace']}/{name}")
            reserved = ((claim or {}).get("status") or {}).get("reservedFor") or ()
            if claim is not None and any(row.get("uid") == meta["uid"] for row in reserved):
                yield from _results(claim)

    def _taints(self, row: Document) -> list[Document]:
        """The taints of an allocated device: its own in the newest slices, and those of rules."""
        slices = self._slices.by_index("pool", f"{row['driver']}/{row['pool']}")
        newest = max((s["spec"]["pool"].get("generation", 0) for s in slices), default=0)
        taints = [
            taint
            for document in slices
            if document["spec"]["pool"].get("generation", 0) == newest
            for taint in _dated(document, _tainted(document).get(_device_id(row), ()))
        ]
        for rule in self._rules.items() if self._rules is not None else ():
            if _selects(rule, row):
                taints += _dated(rule, [rule["spec"]["taint"]])
        return taints

    # --- rules ------------------------------------------------------------------------------------

    async def _sync_rule(self, key: str) -> None:
        rule = self._rules.get(key) if self._rules is not None else None
        if rule is None or is_deleting(rule):
            return
        effect = rule["spec"]["taint"].get("effect")
        conditions = (rule.get("status") or {}).get("conditions") or []
        generation = rule["metadata"].get("generation", 0)
        before = next((row for row in conditions if row["type"] == _CONDITION), None)
        if effect != "NoExecute" and before is not None and before.get("observedGeneration") == generation:
            return
        pods = self._pods_to_evict(rule)
        done = self._evicted.get(rule["metadata"]["uid"], 0)
        past = f"{_count(done, 'pod')} evicted since starting the controller." if done else ""
        if effect == "None":
            reason, text = "NoEffect", self._preview(rule, pods)
        elif effect != "NoExecute":
            reason, text = "OtherEffect", "Eviction only happens for the NoExecute effect."
        else:
            reason = "PodsPendingEviction" if pods else "Completed" if done else "NotStarted"
            needs = "needs" if len(pods) == 1 else "need"
            text = f"{_count(len(pods), 'pod')} {needs} to be evicted in {_namespaces(pods)}." if pods else ""
        row: Document = {
            "type": _CONDITION,
            "status": "True" if reason == "PodsPendingEviction" else "False",
            "reason": reason,
            "message": " ".join(filter(None, (text, past))),
            "observedGeneration": generation,
        }
        same = ("status", "reason", "message", "observedGeneration")
        if before is not None and all(before.get(field) == row[field] for field in same):
            return
        conditions = set_condition(conditions, row, timestamp(self._clock.now()))
        try:
            await write_status(self._client, DEVICE_TAINT_RULES, rule, {"conditions": conditions})
        except NotFound:
            return

    def _pods_to_evict(self, rule: Document) -> list[Document]:
        """The pods that run on devices of the rule and do not tolerate it for ever."""
        taint = {**rule["spec"]["taint"], "effect": "NoExecute"}
        found: dict[str, Document] = {}
        for claim in self._claims.items():
            rows = [row for row in _results(claim) if _selects(rule, row)]
            if not any(eviction_time([taint], row.get("tolerations") or (), 0) < FOREVER for row in rows):
                continue
            for consumer in (claim.get("status") or {}).get("reservedFor") or ():
                pod = self._pods.get(f"{claim['metadata']['namespace']}/{consumer['name']}")
                if pod is not None and pod["metadata"]["uid"] == consumer["uid"] and node_name(pod):
                    found[consumer["uid"]] = pod
        return list(found.values())

    def _preview(self, rule: Document, pods: list[Document]) -> str:
        published = sum(
            1
            for document in self._slices.items()
            for device in document["spec"].get("devices") or ()
            if _selects(rule, _identity(document, device))
        )
        allocated = {
            _device_id(row) for c in self._claims.items() for row in _results(c) if _selects(rule, row)
        }
        return (
            f"{_count(published, 'published device')} selected. "
            f"{_count(len(allocated), 'allocated device')} selected. "
            f"{_count(len(pods), 'pod')} would be evicted in {_namespaces(pods)} "
            "if the effect was NoExecute. "
            "This information will not be updated again. Recreate the DeviceTaintRule to trigger an update."
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _namespaces(pods: Iterable[Document]) -> str:
    number = len({pod["metadata"]["namespace"] for pod in pods})
    return "1 namespace" if number == 1 else f"{number} different namespaces"


def _results(claim: Document) -> list[Document]:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return (allocation.get("devices") or {}).get("results") or []


def _device_id(row: Document) -> str:
    return f"{row['driver']}/{row['pool']}/{row['device']}"


def _devices_of(claim: Document) -> list[str]:
    return list({_device_id(row) for row in _results(claim)})


def _pool_of(document: Document) -> list[str]:
    return [f"{document['spec']['driver']}/{document['spec']['pool']['name']}"]


def _identity(document: Document, device: Document) -> Document:
    spec = document["spec"]
    return {"driver": spec["driver"], "pool": spec["pool"]["name"], "device": device["name"]}


def _tainted(document: Document | None) -> dict[str, list[Document]]:
    """The taints of a slice's devices that have any."""
    if document is None:
        return {}
    return {
        _device_id(_identity(document, device)): device["taints"]
        for device in document["spec"].get("devices") or ()
        if device.get("taints")
    }


def _dated(source: Document, taints: Iterable[Document]) -> list[Document]:
    """`taints` with the time they count from: when they were added, else when their object was made."""
    created = source["metadata"].get("creationTimestamp")
    return [taint if taint.get("timeAdded") else {**taint, "timeAdded": created} for taint in taints]


def _selects(rule: Document, row: Document) -> bool:
    """Whether a rule is about a device. Without a selector it is about none, with an empty one about all."""
    selector = rule["spec"].get("deviceSelector")
    if selector is None:
        return False
    return all(selector.get(field) in (None, row[field]) for field in ("driver", "pool", "device"))
