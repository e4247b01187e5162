"""Laying an applied configuration over a live object, and taking parts out of one, along the type.

Both give new documents that may share parts with the old ones. Source: structured-merge-diff typed
(merge.go, remove.go).
"""

from __future__ import annotations

from typing import Any

from drakit.apiserver.apply_fields import Fields, Path, field_type, item_step
from drakit.apiserver.schema import Type

_ABSENT = object()


def merge(live: Any, applied: Any, type_: Type | None) -> Any:
    """`live` with what `applied` says, in which no two items have one key. Lists with keys and sets are
    merged item by item, the applied items in their own order; atomic parts are replaced. A null replaces
    what is atomic and leaves all else alone."""
    if type_ is not None and type_.is_atomic:
        return applied
    if isinstance(applied, dict) or (applied is None and isinstance(live, dict) and live):
        merged = dict(live) if isinstance(live, dict) else {}
        for key, value in (applied or {}).items():
            merged[key] = merge(merged.get(key), value, field_type(type_, key))
        return merged
    if type_ is None or type_.shape != "list":
        return applied
    if isinstance(applied, list) or (applied is None and live):
        before, wanted = (value if isinstance(value, list) else [] for value in (live, applied))
        return _merge_list(before, wanted, type_) if before or wanted else applied
    return applied


def _merge_list(live: list[Any], applied: list[Any], type_: Type) -> list[Any]:
    """Items of `live` alone stay before the applied item they stood before, as far as the common ones come
    in the same order."""
    left, right = [item_step(item, type_) for item in live], [item_step(item, type_) for item in applied]
    wanted = dict(zip(right, applied, strict=True))
    existing: dict[str, Any] = {}
    for step, item in zip(left, live, strict=True):
        existing[step] = None if step in existing else item
    shared = [step for step in right if step in existing]
    taken: set[str] = set()
    result: list[Any] = []

    def take(step: str) -> None:
        taken.add(step)
        result.append(merge(existing.get(step), wanted[step], type_.items))
        if shared and shared[0] == step:
            del shared[0]

    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right):
            if left[i] == right[j]:
                take(right[j])
                i, j = i + 1, j + 1
                continue
            if left[i] in wanted and shared and shared[0] != left[i]:
                i += 1
                continue
        if i < len(left):
            if left[i] not in wanted:
                result.append(live[i])
                i += 1
                continue
            if left[i] in taken:
                i += 1
        if j < len(right):
            take(right[j])
            j += 1
    return result


def remove(document: Any, gone: Fields, type_: Type | None) -> Any:
    """`document` without the parts at the paths in `gone`; what has lost its last part is null."""
    prefixes = {path[:length] for path in gone for length in range(1, len(path))}
    return _remove(document, gone, prefixes, type_, ())


def _remove(value: Any, gone: Fields, prefixes: set[Path], type_: Type | None, path: Path) -> Any:
    if type_ is not None and type_.is_atomic and isinstance(value, dict | list):
        return None
    if isinstance(value, dict):
        left: dict[str, Any] = {}
        for key, item in value.items():
            here = (*path, f"f:{key}")
            if here not in gone:
                below = here in prefixes
                left[key] = _remove(item, gone, prefixes, field_type(type_, key), here) if below else item
        return left or None
    if isinstance(value, list):
        if type_ is None or type_.shape != "list":
            return None
        rest: list[Any] = []
        for item in value:
            here = (*path, item_step(item, type_))
            if here not in gone:
                below = here in prefixes
                rest.append(_remove(item, gone, prefixes, type_.items, here) if below else item)
        return rest or None
    return value
