"""`dra snapshot`: what allocation depends on, as one file."""

from __future__ import annotations

import asyncio
import secrets

import click
from msgspec import structs

from drakit.cli.connect import cluster_options, connect
from drakit.cli.gate import gates_option, read_gates
from drakit.planner.snapshot import Snapshot, capture, hashed


@click.command()
@cluster_options
@click.option(
    "--hash-names", is_flag=True, help="Replace the names of namespaces, nodes, pods, claims and pools."
)
@gates_option
def command(kubeconfig: str | None, context: str | None, hash_names: bool, gates: tuple[str, ...]) -> None:
    """Print a snapshot: nodes, classes, slices, taint rules, claims and pods, without any secret.

    It only reads. A cluster does not tell its feature gates: name those that are not the version's defaults
    with --gates. Attach it to a bug report, or replay it with `dra why -f FILE --snapshot FILE`.
    """

    async def run() -> Snapshot:
        async with connect(kubeconfig, context) as client:
            return await capture(client)

    snapshot = structs.replace(asyncio.run(run()), feature_gates=read_gates(gates))
    if hash_names:
        snapshot = hashed(snapshot, secrets.token_bytes(16))
    click.echo(snapshot.encode().decode())
