"""A node for tests: the real agent and the real API server, a runtime in memory, drivers on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from drakit.apiserver.app import API, User
from drakit.client.api import EVENTS, NODES, PODS, RESOURCE_CLAIMS, Client
from drakit.client.clock import Clock
from drakit.errors import NotFound
from drakit.node.agent import Agent
from drakit.node.image import Image, ImageNotFound
from drakit.node.paths import NodePaths
from drakit.node.runtime import (
    Container,
    ContainerSpec,
    Info,
    Logins,
    NotRunning,
    RuntimeFailed,
    Sandbox,
    SandboxSpec,
    Stats,
    container_id,
)
from drakit.pluginapi import wire
from drakit.pluginapi.dra import DRA_SERVICES, Claim, PreparedDevice, PrepareResult, dra_handlers
from drakit.pluginapi.health import HEALTH_V1, DeviceHealth, health_handlers
from drakit.pluginapi.registration import DRA_PLUGIN_TYPE, PluginInfo, registration_handlers
from drakit.podio import ExecSession
from drakit.profile import profile_for
from drakit.store import Store
from drakit.transport import Document

NODE = "node-1"
NS = "default"
ADMIN = User("admin", ("system:masters",))


async def until(holds: Callable[[], Any], what: str = "it", seconds: float = 10.0) -> Any:
    """What `holds()` returns as soon as that is true; it may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            found = holds()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.002)
    raise AssertionError(what)


# --- a runtime in memory --------------------------------------------------------------------------------


