"""How deep YAML may nest.

libyaml's composer calls itself for every level: a hundred thousand opening brackets overflow the stack and
end the process, where no exception can be caught, and its scanner is quadratic in open brackets. Its parser,
which makes events one by one, is neither, so it looks first.
"""

from __future__ import annotations

import yaml

MAX_LEVELS = 500
"""More than any object has; fewer than harm."""


def refuse_deep(text: str | bytes) -> None:
    """Raises ValueError if the YAML `text` nests deeper than `MAX_LEVELS`, YAMLError if it is none."""
    if len(text) <= MAX_LEVELS:
        return
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_LEVELS:
                raise ValueError(f"exceeded max depth of {MAX_LEVELS}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
