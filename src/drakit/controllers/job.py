"""Jobs: pods that run to their end, as many times as asked for.

A pod carries a finalizer until its end has been counted: first its uid and the new count go into the
status together, then the finalizer is removed, then the uid leaves the status. So every end counts once,
whatever crashes in between, and however soon the pod is deleted. What counts, and what follows, is
`drakit.controllers.job_count`.

Source: pkg/controller/job.
"""

from __future__ import annotations

from drakit.client.api import JOBS, PODS
from drakit.client.clock import parse_timestamp, timestamp
from drakit.client.informer import key_of
from drakit.controllers.adoption import Adoption
from drakit.controllers.context import Context
from drakit.controllers.job_count import INDEX, INDEX_FAILURES, TRACKING, Count, index_of
from drakit.controllers.owner import controller_of
from drakit.controllers.pod import condition, is_deleting, phase
from drakit.controllers.recent import Recent
from drakit.controllers.workload import PodControl, pod_from, set_condition, write_status
from drakit.errors import NotFound
from drakit.transport import Document

MANAGER = "kubernetes.io/job-controller"
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
        self._recent = Recent(self._pods, context.clock)
        self._control = PodControl(context.client, JOBS, self._recent, self._recorder)
        self._adoption = Adoption(context.client, self._jobs, self._pods, self._recent)
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
        for key in self._adoption.concerned(new or old):
            self._queue.add(key)

    async def _sync(self, key: str) -> None:
        job = self._jobs.get(key)
        if job is None or is_deleting(job):
            await self._release_orphans(key, job)
            return
        if job["spec"].get("managedBy") not in (None, MANAGER):
            return
        if int(job["metadata"]["resourceVersion"]) < self._written.get(job["metadata"]["uid"], 0):
            return  # Our own status is still on its way here; acting on the old one would count twice.
        if _is_finished(job):
            await self._release(self._owned(job))
            await self._expire(job)
            return
        pods = await self._adoption.gather(job)
        count = Count(job, pods)
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

    def _owned(self, job: Document) -> list[Document]:
        return self._recent.owned(job["metadata"]["uid"])

    # --- pods -------------------------------------------------------------------------------------

    async def _run_pods(self, job: Document, count: Count, pods: list[Document]) -> Document:
        """Have the right number of pods run; returns what that changes in the status."""
        spec = job["spec"]
        now = timestamp(self._clock.now())
        conditions = (job.get("status") or {}).get("conditions") or []
        is_suspended = (condition(job, "Suspended") or {}).get("status") == "True"
        if spec.get("suspend"):
            await self._stop(job, count.active)
            row = {
                "type": "Suspended",
                "status": "True",
                "reason": "JobSuspended",
                "message": "Job suspended",
            }
            if not is_suspended:
                self._recorder.event(job, "Normal", "Suspended", "Job suspended")
            return {"conditions": set_condition(conditions, row, now), "active": None, "startTime": None}
        change: Document = {"startTime": (job.get("status") or {}).get("startTime") or now}
        if is_suspended:
            self._recorder.event(job, "Normal", "Resumed", "Job resumed")
            row = {"type": "Suspended", "status": "False", "reason": "JobResumed", "message": "Job resumed"}
            change["conditions"] = set_condition(conditions, row, now)
        parallelism = spec.get("parallelism", 1)
        left = parallelism if count.completions is None else count.left
        if count.completions is None and count.succeeded:
            left = len(count.active)
        going = len(count.terminating) if count.waits_for_end else 0
        wanted = max(min(parallelism, left) - going, 0)
        if len(count.active) > wanted:
            await self._stop(job, count.active[wanted:])
        elif len(count.active) < wanted and (count.per_index is not None or self._may_start(job, pods)):
            fresh = self._new_pods(job, count, wanted - len(count.active), pods)
            count.active += await self._control.create(job, fresh)
        return change | {"active": len(count.active) or None}

    def _may_start(self, job: Document, pods: list[Document]) -> bool:
        """Whether the back-off after failures is over; if not, comes back when it is."""
        failed = [pod for pod in pods if phase(pod) == "Failed"]
        return self._is_over(job, failed, int((job.get("status") or {}).get("failed") or 0) or len(failed))

    def _is_over(self, job: Document, failed: list[Document], total: int) -> bool:
        if not failed or not total:
            return True
        delay = min(_FIRST_BACKOFF * 2.0 ** (total - 1), _LAST_BACKOFF)
        due = max(_ended(pod) for pod in failed) + delay
        if self._clock.now() >= due:
            return True
        self._queue.add_after(key_of(job), due - self._clock.now())
        return False

    def _new_pods(self, job: Document, count: Count, number: int, pods: list[Document]) -> list[Document]:
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
        made: list[Document] = []
        for index in count.free_indexes():
            if len(made) == number:
                break
            failures = count.failures_before(index, pods) if count.per_index is not None else 0
            failed = [p for p in pods if index_of(p) == index and phase(p) == "Failed"] if failures else []
            if self._is_over(job, failed, failures):
                marks = {INDEX_FAILURES: str(failures)} if count.per_index is not None else {}
                made.append(_indexed(pod | {"metadata": metadata}, index, marks))
        return made

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
            await self._release(self._owned(job))
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

    def _verdict(self, job: Document, count: Count) -> tuple[str, str, str] | None:
        """How the job ended, as condition type, reason and message; None while it goes on."""
        spec = job["spec"]
        for first, last in (("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")):
            row = condition(job, first)
            if row is not None and row.get("status") == "True":
                return last, row["reason"], row["message"]
        if count.fail_job:
            return "Failed", "PodFailurePolicy", count.fail_job
        if count.is_complete and not count.failed_indexes:
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        if count.is_beyond_backoff():
            return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        if (place := count.success_rule()) is not None:
            return "Complete", "SuccessPolicy", f"Matched rules at index {place}"
        most = spec.get("maxFailedIndexes")
        if most is not None and count.failed_indexes > most:
            text = "Job has exceeded the specified maximal number of failed indexes"
            return "Failed", "MaxFailedIndexesExceeded", text
        if count.is_complete:
            return "Failed", "FailedIndexes", "Job has failed indexes"
        deadline, started = spec.get("activeDeadlineSeconds"), (job.get("status") or {}).get("startTime")
        if deadline is not None and started and not spec.get("suspend"):
            left = parse_timestamp(started) + deadline - self._clock.now()
            if left <= 0:
                return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
            self._queue.add_after(key_of(job), left)
        return None

    def _conclude(self, job: Document, status: Document, verdict: tuple[str, str, str], count: Count) -> None:
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


def _indexed(pod: Document, index: int, marks: dict[str, str]) -> Document:
    """`pod` for one index: annotation, label, environment and host name tell it; `marks` are annotations
    besides."""
    metadata, spec = dict(pod["metadata"]), dict(pod["spec"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), INDEX: str(index), **marks}
    metadata["labels"] = {**(metadata.get("labels") or {}), INDEX: str(index)}
    base = metadata["generateName"]
    metadata["generateName"] = f"{base}{index}-"
    spec["hostname"] = f"{base}{index}"
    variable = {"name": "JOB_COMPLETION_INDEX", "value": str(index)}
    for field in ("initContainers", "containers"):
        if spec.get(field):
            spec[field] = [{**c, "env": [*(c.get("env") or ()), variable]} for c in spec[field]]
    return pod | {"metadata": metadata, "spec": spec}
