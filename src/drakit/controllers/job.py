"""Jobs: pods that run to their end, as many times as asked for.

A pod carries a finalizer until its end has been counted: first its uid and the new count go into the
status together, then the finalizer is removed, then the uid leaves the status. So every end counts once,
whatever crashes in between, and however soon the pod is deleted. Pod failure and success policies,
per-index back-off and elastic indexed jobs are left out.

Source: pkg/controller/job.
"""

from __future__ import annotations

from drakit.client.api import JOBS, PODS
from drakit.client.clock import parse_timestamp, timestamp
from drakit.client.informer import key_of
from drakit.controllers.context import Context
from drakit.controllers.owner import controller_of, controller_uid
from drakit.controllers.pod import condition, is_active, is_deleting, is_ready, phase
from drakit.controllers.recent import Recent
from drakit.controllers.workload import PodControl, pod_from, set_condition, write_status
from drakit.errors import NotFound
from drakit.transport import Document

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
_FIRST_BACKOFF, _LAST_BACKOFF = 10.0, 600.0
_WORKERS = 4


class Jobs:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._queue = context.queue()
        self._recorder = context.recorder("job-controller")
        self._written: dict[str, int] = {}
        self._jobs = context.informer(JOBS)
        self._pods = context.informer(PODS)
        self._pods.add_index("controller", controller_uid)
        recent = Recent(self._pods, context.clock)
        self._control = PodControl(context.client, JOBS, recent, self._recorder)
        self._jobs.add_handler(self._job_changed)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=_WORKERS, name="job")

    def _job_changed(self, old: Document | None, new: Document | None) -> None:
        job = new or old
        assert job is not None
        if new is None:
            self._written.pop(job["metadata"]["uid"], None)
        self._queue.add(key_of(job))

    def _pod_changed(self, old: Document | None, new: Document | None) -> None:
        pod = new or old
        assert pod is not None
        owner = controller_of(pod)
        if owner is not None and owner["kind"] == "Job":
            self._queue.add(f"{pod['metadata']['namespace']}/{owner['name']}")

    async def _sync(self, key: str) -> None:
        job = self._jobs.get(key)
        if job is None or is_deleting(job):
            await self._release_orphans(key, job)
            return
        if int(job["metadata"]["resourceVersion"]) < self._written.get(job["metadata"]["uid"], 0):
            return  # Our own status is still on its way here; acting on the old one would count twice.
        if _is_finished(job):
            await self._release(self._control.owned(job))
            await self._expire(job)
            return
        pods = self._control.owned(job)
        count = _Count(job, pods)
        status = count.status()
        verdict = self._verdict(job, count)
        if verdict is None:
            status |= await self._run_pods(job, count, pods)
        else:
            await self._control.delete(job, count.active)
            self._conclude(job, status, verdict, count)
        status["observedGeneration"] = job["metadata"].get("generation")
        try:
            written = await write_status(self._client, JOBS, job, status)
        except NotFound:
            return
        if written is not None:
            self._written[job["metadata"]["uid"]] = int(written["metadata"]["resourceVersion"])
        await self._release(count.counted)

    # --- pods -------------------------------------------------------------------------------------

    async def _run_pods(self, job: Document, count: _Count, pods: list[Document]) -> Document:
        """Have the right number of pods run; returns what that changes in the status."""
        spec = job["spec"]
        now = timestamp(self._clock.now())
        conditions = (job.get("status") or {}).get("conditions") or []
        if spec.get("suspend"):
            await self._stop(job, count.active)
            row = {
                "type": "Suspended",
                "status": "True",
                "reason": "JobSuspended",
                "message": "Job suspended",
            }
            return {"conditions": set_condition(conditions, row, now), "active": None, "startTime": None}
        change: Document = {"startTime": (job.get("status") or {}).get("startTime") or now}
        if any(row["type"] == "Suspended" and row["status"] == "True" for row in conditions):
            row = {"type": "Suspended", "status": "False", "reason": "JobResumed", "message": "Job resumed"}
            change["conditions"] = set_condition(conditions, row, now)
        parallelism = spec.get("parallelism", 1)
        left = parallelism if count.completions is None else count.completions - count.succeeded
        if count.completions is None and count.succeeded:
            left = len(count.active)
        wanted = max(min(parallelism, left), 0)
        if len(count.active) > wanted:
            await self._stop(job, count.active[wanted:])
        elif len(count.active) < wanted and self._may_start(job, pods):
            fresh = self._new_pods(job, count, wanted - len(count.active))
            count.active += await self._control.create(job, fresh)
        return change | {"active": len(count.active) or None}

    def _may_start(self, job: Document, pods: list[Document]) -> bool:
        """Whether the back-off after failures is over; if not, comes back when it is."""
        failed = [pod for pod in pods if phase(pod) == "Failed"]
        if not failed:
            return True
        total = int((job.get("status") or {}).get("failed") or 0) or len(failed)
        delay = min(_FIRST_BACKOFF * 2.0 ** (total - 1), _LAST_BACKOFF)
        due = max(_ended(pod) for pod in failed) + delay
        if self._clock.now() >= due:
            return True
        self._queue.add_after(key_of(job), due - self._clock.now())
        return False

    def _new_pods(self, job: Document, count: _Count, number: int) -> list[Document]:
        meta, spec = job["metadata"], job["spec"]
        pod = pod_from(job, JOBS, spec["template"])
        labels = {
            "batch.kubernetes.io/controller-uid": meta["uid"],
            "batch.kubernetes.io/job-name": meta["name"],
            "controller-uid": meta["uid"],
            "job-name": meta["name"],
        }
        finalizers = [*(pod["metadata"].get("finalizers") or ()), TRACKING]
        metadata = pod["metadata"] | {
            "labels": (pod["metadata"].get("labels") or {}) | labels,
            "finalizers": finalizers,
        }
        if spec.get("completionMode") != "Indexed":
            return [pod | {"metadata": metadata}] * number
        return [_indexed(pod | {"metadata": metadata}, index) for index in count.free_indexes(number)]

    async def _stop(self, job: Document, pods: list[Document]) -> None:
        """Delete pods that are too many: without the finalizer they do not count as failed."""
        await self._release(pods)
        await self._control.delete(job, pods)

    async def _release(self, pods: list[Document]) -> None:
        """Take our finalizer from `pods`: they are counted or nobody counts them any more."""
        for pod in pods:
            meta = pod["metadata"]
            finalizers = meta.get("finalizers") or ()
            if TRACKING not in finalizers:
                continue
            kept = [name for name in finalizers if name != TRACKING] or None
            own = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
            try:
                await self._client.patch(
                    PODS, meta["name"], {"metadata": {**own, "finalizers": kept}}, meta["namespace"]
                )
            except NotFound:
                continue

    async def _release_orphans(self, key: str, job: Document | None) -> None:
        """Pods of a job that is gone, or goes, must not hang on a finalizer nobody removes."""
        name = key.partition("/")[2]
        if job is not None:
            await self._release(self._control.owned(job))
            return
        for pod in self._pods.items():
            owner = controller_of(pod)
            if (
                owner is not None
                and (owner["kind"], owner["name"]) == ("Job", name)
                and pod["metadata"]["namespace"] == key.partition("/")[0]
            ):
                await self._release([pod])

    # --- ends -------------------------------------------------------------------------------------

    def _verdict(self, job: Document, count: _Count) -> tuple[str, str, str] | None:
        """How the job ended, as condition type, reason and message; None while it goes on."""
        spec = job["spec"]
        if count.is_complete:
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        if count.failed > spec.get("backoffLimit", 6):
            return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        deadline, started = spec.get("activeDeadlineSeconds"), (job.get("status") or {}).get("startTime")
        if deadline is not None and started and not spec.get("suspend"):
            left = parse_timestamp(started) + deadline - self._clock.now()
            if left <= 0:
                return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
            self._queue.add_after(key_of(job), left)
        return None

    def _conclude(
        self, job: Document, status: Document, verdict: tuple[str, str, str], count: _Count
    ) -> None:
        """Write the end into `status`: first what will be, then, once all pods are counted, what is."""
        type, reason, message = verdict
        now = timestamp(self._clock.now())
        conditions = (job.get("status") or {}).get("conditions") or []
        row = {"status": "True", "reason": reason, "message": message}
        first = "SuccessCriteriaMet" if type == "Complete" else "FailureTarget"
        conditions = set_condition(conditions, {"type": first, **row}, now)
        if not count.counted and not count.active:
            conditions = set_condition(conditions, {"type": type, **row}, now)
            status["uncountedTerminatedPods"] = None
            if type == "Complete":
                status["completionTime"] = now
                self._recorder.event(job, "Normal", "Completed", "Job completed")
            else:
                self._recorder.event(job, "Warning", reason, message)
        status["conditions"] = conditions
        status["active"] = None
        status["ready"] = 0

    async def _expire(self, job: Document) -> None:
        """Delete a finished job when its time to live is over."""
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        ended = condition(job, "Complete") or condition(job, "Failed")
        if seconds is None or ended is None:
            return
        left = parse_timestamp(ended["lastTransitionTime"]) + seconds - self._clock.now()
        if left > 0:
            self._queue.add_after(key_of(job), left)
            return
        meta = job["metadata"]
        try:
            await self._client.delete(
                JOBS, meta["name"], meta["namespace"], uid=meta["uid"], propagation="Foreground"
            )
        except NotFound:
            return


