"""`dra down`: stop the embedded cluster that runs in a data folder."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import click

from drakit.cluster.place import Place, default_data_dir
from drakit.errors import UsageError

_SECONDS = 30.0


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder the cluster was started with.",
)
@click.option("--delete", is_flag=True, help="Also delete the data: the next `dra up` starts empty.")
def command(data_dir: Path | None, delete: bool) -> None:
    """Stop the embedded cluster; its data stay unless --delete."""
    place = Place(data_dir or default_data_dir())
    running = place.running()
    if running is None and not delete:
        raise UsageError(f"no cluster runs in {place.root}")
    if running is not None:
        os.kill(running.pid, signal.SIGTERM)
        deadline = time.monotonic() + _SECONDS
        while place.is_held():
            if time.monotonic() > deadline:
                raise UsageError(
                    f"pid {running.pid} is still stopping after {_SECONDS:.0f} s; see {place.log}"
                )
            time.sleep(0.02)
        click.echo(f"Stopped {running.server}.")
    if delete:
        from drakit.cluster.leftover import remove_leftovers

        if place.root.exists() and not place.is_cluster():
            raise UsageError(f"no cluster was ever started in {place.root}: nothing is deleted")
        place.hold()
        asyncio.run(remove_leftovers(place))
        place.release()
        place.delete()
        click.echo(f"Deleted {place.root}.")
