"""A driver at work on one node: publisher, preparer, health and registration together."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
from pathlib import Path

from drakit.client.api import Client
from drakit.client.clock import Clock
from drakit.driver.binding import Binder
from drakit.driver.cdi import CDIFiles
from drakit.driver.driver import Driver
from drakit.driver.health import HealthReporter
from drakit.driver.metrics import Metrics
from drakit.driver.preparer import Preparer
from drakit.driver.publisher import Publisher
from drakit.driver.registration import Registrar, check_names
from drakit.driver.stale import StaleClaims
from drakit.driver.status import StatusWriter
from drakit.errors import DRAError
from drakit.pluginapi.dra import DRA_SERVICES, dra_handlers
from drakit.pluginapi.folder import read_note
from drakit.pluginapi.health import HEALTH_SERVICES, health_handlers

GRACE_SECONDS = 10.0
_STOPS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)


class Plugin:
    """Runs `driver` on the node `node_name`.

    `plugins_dir`, `registry_dir` and `cdi_dir` are the kubelet's plugins and plugins_registry folders and a
    folder where its container runtime looks for CDI files. With `pod_uid` two instances of the driver can
    overlap in a rolling update. Calls under way at the end get `grace` seconds.
    """

    def __init__(
        self,
        driver: Driver,
        client: Client,
        node_name: str,
        plugins_dir: str | os.PathLike[str],
        registry_dir: str | os.PathLike[str],
        cdi_dir: str | os.PathLike[str],
        *,
        pod_uid: str = "",
        grace: float = GRACE_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        check_names(driver.name, node_name)
        self.metrics = Metrics(driver.name)
        self.ready = asyncio.Event()
        """Set when the driver answers on its sockets; see also `publisher` and `registrar`."""
        self._driver = driver
        self._grace = grace
        folder = Path(plugins_dir) / driver.name
        files = CDIFiles(Path(cdi_dir), driver.name)
        self._statuses = StatusWriter(
            client, driver.name, node_name, self.metrics, driver.trouble, clock=clock
        )
        self._preparer = Preparer(
            driver,
            client,
            folder,
            files,
            self.metrics,
            self._statuses,
            host_folder=read_note(Path(plugins_dir)).of(folder),
            clock=clock,
        )
        self._stale = StaleClaims(self._preparer, client, driver.name, clock=clock)
        self._bindings = StatusWriter(
            client, driver.name, node_name, self.metrics, driver.trouble, part="-binding", clock=clock
        )
        self._binder = Binder(driver, client, folder, self.metrics, self._bindings, clock=clock)
        self._health = HealthReporter(driver, clock=clock)
        self.publisher = Publisher(client, driver, node_name, self.metrics, clock=clock)
        handlers, services = dra_handlers(self._preparer), list(DRA_SERVICES)
        if self._health.is_supported:
            handlers += health_handlers(self._health)
            services += HEALTH_SERVICES
        self.registrar = Registrar(
            driver.name,
            Path(plugins_dir),
            Path(registry_dir),
            handlers,
            services,
            pod_uid=pod_uid,
            clock=clock,
        )

    async def run(self) -> None:
        """Serve and publish until cancelled. Raises UsageError if files or sockets cannot be used."""
        loop = asyncio.get_running_loop()
        self._driver.on_changed(functools.partial(loop.call_soon_threadsafe, self._publish))
        await self._preparer.start()
        self.publisher.publish(self._driver.pools())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.registrar.run())
                group.create_task(self.publisher.run())
                group.create_task(self._statuses.run())
                group.create_task(self._stale.run())
                if self._binder.is_supported:
                    group.create_task(self._bindings.run())
                    group.create_task(self._binder.run())
                group.create_task(self._driver.watch())
                await self.registrar.serving.wait()
                self.ready.set()
        except ExceptionGroup as group:
            ours, _ = group.split(DRAError)
            if ours is None:
                raise
            raise _first(ours) from None
        finally:
            self.ready.clear()
            self._driver.on_changed(None)
            self._health.close()
            await self.registrar.stop(self._grace)

    def _publish(self) -> None:
        self._health.wake()
        try:
            self.publisher.publish(self._driver.pools())
        except DRAError as error:
            self.metrics.add("dra_driver_errors_total", "publish")
            _log.error("%s", error)
        except Exception:
            _log.exception("driver %s cannot say its pools: a bug", self._driver.name)


def _first(group: ExceptionGroup[DRAError]) -> DRAError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


async def run(
    driver: Driver,
    client: Client,
    node_name: str,
    plugins_dir: str | os.PathLike[str],
    registry_dir: str | os.PathLike[str],
    cdi_dir: str | os.PathLike[str],
    *,
    pod_uid: str = "",
) -> None:
    """Run `driver` (see `Plugin`) until SIGTERM, SIGINT or cancellation; each ends it in peace. For the main
    thread of a program."""
    plugin = Plugin(driver, client, node_name, plugins_dir, registry_dir, cdi_dir, pod_uid=pod_uid)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in _STOPS:
        loop.add_signal_handler(number, stop.set)
    working, told = asyncio.ensure_future(plugin.run()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([working, told], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, told):
            task.cancel()
        await asyncio.gather(working, told, return_exceptions=True)
        for number in _STOPS:
            loop.remove_signal_handler(number)
