"""Keys that a body has more than once, which no decoded document shows: told, or refused if asked to.

The texts are those of kjson (JSON) and of goyaml (YAML), in the order in which the text is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from drakit.apiserver.apply_fields import field_type
from drakit.apiserver.body import YAML_TYPES
from drakit.apiserver.checker import count_keys
from drakit.apiserver.schema import Type
from drakit.model.validation.field import quoted
from drakit.transport import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH

_KEY = re.compile(rb'(?<!\\)"\s*:')
_YAML_ERRORS = "yaml: unmarshal errors:\n"
_OPERATION = frozenset({"op", "path", "from", "value"})
_MOST = 100
"""kjson stops to note strange fields there."""


class _Pairs(list[tuple[str, Any]]):
    """An object of the text, with every key as often as it came."""


def has_repeats(raw: bytes, keys: int) -> bool:
    """Whether the JSON text `raw` may have a key twice, where the document it means has `keys` in all.
    It may be said of a text that has none, but never the other way."""
    return len(_KEY.findall(raw)) != keys


def in_order(raw: bytes, unknown: Iterable[str] = (), type_: Type | None = None) -> list[str]:
    """The fields that the JSON text `raw` repeats, with the `unknown` ones (as texts) where they stand.
    What an unknown field holds is not looked into, nor what `type_` takes as it is."""
    strange = dict.fromkeys(unknown)
    found: dict[str, None] = {}
    for text in _walk(raw, strange, type_):
        found[text] = None
    return [*found, *(text for text in strange if text not in found)][:_MOST]


def _walk(raw: bytes, unknown: dict[str, None], type_: Type | None) -> Iterator[str]:
    try:
        document = json.loads(raw, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return
    # What is still to be looked at, the next thing last: a value, its path and type, or what to say there.
    stack: list[tuple[Any, str, str, Type | None]] = [(document, "", "", type_)]
    while stack:
        value, path, said, own = stack.pop()
        if said:
            yield said
        elif own is not None and own.shape == "any":
            continue
        elif isinstance(value, _Pairs):
            stack += reversed(list(_members(value, f"{path}." if path else "", unknown, own)))
        elif isinstance(value, list):
            below = own.items if own is not None and own.shape == "list" else None
            stack += reversed([(item, f"{path}[{index}]", "", below) for index, item in enumerate(value)])


def _members(
    value: _Pairs, before: str, unknown: dict[str, None], type_: Type | None
) -> Iterator[tuple[Any, str, str, Type | None]]:
    seen: set[str] = set()
    for key, member in value:
        place = f"{before}{key}"
        text = f"unknown field {quoted(place)}"
        if text in unknown:
            yield None, place, text, None
            continue
        if key in seen:
            yield None, place, f"duplicate field {quoted(place)}", None
        seen.add(key)
        yield member, place, "", field_type(type_, key)


def in_body(raw: bytes, document: Any, content_type: str) -> list[str]:
    """What is strange in the text `raw` of a patch or of YAML; plain JSON is looked at when it is decoded."""
    if content_type in (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH):
        return _in_patch(raw, document, content_type)
    if content_type in YAML_TYPES:
        return _in_yaml(raw, document)
    return []


def _in_patch(raw: bytes, patch: Any, content_type: str) -> list[str]:
    unknown: list[str] = []
    if content_type == JSON_PATCH and isinstance(patch, list):
        for index, operation in enumerate(patch):
            keys = operation.keys() - _OPERATION if isinstance(operation, dict) else ()
            unknown += [f"unknown field {quoted(f'[{index}].{key}')}" for key in keys]
    if not unknown and not has_repeats(raw, count_keys(patch)):
        return []
    found = in_order(raw, unknown)
    return [f"json patch {text}" for text in found] if content_type == JSON_PATCH else found


def _in_yaml(raw: bytes, document: Any) -> list[str]:
    """One text with all the keys that the (readable) YAML text `raw`, meaning `document`, has twice."""
    if raw[:1] == b"{" and not has_repeats(raw, count_keys(document)):
        return []
    try:
        root = yaml.compose(raw, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError, UnicodeError):
        return []
    lines = sorted(set(_twice(root)), key=lambda row: row[0])
    shown = "\n".join(f"  line {line}: key {key} already set in map" for line, key in lines)
    return [_YAML_ERRORS + shown] if shown else []


def _twice(root: yaml.Node | None) -> Iterator[tuple[int, str]]:
    stack, known = [root], set()
    while stack:
        node = stack.pop()
        if node is None or id(node) in known:
            continue
        known.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            stack += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen and key.value != "<<":
                        is_text = key.tag.endswith((":str", ":timestamp"))
                        yield value.start_mark.line + 1, quoted(key.value) if is_text else key.value
                    seen.add(key.value)
                stack.append(value)


def as_warnings(strange: Iterable[str]) -> list[str]:
    """What is strange, one warning for each line of YAML."""
    return [
        line.strip()
        for text in strange
        for line in (text.removeprefix(_YAML_ERRORS).split("\n") if text.startswith(_YAML_ERRORS) else [text])
    ]
