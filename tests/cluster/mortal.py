"""An API server, alone or as `dra up` has it, in a process that dies where it is told to.

The log of its store is the real one with a pen beside it: before and after every commit it says which
steps the commit makes, and at the step that the file `fate` names it kills its process with SIGKILL. Killed
before the commit, a request had come and nothing was kept; killed after it, the write is durable and nobody
was told: neither the client that waits for its answer nor a single watcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

import drakit.cluster.embedded as embedded
import drakit.store.store as store_module
from drakit.apiserver.app import API, User
from drakit.apiserver.http import serve
from drakit.client.clock import Clock
from drakit.cluster.embedded import Embedded
from drakit.cluster.options import DriverOption, Options
from drakit.driver import Claim, Device, Driver, PreparedDevice, device
from drakit.model.resource import POD_CLAIM_ANNOTATION
from drakit.node.paths import NodePaths
from drakit.node.runtime import Container, ContainerSpec, Sandbox, SandboxSpec
from drakit.profile import DEFAULT_VERSION, profile_for
from drakit.store import Store
from drakit.store.log import Durability, Log, Row
from tests.node.make import FakeRuntime

DRIVER = "lamp.example.com"
LAMPS = 4
_WORDS = {
    "metadata.deletionTimestamp": "to be deleted",
    "spec.nodeName": "bound",
    "status.resourceClaimStatuses": "claims named",
    "status.allocation": "allocated",
    "no status.allocation": "deallocated",
    "status.reservedFor": "reserved",
    "status.devices": "devices lit",
    "metadata.finalizers": "finalizer",
    "no metadata.finalizers": "no finalizer",
    "Running": "Running",
    "Succeeded": "Succeeded",
    "Failed": "Failed",
    "status.completionTime": "complete",
    "spec.holderIdentity": "taken",
    "no spec.holderIdentity": "given back",
    "spec.renewTime": "renewed",
}
"""What a change is called, by what it changes; the first that fits."""


class Step(msgspec.Struct, frozen=True):
    """One committed change: `name` says whose and which ("pods t: spec.nodeName"), `value` is the document
    as it is stored, None when it was deleted."""

    name: str
    revision: int
    collection: str
    key: str
    value: bytes | None


# --- the log that dies -----------------------------------------------------------------------------------


class MortalLog(Log):
    """Tells `news` of every commit, and dies at the one that `folder`/fate names: before or after the step of
    that name has come so many times."""

    def __init__(self, path: Path, durability: Durability, *, folder: Path, news: News) -> None:
        self._fate, self._news = folder / "fate", news
        self._known = ""
        self._left = 0
        self._values: dict[tuple[str, str], bytes] = {}
        super().__init__(path, durability)

    def rows(self) -> Iterator[Row]:
        for row in super().rows():
            self._keep(row)
            yield row

    def append(self, rows: Sequence[Row], obsolete: Iterable[int] = (), floor: int | None = None) -> None:
        steps = []
        for row in rows:
            name = step_name(row, self._values.get((row.collection, row.key)))
            steps.append(Step(name, row.revision, row.collection, row.key, row.value))
            self._keep(row)
        moment = self._moment(steps)
        if moment == "before":
            self._die()
        super().append(rows, obsolete, floor)
        self._news.tell("steps", steps)
        if moment == "after":
            self._die()

    def _moment(self, steps: Sequence[Step]) -> str:
        """ "before" or "after", if it is at `steps` that the process is to die."""
        try:
            fate = self._fate.read_text()
        except FileNotFoundError:
            return ""
        name, times, moment = fate.split("\t")
        if fate != self._known:
            self._known, self._left = fate, int(times)
        if self._left <= 0:
            return ""
        self._left -= sum(step.name == name for step in steps)
        return moment if self._left <= 0 else ""

    def _die(self) -> None:
        self._news.tell("dies", self._known)
        os.kill(os.getpid(), signal.SIGKILL)

    def _keep(self, row: Row) -> None:
        if row.value is None:
            self._values.pop((row.collection, row.key), None)
        else:
            self._values[row.collection, row.key] = row.value


def step_name(row: Row, before: bytes | None) -> str:
    """`collection name: change`, the same whenever the same is done: without what was made up for a name."""
    try:
        old = msgspec.json.decode(before) if before is not None else None
        new = msgspec.json.decode(row.value) if row.value is not None else None
        name = _name((new or old or {})["metadata"])
    except (msgspec.DecodeError, KeyError):
        return f"{row.collection} {row.key}: written"
    collection = row.collection.partition(".")[0]
    if collection == "resourceslices":
        name = name.rpartition("-")[0]
    if old is None or new is None:
        return f"{collection} {name}: {'created' if old is None else 'deleted'}"
    changes = set(_changed(old, new))
    return (
        f"{collection} {name}: {next((word for path, word in _WORDS.items() if path in changes), 'changed')}"
    )


def _name(meta: Any) -> str:
    if entry := (meta.get("annotations") or {}).get(POD_CLAIM_ANNOTATION):
        return f"for {entry}"
    if meta.get("generateName"):
        return str(meta["generateName"])[:-1]
    return str(meta["name"])


def _changed(old: Any, new: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths of what differs, two names deep; "no PATH" for what is gone."""
    if isinstance(old, dict) and isinstance(new, dict) and len(path) < 2:
        for key in {*old, *new}:
            if old.get(key) != new.get(key):
                yield from _changed(old.get(key, {}), new.get(key, {}), (*path, key))
    elif path[-1] == "phase":
        yield str(new)
    else:
        yield ".".join(path) if new not in ({}, None) else f"no {'.'.join(path)}"


