"""`dra restore`: bring back what `dra backup` saved."""

from __future__ import annotations

from pathlib import Path

import click

from drakit.cluster.place import Place, default_data_dir


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The cluster's folder. Default: $DRAKIT_DATA_DIR or the user's state folder.",
)
@click.option("--force", is_flag=True, help="Replace the data that are there.")
def command(file: Path, data_dir: Path | None, force: bool) -> None:
    """Put the backup FILE where the next `dra up` finds it. The cluster must not run.

    A backup that is damaged is refused before anything changes.
    """
    from drakit.cluster.backup import restore

    place = Place(data_dir or default_data_dir())
    contents = restore(place, file, force=force)
    click.echo(f"{place.root}: {contents.objects} objects at revision {contents.revision}.")
