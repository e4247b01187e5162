"""One registered device plugin: its devices as it last told them, and the calls to it.

A plugin that goes takes nothing with it at once: its devices stay known, as not connected, and when its
socket answers again, with or without a new registration, all is as before. Who is gone for `FORGET_SECONDS`
is forgotten, like a kubelet does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from drakit.client.clock import Clock
from drakit.errors import RecoverableError
from drakit.pluginapi import wire
from drakit.pluginapi.deviceplugin import (
    ContainerAllocation,
    DevicePluginStub,
    PluginDevice,
    PluginOptions,
)

RETRY_SECONDS = 1.0
FORGET_SECONDS = 300.0
MAX_ORDERED = 64
"""Devices that a plugin is asked to put in order: one call each."""

_log = logging.getLogger(__name__)


class Endpoint:
    """The plugin of `resource` at `socket`. `on_change` is called when `devices` or `is_connected` change."""

    def __init__(
        self,
        resource: str,
        socket: Path,
        on_change: Callable[[], object],
        *,
        options: PluginOptions,
        devices: Sequence[PluginDevice] = (),
        clock: Clock,
    ) -> None:
        self.resource = resource
        self.socket = socket
        self.options = options
        self.devices = list(devices)
        """In the order of the plugin's preference."""
        self.is_connected = False
        self._on_change = on_change
        self._clock = clock
        self._seen = clock.now()

    async def run(self) -> None:
        """Listen until the plugin is gone for good."""
        while self._clock.now() - self._seen < FORGET_SECONDS:
            if self.socket.exists():
                try:
                    await self._listen()
                except RecoverableError as error:
                    _log.warning("device plugin of %s: %s", self.resource, error)
            if self.is_connected:
                self.is_connected = False
                self._on_change()
            await self._clock.sleep(RETRY_SECONDS)

    async def allocate(self, ids: Sequence[str]) -> ContainerAllocation:
        """Have the devices `ids` made ready for containers. Raises RecoverableError."""
        if not self.is_connected:
            raise RecoverableError(f"the device plugin of {self.resource} is not there at the moment")
        async with self._stub() as stub:
            given = await stub.allocate(ids)
            if self.options.pre_start_required:
                await stub.pre_start(ids)
        return given

    async def _listen(self) -> None:
        async with self._stub() as stub:
            async for devices in stub.watch():
                self._seen = self._clock.now()
                if not self.is_connected:
                    self.options = await self._ask_options(stub)
                by_id = {device.id: device for device in devices}
                if by_id.keys() != {device.id for device in self.devices}:
                    order = await self._order(stub, list(by_id))
                else:
                    order = [device.id for device in self.devices]
                known = [by_id[device_id] for device_id in order]
                if known != self.devices or not self.is_connected:
                    self.devices = known
                    self.is_connected = True
                    self._on_change()
        self._seen = self._clock.now()

    async def _ask_options(self, stub: DevicePluginStub) -> PluginOptions:
        """What the plugin says now; some say it only when they register."""
        try:
            now = await stub.options()
        except RecoverableError:
            return self.options
        return PluginOptions(
            now.pre_start_required or self.options.pre_start_required,
            now.preferred_allocation_available or self.options.preferred_allocation_available,
        )

    async def _order(self, stub: DevicePluginStub, ids: list[str]) -> list[str]:
        """`ids` so that every first few of them are what the plugin would give of all.

        The scheduler chooses devices before any plugin is asked, the first that fit: so the preference
        goes into their order.
        """
        if not self.options.preferred_allocation_available or len(ids) > MAX_ORDERED:
            return ids
        order: list[str] = []
        while len(order) < len(ids):
            try:
                preferred = await stub.preferred(ids, order, len(order) + 1)
            except RecoverableError as error:
                _log.warning("device plugin of %s has no preference: %s", self.resource, error)
                return ids
            added = [device_id for device_id in preferred if device_id in ids and device_id not in order]
            if len(added) != 1:
                return [*order, *(device_id for device_id in ids if device_id not in order)]
            order += added
        return order

    @asynccontextmanager
    async def _stub(self) -> AsyncIterator[DevicePluginStub]:
        channel = wire.connect(self.socket)
        try:
            yield DevicePluginStub(channel)
        finally:
            await asyncio.shield(channel.close())
