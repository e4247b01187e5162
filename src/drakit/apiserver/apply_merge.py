"""Laying an applied configuration over a live object, and taking parts out of one, along the type.

Both give new documents that may share parts with the old ones. Source: structured-merge-diff typed
(merge.go, remove.go).
"""

from __future__ import annotations

from typing import Any

from drakit.apiserver.apply_fields import Fields, Path, field_type, item_step
from drakit.apiserver.schema import Type
from drakit.errors import BadRequest


def merge(live: Any, applied: Any, type_: Type | None) -> Any:
    """`live` with what `applied` says. Lists with keys and sets are merged item by item, the applied
    items in their own order; atomic parts are replaced. Raises BadRequest for two items of one key."""
    if isinstance(applied, dict) and not (type_ is not None and type_.is_atomic):
        merged = dict(live) if isinstance(live, dict) else {}
        for key, value in applied.items():
            merged[key] = merge(merged.get(key), value, field_type(type_, key))
        return merged
    if isinstance(applied, list) and type_ is not None and type_.shape == "list" and not type_.is_atomic:
        return _merge_list(live if isinstance(live, list) else [], applied, type_)
    return applied


def _merge_list(live: list[Any], applied: list[Any], type_: Type) -> list[Any]:
    wanted: dict[str, Any] = {}
    for item in applied:
        step = item_step(item, type_)
        if step in wanted:
            raise BadRequest(f"the list of {type_.items.go_name} has duplicate entries for key {step[2:]}")
        wanted[step] = item
    existing = {item_step(item, type_): item for item in live}
    order, result = list(wanted), []
    next_applied = 0
    for step, item in existing.items():
        if step not in wanted:
            result.append(item)
            continue
        if step not in order[next_applied:]:
            continue
        while True:
            current = order[next_applied]
            result.append(merge(existing.get(current), wanted[current], type_.items))
            next_applied += 1
            if current == step:
                break
    rest = order[next_applied:]
    return result + [merge(existing.get(step), wanted[step], type_.items) for step in rest]


def remove(document: Any, gone: Fields, type_: Type | None) -> Any:
    """`document` without the parts at the paths in `gone`."""
    return _remove(document, {path: None for path in gone}, type_, ())


def _remove(value: Any, gone: dict[Path, None], type_: Type | None, path: Path) -> Any:
    if isinstance(value, dict):
        if type_ is not None and type_.is_atomic:
            return value
        return {
            key: _remove(item, gone, field_type(type_, key), (*path, f"f:{key}"))
            for key, item in value.items()
            if (*path, f"f:{key}") not in gone
        }
    if isinstance(value, list) and type_ is not None and type_.shape == "list" and not type_.is_atomic:
        steps = [(item_step(item, type_), item) for item in value]
        return [
            _remove(item, gone, type_.items, (*path, step))
            for step, item in steps
            if (*path, step) not in gone
        ]
    return value
