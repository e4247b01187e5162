"""The kubelet's side of registration, so far as a driver can see it.

Whatever socket appears in the registry folder is asked who it is and told whether it is taken, as the
kubelet's plugin watcher does it. A socket that is gone or was replaced ends the registration.
"""

from __future__ import annotations

import asyncio
import contextlib
import stat
from pathlib import Path

import grpc.aio
from msgspec import Struct

from drakit.errors import DRAError
from drakit.model.cdi import parse_name
from drakit.pluginapi.dra import DRA_SERVICES, DRA_V1, DRAStub, choose_service
from drakit.pluginapi.registration import (
    DRA_PLUGIN_TYPE,
    PluginInfo,
    RegistrationStub,
    registration_channel,
)
from drakit.pluginapi.wire import connect

POLL_SECONDS = 0.02
RETRY_SECONDS = 0.2
"""How long a socket that did not answer is left alone, unless it is replaced."""
_Identity = tuple[int, int]


class Instance(Struct, frozen=True, eq=False):
    """A plugin that answered at `socket`; `problem` says why it is not taken, "" if it is."""

    number: int
    socket: Path
    info: PluginInfo
    problem: str
    channel: grpc.aio.Channel
    stub: DRAStub


class Kubelet:
    """Registers the drivers in the folder `registry` while `run` runs. `driver`: take no other."""

    def __init__(self, registry: Path, driver: str = "") -> None:
        self._registry = registry
        self._driver = driver
        self._met: dict[Path, tuple[_Identity, Instance]] = {}
        self._tried: dict[Path, tuple[_Identity, float]] = {}
        self._count = 0
        self._gap = asyncio.Event()
        self.failures: dict[str, str] = {}
        """What went wrong last with a socket, by its file name."""

    @property
    def count(self) -> int:
        """How many registrations there have been, refused ones included."""
        return self._count

    @property
    def instances(self) -> list[Instance]:
        """Those registered now, the newest last."""
        found = [instance for _, instance in self._met.values() if not instance.problem]
        return sorted(found, key=lambda instance: instance.number)

    @property
    def refused(self) -> list[Instance]:
        """Those that answered and were not taken."""
        return [instance for _, instance in self._met.values() if instance.problem]

    async def run(self) -> None:
        """Follow the folder until cancelled."""
        try:
            while True:
                await self._scan()
                await asyncio.sleep(POLL_SECONDS)
        finally:
            await self.forget()

    async def forget(self) -> None:
        """Know no plugin any more, like a kubelet that starts again: all are asked anew."""
        for path in list(self._met):
            await self._drop(path)
        self.failures.clear()
        self._tried.clear()

    def watch_gaps(self) -> asyncio.Event:
        """Set when, from now on, there ever is no instance."""
        self._gap = asyncio.Event()
        return self._gap

    async def _scan(self) -> None:
        found: dict[Path, _Identity] = {}
        for path in self._registry.iterdir():
            with contextlib.suppress(OSError):
                entry = path.lstat()
                if stat.S_ISSOCK(entry.st_mode) and not path.name.startswith("."):
                    found[path] = (entry.st_ino, entry.st_ctime_ns)
        for path, (identity, _) in list(self._met.items()):
            if found.get(path) != identity:
                await self._drop(path)
        for path, identity in found.items():
            if path not in self._met and self._is_due(path, identity):
                try:
                    self._met[path] = (identity, await self._meet(path))
                    self.failures.pop(path.name, None)
                except DRAError as error:
                    self.failures[path.name] = str(error)
        if not self.instances:
            self._gap.set()

    def _is_due(self, path: Path, identity: _Identity) -> bool:
        now = asyncio.get_running_loop().time()
        last, time = self._tried.get(path, (None, 0.0))
        if last == identity and now < time + RETRY_SECONDS:
            return False
        self._tried[path] = (identity, now)
        return True

    async def _drop(self, path: Path) -> None:
        _, instance = self._met.pop(path)
        await instance.channel.close()

    async def _meet(self, path: Path) -> Instance:
        channel = registration_channel(path)
        try:
            stub = RegistrationStub(channel)
            info = await stub.get_info()
            problem = self._problem(info)
            await stub.notify(not problem, problem)
        finally:
            await channel.close()
        self._count += 1
        service = choose_service(info.supported_versions) or DRA_V1
        # An empty endpoint means the registry socket itself, as in the kubelet's operation generator.
        plugin = connect(info.endpoint or path)
        return Instance(self._count, path, info, problem, plugin, DRAStub(plugin, service))

    def _problem(self, info: PluginInfo) -> str:
        if info.type != DRA_PLUGIN_TYPE:
            return f"the plugin's type is {info.type!r}, not {DRA_PLUGIN_TYPE!r}"
        try:
            parse_name(f"{info.name}/x=x")
        except DRAError:
            return f"{info.name!r} is not a driver name"
        if self._driver and info.name != self._driver:
            return f"the driver is called {info.name!r}, not {self._driver!r}"
        if choose_service(info.supported_versions) is None:
            shown = ", ".join(info.supported_versions) or "nothing"
            return f"the driver supports {shown}, and none of {', '.join(DRA_SERVICES)}"
        return ""
