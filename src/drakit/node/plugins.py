"""The drivers of this node: found by their registration sockets, kept as long as these are there.

For every socket in the registry folder one task asks who is there, registers the driver and then follows its
connection. A driver may have several instances at once (a rolling update): calls go to the one registered
last, an instance with a live connection before one without.

A driver that is gone (no instance has a connection) for 30 seconds takes its ResourceSlices of this node
with it, so that no pod is placed on devices nobody can prepare; so do drivers that do not come back within
30 seconds after a start of the agent. (The kubelet, too, but at its start without the delay.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import grpc.aio

from drakit.client.api import RESOURCE_SLICES, Client
from drakit.client.clock import Clock, Timer
from drakit.errors import DRAError, NotFound, RecoverableError
from drakit.model.cdi import parse_name
from drakit.model.validation.field import quoted
from drakit.node.folder_watch import FolderWatch
from drakit.node.health import HealthCache
from drakit.node.paths import NodePaths
from drakit.pluginapi.dra import DRA_SERVICES, DRAStub, choose_service
from drakit.pluginapi.health import HealthStub, choose_health_service
from drakit.pluginapi.registration import (
    DRA_PLUGIN_TYPE,
    PluginInfo,
    RegistrationStub,
    registration_channel,
)
from drakit.pluginapi.wire import CallFailed, connect

WIPE_SECONDS = 30.0
"""How long a driver may be gone before its slices are deleted."""

_FIRST_RETRY, _LAST_RETRY = 0.5, 30.0
_Identity = tuple[int, int]

_log = logging.getLogger(__name__)


class Plugin:
    """One registered instance of a driver."""

    def __init__(self, driver: str, service: str, endpoint: Path, channel: grpc.aio.Channel) -> None:
        self.driver = driver
        self.service = service
        self.endpoint = endpoint
        self.channel = channel
        self.stub = DRAStub(channel, service)
        self.is_connected = False


class Plugins:
    """The drivers that registered in the registry folder of `paths`.

    `on_change(driver)` is called when a driver has registered, or its devices' health changed.
    """

    def __init__(
        self,
        client: Client,
        node_name: str,
        paths: NodePaths,
        *,
        on_change: Callable[[str], None],
        watches_health: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._node_name = node_name
        self._paths = paths
        self._on_change = on_change
        self._watches_health = watches_health
        self._clock = clock or Clock()
        self.health = HealthCache(self._clock, on_change)
        self._plugins: dict[str, list[Plugin]] = {}
        self._sockets: dict[Path, tuple[_Identity, asyncio.Task[None]]] = {}
        self._wipes: dict[str, Timer] = {}
        self._group: asyncio.TaskGroup | None = None

    def find(self, driver: str) -> DRAStub | None:
        """What calls to `driver` go through, None while it is not registered."""
        instances = self._plugins.get(driver, [])
        connected = [plugin for plugin in instances if plugin.is_connected]
        return (connected or instances)[-1].stub if instances else None

    def drivers(self) -> list[str]:
        """The names of the registered drivers."""
        return sorted(self._plugins)

    async def run(self) -> None:
        """Follow the registry folder until cancelled."""
        watch = FolderWatch(self._paths.plugins_registry, self._clock)
        self._sockets.clear()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._wipe_strangers())
                while True:
                    self._scan(group)
                    await watch.changed()
        finally:
            self._group = None
            watch.close()
            self.health.close()
            for timer in self._wipes.values():
                timer.cancel()
            self._wipes.clear()

    # --- sockets --------------------------------------------------------------------------------------

    def _scan(self, group: asyncio.TaskGroup) -> None:
        """Start following new sockets, stop following those that are gone or were replaced."""
        found: dict[Path, _Identity] = {}
        for path in self._paths.plugins_registry.iterdir():
            with contextlib.suppress(OSError):
                entry = path.lstat()
                if stat.S_ISSOCK(entry.st_mode) and not path.name.startswith("."):
                    found[path] = (entry.st_ino, entry.st_ctime_ns)
        ending: list[asyncio.Task[None]] = []
        for path, (identity, task) in list(self._sockets.items()):
            if found.get(path) != identity:
                task.cancel()
                ending.append(task)
                del self._sockets[path]
        for path, identity in found.items():
            if path not in self._sockets:
                self._sockets[path] = (identity, group.create_task(self._follow(path, ending)))

    async def _follow(self, path: Path, before: Sequence[asyncio.Task[None]]) -> None:
        """Register whoever answers at `path`, as often as it takes, and keep it registered; after those that
        are just being forgotten, as it may be one of them."""
        if before:
            await asyncio.wait(before)
        delay = _FIRST_RETRY
        while True:
            try:
                plugin, health_service = await self._register(path)
            except DRAError as error:
                _log.warning("registration of %s: %s", path.name, error)
                await self._clock.sleep(delay)
                delay = min(delay * 2, _LAST_RETRY)
                continue
            except Exception:
                _log.exception("registration of %s: a bug", path.name)
                return
            break
        await self._keep(plugin, health_service)

    async def _register(self, path: Path) -> tuple[Plugin, str | None]:
        """Ask who is there, register them and tell them so. Raises RecoverableError when that fails."""
        channel = registration_channel(path)
        try:
            stub = RegistrationStub(channel)
            info = await stub.get_info()
            service = choose_service(info.supported_versions)
            endpoint = self._paths.of_kubelet(info.endpoint) if info.endpoint else path
            if problem := _problem(info, service, path) or self._taken(info.name, endpoint):
                await stub.notify(False, f"RegisterPlugin error -- {problem}")
                raise RecoverableError(problem)
            assert service is not None
            plugin = Plugin(info.name, service, endpoint, connect(endpoint))
            self._plugins.setdefault(info.name, []).append(plugin)
            try:
                await stub.notify(True)
            except BaseException:
                await asyncio.shield(self._forget(plugin))
                raise
        finally:
            await channel.close()
        _log.info("driver %s registered (%s at %s)", info.name, service, info.endpoint)
        self._on_change(info.name)
        return plugin, choose_health_service(info.supported_versions) if self._watches_health else None

    def _taken(self, driver: str, endpoint: Path) -> str:
        """Why no instance of `driver` may answer at `endpoint`; "" if it may."""
        if all(plugin.endpoint != endpoint for plugin in self._plugins.get(driver, [])):
            return ""
        said = f"endpoint {endpoint} already registered for DRA driver plugin {driver}"
        return f"plugin registration failed with err: {said}"

    async def _keep(self, plugin: Plugin, health_service: str | None) -> None:
        """The driver is registered while this runs."""
        if health_service is None:
            self.health.drop(plugin.driver)  # the newest instance counts, and this one does not say
        try:
            async with asyncio.TaskGroup() as group:
                if health_service:
                    group.create_task(self._watch_health(plugin, health_service))
                await self._follow_connection(plugin)
        finally:
            await asyncio.shield(self._forget(plugin))

    async def _forget(self, plugin: Plugin) -> None:
        instances = self._plugins[plugin.driver]
        instances.remove(plugin)
        if not instances:
            del self._plugins[plugin.driver]
            self.health.drop(plugin.driver)
        self._wipe_later_unless_there(plugin.driver)
        await plugin.channel.close()

    async def _follow_connection(self, plugin: Plugin) -> None:
        while True:
            state = plugin.channel.get_state(try_to_connect=True)
            was_connected = plugin.is_connected
            plugin.is_connected = state is grpc.ChannelConnectivity.READY
            if plugin.is_connected and not was_connected:
                if timer := self._wipes.pop(plugin.driver, None):
                    timer.cancel()
                self._on_change(plugin.driver)
            elif was_connected and not plugin.is_connected:
                self._wipe_later_unless_there(plugin.driver)
            await plugin.channel.wait_for_state_change(state)

    async def _watch_health(self, plugin: Plugin, service: str) -> None:
        """Take in what `plugin` says of health; it counts while no newer instance of its driver is there."""
        delay = _FIRST_RETRY
        while True:
            try:
                async for reports in HealthStub(plugin.channel, service).watch():
                    if self._plugins[plugin.driver][-1] is plugin:
                        self.health.put(plugin.driver, reports)
                    delay = _FIRST_RETRY
            except CallFailed as error:
                if error.code == "UNIMPLEMENTED":
                    if self._plugins[plugin.driver][-1] is plugin:
                        self.health.drop(plugin.driver)
                    return
                _log.info("health of driver %s: %s", plugin.driver, error)
            except Exception:
                _log.exception("health of driver %s: a bug", plugin.driver)
            await self._clock.sleep(delay)
            delay = min(delay * 2, _LAST_RETRY)

    # --- slices of drivers that are gone --------------------------------------------------------------

    def _wipe_later_unless_there(self, driver: str) -> None:
        if self._group is None or any(plugin.is_connected for plugin in self._plugins.get(driver, [])):
            return
        if driver not in self._wipes:
            self._wipes[driver] = self._clock.call_later(WIPE_SECONDS, lambda: self._start_wipe(driver))

    def _start_wipe(self, driver: str) -> None:
        self._wipes.pop(driver, None)
        if self._group is not None:
            self._group.create_task(self._wipe(driver))

    async def _wipe(self, driver: str) -> None:
        """Delete the slices of `driver` on this node, however long that takes, unless it is back."""
        delay = _FIRST_RETRY
        while not any(plugin.is_connected for plugin in self._plugins.get(driver, [])):
            try:
                await self._delete_slices(driver)
                return
            except DRAError as error:
                _log.info("slices of driver %s: %s", driver, error)
                await self._clock.sleep(delay)
                delay = min(delay * 2, _LAST_RETRY)

    async def _delete_slices(self, driver: str) -> None:
        selector = f"spec.nodeName={self._node_name},spec.driver={driver}"
        for item in (await self._client.list(RESOURCE_SLICES, field_selector=selector)).items:
            meta = item["metadata"]
            with contextlib.suppress(NotFound):
                await self._client.delete(RESOURCE_SLICES, meta["name"], uid=meta.get("uid"))
                _log.info("driver %s is gone: deleted its slice %s", driver, meta["name"])

    async def _wipe_strangers(self) -> None:
        """What was published before this start by a driver that does not register again."""
        await self._clock.sleep(WIPE_SECONDS)
        selector = f"spec.nodeName={self._node_name}"
        delay = _FIRST_RETRY
        while True:
            try:
                slices = (await self._client.list(RESOURCE_SLICES, field_selector=selector)).items
                break
            except DRAError as error:
                _log.info("slices of this node: %s", error)
                await self._clock.sleep(delay)
                delay = min(delay * 2, _LAST_RETRY)
        for driver in {item["spec"]["driver"] for item in slices} - set(self._plugins) - set(self._wipes):
            await self._wipe(driver)


def _problem(info: PluginInfo, service: str | None, path: Path) -> str:
    """Why the kubelet would not take the plugin at the registry socket `path`, "" when it would."""
    if info.type != DRA_PLUGIN_TYPE:
        return f"no handler registered for plugin type: {info.type} at socket {path}"
    failed = "plugin validation failed with err"
    try:
        parse_name(f"{info.name}/x=x")
    except DRAError:
        return f"{failed}: {info.name!r} is not a driver name"
    if info.endpoint and not info.endpoint.startswith("/"):
        return f"{failed}: endpoint {info.endpoint!r} is not an absolute path"
    if service is not None:
        return ""
    versions, ours = (" ".join(map(quoted, names)) for names in (info.supported_versions, DRA_SERVICES))
    why = (
        f"none of services supported by the plugin ([{versions}]) are supported by the kubelet ([{ours}])"
        if info.supported_versions
        else "empty list of supported gRPC services (aka supported versions)"
    )
    who = f"DRA driver plugin {info.name} at endpoint {info.endpoint or path}"
    return f"{failed}: invalid supported gRPC versions of {who}: {why}"