# --- what a node has -------------------------------------------------------------------------------------


class LastingRuntime(FakeRuntime):
    """Containers that outlive the process of the agent, as real ones do: they are in the file `path`."""

    def __init__(self, clock: Clock, path: Path) -> None:
        super().__init__(clock)
        self._path = path
        self.exit_codes = {"done": 0}
        if path.exists():
            content = msgspec.json.decode(path.read_bytes(), type=tuple[list[Container], list[Sandbox]])
            self.found = {container.id: container for container in content[0]}
            self.pods = {sandbox.uid: sandbox for sandbox in content[1]}
            self.ended = {container: asyncio.Event() for container in self.found}
            for container in content[0]:
                if container.state == "exited":
                    self.ended[container.id].set()

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox:
        return self._saved(await super().run_sandbox(spec))

    async def remove_sandbox(self, uid: str) -> None:
        self._saved(await super().remove_sandbox(uid))

    async def create(self, sandbox: Sandbox, spec: ContainerSpec) -> Container:
        return self._saved(await super().create(sandbox, spec))

    async def start(self, container_id: str) -> Container:
        return self._saved(await super().start(container_id))

    async def stop(self, container_id: str, grace_seconds: float) -> Container:
        return self._saved(await super().stop(container_id, grace_seconds))

    async def remove(self, container_id: str) -> None:
        self._saved(await super().remove(container_id))

    def _saved(self, answer: Any) -> Any:
        hidden = self._path.with_suffix(".new")
        hidden.write_bytes(msgspec.json.encode((list(self.found.values()), list(self.pods.values()))))
        hidden.rename(self._path)
        return answer


class Lamps(Driver):
    """Lamps that say in the claim's status that they are lit."""

    name = DRIVER

    def __init__(self, node_name: str, count: int = LAMPS) -> None:
        super().__init__(node_name)
        self.lamps: list[Device] = [device(f"lamp-{index}", {"index": index}) for index in range(count)]

    def devices(self) -> Sequence[Device]:
        return self.lamps

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        return [lamp.prepared(env={"LAMP": lamp.name}, data={"lit": True}) for lamp in claim.devices]


# --- programs --------------------------------------------------------------------------------------------


class News:
    """What a server tells the test, a message at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._writer: asyncio.StreamWriter | None = None

    def tell(self, kind: str, body: object) -> None:
        data = msgspec.msgpack.encode((kind, body))
        self._end.sendall(len(data).to_bytes(4, "big") + data)

    async def until_deaf(self) -> None:
        """Until nobody listens any more: the test lets the server go, or is gone itself. This end closes with
        the process."""
        reader, self._writer = await asyncio.open_connection(sock=self._end)
        with contextlib.suppress(ConnectionResetError):
            await reader.read()


async def api_server(folder: Path, news: News, port: int, users: Mapping[str, Sequence[str]]) -> None:
    """The API server alone, on `port` (0: any). `users` come with their names for tokens, and have groups."""
    tokens = {name: User(name, tuple(groups)) for name, groups in users.items()}
    api = API.open(Store(folder / "state.db"), profile_for(DEFAULT_VERSION), tokens=tokens)
    await api.start()
    # Without TLS: a hundred handshakes after each death are most of what this would cost, and prove nothing.
    server = await serve(api, "127.0.0.1", port, certfile=None, keyfile=None)  # type: ignore[arg-type]
    news.tell("up", server.port)
    await news.until_deaf()
    await server.stop()
    await api.close()


async def whole_cluster(folder: Path, news: News) -> None:
    """What `dra up` runs, with lamps for a driver and containers that are entries in a file."""

    async def choose_runtime(name: object, paths: NodePaths, **_: object) -> LastingRuntime:
        paths.create()
        return LastingRuntime(Clock(), paths.root / "containers.json")

    def build(name: str, options: object, node_name: str, *_: object) -> Driver:
        return Lamps(node_name)

    embedded.choose_runtime, embedded.build = choose_runtime, build  # type: ignore[assignment]
    options = Options(data_dir=folder, version=DEFAULT_VERSION, drivers=[DriverOption(DRIVER, {})])
    cluster = Embedded(options, lambda line: None)
    running = await cluster.start()
    news.tell("up", int(running.server.rpartition(":")[2]))
    await news.until_deaf()
    await cluster.stop()


def live(program: str, arguments: dict[str, Any], end: socket.socket) -> None:
    """Be the server `program`, to the end."""
    news, folder = News(end), Path(arguments.pop("folder"))
    store_module.Log = functools.partial(MortalLog, folder=folder, news=news)  # type: ignore[misc, assignment]
    uvloop.run({"api_server": api_server, "whole_cluster": whole_cluster}[program](folder, news, **arguments))