class _Count:
    """The pods of a job sorted and counted. `counted` are ends that are in the status being written, or
    are already, and still carry the finalizer."""

    def __init__(self, job: Document, pods: list[Document]) -> None:
        status = job.get("status") or {}
        self.completions: int | None = job["spec"].get("completions")
        self._is_indexed = job["spec"].get("completionMode") == "Indexed"
        uncounted = status.get("uncountedTerminatedPods") or {}
        held = {pod["metadata"]["uid"] for pod in pods if _is_tracked(pod)}
        known_good = [uid for uid in uncounted.get("succeeded") or () if uid in held]
        known_bad = [uid for uid in uncounted.get("failed") or () if uid in held]
        self.active = [pod for pod in pods if is_active(pod)]
        self.counted = [pod for pod in pods if _is_tracked(pod) and not is_active(pod)]
        good = [p["metadata"]["uid"] for p in self.counted if phase(p) == "Succeeded"]
        bad = [p["metadata"]["uid"] for p in self.counted if phase(p) != "Succeeded"]
        self.succeeded = int(status.get("succeeded") or 0) + len(set(good) - set(known_good))
        self.failed = int(status.get("failed") or 0) + len(set(bad) - set(known_bad))
        self.ready = sum(1 for pod in self.active if is_ready(pod))
        self._uncounted = {"succeeded": sorted({*good, *known_good}), "failed": sorted({*bad, *known_bad})}
        self._done = _read_indexes(status.get("completedIndexes") or "")
        if self._is_indexed:
            self._done |= {_index_of(p) for p in self.counted if phase(p) == "Succeeded"} - {-1}
            self.succeeded = len(self._done)
        self.is_complete = (
            self.succeeded >= self.completions
            if self.completions is not None
            else self.succeeded > 0 and not self.active
        )

    def status(self) -> Document:
        return {
            "active": len(self.active) or None,
            "ready": self.ready,
            "succeeded": self.succeeded or None,
            "failed": self.failed or None,
            "completedIndexes": _write_indexes(self._done) or None,
            "uncountedTerminatedPods": {k: v for k, v in self._uncounted.items() if v},
        }

    def free_indexes(self, number: int) -> list[int]:
        """The lowest indexes that are neither done nor running."""
        taken = self._done | {_index_of(pod) for pod in self.active}
        free = (index for index in range(self.completions or 0) if index not in taken)
        return [index for index, _ in zip(free, range(number), strict=False)]


