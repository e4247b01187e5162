"""Field errors as Kubernetes words them, and the checks shared by every list and map.

Source: apimachinery/pkg/util/validation/field/errors.go, pkg/apis/resource/validation/validation.go.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from drakit.errors import FieldError

Errors = list[FieldError]


_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_IN_HTML = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def quoted(value: Any) -> str:
    """`value` as Go's error texts show it: strings quoted as by %q, everything else as its JSON encoder
    writes it, which spells out what HTML would misread."""
    if isinstance(value, str):
        return '"' + "".join(_escaped(char) for char in value) + '"'
    return json_text(value)


def json_text(value: Any) -> str:
    """`value` as Go's JSON encoder writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_IN_HTML)


def _escaped(char: str) -> str:
    if (known := _ESCAPES.get(char)) is not None:
        return known
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def required(path: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", path, "Required value" + (f": {detail}" if detail else ""))


def invalid(path: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", path, f"Invalid value: {quoted(value)}: {detail}")


def forbidden(path: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", path, f"Forbidden: {detail}")


def not_supported(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    choices = ", ".join(quoted(choice) for choice in sorted(supported))
    return FieldError(
        "FieldValueNotSupported", path, f"Unsupported value: {quoted(value)}: supported values: {choices}"
    )


def duplicate(path: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", path, f"Duplicate value: {quoted(value)}")


def not_found(path: str, value: Any) -> FieldError:
    return FieldError("FieldValueNotFound", path, f"Not found: {quoted(value)}")


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def too_long(path: str, limit: int) -> FieldError:
    return FieldError("FieldValueTooLong", path, f"Too long: may not be more than {counted(limit, 'byte')}")


def too_many(path: str, count: int, limit: int) -> FieldError:
    text = f"Too many: {count}: must have at most {counted(limit, 'item')}"
    return FieldError("FieldValueTooMany", path, text)


def immutable(path: str, new: Any, old: Any, shown: Callable[[], Any] | None = None) -> Errors:
    """An error if `new` differs from `old`; `shown` makes what the text shows instead of `new`."""
    if same(new, old):
        return []
    return [invalid(path, shown() if shown else new, "field is immutable")]


def same(new: Any, old: Any) -> bool:
    """Whether two parts of documents are equal, empty lists and objects being the same as absent ones."""
    if new is old or new == old:
        return True
    if isinstance(new, dict) and isinstance(old, dict):
        return all(same(new.get(key), old.get(key)) for key in new.keys() | old.keys())
    if isinstance(new, list) and isinstance(old, list):
        return len(new) == len(old) and all(map(same, new, old))
    return new in (None, [], {}) and old in (None, [], {})


def messages(path: str, value: Any, texts: Iterable[str]) -> Errors:
    """One "Invalid value" for each text."""
    return [invalid(path, value, text) for text in texts]


def listed(value: Any) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def mapped(value: Any) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def each(
    items: Any,
    limit: int | None,
    check: Callable[[Any, str], Errors],
    path: str,
    key: Callable[[Any], Hashable] | None = None,
) -> Errors:
    """The errors of a list: too many entries (then nothing else), those of each entry, and, with `key`,
    every entry whose key came before."""
    entries = listed(items)
    if limit is not None and len(entries) > limit:
        return [too_many(path, len(entries), limit)]
    errors = [error for index, item in enumerate(entries) for error in check(item, f"{path}[{index}]")]
    if key is not None:
        errors += repeated((key(item) for item in entries), path)
    return errors


def repeated(keys: Iterable[Any], path: str) -> Errors:
    """A "Duplicate value" at the index of every key that came before."""
    seen: set[Any] = set()
    errors: Errors = []
    for index, value in enumerate(keys):
        if value in seen:
            errors.append(duplicate(f"{path}[{index}]", value))
        seen.add(value)
    return errors


def entries(
    value: Any,
    limit: int | None,
    key_length: int,
    check_key: Callable[[str, str], Errors],
    check: Callable[[Any, str], Errors],
    path: str,
) -> Errors:
    """The errors of a map: too many entries, then each key (at the map's path) and each value. Keys are
    shown shortened in the middle to `key_length`."""
    items: Mapping[str, Any] = mapped(value)
    if limit is not None and len(items) > limit:
        return [too_many(path, len(items), limit)]
    errors: Errors = []
    for name in sorted(items):
        errors += check_key(name, path)
        errors += check(items[name], f"{path}[{shortened(name, key_length)}]")
    return errors


def shortened(text: str, length: int) -> str:
    length = max(length, 16)
    if len(text) <= length:
        return text
    remaining = length - 3
    return f"{text[: (remaining + 1) // 2]}...{text[len(text) - remaining // 2 :]}"
