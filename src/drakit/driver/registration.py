"""The two sockets of a driver, and making itself known to the kubelet.

The plugin socket (`<plugins>/<driver>/dra.sock`) answers DRA and health, the registry socket
(`<registry>/<driver>-reg.sock`) says where it is. The kubelet watches the registry folder: whatever shows
up there is asked who it is. A kubelet that starts again finds the sockets still there; where somebody
cleared the folders, the sockets are made again. With a pod's UID in the names two instances can overlap;
sockets that an instance left when it was killed are then nobody's, and the next one removes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import grpc

from drakit.client.clock import Clock
from drakit.errors import UsageError
from drakit.pluginapi import wire
from drakit.pluginapi.registration import DRA_PLUGIN_TYPE, PluginInfo, registration_handlers
from drakit.pluginapi.sockets import plugin_socket, registry_socket

CHECK_SECONDS = 2.0
"""How often the sockets are looked for: two stat calls."""

_POD_UID = r"-([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-z0-9-]*[A-Z_])[A-Za-z0-9_-]{11})"
"""Of an instance in a socket's name, or its hash: one with a letter that no driver's name has."""

_log = logging.getLogger(__name__)


class Registrar:
    """Keeps `driver` reachable and registered while `run` runs.

    `services` are the names of what `handlers` serve on the plugin socket.
    """

    def __init__(
        self,
        driver: str,
        plugins_dir: Path,
        registry_dir: Path,
        handlers: Sequence[grpc.GenericRpcHandler],
        services: Sequence[str],
        *,
        pod_uid: str = "",
        clock: Clock | None = None,
    ) -> None:
        self._driver = driver
        self._has_pod_uid = bool(pod_uid)
        self._plugin_socket = plugin_socket(driver, plugins_dir, pod_uid)
        self._registry_socket = registry_socket(driver, registry_dir, pod_uid)
        self._handlers = handlers
        self._services = services
        self._registration = registration_handlers(self)
        self._clock = clock or Clock()
        self._servers: dict[Path, wire.UnixServer] = {}
        self.serving = asyncio.Event()
        """Set when the plugin socket answers."""
        self.registered = asyncio.Event()
        """Set when the kubelet has taken the driver."""

    async def run(self) -> None:
        """Serve until cancelled. Raises UsageError if a socket cannot be made."""
        await self._remove_dead()
        is_told = False
        while True:
            await self._keep(self._plugin_socket, self._handlers)
            self.serving.set()
            if self._registry_socket.parent.is_dir():
                await self._keep(self._registry_socket, self._registration)
                is_told = False
            elif not is_told:
                _log.warning("waiting for the kubelet's folder %s", self._registry_socket.parent)
                is_told = True
            await self._clock.sleep(CHECK_SECONDS)

    async def stop(self, grace: float) -> None:
        """Take no more calls, the registry first, and give those under way `grace` seconds."""
        for path in (self._registry_socket, self._plugin_socket):
            server = self._servers.pop(path, None)
            if server is not None:
                await server.stop(grace)
        self.registered.clear()

    async def _remove_dead(self) -> None:
        """Remove sockets of other instances at which nobody answers."""
        if not self._has_pod_uid:
            return
        folders = {
            self._registry_socket.parent: re.compile(re.escape(self._driver) + _POD_UID + r"-reg\.sock"),
            self._plugin_socket.parent: re.compile("dra" + _POD_UID + r"\.sock"),
        }
        for folder, pattern in folders.items():
            for path in folder.iterdir() if folder.is_dir() else ():
                if pattern.fullmatch(path.name) and await _is_dead(path):
                    _log.warning("removing %s: its instance was killed", path)
                    path.unlink(missing_ok=True)

    async def _keep(self, path: Path, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Serve `path` if nobody does. A socket of another instance there is left alone."""
        server = self._servers.get(path)
        if server is not None and (server.is_in_place() or path.exists()):
            return
        self._servers[path] = await wire.serve(path, handlers)
        if server is not None:
            _log.warning("socket %s was removed; made again", path)
            await server.stop(0)

    # --- the registry socket ----------------------------------------------------------------------

    async def get_info(self) -> PluginInfo:
        return PluginInfo(DRA_PLUGIN_TYPE, self._driver, str(self._plugin_socket), self._services)

    async def notify(self, is_registered: bool, error: str) -> None:
        if is_registered:
            self.registered.set()
            _log.info("driver %s is registered", self._driver, extra={"driver": self._driver})
        else:
            self.registered.clear()
            _log.error(
                "the kubelet refused driver %s: %s", self._driver, error, extra={"driver": self._driver}
            )


async def _is_dead(path: Path) -> bool:
    """Whether `path` is a socket that nobody listens at."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return False


def check_names(driver: str, node_name: str) -> None:
    """Raises UsageError where a driver or node cannot be called so."""
    if not driver or len(driver) > 63:
        raise UsageError(f"driver name {driver!r} must have 1 to 63 characters")
    if not node_name:
        raise UsageError("the node's name is missing")
