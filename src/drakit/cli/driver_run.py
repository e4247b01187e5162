"""`dra driver run`: run one of the drivers on a node, against any cluster."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from pathlib import Path

import click

from drakit.cli import complete
from drakit.cli.connect import cluster_options, kubeconfig_path
from drakit.client import kubeconfig
from drakit.client.api import Client
from drakit.client.dialect import Dialect
from drakit.client.http import HTTPTransport
from drakit.driver import Driver, Plugin
from drakit.driver.exposition import serve_metrics
from drakit.driver.logs import configure
from drakit.drivers import NAMES, build
from drakit.errors import UsageError
from drakit.pluginapi.folder import read_note


@click.command("run")
@click.argument("name", metavar="NAME", type=click.Choice(list(NAMES)))
@cluster_options
@click.option(
    "--node-name",
    default=socket.gethostname,
    show_default="this machine's name",
    shell_complete=complete.node,
)
@click.option("--plugins-dir", default="/var/lib/kubelet/plugins", show_default=True, type=click.Path())
@click.option(
    "--registry-dir", default="/var/lib/kubelet/plugins_registry", show_default=True, type=click.Path()
)
@click.option("--cdi-dir", default="/var/run/cdi", show_default=True, type=click.Path())
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="The driver's own. Repeatable.")
@click.option("--pod-uid", default="", help="Of the pod it runs in: two instances may then overlap.")
@click.option("--metrics-address", metavar="HOST:PORT", help="Serve /metrics and /healthz here.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    name: str,
    kubeconfig: str | None,
    context: str | None,
    node_name: str,
    plugins_dir: str,
    registry_dir: str,
    cdi_dir: str,
    options: tuple[str, ...],
    pod_uid: str,
    metrics_address: str | None,
    log_format: str,
) -> None:
    """Publish NAME's devices of this node and prepare claims until Ctrl-C.

    \b
    dra driver run gpu --node-name node-1 --option count=8 --option model=H100
    """
    configure("json" if log_format == "json" else "text")
    driver = build(name, _options(options), node_name, read_note(Path(plugins_dir)).share)
    folders = (plugins_dir, registry_dir, cdi_dir)
    asyncio.run(_run(driver, kubeconfig_path(kubeconfig), context, folders, pod_uid, metrics_address))


def _options(texts: tuple[str, ...]) -> dict[str, str]:
    options: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--option {text!r} is not KEY=VALUE")
        options[key] = value
    return options


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--metrics-address {text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


async def _run(
    driver: Driver,
    path: str | None,
    context: str | None,
    folders: tuple[str, str, str],
    pod_uid: str,
    metrics_address: str | None,
) -> None:
    """Run until SIGINT or SIGTERM, then stop in peace."""
    transport = Dialect(HTTPTransport(kubeconfig.load(path, context)))
    client = Client(transport, field_manager=driver.name)
    plugin = Plugin(driver, client, driver.node_name, *folders, pod_uid=pod_uid)
    loop = asyncio.get_running_loop()
    working = [asyncio.ensure_future(plugin.run())]
    if metrics_address:
        host, port = _address(metrics_address)
        working.append(asyncio.ensure_future(serve_metrics(plugin.metrics, plugin.ready.is_set, host, port)))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: [task.cancel() for task in working])
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*working)
    finally:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        await client.close()
