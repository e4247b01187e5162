"""The status of a pod, as a pure function of its containers: what the kubelet would write.

Source: pkg/kubelet/kubelet_pods.go (getPhase, convertToAPIContainerStatuses), pkg/kubelet/status.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from drakit.client.clock import timestamp
from drakit.node.runtime import Container
from drakit.transport import Document


class View(Struct, kw_only=True):
    """One container of a pod as far as it has come. `current` is the last attempt and `previous` the one
    before; `waiting` is (reason, message) while none runs."""

    spec: Document
    current: Container | None = None
    previous: Container | None = None
    waiting: tuple[str, str] | None = None
    is_ready: bool = False
    is_started: bool = False
    messages: dict[str, str] = field(default_factory=dict)
    resources_status: list[Document] = field(default_factory=list)
    image_id: str = ""

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def is_sidecar(self) -> bool:
        """An init container that keeps running (restartPolicy Always)."""
        return self.spec.get("restartPolicy") == "Always"

    @property
    def is_running(self) -> bool:
        return self.current is not None and self.current.state == "running"

    @property
    def exit_code(self) -> int | None:
        """Of the last attempt, None while it has not ended (or there is none)."""
        if self.current is None or self.current.state != "exited":
            return None
        return self.current.exit_code


class Progress(Struct, kw_only=True):
    """Everything else a status depends on. `conditions` are those last written, `verdict` is (reason,
    message) of a pod that was ended as a whole; `is_over` when all its containers have ended for good and
    nothing is held for it any more."""

    inits: list[View]
    mains: list[View]
    ephemerals: list[View] = field(default_factory=list)
    conditions: list[Document] = field(default_factory=list)
    runtime_name: str
    host_ip: str
    pod_ip: str
    start_time: str
    now: float
    has_sandbox: bool = False
    is_over: bool = False
    verdict: tuple[str, str] | None = None


def are_inits_done(inits: Sequence[View]) -> bool:
    """Whether the containers proper may start."""
    return all(view.is_started if view.is_sidecar else view.exit_code == 0 for view in inits)


def phase(pod: Document, progress: Progress) -> str:
    """Pending, Running, Succeeded or Failed."""
    spec = pod.get("spec") or {}
    policy = spec.get("restartPolicy", "Always")
    if progress.is_over:
        codes = [view.exit_code for view in progress.mains]
        did_init = all(view.is_sidecar or view.exit_code == 0 for view in progress.inits)
        is_well = did_init and not progress.verdict and all(code == 0 for code in codes)
        return "Succeeded" if is_well else "Failed"
    if not are_inits_done(progress.inits) and all(view.current is None for view in progress.mains):
        failed = [v for v in progress.inits if not v.is_sidecar and v.exit_code not in (None, 0)]
        return "Failed" if failed and policy == "Never" else "Pending"
    if any(view.current is None for view in progress.mains):
        return "Pending"
    return "Running"


def build(pod: Document, progress: Progress) -> Document:
    """The whole status that the node writes, `resourceClaimStatuses` and the like left to others."""
    spec = pod.get("spec") or {}
    now_phase = phase(pod, progress)
    if now_phase in ("Succeeded", "Failed") and not progress.is_over:
        now_phase = "Running" if any(view.current for view in progress.mains) else "Pending"
    status: Document = {"phase": now_phase, "startTime": progress.start_time, "hostIP": progress.host_ip}
    status["hostIPs"] = [{"ip": progress.host_ip}]
    if progress.pod_ip:
        status |= {"podIP": progress.pod_ip, "podIPs": [{"ip": progress.pod_ip}]}
    if progress.verdict:
        status |= {"reason": progress.verdict[0], "message": progress.verdict[1]}
    status["qosClass"] = qos_class(spec)
    status["conditions"] = _conditions(pod, progress, now_phase)
    if progress.inits:
        status["initContainerStatuses"] = [_container_status(pod, progress, v) for v in progress.inits]
    status["containerStatuses"] = [_container_status(pod, progress, view) for view in progress.mains]
    if progress.ephemerals:
        shown = [_container_status(pod, progress, view) for view in progress.ephemerals]
        status["ephemeralContainerStatuses"] = shown
    if generation := pod["metadata"].get("generation"):
        status["observedGeneration"] = generation
    return status


# --- conditions -----------------------------------------------------------------------------------------


def _conditions(pod: Document, progress: Progress, now_phase: str) -> list[Document]:
    finished = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(now_phase)
    unready = [view.name for view in progress.mains if not (view.is_ready and view.is_running)]
    unready += [view.name for view in progress.inits if view.is_sidecar and not view.is_ready]
    not_ready = {
        "reason": "ContainersNotReady",
        "message": f"containers with unready status: [{' '.join(unready)}]",
    }
    is_initialized = are_inits_done(progress.inits) or any(view.current for view in progress.mains)
    waiting = [view.name for view in progress.inits if view.exit_code != 0 and not view.is_started]
    conditions: list[Document] = [
        _condition("PodReadyToStartContainers", progress.has_sandbox),
        _condition("Initialized", is_initialized)
        if is_initialized
        else _condition("Initialized", False)
        | {
            "reason": "ContainersNotInitialized",
            "message": f"containers with incomplete status: [{' '.join(waiting)}]",
        },
    ]
    if finished == "PodCompleted":
        conditions[1] |= {"reason": finished}
    for kind in ("Ready", "ContainersReady"):
        gates = [] if kind == "ContainersReady" else _unmet_gates(pod)
        if finished:
            conditions.append(_condition(kind, False) | {"reason": finished})
        elif unready:
            conditions.append(_condition(kind, False) | not_ready)
        elif gates:
            text = f"the status of pod readiness gate {gates[0]} is not True"
            conditions.append(_condition(kind, False) | {"reason": "ReadinessGatesNotReady", "message": text})
        else:
            conditions.append(_condition(kind, True))
    conditions.append(_condition("PodScheduled", True))
    return [_dated(pod, condition, progress) for condition in conditions]


def _condition(kind: str, is_true: bool) -> Document:
    return {"type": kind, "status": "True" if is_true else "False", "lastProbeTime": None}


def _dated(pod: Document, condition: Document, progress: Progress) -> Document:
    """With the time of its last change, which is the recorded one while the status is the same."""
    before = next((c for c in progress.conditions if c.get("type") == condition["type"]), None)
    since = before.get("lastTransitionTime") if before and before["status"] == condition["status"] else None
    dated = condition | {"lastTransitionTime": since or timestamp(progress.now)}
    if generation := pod["metadata"].get("generation"):
        dated["observedGeneration"] = generation
    return dated


def _unmet_gates(pod: Document) -> list[str]:
    recorded = (pod.get("status") or {}).get("conditions") or []
    true = {condition["type"] for condition in recorded if condition.get("status") == "True"}
    gates = (pod.get("spec") or {}).get("readinessGates") or []
    return [gate["conditionType"] for gate in gates if gate["conditionType"] not in true]


# --- containers -----------------------------------------------------------------------------------------


def _container_status(pod: Document, progress: Progress, view: View) -> Document:
    current = view.current
    status: Document = {
        "name": view.name,
        "state": _state(progress, view),
        "lastState": {},
        "ready": _is_ready(progress, view),
        "started": view.is_running and view.is_started,
        "restartCount": current.attempt if current else 0,
        "image": view.spec.get("image", ""),
        "imageID": current.image_id if current else view.image_id,
    }
    shown = view.previous if "waiting" not in status["state"] else current
    if shown is not None and shown.state == "exited":
        status["lastState"] = {"terminated": _terminated(progress, view, shown)}
    if current is not None:
        status["containerID"] = f"{progress.runtime_name}://{current.id}"
        status["resources"] = view.spec.get("resources") or {}
    if mounts := view.spec.get("volumeMounts"):
        status["volumeMounts"] = [_mount_status(mount) for mount in mounts]
    # As by the kubelet, for the containers proper alone.
    if view.resources_status and not progress.is_over and current is not None and view in progress.mains:
        status["allocatedResourcesStatus"] = view.resources_status
    return status


def _is_ready(progress: Progress, view: View) -> bool:
    if view in progress.inits and not view.is_sidecar:
        return view.exit_code == 0
    if view in progress.ephemerals:
        return False
    return view.is_running and view.is_ready and not progress.is_over


def _state(progress: Progress, view: View) -> Document:
    current = view.current
    if view.is_running:
        assert current is not None
        return {"running": {"startedAt": timestamp(current.started_at)}}
    if view.waiting is not None and not progress.is_over:
        reason, message = view.waiting
        return {"waiting": {"reason": reason} | ({"message": message} if message else {})}
    if current is not None and current.state == "exited":
        return {"terminated": _terminated(progress, view, current)}
    is_init = view in progress.inits
    reason = "PodInitializing" if progress.inits and not is_init else "ContainerCreating"
    if is_init and progress.inits[0] is not view:
        reason = "PodInitializing"
    return {"waiting": {"reason": reason}}


def _terminated(progress: Progress, view: View, container: Container) -> Document:
    reason = "Completed" if container.exit_code == 0 else "Error"
    if container.is_oom_killed:
        reason = "OOMKilled"
    elif container.error and not container.pid:
        reason = "StartError"
    terminated: Document = {
        "exitCode": container.exit_code,
        "reason": reason,
        "startedAt": timestamp(container.started_at or container.created_at),
        "finishedAt": timestamp(container.finished_at),
        "containerID": f"{progress.runtime_name}://{container.id}",
    }
    if message := view.messages.get(container.id) or container.error:
        terminated["message"] = message
    return terminated


def _mount_status(mount: Document) -> Document:
    status: Document = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        status |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return status


def qos_class(spec: Document) -> str:
    """Guaranteed, Burstable or BestEffort, by the requests and limits of all containers."""
    requests: list[dict[str, object]] = []
    limits: list[dict[str, object]] = []
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        resources = container.get("resources") or {}
        limits.append({k: v for k, v in (resources.get("limits") or {}).items() if k in ("cpu", "memory")})
        own = {k: v for k, v in (resources.get("requests") or {}).items() if k in ("cpu", "memory")}
        requests.append(limits[-1] | own)
    if not any(requests) and not any(limits):
        return "BestEffort"
    if all(set(limit) == {"cpu", "memory"} for limit in limits) and requests == limits:
        return "Guaranteed"
    return "Burstable"
