"""Strategic merge patch: a merge patch that knows lists.

The type says by which key the items of a list are the same (`merge_key`) and which lists and maps are
replaced (`strategy`); directives in the patch ($patch, $retainKeys, $setElementOrder/FIELD,
$deleteFromPrimitiveList/FIELD) say the rest. Texts of refusals are upstream's, values as Go prints them;
where upstream answers 500 this is 400: the fault is the patch's.
Source: apimachinery/pkg/util/strategicpatch/patch.go.
"""

from __future__ import annotations

from typing import Any

import msgspec

from drakit.apiserver.patch_refusal import go_text
from drakit.apiserver.schema import Type
from drakit.errors import BadRequest, Invalid
from drakit.transport import Document

REJECTED = "the server rejected our request due to an error in our request"
_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder"
_DELETE = "$deleteFromPrimitiveList"
_GO_TYPES = {dict: "map[string]interface {}", list: "[]interface {}", str: "string", bool: "bool"}
_NUMBERS = {int: "int64", float: "float64"}


def apply_strategic(current: Document, patch: Document, type_: Type) -> Document:
    """What `current` becomes; both arguments stay as they are. Raises BadRequest or Invalid."""
    own, wanted = (msgspec.json.decode(msgspec.json.encode(part)) for part in (current, patch))
    return _merge_map(own, wanted, type_)


def _go_type(value: Any) -> str:
    return _GO_TYPES.get(type(value)) or _NUMBERS.get(type(value)) or "%!s(<nil>)"


def _unexpected(expected: type, value: Any) -> BadRequest:
    return BadRequest(f"expected a {_GO_TYPES[expected]}, but received a {_go_type(value)}")


def _unkeyed(item: Document, key: str) -> BadRequest:
    return BadRequest(f"map: {go_text(item)} does not contain declared merge key: {key}")


def _bad_directive(directive: Any, patch: Document) -> BadRequest:
    shown = directive if isinstance(directive, str) else f"%!s({_go_type(directive)}={go_text(directive)})"
    return BadRequest(f"unknown patch type: {shown} in map: {go_text(patch)}")


def _identity(value: Any) -> tuple[type, Any]:
    """What makes two scalars the same: 1, 1.0 and true are three."""
    return type(value), value if not isinstance(value, dict | list) else go_text(value)


def _field(type_: Type, name: str) -> Type:
    """The type of a field. Raises BadRequest if there is none of that name."""
    field = type_.items if type_.shape == "map" else type_.fields.get(name)
    if field is None:
        struct = type_.name or _go_type({})
        raise BadRequest(f'unable to find api field in struct {struct} for the json field "{name}"')
    return field


def _list_field(type_: Type, name: str) -> Type:
    field = _field(type_, name)
    if field.shape != "list":
        kind = "map" if type_.shape == "map" else "struct"
        raise BadRequest(f"expected slice or array type, but got: {kind}")
    return field


# --- maps -----------------------------------------------------------------------------------------


def _merge_map(original: Document, patch: Document, type_: Type) -> Document:
    if _DIRECTIVE in patch:
        directive = patch[_DIRECTIVE]
        if directive == "replace":
            del patch[_DIRECTIVE]
            return patch
        if directive == "delete":
            return {}
        raise _bad_directive(directive, patch)
    _retain_keys(original, patch)
    for key in [key for key in patch if key.startswith(_ORDER)]:
        _merge_ordered(original, patch, key, type_)
    for key, value in patch.items():
        is_deletion = key.startswith(_DELETE)
        name = _name_in(key, _DELETE, "primitive list") if is_deletion else key
        if value is None:
            original.pop(name, None)
        elif name not in original or _go_type(original[name]) != _go_type(value):
            if not is_deletion:
                _take(original, name, value)
        elif isinstance(value, dict):
            field = _field(type_, name)
            is_replaced = "replace" in field.strategy
            original[name] = value if is_replaced else _merge_map(original[name], value, field)
        elif isinstance(value, list):
            field = _list_field(type_, name)
            if "merge" in field.strategy or is_deletion:
                original[name] = _merge_list(original[name], value, field, is_deletion=is_deletion)
            else:
                original[name] = value
        else:
            original[name] = value
    return original


def _name_in(key: str, prefix: str, what: str) -> str:
    """The name of the field behind a directive."""
    before, slash, name = key.partition("/")
    if before != prefix or not slash:
        raise BadRequest(f"invalid patch format of {what}")
    return name


def _take(original: Document, name: str, value: Any) -> None:
    """Set a field to what the patch says, without nulls and directives; a map with one is nothing."""
    if isinstance(value, dict) and _DIRECTIVE in value:
        original.pop(name, None)
    else:
        original[name] = _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _plain(item)
            for key, item in value.items()
            if item is not None and not (isinstance(item, dict) and _DIRECTIVE in item)
        }
    if isinstance(value, list):
        return [_plain(item) for item in value if not (isinstance(item, dict) and _DIRECTIVE in item)]
    return value


def _retain_keys(original: Document, patch: Document) -> None:
    """Drop what `$retainKeys` does not name; it must name all that the patch sets."""
    if _RETAIN not in patch:
        return
    keep = patch.pop(_RETAIN)
    if not isinstance(keep, list):
        raise BadRequest("invalid patch format of retainKeys")
    names = {name for name in keep if isinstance(name, str)}
    for key, value in patch.items():
        if value is not None and not key.startswith((_DELETE, _ORDER)) and key not in names:
            raise BadRequest("invalid patch format of retainKeys")
    for key in original.keys() - names:
        del original[key]


# --- lists ----------------------------------------------------------------------------------------


