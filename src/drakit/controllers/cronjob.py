"""CronJobs: a Job for each time of a schedule.

A Job is named after its time, so that one time makes one Job whatever crashes in between. Times that were
missed are made up for once, by the latest of them, if that is not longer ago than
`startingDeadlineSeconds`. Where the last Job still runs, `concurrencyPolicy` says whether the next one
waits for another time (Forbid), takes its place (Replace) or runs beside it.

Source: pkg/controller/cronjob/cronjob_controllerv2.go.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

from drakit.client.api import JOBS, Resource
from drakit.client.clock import parse_timestamp, timestamp
from drakit.client.informer import key_of
from drakit.controllers.context import Context
from drakit.controllers.owner import controller_of, controller_uid, reference_to
from drakit.controllers.pod import condition, is_deleting
from drakit.controllers.recent import Recent
from drakit.controllers.workload import write_status
from drakit.errors import AlreadyExists, APIError, BadRequest, NotFound
from drakit.model.cron import Schedule, parse
from drakit.transport import Document

CRON_JOBS = Resource("batch", "v1", "cronjobs", "CronJob")
SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_MISSED_AT_MOST = 100
"""Missed times after which people are told."""


class CronJobs:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._queue = context.queue()
        self._recorder = context.recorder("cronjob-controller")
        self._crons = context.informer(CRON_JOBS)
        jobs = context.informer(JOBS)
        jobs.add_index("controller", controller_uid)
        self._recent = Recent(jobs, context.clock)
        self._crons.add_handler(lambda old, new: self._queue.add(key_of(new)) if new else None)
        jobs.add_handler(self._job_changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=2, name="cronjob")

    def _job_changed(self, old: Document | None, new: Document | None) -> None:
        job = new or old
        assert job is not None
        owner = controller_of(job)
        if owner is not None and owner["kind"] == "CronJob":
            self._queue.add(f"{job['metadata']['namespace']}/{owner['name']}")

    async def _sync(self, key: str) -> None:
        cron = self._crons.get(key)
        if cron is None or is_deleting(cron):
            return
        jobs = [job for job in self._recent.owned(cron["metadata"]["uid"]) if not is_deleting(job)]
        status = self._status(cron, jobs)
        await self._trim(cron, jobs)
        read = self._read(cron)
        if read is not None and not cron["spec"].get("suspend"):
            made = await self._start(cron, jobs, *read)
            if made is not None:
                status["active"] = [*(status["active"] or ()), _reference(made[0])]
                status["lastScheduleTime"] = timestamp(made[1])
        try:
            await write_status(self._client, CRON_JOBS, cron, status)
        except NotFound:
            return

    def _status(self, cron: Document, jobs: list[Document]) -> Document:
        """What the jobs say: who runs, and when one succeeded last. Says so of those that ended."""
        before = cron.get("status") or {}
        active = [job for job in jobs if _end(job) is None]
        known = {row.get("uid") for row in before.get("active") or ()}
        for job in jobs:
            end = _end(job)
            if end is not None and job["metadata"]["uid"] in known:
                text = f"Saw completed job: {job['metadata']['name']}, condition: {end['type']}"
                self._recorder.event(cron, "Normal", "SawCompletedJob", text)
        times = [
            t
            for job in jobs
            if (t := (job.get("status") or {}).get("completionTime")) and _has_succeeded(job)
        ]
        last = max([*times, *filter(None, [before.get("lastSuccessfulTime")])], default=None)
        return {"active": [_reference(job) for job in active] or None, "lastSuccessfulTime": last}

    def _read(self, cron: Document) -> tuple[Schedule, ZoneInfo] | None:
        """The schedule and its time zone; None after an event for those that cannot be read."""
        spec = cron["spec"]
        try:
            schedule = parse(str(spec.get("schedule") or ""))
        except BadRequest as error:
            text = f"unparseable schedule: {spec.get('schedule')}: {error}"
            self._recorder.event(cron, "Warning", "UnparseableSchedule", text)
            return None
        try:
            return schedule, ZoneInfo(spec.get("timeZone") or "UTC")
        except (ValueError, OSError, LookupError):
            text = f"invalid timeZone: {spec.get('timeZone')}"
            self._recorder.event(cron, "Warning", "UnknownTimeZone", text)
            return None

    # --- jobs -------------------------------------------------------------------------------------

    async def _start(
        self, cron: Document, jobs: list[Document], schedule: Schedule, zone: ZoneInfo
    ) -> tuple[Document, float] | None:
        """Make the job whose time has come; comes back for the next time."""
        now, spec = self._clock.now(), cron["spec"]
        latest, following, missed = self._times(cron, schedule, zone, now)
        if following is not None:
            self._queue.add_after(key_of(cron), max(following - now, 0.0) + 0.1)
        if missed > _MISSED_AT_MOST:
            text = (
                "too many missed start times: set or decrease .spec.startingDeadlineSeconds or check clocks"
            )
            self._recorder.event(cron, "Warning", "TooManyMissedTimes", text)
        if latest is None:
            return None
        deadline = spec.get("startingDeadlineSeconds")
        if deadline is not None and latest + deadline < now:
            text = f"Missed scheduled time to start a job: {timestamp(latest)}"
            self._recorder.event(cron, "Warning", "MissSchedule", text)
            return None
        active = [job for job in jobs if _end(job) is None]
        policy = spec.get("concurrencyPolicy") or "Allow"
        if policy == "Forbid" and active:
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._recorder.event(cron, "Normal", "JobAlreadyActive", text)
            return None
        if policy == "Replace":
            for job in active:
                await self._delete(cron, job, "Deleted job")
        job = _job(cron, latest)
        try:
            made = await self._client.create(JOBS, job)
        except AlreadyExists:
            return None
        except APIError as error:
            self._recorder.event(cron, "Warning", "FailedCreate", f"Error creating job: {error}")
            raise
        self._recent.created(cron["metadata"]["uid"], made)
        self._recorder.event(cron, "Normal", "SuccessfulCreate", f"Created job {made['metadata']['name']}")
        return made, latest

    @staticmethod
    def _times(
        cron: Document, schedule: Schedule, zone: ZoneInfo, now: float
    ) -> tuple[float | None, float | None, int]:
        """The latest time that has come since the last job, the next one, and how many came, few or many."""
        status, spec = cron.get("status") or {}, cron["spec"]
        since = parse_timestamp(status.get("lastScheduleTime") or cron["metadata"]["creationTimestamp"])
        if spec.get("startingDeadlineSeconds") is not None:
            since = max(since, now - spec["startingDeadlineSeconds"])
        missed, coming = 0, schedule.next(since, zone)
        while coming is not None and coming <= now and missed <= _MISSED_AT_MOST:
            missed, coming = missed + 1, schedule.next(coming, zone)
        latest = schedule.latest(since, now, zone) if missed else None
        return latest, schedule.next(now, zone), missed

    async def _trim(self, cron: Document, jobs: list[Document]) -> None:
        """Delete the oldest ended jobs beyond the limits of the history."""
        for is_good, field, default in (
            (True, "successfulJobsHistoryLimit", 3),
            (False, "failedJobsHistoryLimit", 1),
        ):
            ended = [j for j in jobs if _end(j) is not None and _has_succeeded(j) is is_good]
            ended.sort(key=lambda job: str((job.get("status") or {}).get("startTime") or ""))
            limit = cron["spec"].get(field, default)
            for job in ended[: max(len(ended) - limit, 0)]:
                await self._delete(cron, job, "Deleted job")

    async def _delete(self, cron: Document, job: Document, text: str) -> None:
        meta = job["metadata"]
        try:
            await self._client.delete(
                JOBS, meta["name"], meta["namespace"], uid=meta["uid"], propagation="Background"
            )
        except NotFound:
            return
        self._recent.deleted(job)
        self._recorder.event(cron, "Normal", "SuccessfulDelete", f"{text} {meta['name']}")


def _job(cron: Document, when: float) -> Document:
    """The job of `cron` for the time `when`."""
    template = cron["spec"].get("jobTemplate") or {}
    wanted, meta = template.get("metadata") or {}, cron["metadata"]
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": {
            "name": f"{meta['name']}-{int(when) // 60}",
            "namespace": meta["namespace"],
            "labels": wanted.get("labels") or {},
            "annotations": (wanted.get("annotations") or {}) | {SCHEDULED_AT: timestamp(when)},
            "ownerReferences": [reference_to(cron, CRON_JOBS)],
        },
        "spec": template.get("spec") or {},
    }


def _reference(job: Document) -> Document:
    meta = job["metadata"]
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "name": meta["name"],
        "namespace": meta["namespace"],
        "uid": meta["uid"],
        "resourceVersion": meta["resourceVersion"],
    }


def _end(job: Document) -> Document | None:
    """The condition that says how the job ended; None while it runs."""
    for type in ("Complete", "Failed"):
        row = condition(job, type)
        if row is not None and row.get("status") == "True":
            return row
    return None


def _has_succeeded(job: Document) -> bool:
    return (condition(job, "Complete") or {}).get("status") == "True"
