"""The JSONPath that printer columns are written in: fields, indices, wildcards and equality filters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_STEP = re.compile(
    r"""\.?(?P<field>[A-Za-z0-9_$\-/]+(?:\\\.[A-Za-z0-9_$\-/]+)*)   # .field, with escaped dots
      | \[(?P<index>-?\d+)\]
      | \[['"](?P<quoted>[^'"]+)['"]\]
      | (?P<all>\[\*\]|\.\*)
      | \[\?\(\s*@\.(?P<key>[A-Za-z0-9_.\-]+)\s*==\s*['"]?(?P<value>[^'")]*)['"]?\s*\)\]""",
    re.VERBOSE,
)


def find(document: Any, path: str) -> list[Any]:
    """What `path` (".status.conditions[?(@.type==\"Ready\")].status") leads to; [] for nothing, or for
    a path this cannot read."""
    path = path.strip()
    if path.startswith("{") and path.endswith("}"):
        path = path[1:-1]
    path = path.removeprefix("$")
    values, position = [document], 0
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None or step.end() == position:
            return []
        values = [found for value in values for found in _follow(value, step)]
        position = step.end()
    return [value for value in values if value is not None]


def _follow(value: Any, step: re.Match[str]) -> Iterator[Any]:
    name = step["field"] or step["quoted"]
    if name is not None:
        if isinstance(value, dict) and (plain := name.replace("\\.", ".")) in value:
            yield value[plain]
    elif step["index"] is not None:
        index = int(step["index"])
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]
    elif step["all"]:
        yield from value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    elif isinstance(value, list):
        for item in value:
            found = find(item, step["key"])
            if found and str(found[0]) == step["value"]:
                yield item
