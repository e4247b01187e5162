"""`dra completion SHELL`: the script that makes a shell complete `dra`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_HOWTO = {
    "bash": 'eval "$(dra completion bash)"      # in ~/.bashrc',
    "zsh": 'eval "$(dra completion zsh)"       # in ~/.zshrc',
    "fish": "dra completion fish | source      # in ~/.config/fish/config.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(sorted(_HOWTO)))
def command(shell: str) -> None:
    """Print the completion script for SHELL. In bash: eval "$(dra completion bash)"."""
    from drakit.cli import dra

    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(f"# {_HOWTO[shell]}")
    click.echo(completion(dra, {}, "dra", "_DRA_COMPLETE").source())
