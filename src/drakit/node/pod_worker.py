"""One pod of this node, from the day it is bound until nothing of it is left.

Level-triggered: `wake` says that something may be different, and `_sync` then compares what the API asks for
with what the runtime has and does the next steps. Nothing is kept that a new worker could not find out again
from the API, the runtime's records, the claim checkpoint and the files; so an agent that was killed goes on
where the old one stopped. A failure is told in an event and the status, and tried again with back-off; it
never leaves this worker.

    bound -> volumes -> claims prepared -> sandbox -> init containers -> containers -> ended, or told to end
          -> everything stopped -> claims unprepared -> sandbox and containers removed -> final status
          -> (when the API wants the pod gone) deleted
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Sequence

from msgspec import structs

from drakit.client.api import PODS
from drakit.client.clock import parse_timestamp, timestamp
from drakit.client.record import EventType
from drakit.errors import Conflict, DRAError, NotFound
from drakit.node.backoff import Backoff
from drakit.node.claims import PrepareFailed
from drakit.node.container_runner import ContainerRunner
from drakit.node.container_state import ended_before
from drakit.node.env import ConfigFailed, Facts
from drakit.node.pod_files import PodFiles
from drakit.node.pod_status import Progress, View, are_inits_done, build
from drakit.node.runtime import Container, RuntimeFailed, Sandbox
from drakit.node.sandbox_spec import sandbox_spec
from drakit.node.stopper import Stopper
from drakit.node.surroundings import Surroundings
from drakit.node.volume import Volumes
from drakit.transport import STRATEGIC_PATCH, Document

REFRESH_SECONDS = 90.0
"""How old the content of configMap, secret and projected volumes may be."""

_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0
_DEFAULT_GRACE = 30.0

_log = logging.getLogger(__name__)


class PodWorker:
    """Runs the pod `pod`; `found` are its containers that the runtime already has."""

    def __init__(self, around: Surroundings, pod: Document, found: Sequence[Container]) -> None:
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self._around = around
        self._clock = around.clock
        status = pod.get("status") or {}
        kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        statuses = [entry for kind in kinds for entry in status.get(kind) or []]
        self.files = PodFiles(around.paths, pod)
        self._volumes = Volumes(around.client, self.files.folder, around.paths, around.clock)
        self._stopper = Stopper(around.runtime, around.clock, self._event)
        self.runner = ContainerRunner(
            around,
            self.uid,
            self.files,
            self._volumes,
            [*found, *ended_before(pod, found)],
            statuses,
            stopper=self._stopper,
            tell=self._event,
            wake=lambda: self._wake.set(),
        )
        self._wake = asyncio.Event()
        self._retry = Backoff(_FIRST_RETRY, _LAST_RETRY)
        self._sandbox: Sandbox | None = None
        self._last_ip: str = status.get("podIP") or ""
        self._has_volumes = False
        self._refresh_at = 0.0
        # What runs was prepared before it was started.
        self._is_prepared = any(container.state in ("running", "exited") for container in found)
        self._start_time: str = status.get("startTime") or timestamp(around.clock.now())
        self._conditions: list[Document] = status.get("conditions") or []
        self._written: Document | None = None
        self._verdict: tuple[str, str] | None = None
        self._last_views: tuple[list[View], list[View]] | None = None
        self._last_ephemerals: list[View] | None = None
        self._is_gone = self._is_ending = self._is_over = self._is_done = False

    # --- from outside -----------------------------------------------------------------------------

    def update(self, pod: Document) -> None:
        """The API's newest view of the pod."""
        self.pod = pod
        self._wake.set()

    def vanish(self) -> None:
        """The pod is gone from the API: end it without further words."""
        self._is_gone = True
        self.wake()

    def wake(self) -> None:
        """Something the pod waits for may be there now."""
        self._retry.clear()
        self._wake.set()

    @property
    def sandbox(self) -> Sandbox | None:
        """The pod's sandbox while there is one."""
        return self._sandbox

    @property
    def waits_for_claims(self) -> bool:
        """Whether a driver that registers could help."""
        return not self._is_prepared or self._is_ending

    async def run(self) -> None:
        """Work on the pod until nothing of it is left to do."""
        try:
            while True:
                self._wake.clear()
                delay = await self._sync_safely()
                if self._is_done:
                    return
                timer = None if delay is None else self._clock.call_later(delay, self._wake.set)
                try:
                    await self._wake.wait()
                finally:
                    if timer is not None:
                        timer.cancel()
        finally:
            self.runner.close()
            await self._around.doors.close(self.uid)

    async def _sync_safely(self) -> float | None:
        """Seconds until the pod must be looked at again, None when only a wake can change anything."""
        try:
            return await self._sync()
        except (NotFound, Conflict) as error:
            _log.debug("pod %s: %s", self._key, error)
        except DRAError as error:
            _log.info("pod %s: %s", self._key, error)
        except Exception:
            _log.exception("pod %s: a bug", self._key)
        return self._retry.fail(self._clock.now())

    @property
    def _key(self) -> str:
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"

    @property
    def _spec(self) -> Document:
        spec: Document = self.pod.get("spec") or {}
        return spec

    def _event(self, type: EventType, reason: str, message: str) -> None:
        self._around.recorder.event(self.pod, type, reason, message)

    # --- the steps --------------------------------------------------------------------------------

    async def _sync(self) -> float | None:
        await self.runner.observe()
        grace = self._time_to_end()
        if grace is not None:
            await self._end(grace)
            return None
        waits = [self._seconds_to_deadline(), await self._advance()]
        return min((wait for wait in waits if wait is not None), default=None)

    def _time_to_end(self) -> float | None:
        """The grace in seconds with which the pod is to end now, None while it is to run."""
        meta = self.pod["metadata"]
        if self._is_gone:
            return 0.0
        if meta.get("deletionTimestamp"):
            return float(meta.get("deletionGracePeriodSeconds") or 0)
        left = self._seconds_to_deadline()
        if left is not None and left <= 0 and self._verdict is None:
            text = "Pod was active on the node longer than the specified deadline"
            self._verdict = ("DeadlineExceeded", text)
            self._event("Normal", "DeadlineExceeded", text)
        is_final = (self.pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if is_final or self._verdict or self._is_over or self._has_completed():
            return float(self._spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE))
        return None

    def _seconds_to_deadline(self) -> float | None:
        seconds = self._spec.get("activeDeadlineSeconds")
        if seconds is None:
            return None
        return parse_timestamp(self._start_time) + float(seconds) - self._clock.now()

    def _has_completed(self) -> bool:
        """Whether every container has ended and none is to be started again."""
        policy = self._spec.get("restartPolicy", "Always")
        inits, mains = self._views()
        proper = [view for view in inits if not view.is_sidecar]
        if policy == "Never" and any(view.exit_code not in (None, 0) for view in proper):
            return True
        codes = [view.exit_code for view in mains]
        if policy == "Always" or None in codes or any(view.exit_code != 0 for view in proper):
            return False
        return policy == "Never" or not any(codes)

    async def _advance(self) -> float | None:
        """Do what can be done now; the seconds until more can be."""
        await self._write_status()
        wait = self._retry.until - self._clock.now()
        if wait > 0:
            return wait
        try:
            await self._make_ready()
        except ConfigFailed as error:
            self._event("Warning", "FailedMount", str(error))
        except PrepareFailed as error:
            text = f"Failed to prepare dynamic resources: prepare dynamic resources: {error}"
            self._event("Warning", "FailedPrepareDynamicResources", text)
        except RuntimeFailed as error:
            self._event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
        else:
            self._retry.clear()
            return await self._run_all()
        return self._retry.fail(self._clock.now())

    async def _make_ready(self) -> None:
        """Volumes, claims, sandbox: what must be there before a container can be made."""
        now = self._clock.now()
        if not self._has_volumes or (self._volumes.is_refreshed(self.pod) and now >= self._refresh_at):
            await self._volumes.prepare(self.pod, self._facts())
            self._has_volumes, self._refresh_at = True, now + REFRESH_SECONDS
        if not self._is_prepared:
            await self._around.claims.prepare(self.pod)
            self._is_prepared = True
        if self._sandbox is None:
            self._sandbox = await self._around.runtime.run_sandbox(sandbox_spec(self.pod, self.files))
            self._last_ip = self._sandbox.ip
            await self._around.doors.open(self._sandbox)
            await self._write_status()

    async def _run_all(self) -> float | None:
        """Start what is to be started, in order; the seconds until more is."""
        assert self._sandbox is not None
        waits: list[float | None] = []
        inits = self._spec.get("initContainers") or []
        for spec in inits:
            waits.append(await self.runner.run(self.pod, spec, self._sandbox, self._facts(), kind="init"))
            is_done = are_inits_done([self.runner.view(self.pod, spec)])
            if not is_done or self.runner.is_held(spec["name"]):
                break
        else:
            for spec in self._spec.get("containers") or []:
                waits.append(await self.runner.run(self.pod, spec, self._sandbox, self._facts(), kind="main"))
                if self.runner.is_held(spec["name"]):
                    break
        for spec in self._spec.get("ephemeralContainers") or []:
            waits.append(
                await self.runner.run(self.pod, spec, self._sandbox, self._facts(), kind="ephemeral")
            )
        await self._write_status()
        if self._volumes.is_refreshed(self.pod):
            waits.append(max(self._refresh_at - self._clock.now(), 0.1))
        return min((wait for wait in waits if wait is not None), default=None)

    def _facts(self) -> Facts:
        if self._shares_network:
            facts, can_mount = self._around.facts, "mounts" in self._around.runtime.info.features
            return structs.replace(facts, pod_ip=facts.host_ip, has_account=can_mount)
        return structs.replace(
            self._around.facts,
            pod_ip=self._last_ip,
            api_address=self._around.doors.address,
            has_account=True,
        )

    @property
    def _shares_network(self) -> bool:
        """Whether the pod's network is the host's."""
        return bool(self._spec.get("hostNetwork")) or "netns" not in self._around.runtime.info.features

    # --- the end ----------------------------------------------------------------------------------

    async def _end(self, grace: float) -> None:
        """Stop everything, give the claims back, tell the API, and clean up. Repeated until it is done."""
        self._is_ending = True
        meta = self.pod["metadata"]
        if not self._is_over:
            await self._stop_all(grace)
            await self.runner.observe()
            if not self._is_gone and not self._is_told and not meta.get("deletionTimestamp"):
                await self._write_status()
            await self._unprepare()
            await self._remove_all()
        if not self._is_gone and not self._is_told:
            await self._write_status()
        if self._is_gone or meta.get("deletionTimestamp"):
            if not self._is_gone:
                with contextlib.suppress(NotFound, Conflict):
                    await self._around.client.delete(
                        PODS, meta["name"], meta["namespace"], uid=self.uid, grace_period_seconds=0
                    )
            await asyncio.to_thread(shutil.rmtree, self.files.logs, True)
            self._is_done = True

    @property
    def _is_told(self) -> bool:
        """Whether the API knows how the pod has ended."""
        return (self.pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")

    async def _unprepare(self) -> None:
        try:
            await self._around.claims.unprepare(self.uid)
        except PrepareFailed as error:
            text = f"Failed to unprepare dynamic resources: unprepare dynamic resources: {error}"
            self._event("Warning", "FailedUnprepareDynamicResources", text)
            raise

    async def _stop_all(self, grace: float) -> None:
        """Stop every container; a shorter grace that is asked for meanwhile counts."""
        live = self.runner.live()
        if not live:
            return
        self.runner.stop_probes()
        task = asyncio.create_task(self._stopper.stop_all(self.pod, self._sandbox, live, grace))
        try:
            while not task.done():
                self._wake.clear()
                waker = asyncio.create_task(self._wake.wait())
                await asyncio.wait([task, waker], return_when=asyncio.FIRST_COMPLETED)
                waker.cancel()
                asked = self.pod["metadata"].get("deletionGracePeriodSeconds")
                wanted = 0.0 if self._is_gone else float(grace if asked is None else asked)
                if wanted < grace and not task.done():
                    grace = wanted
                    task.cancel()
                    task = asyncio.create_task(self._stopper.kill_all(live, grace))
        finally:
            task.cancel()

    async def _remove_all(self) -> None:
        """Containers, sandbox, volumes; the logs stay until the pod is deleted."""
        self._last_views, self._last_ephemerals = self._views(), self._ephemeral_views()
        await self.runner.remove_all()
        await self._around.doors.close(self.uid)
        await self._around.runtime.remove_sandbox(self.uid)
        self._sandbox = None
        await asyncio.to_thread(self._volumes.remove)
        self._is_over = True

    # --- status -----------------------------------------------------------------------------------

    def _views(self) -> tuple[list[View], list[View]]:
        if self._last_views is not None:
            return self._last_views
        inits = [self.runner.view(self.pod, spec) for spec in self._spec.get("initContainers") or []]
        return inits, [self.runner.view(self.pod, spec) for spec in self._spec.get("containers") or []]

    def _ephemeral_views(self) -> list[View]:
        if self._last_ephemerals is not None:
            return self._last_ephemerals
        return [self.runner.view(self.pod, spec) for spec in self._spec.get("ephemeralContainers") or []]

    async def _write_status(self) -> None:
        """Tell the API how the pod is, if that is news. Raises NotFound or Conflict when it is gone."""
        inits, mains = self._views()
        progress = Progress(
            inits=inits,
            mains=mains,
            ephemerals=self._ephemeral_views(),
            conditions=self._conditions,
            runtime_name=self._around.runtime.info.name,
            host_ip=self._around.facts.host_ip,
            pod_ip=self._facts().pod_ip if self._sandbox is not None or self._is_over else "",
            start_time=self._start_time,
            now=self._clock.now(),
            has_sandbox=self._sandbox is not None,
            is_over=self._is_over,
            verdict=self._verdict,
        )
        status = build(self.pod, progress)
        if status == self._written:
            return
        meta = self.pod["metadata"]
        patch: Document = {"metadata": {"uid": self.uid}, "status": status}
        known = (self.pod.get("status") or {}).get("podIPs") or []
        if known and known != status.get("podIPs"):  # a list that is merged: what is not said would stay
            patch["status"] = status | {"podIPs": [{"$patch": "replace"}, *(status.get("podIPs") or [])]}
        await self._around.client.patch(
            PODS, meta["name"], patch, meta["namespace"], content_type=STRATEGIC_PATCH, subresource="status"
        )
        self._written, self._conditions = status, status["conditions"]
