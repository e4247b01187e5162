"""The node agent: what the kubelet does, for pods with claims.

One informer brings the pods that are bound to this node, one worker each does what they need, and the
drivers of the node come and go beside them. All workers are tasks of this agent; stopping it leaves the
containers running, and the next agent finds them.

At its start the agent looks at what an earlier one left: containers of pods that still exist go to their
workers; those of pods that are gone are killed and their claims unprepared.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence

from drakit.client.api import PODS, Client
from drakit.client.clock import Clock
from drakit.client.informer import Informer
from drakit.client.record import EventRecorder
from drakit.errors import BadRequest, DRAError, NotFound
from drakit.node.api_door import APIDoors
from drakit.node.backoff import Backoff
from drakit.node.checkpoint import Checkpoint
from drakit.node.child import ProgramFailed
from drakit.node.claims import Claims
from drakit.node.env import Facts
from drakit.node.log_reader import LogReader
from drakit.node.node_object import NodeObject, machine_capacity, machine_ip
from drakit.node.paths import NodePaths
from drakit.node.plugins import Plugins
from drakit.node.pod_connection import PodConnection, open_connection
from drakit.node.pod_files import PodFiles
from drakit.node.pod_spec import all_containers
from drakit.node.pod_worker import PodWorker
from drakit.node.runtime import Container, Runtime, RuntimeFailed
from drakit.node.surroundings import Surroundings
from drakit.node.volume import remove_volumes, unmount_volumes
from drakit.podio import ExecSession, LogOptions
from drakit.profile import Gate, Profile, profile_for
from drakit.transport import Document

_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0

_LAST_GRACE = 2.0
"""Seconds that containers get when the whole cluster stops."""

_log = logging.getLogger(__name__)


class Agent:
    """Runs the pods of the node `node_name` with `runtime`. `labels` go on the Node, `capacity` takes the
    place of what the machine has; `api_address` (HOST:PORT) is where this machine finds the API server: pods
    get there too. Raises UsageError when the claim checkpoint cannot be read."""

    def __init__(
        self,
        client: Client,
        node_name: str,
        runtime: Runtime,
        paths: NodePaths,
        *,
        labels: Mapping[str, str] | None = None,
        capacity: Mapping[str, str] | None = None,
        profile: Profile | None = None,
        api_address: str = "",
        clock: Clock | None = None,
    ) -> None:
        paths.create()
        self.ready = asyncio.Event()
        self.node_name = node_name
        self.paths = paths
        self._client = client
        self._runtime = runtime
        self._clock = clock or Clock()
        profile = profile or profile_for()
        capacity = {**machine_capacity(), **(capacity or {})}
        ip = machine_ip()
        info = runtime.info
        name = f"{info.name}://{info.version}" if info.address else info.name
        self._node = NodeObject(
            client, profile, node_name, labels or {}, capacity, runtime=name, ip=ip, clock=self._clock
        )
        self.plugins, self.claims = self._make_claims(profile)
        self._recorder = EventRecorder(client, "kubelet", node_name, clock=self._clock)
        facts = Facts(
            node_name=node_name, host_ip=ip, pod_ip="", allocatable=capacity, api_address=api_address
        )
        self._around = Surroundings(
            client=client,
            runtime=runtime,
            claims=self.claims,
            recorder=self._recorder,
            paths=paths,
            clock=self._clock,
            facts=facts,
            doors=APIDoors(api_address),
        )
        self._workers: dict[str, PodWorker] = {}
        self._found: dict[str, list[Container]] = {}
        self._group: asyncio.TaskGroup | None = None

    def _make_claims(self, profile: Profile) -> tuple[Plugins, Claims]:
        plugins = Plugins(
            self._client,
            self.node_name,
            self.paths,
            on_change=self._driver_changed,
            watches_health=profile.is_on(Gate.HEALTH_STATUS),
            clock=self._clock,
        )
        skips_operations = profile.is_on(Gate.OPTIONAL_NODE_OPERATIONS)
        checkpoint = Checkpoint(self.paths.checkpoint)
        return plugins, Claims(self._client, plugins, checkpoint, skips_operations=skips_operations)

    async def run(self) -> None:
        """Be the node's agent until cancelled. Containers go on when this ends."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._register()
                group.create_task(self._node.run())
                group.create_task(self.plugins.run())
                for container in await self._runtime.containers():
                    self._found.setdefault(container.pod_uid, []).append(container)
                informer = Informer(
                    self._client,
                    PODS,
                    field_selector=f"spec.nodeName={self.node_name}",
                    clock=self._clock,
                )
                group.create_task(informer.run())
                await informer.wait_synced()
                await self._remove_orphans({pod["metadata"]["uid"] for pod in informer.items()})
                informer.add_handler(self._pod_changed)
                self.ready.set()
        finally:
            self._group = None
            await self._recorder.close()

    async def stop_containers(self) -> None:
        """End every container of the node, for when the whole cluster stops; call it when `run` has ended.

        What ran is forgotten, so that the next agent starts it afresh, whatever its restart policy: the
        cluster was switched off, no container has failed. What had ended before stays ended.
        """
        async with asyncio.TaskGroup() as group:
            for container in await self._runtime.containers():
                group.create_task(self._stop(container))
        for sandbox in await self._runtime.sandboxes():
            try:
                await self._runtime.remove_sandbox(sandbox.uid)
            except RuntimeFailed as error:
                _log.warning("sandbox of pod %s/%s: %s", sandbox.namespace, sandbox.name, error)
        for path in self.paths.pods.iterdir():
            unmount_volumes(path)

    async def _stop(self, container: Container) -> None:
        try:
            if container.state == "exited":
                await self._runtime.wait(container.id)  # its record stays, its mounts go
                return
            await self._runtime.stop(container.id, _LAST_GRACE)
            await self._runtime.remove(container.id)
        except RuntimeFailed as error:
            _log.warning("container %s: %s", container.id, error)

    async def _register(self) -> None:
        """Register the node, for as long as it takes until the API server answers."""
        retry = Backoff(_FIRST_RETRY / 4, _LAST_RETRY / 4)
        while True:
            try:
                await self._node.register()
                return
            except (DRAError, OSError) as error:
                _log.info("registration of node %s: %s", self.node_name, error)
                await self._clock.sleep(retry.fail(self._clock.now()))

    # --- pods -----------------------------------------------------------------------------------------

    def _pod_changed(self, old: Document | None, new: Document | None) -> None:
        if new is None:
            assert old is not None
            if worker := self._workers.get(old["metadata"]["uid"]):
                worker.vanish()
            return
        uid = new["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(new)
        elif self._group is not None:
            worker = PodWorker(self._around, new, self._found.pop(uid, []))
            self._workers[uid] = worker
            self._group.create_task(self._work(worker))

    async def _work(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        except Exception:
            _log.exception("pod %s: its worker has a bug", worker.uid)
        finally:
            self._workers.pop(worker.uid, None)

    def _driver_changed(self, driver: str) -> None:
        """A driver registered, or its devices' health changed: pods it matters to look again."""
        for worker in self._workers.values():
            if worker.waits_for_claims or driver in self.claims.drivers_of(worker.uid):
                worker.wake()

    # --- what an earlier agent left -------------------------------------------------------------------

    async def _remove_orphans(self, known: set[str]) -> None:
        """Start removing whatever belongs to pods that do not exist any more."""
        assert self._group is not None
        left = {sandbox.uid for sandbox in await self._runtime.sandboxes()} | set(self._found)
        left |= self.claims.pods() | {path.name for path in self.paths.pods.iterdir()}
        for uid in left - known:
            self._group.create_task(self._remove_orphan(uid, self._found.pop(uid, [])))
        for path in self.paths.logs.iterdir():
            if path.name.rpartition("_")[2] not in known:
                await asyncio.to_thread(shutil.rmtree, path, True)

    async def _remove_orphan(self, uid: str, containers: Sequence[Container]) -> None:
        retry = Backoff(_FIRST_RETRY, _LAST_RETRY)
        while True:
            try:
                for container in containers:
                    _log.info("container %s belongs to a pod that is gone: killed", container.id)
                    await self._runtime.remove(container.id)
                await self.claims.unprepare(uid)
                await self._runtime.remove_sandbox(uid)
                await asyncio.to_thread(remove_volumes, self.paths.pods / uid)
                return
            except DRAError as error:
                _log.info("what is left of pod %s: %s", uid, error)
            except Exception:
                _log.exception("what is left of pod %s: a bug", uid)
            await self._clock.sleep(retry.fail(self._clock.now()))

    # --- streams --------------------------------------------------------------------------------------

    async def logs(self, pod: Document, options: LogOptions) -> AsyncIterator[bytes]:
        """The log of a container. Raises NotFound and BadRequest in the kubelet's words."""
        name, files = options.container, PodFiles(self.paths, pod)
        pod_name = pod["metadata"]["name"]
        self._check_container(pod, name)
        attempts = files.attempts(name)
        worker = self._workers.get(pod["metadata"]["uid"])
        current = worker.runner.current(name) if worker else None
        if options.previous:
            attempts = [a for a in attempts if current is not None and a < current.attempt]
            if not attempts:
                raise BadRequest(f'previous terminated container "{name}" in pod "{pod_name}" not found')
        if not attempts:
            reason = worker.runner.waiting(name) if worker else "ContainerCreating"
            raise BadRequest(f'container "{name}" in pod "{pod_name}" is waiting to start: {reason}')
        attempt = attempts[-1]

        def is_running() -> bool:
            now = worker.runner.current(name) if worker else None
            return now is not None and now.attempt == attempt and now.state != "exited"

        reader = LogReader(files.log(name, attempt), options, is_running=is_running, clock=self._clock)
        async for text in reader.read():
            yield text

    async def exec(
        self, pod: Document, container: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> ExecSession:
        """Run `command` in a container. Raises NotFound when it does not run."""
        current = self._running(pod, container)
        try:
            return await self._runtime.exec(current.id, command, stdin=stdin, tty=tty)
        except (RuntimeFailed, ProgramFailed) as error:
            raise BadRequest(f"cannot exec in container {container}: {error}") from None

    async def attach(self, pod: Document, container: str, *, stdin: bool, tty: bool) -> ExecSession:
        """A container's own input and output. Raises NotFound when it does not run."""
        current = self._running(pod, container)
        try:
            return await self._runtime.attach(current.id, stdin=stdin, tty=tty)
        except (RuntimeFailed, ProgramFailed) as error:
            raise BadRequest(f"cannot attach to container {container}: {error}") from None

    async def connect(self, pod: Document, port: int) -> PodConnection:
        """A connection to `port` in the pod's network. Raises NotFound and BadRequest."""
        meta = pod["metadata"]
        worker = self._workers.get(meta["uid"])
        if worker is None or worker.sandbox is None:
            raise NotFound(f'pod "{meta["name"]}" does not run')
        try:
            return await open_connection(worker.sandbox, port)
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else str(error)
            raise BadRequest(
                f"error forwarding port {port} to pod {meta['name']}, uid {meta['uid']}: {why}"
            ) from None

    def _running(self, pod: Document, container: str) -> Container:
        self._check_container(pod, container)
        worker = self._workers.get(pod["metadata"]["uid"])
        current = worker.runner.current(container) if worker else None
        if current is None or current.state != "running":
            raise NotFound(f'container not found ("{container}")')
        return current

    def _check_container(self, pod: Document, name: str) -> None:
        if name not in [entry["name"] for entry in all_containers(pod.get("spec") or {})]:
            raise BadRequest(f"container {name} is not valid for pod {pod['metadata']['name']}")
