"""`dra scheduler`: the scheduler alone, against any cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import uuid

import click

from drakit.cli.connect import cluster_options, kubeconfig_path
from drakit.client import kubeconfig as kubeconfigs
from drakit.client.api import Client
from drakit.client.dialect import Dialect
from drakit.client.http import HTTPTransport
from drakit.errors import UsageError
from drakit.profile import VERSIONS, profile_for
from drakit.scheduler import Scheduler
from drakit.scheduler.election import Election
from drakit.transport import Request


@click.command()
@cluster_options
@click.option(
    "--name",
    default="drakit-scheduler",
    show_default=True,
    help="Place the pods with this schedulerName. Of several with one name one works.",
)
@click.option(
    "--leader-elect/--no-leader-elect",
    default=True,
    show_default=True,
    help="Hold the lease NAME while working, so that a second one may stand by.",
)
@click.option("--lease-namespace", default="kube-system", show_default=True, help="Where that lease is kept.")
@click.option("--kubernetes-version", "version", help="Which DRA features are on. Default: ask the cluster.")
@click.option("--gate", "gates", multiple=True, metavar="NAME=true|false", help="Switch a feature gate.")
def command(
    kubeconfig: str | None,
    context: str | None,
    name: str,
    leader_elect: bool,
    lease_namespace: str,
    version: str | None,
    gates: tuple[str, ...],
) -> None:
    """Place pods that name this scheduler, with devices for their claims.

    Runs until Ctrl-C or SIGTERM, against the embedded cluster or a real one beside its own scheduler. A pod
    asks for it with `spec.schedulerName`.
    """
    wanted = dict(_gate(text) for text in gates)
    config = kubeconfigs.load(kubeconfig_path(kubeconfig), context)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    async def run() -> None:
        working = asyncio.current_task()
        assert working is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
        client = Client(Dialect(HTTPTransport(config)), field_manager=name)
        announcing: asyncio.Task[None] | None = None
        try:
            profile = profile_for(version, wanted) if version else None
            answered = await _server_version(client)
            profile = profile or profile_for(answered, wanted)
            scheduler = Scheduler(client, profile, name)
            announcing = asyncio.create_task(_announce(scheduler, name))
            if leader_elect:
                identity = f"{socket.gethostname()}_{uuid.uuid4()}"
                await Election(client, lease_namespace, name, identity).lead(scheduler.run)
            else:
                await scheduler.run()
        finally:
            if announcing is not None:
                announcing.cancel()
            await client.close()

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run())


async def _server_version(client: Client) -> str:
    """The cluster's version; the newest known where the cluster is newer."""
    answer = (await client.request(Request(method="GET", path="/version"))).document
    text = f"{answer.get('major', '')}.{str(answer.get('minor', '')).rstrip('+')}"
    major, _, minor = text.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise UsageError(f"the cluster gives no version ({text}): name one with --kubernetes-version")
    newest = tuple(int(part) for part in VERSIONS[-1].split("."))
    return VERSIONS[-1] if (int(major), int(minor)) > newest else text


async def _announce(scheduler: Scheduler, name: str) -> None:
    await scheduler.ready.wait()
    click.echo(f"placing pods with schedulerName: {name} (Ctrl-C stops)")


def _gate(text: str) -> tuple[str, bool]:
    name, equals, value = text.partition("=")
    if not equals or value.lower() not in ("true", "false"):
        raise click.BadParameter(f"{text!r} is not NAME=true or NAME=false", param_hint="--gate")
    return name, value.lower() == "true"
