"""`dra backup`: a copy of everything the embedded cluster has stored."""

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
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def command(file: Path, data_dir: Path | None, force: bool) -> None:
    """Copy what the embedded cluster has stored to FILE, whether it runs or not.

    Secrets are in it; certificates, the admin's token and containers are not.
    """
    from drakit.cluster.backup import save

    contents = save(Place(data_dir or default_data_dir()), file, force=force)
    click.echo(
        f"{file}: {contents.objects} objects at revision {contents.revision}, {contents.size / 1e6:.1f} MB"
    )
