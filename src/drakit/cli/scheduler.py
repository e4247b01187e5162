"""`dra scheduler`: the scheduler alone, against any cluster."""

from __future__ import annotations

import asyncio
import logging

import click

from drakit.cli.connect import cluster_options, kubeconfig_path
from drakit.client import kubeconfig as kubeconfigs
from drakit.client.api import Client
from drakit.client.http import HTTPTransport
from drakit.profile import DEFAULT_VERSION, profile_for
from drakit.scheduler import Scheduler


@click.command()
@cluster_options
@click.option(
    "--name",
    default="drakit-scheduler",
    show_default=True,
    help="Place the pods with this schedulerName. Only one scheduler may have it.",
)
@click.option(
    "--kubernetes-version",
    "version",
    default=DEFAULT_VERSION,
    show_default=True,
    help="Version of the cluster: decides which DRA features are on.",
)
@click.option("--gate", "gates", multiple=True, metavar="NAME=true|false", help="Switch a feature gate.")
def command(
    kubeconfig: str | None, context: str | None, name: str, version: str, gates: tuple[str, ...]
) -> None:
    """Place pods that name this scheduler, with devices for their claims.

    Runs until Ctrl-C, against the embedded cluster or a real one beside its own scheduler. A pod asks
    for it with `spec.schedulerName`.
    """
    wanted = dict(_gate(text) for text in gates)
    profile = profile_for(version, wanted)
    config = kubeconfigs.load(kubeconfig_path(kubeconfig), context)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    async def run() -> None:
        client = Client(HTTPTransport(config), field_manager=name)
        scheduler = Scheduler(client, profile, name)
        announcing = asyncio.create_task(_announce(scheduler, name))
        try:
            await scheduler.run()
        finally:
            announcing.cancel()
            await client.close()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        click.echo("stopped")


async def _announce(scheduler: Scheduler, name: str) -> None:
    await scheduler.ready.wait()
    click.echo(f"placing pods with schedulerName: {name} (Ctrl-C stops)")


def _gate(text: str) -> tuple[str, bool]:
    name, equals, value = text.partition("=")
    if not equals or value.lower() not in ("true", "false"):
        raise click.BadParameter(f"{text!r} is not NAME=true or NAME=false", param_hint="--gate")
    return name, value.lower() == "true"
