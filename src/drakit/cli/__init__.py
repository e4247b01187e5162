"""The command `dra`: one module per command, imported only when it is used.

Belongs here: arguments, and printing what the rooms below return. Never: deciding anything about
devices, pods or claims.
"""

from __future__ import annotations

import importlib
import sys

import click

from drakit.errors import DRAError

_COMMANDS = {
    # name: (module under drakit.cli, one line of help)
}


class _Lazy(click.Group):
    """A group whose commands are imported when they are called, so that `dra` starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"drakit.cli.{name}").command
        return command
