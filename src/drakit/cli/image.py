"""`dra image`: the images that pods of an embedded cluster can use. Nothing is ever downloaded."""

from __future__ import annotations

from pathlib import Path

import click

from drakit.cluster.place import Place, default_data_dir

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The cluster's folder. Default: $DRAKIT_DATA_DIR or the user's state folder.",
)


@click.group()
def command() -> None:
    """Build, add and list images for the embedded cluster."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", help="Default: localhost/drakit with drakit's version as its tag.")
def build(file: Path, name: str | None) -> None:
    """Write an OCI archive of drakit, made offline from this installation.

    \b
    dra image build drakit.tar && dra image add drakit.tar
    """
    from drakit.cluster import own_image
    from drakit.node.image import normalized

    name = name or own_image.default_name()
    normalized(name)
    own_image.build(file, name)
    click.echo(f"{file}: {name}, {file.stat().st_size / 1e6:.0f} MB")


@command.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--name", help="What to call it. Default: the name in the archive, else localhost/PATH's name.")
@_data_dir
def add(path: Path, name: str | None, data_dir: Path | None) -> None:
    """Add an OCI archive, an OCI layout or a root file system."""
    from drakit.node.image import ImageStore

    for added in ImageStore(Place(data_dir or default_data_dir()).images).add(path, name):
        click.echo(f"added {added}")


@command.command("list")
@_data_dir
def list_(data_dir: Path | None) -> None:
    """The names of the images there are."""
    from drakit.node.image import ImageStore

    for name in ImageStore(Place(data_dir or default_data_dir()).images).references():
        click.echo(name)
