"""What a check has at hand: an API server, a kubelet, the driver's process, folders and claims."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from drakit.client.api import RESOURCE_SLICES
from drakit.conformance.check import Failed
from drakit.conformance.claim import Claims, Made, Manifests
from drakit.conformance.control_plane import RULES, ControlPlane
from drakit.conformance.kubelet import Instance, Kubelet
from drakit.conformance.process import Process
from drakit.errors import DRAError, NotFound
from drakit.pluginapi.dra import Claim, PrepareResult
from drakit.transport import Document

POLL_SECONDS = 0.02
PLACEHOLDERS = ("plugins_dir", "registry_dir", "cdi_dir", "node_name", "kubeconfig", "pod_uid")

T = TypeVar("T")


class Options(Struct, frozen=True, kw_only=True):
    """`timeout` is how long a driver may take for one thing that it should do, in seconds; `repair` how long
    to put its slices right, since the Go helper waits half a minute before it looks and believes in a slice
    that it made for a minute after it is gone; `rest` how long it is
    watched doing nothing; `fault` how long a fault lasts, `delay` what a slow API server adds to each
    request; `absence` after how long a kubelet deletes the slices of a driver that is gone. `is_rolling`: the
    driver tells instances apart by pod UID. `changed` starts it with other devices; `kill` ends what
    `command` started where kill -9 does not. `rules` are its ClusterRole's, None for an administrator's."""

    command: tuple[str, ...]
    driver: str = ""
    node_name: str = "conformance-node"
    manifests: Manifests = Manifests()
    cycles: int = 1000
    timeout: float = 30.0
    repair: float = 120.0
    rest: float = 2.0
    fault: float = 2.0
    delay: float = 1.0
    absence: float = 30.0
    is_rolling: bool = False
    changed: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    rules: Sequence[Document] | None = RULES


class Change(Struct, frozen=True):
    """A change of a slice as the API server told it: None is not there."""

    old: Document | None
    new: Document | None


class Lab:
    """One driver under test. `driver` is its name, known once it has registered."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.root = Path(tempfile.mkdtemp(prefix="dra-test-"))
        self.plugins, self.registry, self.cdi = (self.root / name for name in ("plugins", "registry", "cdi"))
        for folder in (self.plugins, self.registry, self.cdi):
            folder.mkdir()
        self.control = ControlPlane(self.root, options.node_name, options.rules)
        self.kubelet = Kubelet(self.registry, options.driver)
        self.driver = options.driver
        self.process: Process | None = None
        self.pod_uid = str(uuid.uuid4())
        self.changes: list[Change] = []
        """Every change of the driver's slices, in order."""
        self._held: dict[str, Claim] = {}
        self._sure: set[str] = set()
        self._is_stained = False
        self._claims: Claims | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Everything but the driver."""
        await self.control.start()
        self.control.slices.add_handler(lambda old, new: self.changes.append(Change(old, new)))
        self._tasks = [asyncio.create_task(run()) for run in (self.control.slices.run, self.kubelet.run)]
        await self.control.slices.wait_synced()

    async def stop(self) -> None:
        """End the driver and everything else, and remove the folders."""
        try:
            if self.process is not None:
                await self.process.kill()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.control.stop()
        finally:
            shutil.rmtree(self.root, ignore_errors=True)

    # --- the driver -------------------------------------------------------------------------------

    async def run_driver(self, command: Sequence[str] = ()) -> Instance:
        """Start the driver and wait until it has registered. Raises Failed."""
        count = self.kubelet.count
        self.process = await self.new_process(self.pod_uid, command)
        await self.until(lambda: self.kubelet.count > count, "the driver does not register")
        return self.instance()

    async def new_process(self, pod_uid: str, command: Sequence[str] = ()) -> Process:
        """Start the driver, by `command` if that is given, as the pod `pod_uid`."""
        values = self._values(pod_uid)
        words = [_fill(word, values) for word in command or self.options.command]
        kill = [_fill(word, values) for word in self.options.kill]
        env = {name.upper(): value for name, value in values.items()}
        return await Process.start(words, env, self.root / "log", kill)

    def _values(self, pod_uid: str) -> dict[str, str]:
        paths = (self.plugins, self.registry, self.cdi, self.options.node_name, self.control.kubeconfig)
        uid = pod_uid if self.options.is_rolling else ""
        return dict(zip(PLACEHOLDERS, (*map(str, paths), uid), strict=True))

    async def restart_driver(self) -> Instance:
        """Kill the driver, if it runs, and start it again. Raises Failed."""
        if self.process is not None:
            await self.process.kill()
        return await self.run_driver()

    @property
    def is_stained(self) -> bool:
        """Whether the driver did not undo something that it had prepared."""
        return self._is_stained

    async def start_afresh(self) -> Instance:
        """As `restart_driver`, on a node where it has never been. Raises Failed."""
        if self.process is not None:
            await self.process.kill()
        for folder in (self.plugins, self.registry, self.cdi):
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        self._is_stained = False
        return await self.run_driver()

    def instance(self) -> Instance:
        """The driver as it has registered. Raises Failed."""
        found = self.kubelet.instances
        if not found:
            refused = "; ".join(instance.problem for instance in self.kubelet.refused)
            raise Failed(refused or "the driver is not registered")
        return found[-1]

    def check_running(self) -> None:
        """Raises Failed if the driver has ended."""
        code = self.process.exit_code if self.process else None
        if code is not None:
            raise Failed(f"the driver ended with exit code {code}")

    async def until(
        self,
        condition: Callable[[], T | None],
        problem: str | Callable[[], str],
        seconds: float | None = None,
        *,
        is_alone: bool = False,
    ) -> T:
        """What `condition` returns once that is true. Raises Failed with `problem` after `seconds`, or when
        the driver ends, unless the suite `is_alone`."""
        seconds = self.options.timeout if seconds is None else seconds
        end = time.monotonic() + seconds
        while True:
            if found := condition():
                return found
            if not is_alone:
                self.check_running()
            if time.monotonic() > end:
                text = problem if isinstance(problem, str) else problem()
                raise Failed(f"{text} (waited {seconds:g} s)")
            await asyncio.sleep(POLL_SECONDS)

    # --- slices -----------------------------------------------------------------------------------

    def slices(self) -> list[Document]:
        """The driver's slices as they are now, by name."""
        found = [item for item in self.control.slices.items() if item["spec"]["driver"] == self.driver]
        return sorted(found, key=lambda item: str(item["metadata"]["name"]))

    async def wipe(self) -> None:
        """Delete the driver's slices of the node, as a kubelet does when it starts or the driver is gone."""
        node = self.options.node_name
        mine = [item for item in self.slices() if item["spec"].get("nodeName") == node]
        uids = {item["metadata"]["uid"] for item in mine}
        for item in mine:
            with contextlib.suppress(NotFound):
                await self.control.client.delete(RESOURCE_SLICES, item["metadata"]["name"])
        seen = len(uids)

        def gone() -> bool:
            deleted = {(c.old or {}).get("metadata", {}).get("uid") for c in self.changes if c.new is None}
            return len(uids & deleted) == seen

        await self.until(gone, "the suite does not see its own deletions", is_alone=True)

    # --- claims -----------------------------------------------------------------------------------

    async def claims(
        self, count: int = 1, spec: Callable[[Document], Document] = lambda spec: spec
    ) -> list[Made]:
        """New allocated claims, with specs changed by `spec`. Raises Skipped where the driver has not enough
        devices."""
        if self._claims is None:
            options = self.options
            profile = self.control.profile
            self._claims = Claims(
                self.control.client, profile, options.node_name, self.driver, options.manifests
            )
            await self._claims.start()
        return await self._claims.make(count, self.slices(), spec)

    async def remove_claim(self, claim: Made) -> None:
        """Delete a claim from the API; the driver is not told."""
        assert self._claims is not None
        await self._claims.remove(claim)

    async def prepare(self, *claims: Made, timeout: float | None = None) -> dict[str, PrepareResult]:
        """The driver's answer, by UID. Raises Failed where the call as a whole fails."""
        return await self.call_prepare([claim.reference for claim in claims], timeout)

    async def call_prepare(
        self, references: Sequence[Claim], timeout: float | None = None
    ) -> dict[str, PrepareResult]:
        """`prepare` for claims that need not exist."""
        stub = self.instance().stub
        self._held |= {reference.uid: reference for reference in references}
        try:
            answer = await stub.prepare(references, timeout or self.options.timeout)
        except DRAError as error:
            raise Failed(str(error)) from None
        self._sure |= {uid for uid, result in answer.items() if not result.error}
        return answer

    async def prepared(self, *claims: Made) -> dict[str, PrepareResult]:
        """As `prepare`; also raises Failed where a claim fails."""
        answer = await self.prepare(*claims)
        for claim in claims:
            _check_entry(claim, answer)
        return answer

    async def unprepare(self, *claims: Made, timeout: float | None = None) -> Mapping[str, str]:
        """The driver's answer, by UID. Raises Failed where the call as a whole fails."""
        return await self.call_unprepare([claim.reference for claim in claims], timeout)

    async def call_unprepare(
        self, references: Sequence[Claim], timeout: float | None = None
    ) -> dict[str, str]:
        """`unprepare` for claims that need not exist."""
        stub = self.instance().stub
        try:
            answer = await stub.unprepare(references, timeout or self.options.timeout)
        except DRAError as error:
            raise Failed(str(error)) from None
        for uid, problem in answer.items():
            if not problem:
                self._held.pop(uid, None)
                self._sure.discard(uid)
        return answer

    async def unprepared(self, *claims: Made) -> None:
        """As `unprepare`; also raises Failed where a claim fails."""
        answer = await self.unprepare(*claims)
        for claim in claims:
            if claim.uid not in answer:
                raise Failed(f"NodeUnprepareResources has no entry for claim {claim.reference.name}")
            if answer[claim.uid]:
                raise Failed(f"unprepare of claim {claim.reference.name} failed: {answer[claim.uid]}")

    # --- files ------------------------------------------------------------------------------------

    def cdi_files(self) -> set[str]:
        """The names of the CDI files there are."""
        return {path.name for path in self.cdi.iterdir() if path.suffix in (".json", ".yaml", ".yml")}

    # --- between checks ---------------------------------------------------------------------------

    async def settle(self) -> None:
        """Leave nothing of a check behind: no fault, no claim. What the driver does not undo stays until it
        is started afresh. It is not asked to undo what it did not do: whether it bears that is a check of its
        own."""
        await self.control.repair()
        live = list(self._claims.live.values() if self._claims else ())
        seconds = min(self.options.timeout, 5.0)
        for uid, reference in list(self._held.items()):
            with contextlib.suppress(Failed):
                if uid in self._sure or await self._is_prepared(reference, seconds):
                    await self.call_unprepare([reference], seconds)
        self._is_stained |= bool(self._held)
        self._held.clear()
        self._sure.clear()
        for claim in live:
            await self.remove_claim(claim)

    async def _is_prepared(self, reference: Claim, seconds: float) -> bool:
        """Whether the driver prepares a claim that it failed to prepare: it may have got far then."""
        with contextlib.suppress(Failed):
            await self.call_prepare([reference], seconds)
        if reference.uid not in self._sure:
            self._held.pop(reference.uid, None)
        return reference.uid in self._sure


def _check_entry(claim: Made, answer: Mapping[str, PrepareResult]) -> None:
    result = answer.get(claim.uid)
    if result is None:
        raise Failed(f"NodePrepareResources has no entry for claim {claim.reference.name}")
    if result.error:
        raise Failed(f"prepare of claim {claim.reference.name} failed: {result.error}")


def _fill(word: str, values: Mapping[str, str]) -> str:
    """`word` with its {placeholders} filled in; other braces stay."""
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word
