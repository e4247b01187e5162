"""Device plugins as a DRA driver: a plugin registers with this bridge as it would with a kubelet.

    registry.py  kubelet.sock, where plugins register
    endpoint.py  a plugin: its devices, and the calls to it
    edits.py     its answer to Allocate as CDI edits
    naming.py    names of resources and devices as names of DRA

Each resource is a pool. The devices of one request are allocated in one call, since a plugin's answer is
for a container (`VISIBLE_DEVICES=a,b`); the answer goes to the first of them, which every container that
gets the request gets too. The plugins known are written down, so that after a restart their devices are
published, as not connected, before they come back: nobody's slices go because a bridge was updated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, field

from drakit.client.clock import Clock
from drakit.driver import (
    AllocatedDevice,
    Claim,
    Device,
    DeviceHealth,
    DeviceTaint,
    Driver,
    Pool,
    PreparedDevice,
    device,
)
from drakit.driver.checkpoint import write_file
from drakit.driver.device import AttributeValue
from drakit.drivers.device_plugin import naming
from drakit.drivers.device_plugin.edits import edits
from drakit.drivers.device_plugin.endpoint import Endpoint
from drakit.drivers.device_plugin.registry import Registry
from drakit.drivers.option import Options
from drakit.errors import DRAError, RecoverableError
from drakit.pluginapi.deviceplugin import PluginDevice, PluginOptions, Registered

NAME = "dra.device-plugin"
MAX_ATTRIBUTE = 64
"""Bytes of a text attribute."""

_log = logging.getLogger(__name__)


class _Known(Struct, frozen=True):
    """A plugin as the file of known plugins has it."""

    endpoint: str
    options: PluginOptions = PluginOptions()
    devices: Sequence[PluginDevice] = field(default_factory=list)


class DevicePluginDriver(Driver):
    """Bridges the plugins that register in `sockets` (None: a folder below the driver's own), of the one
    resource `only` or of all. Taints and attributes are in the domain of the driver's name."""

    def __init__(
        self, node_name: str, name: str, only: str, sockets: Path | None, *, clock: Clock | None = None
    ) -> None:
        super().__init__(node_name)
        self.name = name
        self._only = only
        self._sockets = sockets
        self._clock = clock or Clock()
        self._endpoints: dict[str, Endpoint] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._written = b""

    # --- plugins ----------------------------------------------------------------------------------

    async def watch(self) -> None:
        self._sockets_folder.mkdir(parents=True, exist_ok=True)
        for resource in list(self._plugins):
            self._follow(resource)
        registry = Registry(self._sockets_folder, self._only, self._take, self._clock)
        try:
            await registry.run()
        finally:
            tasks, self._tasks = list(self._tasks.values()), {}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _sockets_folder(self) -> Path:
        return self._sockets or self.folder / "plugins"

    @property
    def _known_file(self) -> Path:
        return self.folder / "plugins.json"

    @property
    def _plugins(self) -> dict[str, Endpoint]:
        """The plugins by resource; at first those that were known before."""
        if self._endpoints is None:
            known: Mapping[str, _Known] = {}
            try:
                known = msgspec.json.decode(self._known_file.read_bytes(), type=dict[str, _Known])
            except FileNotFoundError:
                pass
            except (OSError, msgspec.DecodeError) as error:
                _log.warning("the plugins known before cannot be read from %s: %s", self._known_file, error)
            self._endpoints = {
                resource: self._endpoint(resource, plugin)
                for resource, plugin in known.items()
                if not self._only or resource == self._only
            }
        return self._endpoints

    def _endpoint(self, resource: str, plugin: _Known) -> Endpoint:
        return Endpoint(
            resource,
            self._sockets_folder / plugin.endpoint,
            self._changed_plugin,
            options=plugin.options,
            devices=plugin.devices,
            clock=self._clock,
        )

    def _take(self, plugin: Registered) -> None:
        """A plugin has registered, perhaps again: it takes the place of the one before."""
        old = self._plugins.get(plugin.resource_name)
        known = _Known(plugin.endpoint, plugin.options, old.devices if old is not None else [])
        self._plugins[plugin.resource_name] = self._endpoint(plugin.resource_name, known)
        self._follow(plugin.resource_name)

    def _follow(self, resource: str) -> None:
        task = self._tasks.pop(resource, None)
        if task is not None:
            task.cancel()
        self._tasks[resource] = asyncio.create_task(self._listen(self._plugins[resource]))

    async def _listen(self, endpoint: Endpoint) -> None:
        try:
            await endpoint.run()
        except Exception:
            _log.exception("the device plugin of %s is not followed any more: a bug", endpoint.resource)
            raise
        _log.warning("the device plugin of %s is gone for good", endpoint.resource)
        if self._plugins.get(endpoint.resource) is endpoint:
            del self._plugins[endpoint.resource]
            self._changed_plugin()

    def _changed_plugin(self) -> None:
        known = {
            resource: _Known(plugin.socket.name, plugin.options, plugin.devices)
            for resource, plugin in sorted(self._plugins.items())
        }
        content = msgspec.json.encode(known)
        if content != self._written:
            try:
                write_file(self._known_file, content)
                self._written = content
            except RecoverableError as error:
                _log.error("%s", error)
        self.changed()

    # --- devices ----------------------------------------------------------------------------------

    def pools(self) -> Sequence[Pool]:
        return [
            Pool(
                naming.pool_name(self.node_name, resource),
                [self._device(plugin, item) for item in plugin.devices],
            )
            for resource, plugin in sorted(self._plugins.items())
            if plugin.devices
        ]

    def _device(self, plugin: Endpoint, item: PluginDevice) -> Device:
        attributes: dict[str, AttributeValue] = {"resourceName": plugin.resource[:MAX_ATTRIBUTE]}
        if len(item.id.encode()) <= MAX_ATTRIBUTE:
            attributes["id"] = item.id
        if len(item.numa_nodes) == 1:
            attributes["resource.kubernetes.io/numaNode"] = item.numa_nodes[0]
        elif item.numa_nodes:
            attributes["numaNodes"] = ",".join(map(str, item.numa_nodes))[:MAX_ATTRIBUTE]
        trouble = "disconnected" if not plugin.is_connected else "" if item.is_healthy else "unhealthy"
        taints = [DeviceTaint(key=f"{self.name}/{trouble}", effect="NoSchedule")] if trouble else []
        return device(naming.device_name(item.id), attributes, taints=taints)

    def health(self) -> list[DeviceHealth]:
        return [
            DeviceHealth(
                naming.pool_name(self.node_name, resource),
                naming.device_name(item.id),
                "Unknown" if not plugin.is_connected else "Healthy" if item.is_healthy else "Unhealthy",
                message="" if plugin.is_connected else "the device plugin is not there at the moment",
            )
            for resource, plugin in sorted(self._plugins.items())
            for item in plugin.devices
        ]

    # --- claims -----------------------------------------------------------------------------------

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        groups: dict[tuple[str, str], list[AllocatedDevice]] = {}
        for wanted in claim.devices:
            groups.setdefault((wanted.request, wanted.pool), []).append(wanted)
        return [
            prepared for (_, pool), group in groups.items() for prepared in await self._allocate(pool, group)
        ]

    async def _allocate(self, pool: str, wanted: Sequence[AllocatedDevice]) -> list[PreparedDevice]:
        """The devices `wanted` of one request and plugin, made ready by one call."""
        found = [
            plugin
            for resource, plugin in self._plugins.items()
            if naming.pool_name(self.node_name, resource) == pool
        ]
        if not found:
            raise DRAError(f"no device plugin of pool {pool} is known (any more)")
        (plugin,) = found
        by_name = {naming.device_name(item.id): item.id for item in plugin.devices}
        ids = [by_name[item.name] for item in wanted]
        given = await plugin.allocate(ids)
        if given.annotations:
            _log.warning(
                "the device plugin of %s wants annotations of the container (%s): CDI has no place for them",
                plugin.resource,
                ", ".join(sorted(given.annotations)),
            )
        first, *others = wanted
        state = {"resource": plugin.resource, "ids": ids}
        return [
            first.prepared(
                edits=edits(given),
                cdi_device_ids=given.cdi_devices,
                state=state,
            ),
            *(other.prepared(state=state) for other in others),
        ]


def build(options: dict[str, str], node_name: str) -> Driver:
    """Options: `resource` (all; one resource, which also names the driver: gpu.vendor.com of
    vendor.com/gpu), `name` (dra.device-plugin, the driver's name), `sockets` (the folder of kubelet.sock)."""
    reader = Options("device-plugin", options)
    resource = reader.text("resource", "")
    if resource:
        try:
            naming.check_resource(resource)
        except DRAError as error:
            raise reader.error("resource", str(error)) from None
    name = reader.text("name", naming.driver_name(resource) if resource else NAME)
    sockets = reader.text("sockets", "")
    reader.done()
    if not naming.is_driver_name(name):
        raise reader.error("name", f"{name!r} is not a DNS subdomain of at most 63 characters")
    return DevicePluginDriver(node_name, name, resource, Path(sockets).absolute() if sockets else None)