class FakeSession:
    """An exec that prints its command and exits with `code`."""

    def __init__(self, command: Sequence[str], code: int) -> None:
        self._chunks = [(1, " ".join(command).encode())]
        self._code = code

    async def read(self) -> tuple[int, bytes] | None:
        return self._chunks.pop() if self._chunks else None

    async def write(self, data: bytes) -> None: ...

    async def close_stdin(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    async def wait(self) -> int:
        return self._code

    async def kill(self) -> None: ...


class FakeRuntime:
    """Keeps containers in memory, for as many agents as are started with it, one after the other.

    `exit_codes` are those with which a container of that name ends at once (a list: one an attempt);
    `errors` what `create` raises.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.found: dict[str, Container] = {}
        self.specs: dict[str, ContainerSpec] = {}
        self.pods: dict[str, Sandbox] = {}
        self.ended: dict[str, asyncio.Event] = {}
        self.exit_codes: dict[str, int | list[int]] = {}
        self.errors: dict[str, Exception] = {}
        self.missing_images: set[str] = set()
        self.exec_code = 0
        self.ignores_term = False
        self.calls: list[str] = []

    @property
    def info(self) -> Info:
        return Info("fake", "1", "0.3.0-1.1.0", frozenset({"netns"}))

    async def ensure_image(
        self, reference: str, policy: str = "IfNotPresent", logins: Logins | None = None
    ) -> Image:
        if reference in self.missing_images:
            raise ImageNotFound(f'"{reference}" is not in the local image store')
        return Image(reference=reference, id="sha256:1", cmd=["sh"])

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox:
        self.calls.append(f"sandbox {spec.name}")
        self.pods[spec.uid] = Sandbox(uid=spec.uid, namespace=spec.namespace, name=spec.name)
        return self.pods[spec.uid]

    async def remove_sandbox(self, uid: str) -> None:
        if self.pods.pop(uid, None):
            self.calls.append("remove sandbox")

    async def create(self, sandbox: Sandbox, spec: ContainerSpec) -> Container:
        if spec.name in self.errors:
            raise self.errors[spec.name]
        cid = container_id(sandbox.uid, spec.name, spec.attempt)
        self.calls.append(f"create {spec.name}.{spec.attempt}")
        self.specs[cid] = spec
        self.ended[cid] = asyncio.Event()
        self.found[cid] = Container(
            id=cid,
            pod_uid=sandbox.uid,
            pod_namespace=sandbox.namespace,
            pod_name=sandbox.name,
            name=spec.name,
            attempt=spec.attempt,
            image=spec.image.reference,
            image_id=spec.image.id,
            log_path=spec.log_path,
            created_at=self._clock.now(),
        )
        return self.found[cid]

    async def start(self, container_id: str) -> Container:
        container = self.found[container_id]
        self.calls.append(f"start {container.name}.{container.attempt}")
        Path(container.log_path).parent.mkdir(parents=True, exist_ok=True)
        Path(container.log_path).write_text("2026-11-22T00:00:00.000000000Z stdout F hello\n")
        self.found[container_id] = structs.replace(
            container, state="running", pid=1, started_at=self._clock.now()
        )
        if container.name in self.exit_codes:
            code = self.exit_codes[container.name]
            self.end(container_id, code if isinstance(code, int) else code.pop(0))
        return self.found[container_id]

    def end(self, container_id: str, code: int) -> None:
        """The container's process exits with `code`."""
        self.found[container_id] = structs.replace(
            self.found[container_id], state="exited", exit_code=code, finished_at=self._clock.now()
        )
        self.ended[container_id].set()

    async def stop(self, container_id: str, grace_seconds: float) -> Container:
        container = self.found[container_id]
        self.calls.append(f"stop {container.name}.{container.attempt} {grace_seconds:g}")
        if container.state != "exited" and not (self.ignores_term and grace_seconds > 0):
            self.end(container_id, 143 if grace_seconds > 0 else 137)
        return await self.wait(container_id)

    async def remove(self, container_id: str) -> None:
        if container := self.found.pop(container_id, None):
            self.calls.append(f"remove {container.name}.{container.attempt}")
            self.ended[container_id].set()

    async def status(self, container_id: str) -> Container | None:
        return self.found.get(container_id)

    async def containers(self) -> list[Container]:
        return list(self.found.values())

    async def sandboxes(self) -> list[Sandbox]:
        return list(self.pods.values())

    async def wait(self, container_id: str) -> Container:
        await self.ended[container_id].wait()
        if container_id not in self.found:
            raise NotRunning(container_id)
        return self.found[container_id]

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> ExecSession:
        self.calls.append(f"exec {' '.join(command)}")
        return FakeSession(command, self.exec_code)

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> ExecSession:
        self.calls.append(f"attach {self.found[container_id].name}")
        return FakeSession(["attached"], 0)

    async def stats(self, container_id: str) -> Stats:
        raise RuntimeFailed("no stats here")


# --- a driver on real sockets ---------------------------------------------------------------------------


class FakeDriver:
    """A driver as seen from the kubelet: what it was asked is in `calls`, what it answers can be changed."""

    def __init__(self, name: str = "lamp.example.com") -> None:
        self.name = name
        self.type = DRA_PLUGIN_TYPE
        self.versions: Sequence[str] = DRA_SERVICES
        self.calls: list[str] = []
        self.outcomes: list[str] = []
        self.prepared: set[str] = set()
        self.error = ""
        self.hangs = False
        self.answer: Callable[[Claim], PrepareResult | None] = self.prepare_one
        self.health: list[DeviceHealth] = []
        self._servers: list[wire.UnixServer] = []
        self._endpoint = ""
        self._news = asyncio.Event()

    def prepare_one(self, claim: Claim) -> PrepareResult:
        return PrepareResult(
            (PreparedDevice(("r",), "pool", "lamp-0", (f"lamp.example.com/lamp={claim.uid}",)),)
        )

    async def get_info(self) -> PluginInfo:
        return PluginInfo(self.type, self.name, self._endpoint, self.versions)

    async def notify(self, is_registered: bool, error: str) -> None:
        self.outcomes.append("registered" if is_registered else error)

    async def prepare(self, claims: Sequence[Claim]) -> Mapping[str, PrepareResult]:
        self.calls.append("prepare " + ",".join(sorted(claim.name for claim in claims)))
        if self.hangs:
            await asyncio.Event().wait()
        answers = {claim.uid: self.answer(claim) for claim in claims}
        self.prepared |= {uid for uid, answer in answers.items() if answer and not answer.error}
        return {uid: answer for uid, answer in answers.items() if answer}

    async def unprepare(self, claims: Sequence[Claim]) -> Mapping[str, str]:
        self.calls.append("unprepare " + ",".join(sorted(claim.name for claim in claims)))
        if not self.error:
            self.prepared -= {claim.uid for claim in claims}
        return {claim.uid: self.error for claim in claims}

    async def watch_health(self) -> AsyncIterator[Sequence[DeviceHealth]]:
        while True:
            self._news.clear()
            yield list(self.health)
            await self._news.wait()

    def report(self, *health: DeviceHealth) -> None:
        """Tell whoever watches how the devices are."""
        self.health = list(health)
        self._news.set()

    async def start(self, paths: NodePaths, suffix: str = "") -> None:
        """Serve both sockets."""
        endpoint = paths.plugins / f"{self.name}{suffix}.sock"
        self._endpoint = str(endpoint)
        services = [*dra_handlers(self), *(health_handlers(self) if HEALTH_V1 in self.versions else [])]
        self._servers.append(await wire.serve(endpoint, services))
        registration = paths.plugins_registry / f"{self.name}{suffix}-reg.sock"
        self._servers.append(await wire.serve(registration, registration_handlers(self)))

    async def stop(self) -> None:
        """Take both sockets away, the registration first."""
        for server in reversed(self._servers):
            await server.stop(0)
        self._servers.clear()


# --- the node -------------------------------------------------------------------------------------------


class TestNode:
    """`client` acts as an administrator; `agent` runs between `start` and `stop`."""

    __test__ = False

    def __init__(self, api: API, root: Path, clock: Clock) -> None:
        self.api = api
        self.clock = clock
        self.client = Client(api.transport(ADMIN), field_manager="test")
        self.paths = NodePaths(root)
        self.runtime = FakeRuntime(clock)
        self.agent: Agent | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> Agent:
        user = User(f"system:node:{NODE}", ("system:nodes",))
        kubelet = Client(self.api.transport(user), field_manager="kubelet")
        self.agent = Agent(kubelet, NODE, self.runtime, self.paths, clock=self.clock)
        self._task = asyncio.create_task(self.agent.run())
        await asyncio.wait(
            [self._task, asyncio.create_task(self.agent.ready.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        return self.agent

    async def stop(self) -> None:
        """Stop the agent as a crash does; containers and files stay."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def create(self, pod: Document) -> Document:
        return await self.client.create(PODS, pod)

    async def get(self, name: str) -> Document | None:
        try:
            return await self.client.get(PODS, name, NS)
        except NotFound:
            return None

    async def until_phase(self, name: str, phase: str) -> Document:
        async def reached() -> Document | None:
            pod = await self.get(name)
            return pod if pod and (pod.get("status") or {}).get("phase") == phase else None

        found: Document = await until(reached, f"{name} is not {phase}")
        return found

    async def until_gone(self, name: str) -> None:
        async def gone() -> bool:
            return await self.get(name) is None

        await until(gone, f"{name} is still there")

    async def until_state(self, name: str, kind: str, reason: str = "", index: int = 0) -> Document:
        """The pod, once its container `index` is waiting, running or terminated (for `reason`)."""

        async def reached() -> Document | None:
            pod = await self.get(name)
            statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or []
            state = statuses[index]["state"] if statuses else {}
            return pod if kind in state and reason in ("", state[kind].get("reason")) else None

        found: Document = await until(reached, f"{name} is not {kind} {reason}")
        return found

    async def events(self, name: str) -> list[tuple[str, str]]:
        items = (await self.client.list(EVENTS, NS)).items
        return [(e["reason"], e["message"]) for e in items if e["involvedObject"]["name"] == name]

    async def until_event(self, name: str, reason: str) -> str:
        """The message of the event `reason` about the pod."""

        async def seen() -> str | None:
            return next((text for kind, text in await self.events(name) if kind == reason), None)

        found: str = await until(seen, f"no event {reason} about {name}")
        return found

    async def add_claim(self, name: str, *pods: Document, driver: str = "lamp.example.com") -> Document:
        """A claim that is allocated a device of `driver` and reserved for `pods`."""
        claim: Document = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": NS},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}},
        }
        made = await self.client.create(RESOURCE_CLAIMS, claim)
        result = {"request": "r", "driver": driver, "pool": "pool", "device": "lamp-0"}
        consumers = [
            {"resource": "pods", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
            for pod in pods
        ]
        status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": consumers}
        return await self.client.patch(
            RESOURCE_CLAIMS, made["metadata"]["name"], {"status": status}, NS, subresource="status"
        )

    async def node(self) -> Document:
        return await self.client.get(NODES, NODE)


@asynccontextmanager
async def running_node(
    root: Path, clock: Clock | None = None, *, start: bool = True
) -> AsyncIterator[TestNode]:
    """A node with its agent at work (unless `start` is False) and an API server in memory."""
    api = API.open(Store(), profile_for())
    await api.start()
    node = TestNode(api, root, clock or Clock())
    try:
        if start:
            await node.start()
        yield node
    finally:
        await node.stop()
        await api.close()
        node.paths.remove_sockets()


def make_pod(name: str, *claims: str, bound: bool = True, **spec: Any) -> Document:
    """A pod on this node whose container `c` uses `claims`."""
    container: Document = {"name": "c", "image": "busybox", "command": ["sh"]}
    if claims:
        container["resources"] = {"claims": [{"name": claim} for claim in claims]}
    body: Document = {"containers": [container], "terminationGracePeriodSeconds": 1} | spec
    if claims:
        body["resourceClaims"] = [{"name": claim, "resourceClaimName": claim} for claim in claims]
    if bound:
        body["nodeName"] = NODE
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NS},
        "spec": body,
    }