def _is_tracked(pod: Document) -> bool:
    return TRACKING in (pod["metadata"].get("finalizers") or ())


def _is_finished(job: Document) -> bool:
    rows = (job.get("status") or {}).get("conditions") or ()
    return any(row["type"] in ("Complete", "Failed") and row["status"] == "True" for row in rows)


def _ended(pod: Document) -> float:
    """When the last container of a pod that ended did so."""
    times = [
        row["state"]["terminated"]["finishedAt"]
        for row in (pod.get("status") or {}).get("containerStatuses") or ()
        if ((row.get("state") or {}).get("terminated") or {}).get("finishedAt")
    ]
    return max(map(parse_timestamp, times or [pod["metadata"]["creationTimestamp"]]))


def _indexed(pod: Document, index: int) -> Document:
    """`pod` for one index: annotation, label, environment and host name tell it."""
    metadata, spec = dict(pod["metadata"]), dict(pod["spec"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), INDEX: str(index)}
    metadata["labels"] = {**(metadata.get("labels") or {}), INDEX: str(index)}
    base = metadata["generateName"]
    metadata["generateName"] = f"{base}{index}-"
    spec["hostname"] = f"{base}{index}"
    variable = {"name": "JOB_COMPLETION_INDEX", "value": str(index)}
    for field in ("initContainers", "containers"):
        if spec.get(field):
            spec[field] = [{**c, "env": [*(c.get("env") or ()), variable]} for c in spec[field]]
    return pod | {"metadata": metadata, "spec": spec}


def _index_of(pod: Document) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdigit() else -1


def _read_indexes(text: str) -> set[int]:
    """The numbers of "0,3-5"."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _write_indexes(indexes: set[int]) -> str:
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a},{b}" if b == a + 1 else f"{a}-{b}" for a, b in parts)
