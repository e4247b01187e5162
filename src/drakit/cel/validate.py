"""What Kubernetes refuses although the types are right: mixed literals, constants that cannot be parsed.

Source: cel-go's AST validators, which Kubernetes has switched on since 1.29.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from drakit.cel.library.convert import FUNCTIONS
from drakit.cel.library.moment import parse_duration, parse_timestamp
from drakit.cel.library.printf import clauses_of, refusal
from drakit.cel.library.regex import MAX_PROGRAMS, compiled, program_size
from drakit.cel.source import Issue
from drakit.cel.syntax import Call, ListNode, Literal, MapNode, Node, walk
from drakit.cel.types import Type, is_optional
from drakit.cel.value import Fault, NoOverload

_PARSED: dict[str, Callable[[str], Any]] = {
    "duration": parse_duration,
    "timestamp": parse_timestamp,
    "matches": compiled,
}
_OF_INT = {"duration": FUNCTIONS["int64_to_duration"], "timestamp": FUNCTIONS["int64_to_timestamp"]}


_REGEX = frozenset(("matches", "find", "findAll"))
_JUDGED = _REGEX | _PARSED.keys() | {"format"}


def validate(root: Node) -> list[Issue]:
    """The issues of a tree whose types are right."""
    calls: list[Call] = []
    containers: list[ListNode | MapNode] = []
    for node in walk(root):
        if type(node) is Call:
            if node.function in _JUDGED:
                calls.append(node)
        elif type(node) is ListNode or type(node) is MapNode:
            containers.append(node)
    too_big = _oversized(calls)
    if too_big is not None:
        return [(too_big.position, "regular expressions too big")]
    issues: list[Issue] = []
    exempt: set[int] = set()
    for call in calls:
        issues += _call(call)
        if call.function == "format" and call.number not in exempt:
            exempt.update(part.number for part in walk(call))
    for container in containers:
        if container.number not in exempt:
            issues += _entries(container)
    for call in calls:
        if call.function == "format":
            issues += _format(call)
    return issues


def _oversized(calls: list[Call]) -> Node | None:
    """The first pattern with which the regular expressions are too big together, if they are."""
    size = 0
    for call in calls:
        if call.function in _REGEX:
            pattern = call.operands()[1]
            if isinstance(pattern, Literal) and isinstance(pattern.value, str):
                size += program_size(pattern.value)
                if size > MAX_PROGRAMS:
                    return pattern
    return None


def _entries(node: ListNode | MapNode) -> Iterator[Issue]:
    if isinstance(node, ListNode):
        types = [
            (item, _element(item.type) if index in node.optional else item.type)
            for index, item in enumerate(node.items)
        ]
        yield from islice(_mixed(types), 1)
    else:
        yield from _mixed([(key, key.type) for key, _, _ in node.entries])
        yield from _mixed([(v, _element(v.type) if is_opt else v.type) for _, v, is_opt in node.entries])


def _element(type_: Type) -> Type:
    return type_.params[0] if is_optional(type_) else type_


def _mixed(elements: list[tuple[Node, Type]]) -> Iterator[Issue]:
    """An issue for each that differs from the first; of a list only one is told."""
    for node, type_ in elements[1:]:
        if type_ != elements[0][1]:
            yield node.position, f"expected type '{elements[0][1]}' but found '{type_}'"


def _call(node: Call) -> Iterator[Issue]:
    """A constant argument. Of `matches(text, pattern)` it is the text that is looked at."""
    parse = _PARSED.get(node.function)
    if parse is None or not node.args or not isinstance(node.args[0], Literal):
        return
    value = node.args[0].value
    try:
        if value.__class__ is str:
            parse(value)
        elif value is None and node.function in _OF_INT:
            raise NoOverload
        elif value.__class__ is int and node.function in _OF_INT:
            _OF_INT[node.function](value)
    except Fault:
        yield node.args[0].position, f"invalid {node.function} argument"


_FORMATTED = {
    "d": ("int", "uint"), "f": ("double", "string"), "e": ("double", "string"), "b": ("int", "uint", "bool"),
    "o": ("int", "uint"), "x": ("int", "uint", "string", "bytes"),
    "s": ("list", "map", "int", "uint", "double", "bool", "string", "timestamp", "bytes", "duration", "type",
          "null"),
}  # fmt: skip
_NAMES = {
    "timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration", "null": "null_type",
    "any": "google.protobuf.Any",
}  # fmt: skip


def _format(node: Call) -> Iterator[Issue]:
    """A constant format with its arguments written out: that they go together."""
    target, args = node.target, node.args[-1]
    if not isinstance(target, Literal) or not isinstance(args, ListNode) or target.value.__class__ is not str:
        return
    used = 0
    try:
        for verb in clauses_of(target.value, len(args.items)):
            wrong = _unformatted(verb, args.items[used])
            used += 1
            if wrong is not None:
                kind = wrong.type.kind
                name = _NAMES.get(kind, wrong.type.name)
                yield wrong.position, refusal(verb, name).message
                return
    except Fault as fault:
        yield node.position, fault.message
        return
    if len(args.items) > used:
        text = f"(expected {used}, got {len(args.items)})"
        yield node.position, f"too many arguments supplied to string.format {text}"


def _unformatted(verb: str, node: Node) -> Node | None:
    """The node, or the part of it, whose type does not suit the verb."""
    if node.type.kind != "dyn" and node.type.kind not in _FORMATTED[verb.lower()]:
        return node
    if verb == "s" and isinstance(node, ListNode | MapNode):
        return next((bad for child in node.children() if (bad := _unformatted(verb, child))), None)
    return None
