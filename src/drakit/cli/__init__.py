"""The command `dra`: one module per command, imported only when it is used.

Belongs here: arguments, and printing what the rooms below return. Never: deciding anything about
devices, pods or claims.
"""

from __future__ import annotations

import importlib
import sys

import click

from drakit import __version__
from drakit.errors import DRAError

_COMMANDS = {
    "allocate": "Allocate claims from scenarios in JSON lines, without a cluster.",
    "backup": "Copy what the embedded cluster has stored to a file.",
    "cel": "Try and check CEL selectors of devices.",
    "completion": "Print the script that completes `dra` in a shell.",
    "demo": "Play the three roles of DRA on an embedded cluster.",
    "down": "Stop the embedded cluster.",
    "driver": "Run drivers against a kubelet or an embedded node.",
    "image": "Build, add and list images for the embedded cluster.",
    "kubectl": "Run the real kubectl against the embedded cluster.",
    "restore": "Bring back what `dra backup` saved.",
    "scheduler": "Run the scheduler alone, as a second one in any cluster.",
    "status": "Show the embedded cluster that runs here.",
    "snapshot": "Print what allocation depends on, to keep, send and replay.",
    "up": "Start an embedded cluster.",
    "why": "Say why a pod or a claim is pending, and what would make it fit.",
}
"""Each command's one line of help; its module has the same name and holds `command`."""


class _Commands(click.Group):
    """A group whose commands are imported when they are called, so that `dra` starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"drakit.cli.{cmd_name}").command
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dra")
def dra() -> None:
    """Kubernetes Dynamic Resource Allocation: an embedded cluster, drivers and tools."""


def main() -> None:
    """Entry point: an error made on purpose is one line and exit code 1, Ctrl-C is 130."""
    try:
        code = dra(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except DRAError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    sys.exit(code if isinstance(code, int) else 0)
