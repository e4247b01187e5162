"""kubelet.sock: where device plugins make themselves known.

It is put there anew when it is gone, and each time the bridge starts, which is the sign by which plugins
know to register again. A folder where somebody else answers, a kubelet or the instance of the bridge that
this one will follow, is theirs until they go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from pathlib import Path

from drakit.client.clock import Clock
from drakit.drivers.device_plugin.naming import check_resource
from drakit.errors import DRAError
from drakit.pluginapi import wire
from drakit.pluginapi.deviceplugin import (
    KUBELET_SOCKET,
    VERSION,
    Registered,
    device_plugin_registry_handlers,
)
from drakit.pluginapi.sockets import check_socket_path

CHECK_SECONDS = 1.0

_SOCKET_NAME = re.compile(r"[^/\x00]{1,100}")
_log = logging.getLogger(__name__)


class Registry:
    """Serves kubelet.sock in `folder`; `take` gets each plugin that may register.

    With `only` a plugin of any other resource is refused.
    """

    def __init__(self, folder: Path, only: str, take: Callable[[Registered], object], clock: Clock) -> None:
        self._folder = folder
        self._only = only
        self._take = take
        self._clock = clock

    async def run(self) -> None:
        """Serve until cancelled. Raises UsageError where no socket can be made."""
        path = self._folder / KUBELET_SOCKET
        server: wire.UnixServer | None = None
        is_told = False
        try:
            while True:
                if server is None or not server.is_in_place():
                    if await _is_served(path):
                        if not is_told:
                            _log.warning("%s is another kubelet's or bridge's: waiting for it to go", path)
                        is_told = True
                    else:
                        if server is not None:
                            await server.stop(0)
                        server = await wire.serve(path, device_plugin_registry_handlers(self))
                        is_told = False
                        _log.info("device plugins may register at %s", path)
                await self._clock.sleep(CHECK_SECONDS)
        finally:
            if server is not None:
                await server.stop(0)

    async def register(self, plugin: Registered) -> None:
        if plugin.version != VERSION:
            raise DRAError(f"version {plugin.version!r} of the protocol is not {VERSION}")
        check_resource(plugin.resource_name)
        if self._only and plugin.resource_name != self._only:
            raise DRAError(f"this bridge is for {self._only}, not {plugin.resource_name}")
        name = plugin.endpoint
        if not _SOCKET_NAME.fullmatch(name) or name in (".", "..", KUBELET_SOCKET):
            raise DRAError(f"endpoint {name[:100]!r} is not the name of a socket in {self._folder}")
        check_socket_path(self._folder / name)
        _log.info("device plugin of %s registered at %s", plugin.resource_name, name)
        self._take(plugin)


async def _is_served(path: Path) -> bool:
    """Whether somebody answers at the socket `path`."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True
    return False
