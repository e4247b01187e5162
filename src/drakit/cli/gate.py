"""The option `--gates`: feature gates on top of a version's defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from drakit.cli import complete
from drakit.errors import UsageError


def gates_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--gates NAME=true|false` as the argument `gates`, see `read_gates`."""
    words = "Feature gates on top of the version's defaults; all=true for every one."
    return click.option(
        "--gates", multiple=True, metavar="NAME=true|false", shell_complete=complete.gate, help=words
    )(function)


def read_gates(gates: tuple[str, ...]) -> dict[str, bool]:
    """The gates as they were given, in order."""
    found: dict[str, bool] = {}
    for text in gates:
        name, _, value = text.partition("=")
        if value not in ("true", "false"):
            raise UsageError(f"--gates {text}: use NAME=true or NAME=false")
        found[name] = value == "true"
    return found
