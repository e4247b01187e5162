"""The cells of a pod: what its containers come to in one word. Source: printers.go, printPod."""

from __future__ import annotations

import datetime
from typing import Any

from drakit.apiserver.table_text import age, parse_time
from drakit.transport import Document

Time = datetime.datetime
_FINAL = ("Failed", "Succeeded")


class _Summary:
    """What is learnt from container statuses, in upstream's order."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.restarts = 0
        self.ready = 0
        self.last_restart: Time | None = None

    def count(self, status: Document) -> None:
        self.restarts += status.get("restartCount") or 0
        ended = parse_time(((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt"))
        if ended is not None and (self.last_restart is None or ended > self.last_restart):
            self.last_restart = ended


def pod(document: Document, now: Time) -> list[Any]:
    metadata, spec, status = (document.get(key) or {} for key in ("metadata", "spec", "status"))
    summary = _summary(spec, status)
    if metadata.get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            summary.reason = "Unknown"
        elif status.get("phase") not in _FINAL:
            summary.reason = "Terminating"
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart is not None:
        restarts = f"{restarts} ({age(summary.last_restart.isoformat(), now)} ago)"
    inits = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    total = len(spec.get("containers") or ()) + len(inits)
    return [
        metadata.get("name", ""),
        f"{summary.ready}/{total}",
        summary.reason,
        restarts,
        age(metadata.get("creationTimestamp"), now),
        _address(status),
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        _gates(spec, status),
    ]


def _address(status: Document) -> str:
    addresses = status.get("podIPs") or ()
    first = addresses[0].get("ip") if addresses else status.get("podIP")
    return str(first or "<none>")


def _gates(spec: Document, status: Document) -> str:
    gates = spec.get("readinessGates") or ()
    if not gates:
        return "<none>"
    true = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    return f"{sum(1 for gate in gates if gate.get('conditionType') in true)}/{len(gates)}"


def _is_true(status: Document, condition: str) -> bool:
    return any(
        c.get("type") == condition and c.get("status") == "True" for c in status.get("conditions") or ()
    )


def _summary(spec: Document, status: Document) -> _Summary:
    reason = status.get("reason") or status.get("phase") or ""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    summary = _Summary(str(reason))
    is_starting = _init_containers(summary, spec, status)
    if is_starting and not _is_true(status, "Initialized"):
        return summary
    if is_starting:
        summary.reason = str(reason)
    _containers(summary, status)
    return summary


def _init_containers(summary: _Summary, spec: Document, status: Document) -> bool:
    """Whether an init container has still to end; then the reason says how far they are."""
    specs = {c.get("name"): c for c in spec.get("initContainers") or ()}
    restarts = 0
    for index, container in enumerate(status.get("initContainerStatuses") or ()):
        summary.count(container)
        is_restartable = (specs.get(container.get("name")) or {}).get("restartPolicy") == "Always"
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if is_restartable:
            restarts += container.get("restartCount") or 0
        if ended is not None and not ended.get("exitCode"):
            continue
        if is_restartable and container.get("started"):
            summary.ready += 1 if container.get("ready") else 0
            continue
        if ended is not None:
            summary.reason = f"Init:{_ending(ended)}"
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            summary.reason = f"Init:{waiting['reason']}"
        else:
            summary.reason = f"Init:{index}/{len(specs)}"
        return True
    summary.restarts = restarts
    return False


def _containers(summary: _Summary, status: Document) -> None:
    is_running = False
    for container in reversed(status.get("containerStatuses") or ()):
        summary.count(container)
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if waiting.get("reason"):
            summary.reason = str(waiting["reason"])
        elif ended is not None:
            summary.reason = _ending(ended)
        elif container.get("ready") and state.get("running") is not None:
            is_running = True
            summary.ready += 1
    if summary.reason == "Completed" and is_running:
        summary.reason = "Running" if _is_true(status, "Ready") else "NotReady"


def _ending(ended: Document) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode') or 0}"