def _merge_ordered(original: Document, patch: Document, key: str, type_: Type) -> None:
    """Merge the list that `$setElementOrder` names and put it in that order."""
    order = patch.pop(key)
    if not isinstance(order, list):
        raise _unexpected(list, order)
    name = _name_in(key, _ORDER, "setElementOrder list")
    before, wanted = original.get(name, []), patch.get(name, [])
    for found in (before, wanted):
        if not isinstance(found, list):
            raise _unexpected(list, found)
    field = _list_field(type_, name)
    _check_order(wanted, order, field.merge_key)
    if name not in original and name not in patch:
        return
    if name not in patch:
        merged = before
    elif name not in original:
        merged = _plain(wanted)
    else:
        is_merged = "merge" in field.strategy
        merged = _merge_list(list(before), wanted, field) if is_merged else wanted
    _element_type(before, wanted)
    original[name] = _in_order(merged, order, before, field.merge_key)
    patch.pop(name, None)


def _check_order(wanted: list[Any], order: list[Any], key: str) -> None:
    """The items of the patch must stand in the order it gives, but for those that carry a directive."""
    if not wanted or not order:
        return
    left = []
    for item in wanted:
        if key and not isinstance(item, dict):
            raise _unexpected(dict, item)
        if not (isinstance(item, dict) and _DIRECTIVE in item):
            left.append(item)
    position = 0
    for item in order:
        if position == len(left):
            return
        position += _same_item(left[position], item, key)
    if position < len(left):
        text = (
            f"The order in patch list:\n{go_text(wanted)}\n doesn't match {_ORDER} list:\n{go_text(order)}\n"
        )
        raise BadRequest(text)


def _same_item(one: Any, other: Any, key: str) -> bool:
    if not key:
        return _identity(one) == _identity(other)
    for item in (one, other):
        if not isinstance(item, dict):
            raise _unexpected(dict, item)
        if key not in item:
            raise _unkeyed(item, key)
    return _identity(one[key]) == _identity(other[key])


def _element_type(*lists: list[Any]) -> str:
    """The one type that all items have. Raises BadRequest for several, Invalid for lists in lists."""
    types = dict.fromkeys(_go_type(item) for items in lists for item in items)
    if next(iter(types), "") == _GO_TYPES[list]:
        raise Invalid(REJECTED, details={})
    if not types:
        raise BadRequest("no elements in any of the given slices")
    if len(types) > 1:
        raise BadRequest(f"list element types are not identical: {go_text(list(lists))}")
    return next(iter(types))


def _merge_list(
    original: list[Any], patch: list[Any], field: Type, *, is_deletion: bool = False
) -> list[Any]:
    if not original and not patch:
        return original
    key = field.merge_key
    if _element_type(original, patch) != _GO_TYPES[dict]:
        if is_deletion:
            gone = set(map(_identity, patch))
            return [item for item in original if _identity(item) not in gone]
        merged = list({_identity(item): item for item in [*patch[::-1], *original[::-1]]}.values())[::-1]
        return _in_order(merged, patch, original, key)
    if not key:
        kind = "map" if field.items.shape == "map" else "struct"
        raise BadRequest(f"cannot merge lists without merge key for {kind}")
    original, patch = _without_directives(original, patch, key)
    merged = list(original)
    for item in patch:
        if key not in item:
            raise _unkeyed(item, key)
        at = _find(merged, key, item[key])
        if at is None:
            merged.append(item)
        else:
            merged[at] = _merge_map(merged[at], item, field.items)
    return _in_order(merged, patch, original, key)


def _without_directives(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """Both lists after what `$patch` says in items of the second."""
    plain: list[Any] = []
    is_replaced = False
    for item in patch:
        directive = item.get(_DIRECTIVE)
        if _DIRECTIVE not in item:
            plain.append(item)
        elif directive == "delete":
            if key not in item:
                raise _unkeyed(item, key)
            gone = _identity(item[key])
            original = [other for other in original if key not in other or _identity(other[key]) != gone]
        elif directive == "replace":
            is_replaced = True
        elif directive == "merge":
            raise BadRequest("merging lists cannot yet be specified in the patch")
        else:
            raise _bad_directive(directive, item)
    return (plain, []) if is_replaced else (original, plain)


def _find(items: list[Any], key: str, value: Any) -> int | None:
    wanted = _identity(value)
    for index, item in enumerate(items):
        if key in item and _identity(item[key]) == wanted:
            return index
    return None


def _in_order(merged: list[Any], order: list[Any], before: list[Any], key: str) -> list[Any]:
    """`merged` with the items that `order` names in its order; the others keep their order, and their place
    relative to these as far as the list before the patch says so."""

    def position_in(items: list[Any]) -> dict[Any, int]:
        found: dict[Any, int] = {}
        for index, item in enumerate(items):
            found.setdefault(name_of(item), index)
        return found

    def name_of(item: Any) -> Any:
        if not key:
            return _identity(item)
        if not isinstance(item, dict):
            raise _unexpected(dict, item)
        if key not in item:
            raise _unkeyed(item, key)
        return _identity(item[key])

    wanted = position_in(order)
    named = sorted((item for item in merged if name_of(item) in wanted), key=lambda i: wanted[name_of(i)])
    others = [item for item in merged if name_of(item) not in wanted]
    position = position_in(before)
    others.sort(key=lambda item: position.get(name_of(item), -1))
    result: list[Any] = []
    at = 0
    for item in named:
        here = position.get(name_of(item), -1)
        while at < len(others) and 0 <= position.get(name_of(others[at]), -1) < here:
            result.append(others[at])
            at += 1
        result.append(item)
    return result + others[at:]
