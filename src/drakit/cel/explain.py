"""Why an expression answered what it answered: the value of every sub-expression, and which decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from msgspec import Struct

from drakit.cel.double import string_of_double
from drakit.cel.frame import Failure
from drakit.cel.library.moment import format_duration, format_timestamp
from drakit.cel.syntax import Call, Fold, Literal, Node
from drakit.cel.value import Duration, Optional, Timestamp, TypeValue, Uint, keys_of, kind_of
from drakit.errors import CELError
from drakit.model.quantity import Quantity
from drakit.model.semver import Version

_LONGEST = 120
"""Characters of a value that are shown."""
_ITEMS = 10


class Part(Struct, frozen=True):
    """A sub-expression: its text, where it stands, and its value as text or its error."""

    text: str
    span: tuple[int, int]
    value: str
    is_error: bool = False
    is_decisive: bool = False


class Verdict(Struct, frozen=True):
    """The outcome for one device: a value or an error, the cost, and how it came about.

    `parts` has every evaluated sub-expression, outermost first; the decisive ones are the conditions that
    made the whole what it is: `type == 'gpu'` is false, not the `&&` around it.
    """

    value: Any
    error: CELError | None
    cost: int
    parts: list[Part]

    @property
    def decisive(self) -> list[Part]:
        return [part for part in self.parts if part.is_decisive]


def parts_of(source: str, root: Node, trace: dict[int, Any]) -> list[Part]:
    """The parts of an evaluation whose values `trace` has by node number."""
    decisive = {node.number for node in _decisive(root, trace)}
    parts: list[Part] = []
    seen: set[tuple[int, int]] = set()
    for node in _written(root):
        if node.number not in trace or isinstance(node, Literal) or node.span in seen:
            continue
        seen.add(node.span)
        value = trace[node.number]
        is_error = isinstance(value, Failure)
        text = value.message if isinstance(value, Failure) else show(value)
        start, end = node.span
        parts.append(Part(source[start:end], node.span, text, is_error, node.number in decisive))
    return parts


def _written(root: Node) -> Iterator[Node]:
    """The nodes someone wrote: of a macro its range, not the loop it expands to."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, Fold):
            stack.extend([node.result, node.init] if node.macro == "bind" else [node.range])
        else:
            stack.extend(reversed(node.children()))


def _decisive(root: Node, trace: dict[int, Any]) -> Iterator[Node]:
    """The innermost conditions that account for the value of `root`."""
    stack = [root]
    while stack:
        node = stack.pop()
        value = trace.get(node.number)
        if isinstance(node, Call) and node.function in ("_&&_", "_||_"):
            culprits = [
                arg for arg in node.args if arg.number in trace and _accounts(trace[arg.number], value)
            ]
            stack.extend(reversed(culprits))
        elif isinstance(node, Call) and node.function == "!_":
            stack.append(node.args[0])
        elif isinstance(node, Fold) and node.macro == "bind":
            stack.append(node.result)
        else:
            yield node


def _accounts(part: Any, whole: Any) -> bool:
    """Whether an operand explains the value of `&&` or `||`."""
    if isinstance(whole, Failure):
        return isinstance(part, Failure)
    return part is whole


def show(value: Any) -> str:
    """A value as someone would write it in CEL, cut to a readable length."""
    text = _shown(value, 4)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _shown(value: Any, depth: int) -> str:
    if depth < 0:
        return "..."
    if isinstance(value, list):
        return f"[{_joined(value, depth, is_whole=len(value) <= _ITEMS)}]"
    if isinstance(value, dict):
        return f"{{{_joined(keys_of(value), depth, is_whole=True)}}}"
    if isinstance(value, Optional):
        return f"optional.of({_shown(value.value, depth - 1)})" if value.has_value else "optional.none()"
    return _shown_scalar(value)


def _joined(values: Iterable[Any], depth: int, is_whole: bool) -> str:
    """The first of `values`, and no more than are shown."""
    texts: list[str] = []
    length = 0
    for value in islice(values, _ITEMS):
        texts.append(_shown(value, depth - 1))
        length += len(texts[-1])
        if length > _LONGEST:
            break
    return ", ".join(texts if is_whole else [*texts, "..."])


def _shown_scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value[:_LONGEST])
    if isinstance(value, Uint):
        return f"{int(value)}u"
    if isinstance(value, Timestamp):
        return f"timestamp({_quoted(format_timestamp(value))})"
    if isinstance(value, Duration):
        return f"duration({_quoted(format_duration(value))})"
    if isinstance(value, float):
        return string_of_double(value)
    if isinstance(value, Quantity):
        return f"quantity({_quoted(str(value))})"
    if isinstance(value, Version):
        return f"semver({_quoted(str(value))})"
    if isinstance(value, TypeValue):
        return value.name
    if isinstance(value, bytes):
        return str(value[:_LONGEST])
    return str(value) if isinstance(value, int) else f"{kind_of(value)}({value})"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
