"""The health of a driver's devices as a stream of reports (dra-health v1 and v1alpha1, equal on the wire).

A report names devices and how they are; a device that stays unmentioned for its timeout (30 seconds where
it names none) counts as Unknown again, so a driver repeats itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, Protocol

import grpc
import grpc.aio
from msgspec import Struct

from drakit.pluginapi import wire

HEALTH_V1 = "v1.DRAResourceHealth"
HEALTH_V1ALPHA1 = "v1alpha1.DRAResourceHealth"
HEALTH_SERVICES = (HEALTH_V1, HEALTH_V1ALPHA1)
"""The names a plugin lists in `PluginInfo.supported_versions`, the newest first."""

DEFAULT_TIMEOUT = 30
MAX_MESSAGE = 1024
"""Bytes of what is said of a device."""
_SPLIT = wire.MAX_MESSAGE // 4
"""Bytes of a message; a longer report goes in several, as what a message leaves out stays as it was."""

Health = Literal["Healthy", "Unhealthy", "Unknown"]

_TO_WIRE: dict[Health, int] = {"Unknown": 0, "Healthy": 1, "Unhealthy": 2}
_FROM_WIRE: dict[int, Health] = {number: health for health, number in _TO_WIRE.items()}


class DeviceHealth(Struct, frozen=True):
    """How a device is. `last_updated` is in Unix seconds (0: now), `timeout` in
    seconds (0: the kubelet's default)."""

    pool: str
    device: str
    health: Health
    last_updated: int = 0
    timeout: int = 0
    message: str = ""


class HealthPlugin(Protocol):
    """The driver's end."""

    def watch_health(self) -> AsyncIterator[Sequence[DeviceHealth]]:
        """Reports, the first at once; the caller closes the iterator when the kubelet goes."""
        ...


def health_handlers(plugin: HealthPlugin) -> list[grpc.GenericRpcHandler]:
    """What `wire.serve` needs to serve `plugin` in every version."""
    return [_handlers(plugin, name.removesuffix(".DRAResourceHealth")) for name in HEALTH_SERVICES]


def _handlers(plugin: HealthPlugin, package: str) -> grpc.GenericRpcHandler:
    response = wire.message(f"{package}.NodeWatchResourcesResponse")

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        async for report in plugin.watch_health():
            answer, size = response(), 0
            for health in report:
                if size > _SPLIT:
                    yield answer
                    answer, size = response(), 0
                entry = answer.devices.add(
                    device={"pool_name": health.pool, "device_name": health.device},
                    health=_TO_WIRE[health.health],
                    last_updated_time=health.last_updated,
                    health_check_timeout_seconds=health.timeout,
                    message=_shorten(health.message),
                )
                size += entry.ByteSize()
            yield answer

    return wire.handlers(wire.service(f"{package}.DRAResourceHealth"), {"NodeWatchResources": watch})


def _shorten(text: str) -> str:
    data = text.encode(errors="replace")
    if len(data) > MAX_MESSAGE:  # else the kubelet would cut it, in the middle of a character if need be
        data = data[: MAX_MESSAGE - 3].decode(errors="ignore").encode() + b"..."
    return data.decode()


class HealthStub:
    """The kubelet's end, over `channel`, in the version that the plugin's `service` name stands for."""

    def __init__(self, channel: grpc.aio.Channel, service: str = HEALTH_V1) -> None:
        package = service.removesuffix(".DRAResourceHealth")
        self._channel = channel
        self._service = wire.service(f"{package}.DRAResourceHealth")
        self._request = wire.message(f"{package}.NodeWatchResourcesRequest")

    async def watch(self) -> AsyncIterator[list[DeviceHealth]]:
        """The driver's reports until it ends the stream; raises RecoverableError when it breaks."""
        request = self._request()
        async for answer in wire.stream(self._channel, self._service, "NodeWatchResources", request):
            yield [
                DeviceHealth(
                    entry.device.pool_name,
                    entry.device.device_name,
                    _FROM_WIRE.get(entry.health, "Unknown"),
                    entry.last_updated_time,
                    max(0, entry.health_check_timeout_seconds),
                    _shorten(entry.message),
                )
                for entry in answer.devices
            ]


def choose_health_service(supported_versions: Sequence[str]) -> str | None:
    """The newest health service among `supported_versions`; None if the plugin has none."""
    return next((name for name in HEALTH_SERVICES if name in supported_versions), None)
