"""`dra driver idle`: may a driver be removed, or do claims still hold its devices?"""

from __future__ import annotations

import asyncio

import click

from drakit.cli.connect import cluster_options, connect
from drakit.client.api import RESOURCE_CLAIMS, Client
from drakit.errors import UsageError
from drakit.transport import Document

_LOOK_AGAIN = 1.0
"""Seconds."""


@click.command("idle")
@click.argument("name", metavar="NAME")
@cluster_options
@click.option("--timeout", default=0, type=click.IntRange(0), metavar="SECONDS", help="How long to wait.")
def command(name: str, kubeconfig: str | None, context: str | None, timeout: int) -> None:
    """Make sure that no claim holds devices of the driver NAME, as before it is removed.

    Without the driver, pods that use its devices could not end. The exit code is 1 if some claim does.

    \b
    dra driver idle gpu.example.com --timeout 60
    """
    asyncio.run(_idle(name, kubeconfig, context, timeout))


async def _idle(name: str, path: str | None, context: str | None, timeout: int) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    async with connect(path, context) as client:
        while held := await _held(client, name):
            if loop.time() >= deadline:
                more = f" and {len(held) - 5} more" if len(held) > 5 else ""
                raise UsageError(f"devices of {name} are held by claims: {', '.join(held[:5])}{more}")
            await asyncio.sleep(_LOOK_AGAIN)
    click.echo(f"no claim holds devices of {name}")


async def _held(client: Client, name: str) -> list[str]:
    """The claims, as NAMESPACE/NAME, that have devices of the driver `name`."""
    return [
        f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"
        for claim in (await client.list(RESOURCE_CLAIMS)).items
        if name in _drivers(claim)
    ]


def _drivers(claim: Document) -> set[str]:
    """The drivers whose devices `claim` has."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return {result["driver"] for result in (allocation.get("devices") or {}).get("results") or []}
