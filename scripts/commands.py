"""Prints docs/commands.md: every command of `dra` with its help, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator

import click

from drakit.cli import dra

_WIDTH = 100


def page() -> str:
    """The page as Markdown."""
    head = "# Commands\n\nMade by `scripts/commands.py` from the commands' own help (`dra COMMAND --help`).\n"
    return head + "".join(_sections(dra, None))


def _sections(group: click.Group, parent: click.Context | None) -> Iterator[str]:
    name = "dra" if parent is None else group.name
    context = click.Context(group, info_name=name, parent=parent, **group.context_settings)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        inner = click.Context(
            command,
            info_name=word,
            parent=context,
            terminal_width=_WIDTH,
            max_content_width=_WIDTH,
            **command.context_settings,
        )
        yield f"\n## {inner.command_path}\n\n```text\n{command.get_help(inner)}\n```\n"
        if isinstance(command, click.Group):
            yield from _sections(command, context)


if __name__ == "__main__":
    print(page(), end="")
