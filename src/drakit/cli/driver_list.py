"""`dra driver list`: the drivers that come with drakit."""

from __future__ import annotations

import click


@click.command("list")
def command() -> None:
    """The drivers that come with dra."""
    from drakit.drivers import NAMES

    for name, what in NAMES.items():
        click.echo(f"{name:15}{what}")
