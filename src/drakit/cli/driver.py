"""`dra driver`: drivers, ours and others'. Each command is imported when it is called."""

from __future__ import annotations

import importlib

import click

_COMMANDS = {
    "idle": "driver_idle",
    "list": "driver_list",
    "new": "driver_new",
    "poke": "poke",
    "ready": "driver_ready",
    "run": "driver_run",
    "test": "driver_test",
}
"""The module of each command."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"drakit.cli.{_COMMANDS[cmd_name]}").command
        return found


@click.group(cls=_Commands)
def command() -> None:
    """Run drivers against a kubelet or an embedded node."""
