"""Paths to fields of a custom resource: `.spec.size`, `.spec.labels['a.b']`.

Source: apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go, ValidFieldPath.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|[.\[\]]|[^.\[\]']+|'")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


def find_field(text: str, schema: Schema, *, has_brackets: bool = True) -> tuple[str, Schema]:
    """The place that the path `text` names in an object of `schema`, as error texts write it, and the schema
    there. Raises ValueError saying why there is none."""
    path, tokens = "", iter(_TOKEN.findall(text))
    for token in tokens:
        if token == "[":
            if not has_brackets:
                raise ValueError("array notation is not allowed")
            name = _unquoted(next(tokens, None))
            end = next(tokens, None)
            if end != "]":
                raise ValueError(_END if end is None else f"expected ] but got {end}")
        elif token == ".":
            name = next(tokens, None) or ""
            if not name:
                raise ValueError(_END)
        else:
            raise ValueError(f"expected [ or . but got: {token}")
        properties, rest = schema.get("properties"), schema.get("additionalProperties")
        is_named = isinstance(properties, dict)
        below = properties.get(name) if isinstance(properties, dict) else rest
        if not isinstance(below, dict):
            raise ValueError("does not refer to a valid field")
        schema = below
        path += f".{name}" if is_named else f"[{name}]"
    return path.removeprefix("."), schema


_END = "unexpected end of JSON path"


def _unquoted(token: str | None) -> str:
    if token is None:
        raise ValueError(_END)
    if len(token) < 2 or token[0] != "'" or token[-1] != "'":
        raise ValueError(f"expected single quoted string but got {token}")

    def plain(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise ValueError(f"invalid string literal: invalid escape char {match[0]}")
        return _ESCAPES[match[1]]

    return _ESCAPE.sub(plain, token[1:-1])
