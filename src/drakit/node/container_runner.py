"""The containers of one pod: started in turn, started again by the restart policy, probed, watched.

Each container is a row of attempts. The runtime's records are what is known about them; beside that only
what a new agent may forget is kept here: back-offs, the results of probes, why something waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import structs

from drakit.errors import DRAError
from drakit.node.action import Actions
from drakit.node.container_maker import ContainerMaker
from drakit.node.container_state import State
from drakit.node.env import ConfigFailed, Facts
from drakit.node.image import ImageNotFound
from drakit.node.pod_files import PodFiles
from drakit.node.pod_status import View
from drakit.node.probe import Kind, Prober
from drakit.node.runtime import Container, RuntimeFailed, Sandbox, UnresolvableCDI, container_id
from drakit.node.stopper import Stopper
from drakit.node.surroundings import Surroundings
from drakit.node.tell import Tell
from drakit.node.volume import Volumes
from drakit.transport import Document

ContainerKind = Literal["init", "main", "ephemeral"]

CALM_SECONDS = 600.0
"""A container that ran this long starts its back-off anew."""

_START_FAILED = 128
_HOOK_GRACE, _DEFAULT_GRACE = 2.0, 30.0

_log = logging.getLogger(__name__)


class ContainerRunner:
    """Runs the containers of the pod `uid`. `found` are those the runtime already has, `statuses` what the
    API last heard of them; `wake` is called when one has ended or a probe has changed its mind."""

    def __init__(
        self,
        around: Surroundings,
        uid: str,
        files: PodFiles,
        volumes: Volumes,
        found: Sequence[Container],
        statuses: Sequence[Document],
        *,
        stopper: Stopper,
        tell: Tell,
        wake: Callable[[], None],
    ) -> None:
        self._around = around
        self._runtime = around.runtime
        self._clock = around.clock
        self._uid = uid
        self._files = files
        self._maker = ContainerMaker(around, files, volumes)
        self._stopper = stopper
        self._tell = tell
        self._wake = wake
        self._states: dict[str, State] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        for container in found:
            self._state(container.name).put(container)
        for status in statuses:
            if status.get("name") in self._states:
                self._states[status["name"]].is_ready = bool(status.get("ready"))
                self._states[status["name"]].is_started = bool(status.get("started"))

    def _state(self, name: str) -> State:
        return self._states.setdefault(name, State())

    # --- what is there ----------------------------------------------------------------------------

    def current(self, name: str) -> Container | None:
        """The last attempt of the container `name`."""
        state = self._states.get(name)
        return state.current if state else None

    def waiting(self, name: str) -> str:
        """Why the container `name` does not run."""
        state = self._states.get(name)
        return state.waiting[0] if state and state.waiting else "ContainerCreating"

    def live(self) -> list[Container]:
        """Every container that has not ended."""
        current = (state.current for state in self._states.values())
        return [container for container in current if container and container.state != "exited"]

    async def observe(self) -> None:
        """Learn what became of the containers since the last look."""
        for state in self._states.values():
            for container in state.attempts:
                if container.state in ("created", "running"):
                    seen = await self._runtime.status(container.id)
                    state.put(seen or _vanished(container, self._clock.now()))
            current = state.current
            if current is None or current.state != "running":
                if state.prober:
                    state.prober.cancel()
                state.prober, state.is_ready, state.is_started = None, False, False
            elif state.exit_watch is None or state.exit_watch.done():
                state.exit_watch = asyncio.create_task(self._watch_exit(current.id))

    async def _watch_exit(self, container_id: str) -> None:
        with contextlib.suppress(RuntimeFailed):
            await self._runtime.wait(container_id)
        self._wake()

    def view(self, pod: Document, spec: Document) -> View:
        """The container `spec` as its status shows it."""
        state = self._state(spec["name"])
        attempts = [attempt for attempt in state.attempts if attempt.state != "created"]
        messages = {
            attempt.id: self._files.termination_message(
                spec, attempt.attempt, is_failed=attempt.exit_code != 0
            )
            for attempt in attempts
            if attempt.state == "exited"
        }
        return View(
            spec=spec,
            current=attempts[-1] if attempts else None,
            previous=attempts[-2] if len(attempts) > 1 else None,
            waiting=state.waiting,
            is_ready=state.is_ready,
            is_started=state.is_started,
            messages=messages,
            resources_status=self._around.claims.resources_status(pod, spec),
            image_id=state.image_id,
        )

    # --- starting ---------------------------------------------------------------------------------

    async def run(
        self, pod: Document, spec: Document, sandbox: Sandbox, facts: Facts, *, kind: ContainerKind
    ) -> float | None:
        """Have the container run as it should; the seconds until this must be tried again."""
        state = self._state(spec["name"])
        current, now = state.current, self._clock.now()
        if current is not None and current.state == "created":  # the agent died between create and start
            await self._runtime.remove(current.id)
            state.attempts.remove(current)
        elif current is not None and current.state == "running":
            self._start_prober(pod, spec, state, current, sandbox)
            return None
        elif current is not None:
            if not _is_restarted(pod, spec, current, kind):
                return None
            if state.noted_end != current.id:
                self._note_end(pod, spec, state, current)
        wait = max(state.restart.until, state.pull.until) - now
        if wait > 0:
            return wait
        return await self._start(pod, spec, state, sandbox, facts)

    def _note_end(self, pod: Document, spec: Document, state: State, ended: Container) -> None:
        """An attempt has ended and another will follow: at once the first time, later with back-off."""
        state.noted_end = ended.id
        if ended.finished_at - ended.started_at >= CALM_SECONDS:
            state.restart.clear()
        if ended.attempt == 0:
            return
        delay = state.restart.fail(self._clock.now())
        name, meta = spec["name"], pod["metadata"]
        whole = f"{meta['name']}_{meta['namespace']}({self._uid})"
        text = f"back-off {delay:g}s restarting failed container={name} pod={whole}"
        state.waiting = ("CrashLoopBackOff", text)
        self._tell("Warning", "BackOff", f"Back-off restarting failed container {name} in pod {whole}")

    async def _start(
        self, pod: Document, spec: Document, state: State, sandbox: Sandbox, facts: Facts
    ) -> float | None:
        """One attempt to start the container; the seconds until the next where it failed."""
        name = spec["name"]
        attempt = state.current.attempt + 1 if state.current else 0
        container: Container | None = None
        try:
            image, text = await self._maker.find_image(pod, spec, self._tell)
            state.pull.clear()
            state.image_id = image.id
            self._tell("Normal", "Pulled", text)
            target = self.current(spec.get("targetContainerName") or "")
            container = await self._maker.create(
                pod, spec, image, attempt, sandbox, facts, target=target.id if target else ""
            )
            self._tell("Normal", "Created", "Container created")
            container = await self._runtime.start(container.id)
        except ImageNotFound as error:
            return self._note_missing_image(spec, state, error)
        except (ConfigFailed, UnresolvableCDI, OSError) as error:
            is_config = isinstance(error, ConfigFailed)
            kind = "CreateContainerConfigError" if is_config else "CreateContainerError"
            self._tell("Warning", "Failed", f"Error: {error}")
            state.waiting = (kind, str(error))
            return state.create.fail(self._clock.now())
        except RuntimeFailed as error:
            self._tell("Warning", "Failed", f"Error: {error}")
            cid = container.id if container else container_id(self._uid, name, attempt)
            await self._note_failed_start(pod, spec, state, cid, attempt, str(error))
            return None
        self._tell("Normal", "Started", "Container started")
        if container.not_isolated:
            text = f"Container {name} is not isolated: {'; '.join(container.not_isolated)}"
            self._tell("Warning", "NotIsolated", text)
        await self._put_new(state, container)
        state.waiting = None
        state.create.clear()
        state.is_started = "startupProbe" not in spec
        state.is_ready = state.is_started and "readinessProbe" not in spec
        state.exit_watch = asyncio.create_task(self._watch_exit(container.id))
        if container.state == "running":
            if hook := (spec.get("lifecycle") or {}).get("postStart"):
                state.hook = asyncio.create_task(self._post_start(hook, spec, container, sandbox))
            self._start_prober(pod, spec, state, container, sandbox)
        return None

    async def _post_start(
        self, hook: Document, spec: Document, container: Container, sandbox: Sandbox
    ) -> None:
        """Run the hook; a container whose hook fails is ended."""
        try:
            await self.actions(container, spec, sandbox).perform(hook)
        except (DRAError, OSError) as error:
            self._tell("Warning", "FailedPostStartHook", f"PostStartHook failed: {error}")
            await self._stopper.kill(container, _HOOK_GRACE)
        finally:
            self._wake()

    def is_held(self, name: str) -> bool:
        """Whether what comes after the container `name` must wait for its postStart hook."""
        state = self._states.get(name)
        return state is not None and state.hook is not None and not state.hook.done()

    def actions(self, container: Container, spec: Document, sandbox: Sandbox | None) -> Actions:
        """What probes and hooks can do with `container`."""
        there = sandbox or Sandbox(uid=self._uid, namespace=container.pod_namespace, name=container.pod_name)
        return Actions(self._runtime, container.id, spec, there, self._clock)

    def _note_missing_image(self, spec: Document, state: State, error: ImageNotFound) -> float:
        reference = spec.get("image") or ""
        is_first = state.pull.failures == 0
        delay = state.pull.fail(self._clock.now())
        kind = "InvalidImageName" if error.is_name_invalid else "ErrImagePull"
        if spec.get("imagePullPolicy") == "Never" and not error.is_name_invalid:
            kind = "ErrImageNeverPull"
        self._tell("Warning", "Failed", f'Failed to pull image "{reference}": {error}')
        self._tell("Warning", "Failed", f"Error: {kind}")
        state.waiting = (kind, str(error))
        if not is_first and kind == "ErrImagePull":
            self._tell("Normal", "BackOff", f'Back-off pulling image "{reference}"')
            text = f'Back-off pulling image "{reference}": ErrImagePull: {error}'
            state.waiting = ("ImagePullBackOff", text)
        return delay

    async def _note_failed_start(
        self, pod: Document, spec: Document, state: State, cid: str, attempt: int, text: str
    ) -> None:
        """A container that could not run counts as one that ended with code 128, as with containerd."""
        now = self._clock.now()
        failed = Container(
            id=cid,
            pod_uid=self._uid,
            pod_namespace=pod["metadata"]["namespace"],
            pod_name=pod["metadata"]["name"],
            name=spec["name"],
            attempt=attempt,
            image=spec.get("image") or "",
            image_id=state.image_id,
            log_path="",
            state="exited",
            exit_code=_START_FAILED,
            created_at=now,
            finished_at=now,
            error=text,
        )
        await self._runtime.remove(failed.id)
        await self._put_new(state, failed)
        state.waiting = None
        self._wake()

    async def _put_new(self, state: State, container: Container) -> None:
        """Keep `container` and the attempt before it, and none older."""
        for old in [known for known in state.attempts if known.attempt < container.attempt - 1]:
            await self._runtime.remove(old.id)
            self._files.log(old.name, old.attempt).unlink(missing_ok=True)
            state.attempts.remove(old)
        state.put(container)

    # --- probes -----------------------------------------------------------------------------------

    def _start_prober(
        self, pod: Document, spec: Document, state: State, container: Container, sandbox: Sandbox
    ) -> None:
        if not any(f"{kind}Probe" in spec for kind in ("startup", "readiness", "liveness")):
            state.is_started = state.is_ready = True
            return
        if state.prober is not None:
            return

        def on_result(kind: Kind, is_well: bool, message: str) -> None:
            if kind == "startup" and is_well:
                state.is_started, state.is_ready = True, "readinessProbe" not in spec
            elif kind == "readiness":
                state.is_ready = is_well
            elif not is_well:
                self._tell(
                    "Normal", "Killing", f"Container {spec['name']} failed {kind} probe, will be restarted"
                )
                task = asyncio.create_task(self._restart(pod, spec, container, sandbox, kind))
                self._stopping.add(task)
                task.add_done_callback(self._stopping.discard)
            self._wake()

        def on_failure(kind: Kind, message: str) -> None:
            self._tell("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {message}")

        actions = self.actions(container, spec, sandbox)
        prober = Prober(actions, spec, self._clock, on_result, on_failure)
        state.prober = asyncio.create_task(self._probe(prober))

    async def _restart(
        self, pod: Document, spec: Document, container: Container, sandbox: Sandbox, kind: Kind
    ) -> None:
        """End a container that its probe gave up, so that its policy starts it again."""
        grace = (spec.get(f"{kind}Probe") or {}).get("terminationGracePeriodSeconds")
        if grace is None:
            grace = (pod.get("spec") or {}).get("terminationGracePeriodSeconds", _DEFAULT_GRACE)
        await self._stopper.stop(pod, sandbox, container, float(grace))
        self._wake()

    async def _probe(self, prober: Prober) -> None:
        try:
            await prober.run()
        except Exception:
            _log.exception("probes of pod %s: a bug", self._uid)

    # --- ending -----------------------------------------------------------------------------------

    def stop_probes(self) -> None:
        """Ask the containers no more; what is known of them stays."""
        for state in self._states.values():
            if state.prober is not None:
                state.prober.cancel()

    async def remove_all(self) -> None:
        """Drop every container; its log stays."""
        self.close()
        for state in self._states.values():
            for container in state.attempts:
                await self._runtime.remove(container.id)

    def close(self) -> None:
        """Stop watching; the containers go on."""
        for state in self._states.values():
            state.stop_tasks()
        for task in self._stopping:
            task.cancel()


def _is_restarted(pod: Document, spec: Document, ended: Container, kind: ContainerKind) -> bool:
    """Whether another attempt follows the one that has ended."""
    policy = (pod.get("spec") or {}).get("restartPolicy", "Always")
    if kind == "ephemeral":
        return False
    if kind == "init" and spec.get("restartPolicy") != "Always":
        return ended.exit_code != 0 and policy != "Never"
    if kind == "init":
        return True
    return policy == "Always" or (policy == "OnFailure" and ended.exit_code != 0)


def _vanished(container: Container, now: float) -> Container:
    """A container whose record is lost has ended, nobody knows how."""
    return structs.replace(container, state="exited", exit_code=255, finished_at=now, error="it vanished")
