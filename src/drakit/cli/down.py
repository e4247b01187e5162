"""`dra down`: stop the embedded cluster that runs in a data folder."""

from __future__ import annotations

import asyncio
import os
import select
import signal
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
        _end(running.pid, place)
        click.echo(f"Stopped {running.server}.")
    if delete:
        from drakit.cluster.leftover import remove_leftovers

        if not place.root.exists():
            click.echo(f"{place.root} is not there: nothing to delete.")
            return
        if not place.is_cluster():
            raise UsageError(f"no cluster was ever started in {place.root}: nothing is deleted")
        place.hold()
        asyncio.run(remove_leftovers(place))
        place.release()
        place.delete()
        click.echo(f"Deleted {place.root}.")


def _end(pid: int, place: Place) -> None:
    """Stop the cluster of process `pid` and return when the process is gone. Raises UsageError."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], _SECONDS)[0]:
            raise UsageError(f"pid {pid} is still stopping after {_SECONDS:.0f} s; see {place.log}")
    finally:
        os.close(process)
