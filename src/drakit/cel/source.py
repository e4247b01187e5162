"""Errors about a piece of source, in the form Kubernetes shows them: line, column, excerpt, caret."""

from __future__ import annotations

from collections.abc import Iterable

from drakit.errors import CELError

Issue = tuple[int, str]
"""Where (offset into the source) and what."""


def describe(source: str, issue: Issue) -> str:
    """`ERROR: <input>:1:4: message` with the line and a caret under the position."""
    position, message = issue
    if not source:
        return f"ERROR: <input>:1:0: {message}"
    start = source.rfind("\n", 0, position) + 1
    end = source.find("\n", position)
    line = source[start : len(source) if end < 0 else end].replace("\t", " ")
    number = source.count("\n", 0, position) + 1
    column = position - start
    dots = "".join("．" if ord(c) > 127 else "." for c in line[:column])
    caret = "＾" if ord(line[column : column + 1] or " ") > 127 else "^"
    return f"ERROR: <input>:{number}:{column + 1}: {message}\n | {line}\n | {dots}{caret}"


def compile_error(source: str, issues: Iterable[Issue]) -> CELError:
    """The error for `issues`, at least one, in the order of the source."""
    ordered = sorted(issues, key=lambda issue: issue[0])
    text = "compilation failed: " + "\n".join(describe(source, issue) for issue in ordered[:100])
    return CELError(text, source=source, position=ordered[0][0])
