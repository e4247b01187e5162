"""Device plugins as a kubelet sees them (deviceplugin v1beta1), the way to devices before DRA.

The kubelet serves `Registration` on `kubelet.sock`; a plugin registers its resource and the name of its own
socket in the same folder, is listened to there, and is asked what containers need that get its devices.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import grpc
import grpc.aio
from msgspec import Struct

from drakit.errors import DRAError, RecoverableError
from drakit.pluginapi import wire

VERSION = "v1beta1"
KUBELET_SOCKET = "kubelet.sock"
CALL_SECONDS = 30.0

_REGISTRATION = wire.service("v1beta1.Registration")
_PLUGIN = wire.service("v1beta1.DevicePlugin")
_EMPTY = wire.message("v1beta1.Empty")
_ALLOCATE = wire.message("v1beta1.AllocateRequest")
_PREFERRED = wire.message("v1beta1.PreferredAllocationRequest")
_PRE_START = wire.message("v1beta1.PreStartContainerRequest")


class PluginOptions(Struct, frozen=True):
    """Which of the calls that a plugin need not have it has."""

    pre_start_required: bool = False
    preferred_allocation_available: bool = False


class Registered(Struct, frozen=True):
    """What a plugin says when it registers; `endpoint` is the name of its socket."""

    version: str
    endpoint: str
    resource_name: str
    options: PluginOptions


class PluginDevice(Struct, frozen=True):
    """A device of a plugin; `numa_nodes` are those that it is near to."""

    id: str
    is_healthy: bool
    numa_nodes: tuple[int, ...] = ()


class PluginMount(Struct, frozen=True):
    container_path: str
    host_path: str
    is_read_only: bool


class PluginDeviceNode(Struct, frozen=True):
    """A device file, or a folder of them; `permissions` of r, w and m."""

    container_path: str
    host_path: str
    permissions: str


class ContainerAllocation(Struct, frozen=True):
    """What a container needs that was given devices."""

    envs: Mapping[str, str]
    mounts: Sequence[PluginMount]
    device_nodes: Sequence[PluginDeviceNode]
    annotations: Mapping[str, str]
    cdi_devices: Sequence[str]


class DevicePluginRegistry(Protocol):
    """The kubelet's end."""

    async def register(self, plugin: Registered) -> None:
        """Take `plugin`; a DRAError refuses it."""
        ...


def device_plugin_registry_handlers(registry: DevicePluginRegistry) -> list[grpc.GenericRpcHandler]:
    """What `wire.serve` needs to serve `registry` on kubelet.sock."""

    async def register(request: Any, context: Any) -> Any:
        options = _options(request.options)
        plugin = Registered(request.version, request.endpoint, request.resource_name, options)
        try:
            await registry.register(plugin)
        except DRAError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return _EMPTY()

    return [wire.handlers(_REGISTRATION, {"Register": register})]


def _options(message: Any) -> PluginOptions:
    return PluginOptions(message.pre_start_required, message.get_preferred_allocation_available)


class DevicePluginStub:
    """Calls the plugin behind `channel`. Every call raises RecoverableError when the plugin fails it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def options(self, timeout: float = CALL_SECONDS) -> PluginOptions:
        return _options(await self._call("GetDevicePluginOptions", _EMPTY(), timeout))

    async def watch(self) -> AsyncIterator[list[PluginDevice]]:
        """All devices, now and after every change, until the plugin ends the stream."""
        async for answer in wire.stream(self._channel, _PLUGIN, "ListAndWatch", _EMPTY()):
            yield [
                PluginDevice(
                    device.ID,
                    device.health == "Healthy",
                    tuple(sorted({node.ID for node in device.topology.nodes})),
                )
                for device in answer.devices
            ]

    async def preferred(
        self, available: Sequence[str], required: Sequence[str], size: int, timeout: float = CALL_SECONDS
    ) -> list[str]:
        """The `size` devices of `available`, `required` among them, that the plugin would give."""
        wanted = {
            "available_deviceIDs": list(available),
            "must_include_deviceIDs": list(required),
            "allocation_size": size,
        }
        answer = await self._call("GetPreferredAllocation", _PREFERRED(container_requests=[wanted]), timeout)
        if len(answer.container_responses) != 1:
            raise RecoverableError("GetPreferredAllocation: the plugin answered for no container")
        return list(answer.container_responses[0].deviceIDs)

    async def allocate(self, ids: Sequence[str], timeout: float = CALL_SECONDS) -> ContainerAllocation:
        """What a container needs to have the devices `ids`."""
        request = _ALLOCATE(container_requests=[{"devices_ids": list(ids)}])
        answer = await self._call("Allocate", request, timeout)
        if len(answer.container_responses) != 1:
            raise RecoverableError("Allocate: the plugin answered for no container")
        given = answer.container_responses[0]
        return ContainerAllocation(
            envs=dict(given.envs),
            mounts=[PluginMount(m.container_path, m.host_path, m.read_only) for m in given.mounts],
            device_nodes=[
                PluginDeviceNode(d.container_path, d.host_path, d.permissions) for d in given.devices
            ],
            annotations=dict(given.annotations),
            cdi_devices=[device.name for device in given.cdi_devices],
        )

    async def pre_start(self, ids: Sequence[str], timeout: float = CALL_SECONDS) -> None:
        await self._call("PreStartContainer", _PRE_START(devices_ids=list(ids)), timeout)

    async def _call(self, method: str, request: Any, timeout: float) -> Any:
        return await wire.unary(self._channel, _PLUGIN, method, request, timeout)
