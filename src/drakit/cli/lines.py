"""JSON lines: one document in, one answer out, at once: whoever wrote the line may wait for it."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import IO, Any

import click
import msgspec

from drakit.errors import UsageError


def read(file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """Number and value of each line that is not blank. Raises UsageError naming the first that is no JSON."""
    for number, line in enumerate(file, 1):
        text = line.removeprefix(BOM_UTF8) if number == 1 else line
        if not text.strip():
            continue
        try:
            yield number, msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"{getattr(file, 'name', 'input')}, line {number}: {error}") from None


def write(row: dict[str, Any]) -> None:
    """Print `row`, in UTF-8 whatever the terminal's encoding."""
    click.echo(msgspec.json.encode(row))
