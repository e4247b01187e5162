"""The other side of `mortal`: keeps the server alive, walks its steps, and looks at what is left.

A `Server` is a process of `mortal` that is started again whenever it dies. It remembers every change that any
of its lives made durable, in their order. What the API, watchers, node and driver say is held against that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from drakit.client.api import PODS, RESOURCE_CLAIMS, Client, Resource
from drakit.client.dialect import Dialect
from drakit.client.http import HTTPTransport
from drakit.client.informer import Informer
from drakit.client.kubeconfig import Config
from drakit.errors import AlreadyExists, APIError, NotFound
from drakit.node.paths import NodePaths
from drakit.transport import Document
from tests.cluster.mortal import DRIVER, Step
from tests.cluster.nursery import Nursery

NS = "default"
SECONDS = 30.0
_SOON = 0.5
"""How long after a path's end the news of a death may come."""
FOLLOWED = {"pods": PODS, "resourceclaims.resource.k8s.io": RESOURCE_CLAIMS}


class Server:
    """Runs `program` of `mortal` with its data in `folder`, again and again; `arguments` may say more."""

    def __init__(self, nursery: Nursery, program: str, folder: Path, **arguments: object) -> None:
        self.folder = folder
        self.port = 0
        self.is_up = False
        self.steps: list[Step] = []
        self.deaths: list[str] = []
        self.live: dict[str, dict[str, Document]] = {}
        """What is there by collection and key."""
        self.arguments = arguments
        self._nursery, self._program = nursery, program
        self._changed = asyncio.Event()
        self._fate = folder / "fate"
        self._again: tuple[str, int, str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._live())
        await self.until(lambda: self.is_up, "the server to come up")

    async def stop(self) -> None:
        """Let the server end in peace."""
        assert self._writer is not None
        assert self._task is not None
        self.disarm()
        self._writer.write_eof()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()

    def arm(self, step: str, times: int, moment: str, *, again: bool = False) -> None:
        """Have the server die before or after the commit with which `step` has come `times` times; `again`:
        once more when it comes next."""
        self._again = (step, 1, moment) if again else None
        hidden = self._fate.with_suffix(".new")
        hidden.write_text(f"{step}\t{times}\t{moment}")
        hidden.rename(self._fate)

    def disarm(self) -> None:
        self._fate.unlink(missing_ok=True)

    async def until_back(self, deaths: int) -> bool:
        """Whether the server has died since there were so many `deaths`; if so it is up again on return."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SOON):
                while len(self.deaths) == deaths:
                    await asyncio.sleep(0.002)
        self.disarm()
        if len(self.deaths) == deaths:
            return False
        await self.until(lambda: self.is_up, "the server to come up again")
        return True

    async def until(self, holds: Callable[[], Any], what: str) -> Any:
        """What `holds()` gives once that is true; asked after every change, and now and then."""
        try:
            async with asyncio.timeout(SECONDS):
                while not (found := holds()):
                    assert self._task is not None
                    assert not self._task.done(), "the server has ended by itself"
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.01):
                            await self._changed.wait()
                return found
        except TimeoutError:
            last = "\n".join(f"  {step.revision} {step.name}{_words(step)}" for step in self.steps[-25:])
            raise AssertionError(
                f"waited for {what}; deaths {self.deaths[-2:]}, last steps\n{last}"
            ) from None

    def on_disk(self) -> dict[str, dict[str, Document]]:
        """What is there by the file, read without any of our code; for a server that has stopped."""
        found: dict[str, dict[str, Document]] = {}
        with contextlib.closing(sqlite3.connect(self.folder / "state.db")) as database:
            rows = "SELECT collection, key, value FROM log WHERE revision > 0 ORDER BY revision"
            for row in database.execute(rows):
                _enter(found, *row)
        return found

    def find(self, resource: Resource) -> list[Document]:
        """The objects of `resource` as the store has them."""
        name = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
        return list(self.live.get(name, {}).values())

    def get(self, resource: Resource, name: str) -> Document | None:
        return next((d for d in self.find(resource) if d["metadata"]["name"] == name), None)

    async def _live(self) -> None:
        """One life after the other, until one ends that was not to die."""
        has_died = True
        while has_died:
            end = self._nursery.bear(self._program, folder=str(self.folder), **self.arguments)
            reader, self._writer = await asyncio.open_connection(sock=end)
            has_died = await self._listen(reader)
            if has_died:
                self.disarm()
                self._writer.close()
                if self._again:
                    self.arm(*self._again)

    async def _listen(self, reader: asyncio.StreamReader) -> bool:
        """Take in what one life tells; whether it died as it was meant to."""
        has_died = False
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                kind, body = msgspec.msgpack.decode(await reader.readexactly(size))
                if kind == "up":
                    self.port, self.is_up = body, True
                elif kind == "dies":
                    self.deaths.append(body)
                    self.is_up, has_died = False, True
                else:
                    self._take(msgspec.convert(body, list[Step]))
                self._changed.set()
        return has_died

    def _take(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self.steps.append(step)
            _enter(self.live, step.collection, step.key, step.value)


def _enter(live: dict[str, dict[str, Document]], collection: str, key: str, value: bytes | None) -> None:
    if "/" in collection or not collection:  # the server's own
        return
    if value is None:
        del live[collection][key]
    else:
        live.setdefault(collection, {})[key] = msgspec.json.decode(value)


class World:
    """A server with a node below `root`, a person who uses them, and somebody who watches."""

    def __init__(self, server: Server, config: Config, root: Path) -> None:
        self.server = server
        self.config = config
        self.paths = NodePaths(root)
        self.client = Client(Dialect(HTTPTransport(config)), field_manager="person")
        self.seen: dict[str, list[int]] = {name: [] for name in FOLLOWED}
        self._watchers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> World:
        for name, resource in FOLLOWED.items():
            informer = Informer(self.client, resource)
            informer.add_handler(lambda old, new, name=name: self._note(name, new or old))
            self._watchers.append(asyncio.create_task(informer.run()))
            await informer.wait_synced()
        return self

    async def __aexit__(self, *_: object) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self.client.close()

    def _note(self, name: str, document: Document | None) -> None:
        assert document is not None
        self.seen[name].append(int(document["metadata"]["resourceVersion"]))

    # --- what the person does -------------------------------------------------------------------------

    async def create(self, resource: Resource, document: Document) -> None:
        with contextlib.suppress(AlreadyExists):
            await self._insist(lambda: self.client.create(resource, document))

    async def delete(self, resource: Resource, name: str, namespace: str = NS) -> None:
        where = namespace if resource.is_namespaced else None
        with contextlib.suppress(NotFound):
            await self._insist(lambda: self.client.delete(resource, name, where, propagation="Background"))

    async def _insist(self, ask: Callable[[], Any]) -> None:
        """Ask again until the server is there to answer, as a person would."""
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    await ask()
                    return
                except (AlreadyExists, NotFound):
                    raise
                except APIError:
                    await asyncio.sleep(0.005)

    async def until_phase(self, phase: str, *pods: str) -> None:
        def have() -> bool:
            found = [self.server.get(PODS, pod) for pod in pods]
            return all(pod and (pod.get("status") or {}).get("phase") == phase for pod in found)

        await self.server.until(have, f"{pods} to be {phase}")

    async def until_gone(self, resource: Resource, name: str) -> None:
        await self.server.until(
            lambda: self.server.get(resource, name) is None, f"{resource.kind} {name} to go"
        )

    # --- what the node has ----------------------------------------------------------------------------

    def prepared(self) -> set[str]:
        """The UIDs of the claims that the driver has, wholly or not."""
        return set(_json(self.paths.plugins / DRIVER / "checkpoint.json").get("claims") or ())

    def records(self) -> dict[str, set[str]]:
        """The pods for which the agent holds claims, by the claims' UIDs."""
        claims = _json(self.paths.checkpoint).get("claims") or {}
        return {uid: set(record["pods"]) for uid, record in claims.items()}

    def containers(self) -> set[str]:
        """The UIDs of the pods whose containers or sandboxes are there."""
        found, pods = _json(self.paths.root / "containers.json") or ([], [])
        return {container["pod_uid"] for container in found} | {pod["uid"] for pod in pods}

    def cdi_files(self) -> set[str]:
        return {path.name for path in self.paths.cdi.iterdir()} if self.paths.cdi.exists() else set()

    async def settle(self, *pods: str) -> None:
        """The `pods` run, with all they need and nothing beyond: nobody else has anything."""
        await self.server.until(
            lambda: self._expected(pods) == self._found(), "everybody to have what they need"
        )

    def _expected(self, pods: Sequence[str]) -> tuple[object, ...]:
        """What they should have: who holds which claim, what is prepared, files, containers, what is lit."""
        running = {pod["metadata"]["uid"] for pod in map(self._pod, pods) if pod}
        held = {uid: users for uid, users in self._users().items() if users}
        files = {f"k8s.{DRIVER}-claim_{uid}.json" for uid in held}
        return len(pods), running, held, set(held), files, running, set(held)

    def _found(self) -> tuple[object, ...]:
        uids = set().union(*self._users().values())
        lit = {
            claim["metadata"]["uid"]
            for claim in self.server.find(RESOURCE_CLAIMS)
            if (claim.get("status") or {}).get("devices")
        }
        files = self.cdi_files()
        return len(uids), uids, self.records(), self.prepared(), files, self.containers(), lit

    def _pod(self, name: str) -> Document | None:
        return self.server.get(PODS, name)

    def _users(self) -> dict[str, set[str]]:
        """The UIDs of the pods for which claims are reserved, by the claims' UIDs."""
        return {
            claim["metadata"]["uid"]: {
                row["uid"] for row in (claim.get("status") or {}).get("reservedFor") or ()
            }
            for claim in self.server.find(RESOURCE_CLAIMS)
        }

    async def until_rest(self) -> None:
        """Nothing is left of anything, in the API or on the node."""

        def rests() -> bool:
            is_empty = not self.server.find(PODS) and not self.server.find(RESOURCE_CLAIMS)
            return is_empty and not (
                self.prepared() or self.records() or self.containers() or self.cdi_files()
            )

        try:
            await self.server.until(rests, "nothing to be left")
        except AssertionError as error:
            left = self.prepared(), self.records(), self.containers(), self.cdi_files()
            raise AssertionError(f"{error}\nprepared, recorded, contained, in CDI files: {left}") from None

    # --- the end --------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Every change that ever was durable was told to whoever watched, once and in order, and is told
        again to whoever asks from before all deaths."""
        for name, resource in FOLLOWED.items():
            told, seen = self._told(name), self.seen[name]
            await self.server.until(
                functools.partial(_has_as_many, seen, told), "the watchers to have seen all"
            )
            assert seen == told
            again: list[int] = []
            async for event in self.client.watch(resource, resource_version="1", timeout_seconds=1):
                if event["type"] != "BOOKMARK":
                    again.append(int(event["object"]["metadata"]["resourceVersion"]))
                if len(again) >= len(told):
                    break
            assert again == told

    def _told(self, name: str) -> list[int]:
        return [step.revision for step in self.server.steps if step.collection == name]


def _has_as_many(seen: list[int], told: list[int]) -> bool:
    return len(seen) >= len(told)


def _words(step: Step) -> str:
    """What an event says."""
    return " " + json.loads(step.value)["message"] if step.collection == "events" and step.value else ""


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes()) if path.exists() else {}
