"""How a plugin and the kubelet find each other (pluginregistration v1).

The plugin serves `Registration` on a socket in the kubelet's registry folder. The kubelet watches that
folder, asks `get_info` on every new socket, and tells the outcome with `notify`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import grpc
import grpc.aio
from msgspec import Struct

from drakit.pluginapi import wire

DRA_PLUGIN_TYPE = "DRAPlugin"

_SERVICE = wire.service("pluginregistration.Registration")
_INFO_REQUEST = wire.message("pluginregistration.InfoRequest")
_INFO = wire.message("pluginregistration.PluginInfo")
_STATUS = wire.message("pluginregistration.RegistrationStatus")
_STATUS_RESPONSE = wire.message("pluginregistration.RegistrationStatusResponse")


class PluginInfo(Struct, frozen=True):
    """What a plugin says of itself: `name` is the driver's, `endpoint` the path of its plugin socket,
    `supported_versions` service names such as "v1.DRAPlugin" in the plugin's order."""

    type: str
    name: str
    endpoint: str
    supported_versions: Sequence[str]


class RegistrationPlugin(Protocol):
    """The plugin's end."""

    async def get_info(self) -> PluginInfo: ...

    async def notify(self, is_registered: bool, error: str) -> None: ...


def registration_handlers(plugin: RegistrationPlugin) -> list[grpc.GenericRpcHandler]:
    """What `wire.serve` needs to serve `plugin` on the registry socket."""

    async def get_info(request: Any, context: Any) -> Any:
        info = await plugin.get_info()
        return _INFO(
            type=info.type,
            name=info.name,
            endpoint=info.endpoint,
            supported_versions=list(info.supported_versions),
        )

    async def notify(request: Any, context: Any) -> Any:
        await plugin.notify(request.plugin_registered, request.error)
        return _STATUS_RESPONSE()

    return [wire.handlers(_SERVICE, {"GetInfo": get_info, "NotifyRegistrationStatus": notify})]


def registration_channel(path: Path | str) -> grpc.aio.Channel:
    """A channel to the registry socket `path` like the kubelet's, which calls the server by the socket's
    path, percent-encoded: not every server takes that for an authority."""
    return wire.connect(path, authority=quote(os.path.abspath(path), safe=""))


class RegistrationStub:
    """The kubelet's end, over `channel`. Every call raises RecoverableError when the plugin fails it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def get_info(self, timeout: float = 5.0) -> PluginInfo:
        answer = await wire.unary(self._channel, _SERVICE, "GetInfo", _INFO_REQUEST(), timeout)
        return PluginInfo(answer.type, answer.name, answer.endpoint, tuple(answer.supported_versions))

    async def notify(self, is_registered: bool, error: str = "", timeout: float = 5.0) -> None:
        status = _STATUS(plugin_registered=is_registered, error=error)
        await wire.unary(self._channel, _SERVICE, "NotifyRegistrationStatus", status, timeout)
