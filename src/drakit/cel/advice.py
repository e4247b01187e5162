"""What to write instead: advice for expressions that do not compile, or not mean what they say.

An error says what is wrong where it stands. Advice says what the writer probably wanted, from the words of
the error and from what the published devices have. It never changes what an expression does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec import Struct

from drakit.cel.declare import Environment
from drakit.cel.reads import constant_path
from drakit.cel.syntax import Call, ListNode, Literal, Node, walk
from drakit.model.resource import Device, DeviceAttribute

_WORDS = {"and": "&&", "or": "||", "not": "!", "AND": "&&", "OR": "||", "NOT": "!"}
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_UNDEFINED = re.compile(r"undefined field '([^']*)'")
_OVERLOAD = re.compile(r"found no matching overload for '([^'\n]+)' applied to '(.*)'$", re.MULTILINE)
_WHOLE = re.compile(r"""device\.(attributes|capacity)\s*(?:\.\s*(\w+)|\[\s*["']([^"']+)["']\s*\])""")
_SHOWN = 4


class Published(Struct, frozen=True):
    """What the devices have: by domain and name how often which value, as kind and text."""

    attributes: dict[tuple[str, str], Counter[tuple[str, str]]]
    capacity: dict[tuple[str, str], Counter[tuple[str, str]]]
    drivers: Counter[str]

    def part(self, name: str) -> dict[tuple[str, str], Counter[tuple[str, str]]]:
        return self.attributes if name == "attributes" else self.capacity

    def domains(self) -> set[str]:
        return {domain for domain, _ in (*self.attributes, *self.capacity)} | set(self.drivers)


def published(devices: Sequence[tuple[Device, str]]) -> Published:
    """What `devices`, each with its driver, have."""
    found = Published({}, {}, Counter(driver for _, driver in devices))
    for device, driver in devices:
        for name, attribute in device.attributes.items():
            found.attributes.setdefault(_split(name, driver), Counter()).update(_values(attribute))
        for name, capacity in device.capacity.items():
            found.capacity.setdefault(_split(name, driver), Counter())["quantity", str(capacity.value)] += 1
    return found


def _split(name: str, driver: str) -> tuple[str, str]:
    domain, slash, short = name.partition("/")
    return (domain, short) if slash else (driver, name)


def _values(attribute: DeviceAttribute) -> Iterator[tuple[str, str]]:
    for kind, value in (
        ("string", attribute.string), ("int", attribute.int_), ("bool", attribute.bool_),
        ("version", attribute.version),
    ):  # fmt: skip
        if value is not None:
            yield kind, _written(value)
    for kind, values in (
        ("string", attribute.strings), ("int", attribute.ints), ("bool", attribute.bools),
        ("version", attribute.versions),
    ):  # fmt: skip
        for value in values or ():
            yield f"list of {kind}", _written(value)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- what does not compile ------------------------------------------------------------------------


def of_compile_error(text: str, message: str, environment: Environment, known: Published) -> list[str]:
    """Advice for the source `text`, which failed with `message`."""
    advice: list[str] = []
    if re.search(r"recognition error at: '=(?![=])", message):
        advice.append("`=` is no operator: to compare, write `==`")
    if re.search(r"recognition error at: '[&|]", message):
        advice.append("write `&&` for and, `||` for or")
    if re.search("recognition error at: '[\u2018\u2019\u201c\u201d]", message):
        advice.append("use straight quotes: ' or \"")
    for word in re.findall(r"mismatched input '(\w+)'|extraneous input '\w+'", message):
        if word in _WORDS:
            advice.append(f"write `{_WORDS[word]}` for `{word}`")
    if re.match(r"\s*not\s", text):
        advice.append("write `!` for `not`")
    for name in _UNDECLARED.findall(message):
        advice += _undeclared(text, name, environment, known)
    for name in _UNDEFINED.findall(message):
        advice += _undefined(name, known)
    for function, types in _OVERLOAD.findall(message):
        advice += _overload(text, function, types, known)
    if "must evaluate to bool" in message:
        advice.append("a selector says yes or no: compare the value with something")
    return list(dict.fromkeys(advice))


def _undeclared(text: str, name: str, environment: Environment, known: Published) -> list[str]:
    if name in ("attributes", "capacity", "driver"):
        return [f"write device.{name}"]
    for domain, short in sorted(known.attributes):
        if short == name:
            return [f'an attribute is written device.attributes["{domain}"].{name}']
    close = get_close_matches(name, [*environment.functions, *environment.variables], n=1, cutoff=0.7)
    if close:
        return [f"did you mean {close[0]}?"]
    whole = re.search(rf"(?<![\w.]){re.escape(name)}(?:[.\-/]\w+)*", text)
    written = whole.group() if whole else name
    return [f"`{written}` is no variable or function; text stands in quotes: '{written}'"]


def _undefined(name: str, known: Published) -> list[str]:
    for part in ("attributes", "capacity"):
        for domain, short in sorted(known.part(part)):
            if short.lower() == name.lower():
                return [f'write device.{part}["{domain}"].{short}']
    fields = ("driver", "attributes", "capacity", "allowMultipleAllocations")
    close = get_close_matches(name, fields, n=1, cutoff=0.5)
    if close:
        return [f"did you mean device.{close[0]}?"]
    return [f'a device has driver, attributes and capacity: device.attributes["DRIVER"].{name}']


def _overload(text: str, function: str, types: str, known: Published) -> list[str]:
    if "map(string" in types:
        return [*_whole_maps(text, known)]
    if "kubernetes.Quantity" in types:
        return ['a capacity is compared with quantity(): .compareTo(quantity("40Gi")) >= 0, or .isLessThan()']
    if "kubernetes.Semver" in types:
        return ['a version is compared with semver(): .compareTo(semver("1.2.3")) >= 0']
    if "string" in types and ("int" in types or "double" in types):
        return ["text stands in quotes, numbers do not: both sides must be of one kind"]
    return []


def _whole_maps(text: str, known: Published) -> Iterator[str]:
    """For what names a domain and no attribute, or an attribute and no domain."""
    for part, field, key in _WHOLE.findall(text):
        name = field or key
        domain, slash, short = name.rpartition("/")
        if slash:
            yield f'write device.{part}["{domain}"].{short}'
            continue
        homes = sorted(domain for domain, short in known.part(part) if short == name)
        if homes:
            yield f'the domain is missing: device.{part}["{homes[0]}"].{name}'
        elif name in known.domains() or "." in name:
            yield f'device.{part}["{name}"] is all of that domain: add the name, device.{part}["{name}"].NAME'
        else:
            yield f'the domain is missing: device.{part}["DRIVER"].{name}'


# --- what compiles --------------------------------------------------------------------------------


def of_expression(text: str, root: Node, known: Published) -> list[str]:
    """Advice for comparisons that no published device can pass."""
    advice: list[str] = []
    for node in walk(root):
        advice += _qualified(text, node)
        if isinstance(node, Call) and node.function in _COMPARISONS and len(node.args) == 2:
            for attribute, other in (node.args, node.args[::-1]):
                advice += _comparison(text, node.function, attribute, other, known)
    return list(dict.fromkeys(advice))


def _qualified(text: str, node: Node) -> Iterator[str]:
    """Advice for a name in the key beside its domain, and the type behind it, as teaching material has it."""
    path = constant_path(node)
    if path is not None and len(path) == 3 and "/" in path[1] and path[0] in ("attributes", "capacity"):
        domain, _, name = path[1].partition("/")
        yield f'write device.{path[0]}["{domain}"].{name} instead of {text[node.span[0] : node.span[1]]}'


_COMPARISONS = frozenset(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in"))
_SIGNS = {"_==_": "==", "_!=_": "!=", "_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
_KINDS: dict[type, str] = {str: "string", int: "int", bool: "bool"}


def _comparison(text: str, function: str, node: Node, other: Node, known: Published) -> Iterator[str]:
    path = constant_path(node)
    if path == ("driver",):
        values: Counter[tuple[str, str]] | None = Counter({("string", name): 1 for name in known.drivers})
    elif path is not None and len(path) == 3 and path[0] == "attributes":
        values = known.attributes.get((path[1], path[2]))
    else:
        return
    items = other.items if isinstance(other, ListNode) else [other]
    literals = [item.value for item in items if isinstance(item, Literal)]
    if not values or not literals or len(literals) != len(items):
        return
    shown = text[node.span[0] : node.span[1]]
    kinds = {kind for kind, _ in values}
    wrong = next((value for value in literals if _KINDS.get(value.__class__) not in kinds), None)
    if wrong is not None and len(kinds) == 1:
        yield _mismatch(shown, kinds.pop(), wrong, _SIGNS.get(function, "=="))
    elif function in ("_==_", "@in") and not any(_written(value) in _texts(values) for value in literals):
        yield _nowhere(shown, literals, values)


def _texts(values: Counter[tuple[str, str]]) -> set[str]:
    return {text for _, text in values}


def _mismatch(shown: str, kind: str, literal: Any, sign: str) -> str:
    text = _written(literal)
    if kind.startswith("list of "):
        return f"{shown} is a list on these devices: write {shown}.includes({_literal(literal)})"
    if kind == "version":
        number = text if isinstance(literal, str) else "1.2.3"
        if sign in ("==", "!="):
            return f'{shown} is a version: write {shown} {sign} semver("{number}")'
        return f'{shown} is a version: write {shown}.compareTo(semver("{number}")) {sign} 0'
    if kind == "string":
        return f'{shown} is text: put quotes around it, "{text}"'
    if kind == "bool":
        value = text if text in ("true", "false") else "true"
        return f"{shown} is true or false: write {shown} == {value}, without quotes"
    return f"{shown} is a number: compare it with one, without quotes"


def _nowhere(shown: str, literals: list[Any], values: Counter[tuple[str, str]]) -> str:
    wanted = " or ".join(map(_literal, literals[:_SHOWN]))
    texts = [text for (_, text), _ in values.most_common()]
    lowered = {text.lower(): text for text in texts}
    close = [
        text
        for literal in map(_written, literals)
        for text in (
            *(t for low, t in lowered.items() if literal and literal.lower() in low),
            *(lowered[low] for low in get_close_matches(literal.lower(), list(lowered), n=2, cutoff=0.6)),
        )
    ]
    is_text = all(isinstance(literal, str) for literal in literals)
    names = [f"'{text}'" if is_text else text for text in dict.fromkeys(close or texts)][:_SHOWN]
    if close:
        return f"no device has {shown} {wanted}: did you mean {', '.join(names)}?"
    more = ", ..." if len(texts) > _SHOWN else ""
    return f"no device has {shown} {wanted}: there are {', '.join(names)}{more}"


def _literal(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else _written(value)
