"""`dra status`: the embedded cluster that runs in a data folder, if any."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from drakit.cluster.place import Place, default_data_dir


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder the cluster was started with.",
)
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
def command(data_dir: Path | None, output: str) -> None:
    """Show the embedded cluster that runs here. Exit code 1 if none does."""
    place = Place(data_dir or default_data_dir())
    running = place.running()
    if output == "json":
        click.echo(msgspec.json.encode(running).decode())
    elif running is None:
        click.echo(f"No cluster runs in {place.root}. Start one with `dra up`.")
    else:
        for field, value in msgspec.structs.asdict(running).items():
            text = ", ".join(value) or "none" if isinstance(value, list) else value
            click.echo(f"{field:<11} {text}")
    sys.exit(0 if running else 1)
