"""Label, field and node selectors: read, checked once, then matched many times.

Three small languages of the API. Label selectors come as text (`app=web,tier in (a,b),!old`) or as a
LabelSelector document, field selectors as text (`metadata.name=x,spec.nodeName!=y`), node selectors as
a NodeSelector struct. Whatever is broken in them raises BadRequest when read; matching never raises.

Source: k8s.io/apimachinery pkg/labels and pkg/fields, component-helpers scheduling/corev1/nodeaffinity.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from drakit.errors import BadRequest
from drakit.model.meta import NodeSelector, NodeSelectorRequirement, NodeSelectorTerm
from drakit.model.validation import names

_SPECIAL = "=!(),<>"
_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^=!(),<> \t\r\n]+|$)")
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_LONGEST = 4000
"""Digits of an integer that are read."""
_OPERATORS = {
    "=": "In",
    "==": "In",
    "!=": "NotIn",
    "in": "In",
    "notin": "NotIn",
    ">": "Gt",
    "<": "Lt",
}


class Requirement(Struct, frozen=True):
    """`operator` is In, NotIn, Exists, DoesNotExist, Gt or Lt; Gt and Lt have one integer value. `sign` is
    how it was written where there is a choice: In may be "=", "==" or "in"."""

    key: str
    operator: str
    values: tuple[str, ...] = ()
    sign: str = ""

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
        number = _int64(value)
        bound = _int64(self.values[0])
        if number is None or bound is None:
            return False
        return number > bound if self.operator == "Gt" else number < bound

    def __str__(self) -> str:
        match self.operator, self.values:
            case "Exists", _:
                return self.key
            case "DoesNotExist", _:
                return f"!{self.key}"
            case "Gt" | "Lt", (value,):
                return f"{self.key}{'>' if self.operator == 'Gt' else '<'}{value}"
        if self.sign in ("=", "==", "!="):
            return f"{self.key}{self.sign}{self.values[0]}"
        return f"{self.key} {self.operator.lower()} ({','.join(self.values)})"


class LabelSelector(Struct, frozen=True):
    """All requirements must hold; with none of them it matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


class FieldTerm(Struct, frozen=True):
    field: str
    value: str
    is_equal: bool


class FieldSelector(Struct, frozen=True):
    """All terms must hold. Which fields an object offers is the caller's affair: see `fields`."""

    terms: tuple[FieldTerm, ...] = ()

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(term.field for term in self.terms)

    def matches(self, value_of: Callable[[str], str]) -> bool:
        """`value_of(field)` gives the object's value, "" where it has none."""
        return all((value_of(term.field) == term.value) == term.is_equal for term in self.terms)


class NodeMatcher(Struct, frozen=True):
    """A checked NodeSelector: of each term the requirements on labels, then those on the node's name."""

    terms: tuple[tuple[tuple[Requirement, ...], tuple[FieldTerm, ...]], ...]

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether any term holds for the node. A selector without terms matches nothing; of a node without
        a name the fields are not asked."""
        fields = {"metadata.name": name}
        return any(
            all(r.matches(labels) for r in expressions)
            and (not name or all((fields.get(t.field, "") == t.value) == t.is_equal for t in on_fields))
            for expressions, on_fields in self.terms
        )


def parse_labels(text: str) -> LabelSelector:
    """Read a label selector as `kubectl get -l` takes it; "" matches everything."""
    tokens = _Tokens(text)
    requirements: list[Requirement] = []
    while tokens.ahead:
        if tokens.is_special and tokens.ahead != "!":
            raise BadRequest(f"found '{tokens.ahead}', expected: !, identifier, or 'end of string'")
        try:
            requirements.append(_parse_requirement(tokens))
        except BadRequest as error:
            raise BadRequest(f"unable to parse requirement: {error}") from None
        separator = tokens.take()
        if separator not in ("", ","):
            raise BadRequest(f"found '{separator}', expected: ',' or 'end of string'")
        if separator == "," and (not tokens.ahead or (tokens.is_special and tokens.ahead != "!")):
            raise BadRequest(f"found '{tokens.ahead}', expected: identifier after ','")
    return LabelSelector(tuple(sorted(requirements, key=lambda r: r.key)))


def read_labels(document: Mapping[str, Any] | None) -> LabelSelector | None:
    """Read a LabelSelector document (`matchLabels`, `matchExpressions`).

    None stays None: an absent selector selects nothing, an empty one everything.
    """
    if document is None:
        return None
    requirements = [
        _requirement(key, "In", (str(value),), sign="=")
        for key, value in (document.get("matchLabels") or {}).items()
    ]
    for row in document.get("matchExpressions") or ():
        operator = str(row.get("operator", ""))
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            raise BadRequest(f'"{operator}" is not a valid label selector operator')
        requirements.append(
            _requirement(str(row.get("key", "")), operator, tuple(map(str, row.get("values") or ())))
        )
    return LabelSelector(tuple(sorted(requirements, key=lambda r: r.key)))


def parse_fields(text: str) -> FieldSelector:
    """Read a field selector as `kubectl get --field-selector` takes it.

    In values a backslash, a comma and `=` follow a backslash. Parts are read in the order of the alphabet.
    """
    terms: list[FieldTerm] = []
    for part in sorted(re.findall(r"(?:[^\\,]|\\.|\\$)+", text, re.DOTALL)):
        found = re.match(r"(.*?)(==|!=|=)(.*)", part, re.DOTALL)
        if found is None:
            raise BadRequest(f"invalid selector: '{text}'; can't understand '{part}'")
        name, operator, value = found.groups()
        terms.append(FieldTerm(name, _unescape(value), operator != "!="))
    # A single term about nothing is none.
    return FieldSelector(tuple(t for t in terms if t.field or t.value or len(terms) > 1))


def read_node_selector(selector: NodeSelector) -> NodeMatcher:
    """Check `selector` so that it can be matched. Terms with nothing in them match nothing."""
    return NodeMatcher(
        tuple(
            _read_term(term, f"nodeSelectorTerms[{index}]")
            for index, term in enumerate(selector.node_selector_terms)
            if term.match_expressions or term.match_fields
        )
    )


def _read_term(term: NodeSelectorTerm, path: str) -> tuple[tuple[Requirement, ...], tuple[FieldTerm, ...]]:
    expressions = _read_requirements(term.match_expressions, f"{path}.matchExpressions")
    fields: list[FieldTerm] = []
    for index, row in enumerate(term.match_fields):
        where = f"{path}.matchFields[{index}]"
        if row.operator not in ("In", "NotIn"):
            raise BadRequest(
                f'{where}.operator: Unsupported value: "{row.operator}": supported values: "In", "NotIn"'
            )
        if len(row.values) != 1:
            raise BadRequest(f"{where}.values: Invalid value: {_shown(row.values)}: must have one element")
        fields.append(FieldTerm(row.key, row.values[0], row.operator == "In"))
    return expressions, tuple(fields)


def _read_requirements(rows: Iterable[NodeSelectorRequirement], path: str) -> tuple[Requirement, ...]:
    return tuple(
        _requirement(row.key, row.operator, tuple(row.values), f"{path}[{index}].")
        for index, row in enumerate(rows)
    )


def _requirement(
    key: str, operator: str, values: tuple[str, ...], path: str = "", sign: str = ""
) -> Requirement:
    problems = [
        f'{path}key: Invalid value: "{key}": {"; ".join(wrong)}'
        for wrong in [names.qualified_name(key)]
        if wrong
    ]
    problems += [f"{path}{problem}" for problem in _values_problems(operator, values)]
    for index, value in enumerate(values):
        wrong = names.label_value(value)
        if wrong:
            problems.append(f'{path}values[{index}][{key}]: Invalid value: "{value}": {"; ".join(wrong)}')
    if problems:
        raise BadRequest(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
    return Requirement(key, operator, values, sign)


def _values_problems(operator: str, values: tuple[str, ...]) -> Iterator[str]:
    shown = _shown(values)
    match operator:
        case "In" | "NotIn":
            if not values:
                yield "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
        case "Exists" | "DoesNotExist":
            if values:
                problem = "values set must be empty for exists and does not exist"
                yield f"values: Invalid value: {shown}: {problem}"
        case "Gt" | "Lt":
            if len(values) != 1:
                problem = "for 'Gt', 'Lt' operators, exactly one value is required"
                yield f"values: Invalid value: {shown}: {problem}"
            for index, value in enumerate(values):
                if _int64(value) is None:
                    problem = "for 'Gt', 'Lt' operators, the value must be an integer"
                    yield f'values[{index}]: Invalid value: "{value}": {problem}'
        case _:
            supported = '"DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"'
            yield f'operator: Unsupported value: "{operator}": supported values: {supported}'


def _shown(values: Iterable[str]) -> str:
    return "[" + ",".join(f'"{value}"' for value in values) + "]"


def _int64(text: str | None) -> int | None:
    if text is None or len(text) > _LONGEST or not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


class _Tokens:
    """The label selector's words; `ahead` is "" at the end."""

    def __init__(self, text: str) -> None:
        self._words = self._scan(text)
        self.ahead = next(self._words)

    @staticmethod
    def _scan(text: str) -> Iterator[str]:
        position = 0
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None or not found[1]:
                break
            yield found[1]
            position = found.end()
        while True:
            yield ""

    @property
    def is_special(self) -> bool:
        return self.ahead != "" and self.ahead[0] in _SPECIAL

    def take(self) -> str:
        word, self.ahead = self.ahead, next(self._words)
        return word


def _parse_requirement(tokens: _Tokens) -> Requirement:
    is_absent = tokens.ahead == "!"
    if is_absent:
        tokens.take()
    if not tokens.ahead or tokens.is_special:
        raise BadRequest(f"found '{tokens.ahead}', expected: identifier")
    key = tokens.take()
    wrong = names.qualified_name(key)
    if wrong:
        raise BadRequest(f'<nil>: Invalid value: "{key}": {"; ".join(wrong)}')
    if is_absent or tokens.ahead in ("", ","):
        return _requirement(key, "DoesNotExist" if is_absent else "Exists", ())
    word = tokens.take()
    if word not in _OPERATORS:
        raise BadRequest(f"found '{word}', expected: in, notin, =, ==, !=, gt, lt")
    if word in ("in", "notin"):
        return _requirement(key, _OPERATORS[word], _parse_values(tokens))
    if tokens.ahead in ("", ","):
        return _requirement(key, _OPERATORS[word], ("",), sign=word)
    if tokens.is_special:
        raise BadRequest(f"found '{tokens.ahead}', expected: identifier")
    return _requirement(key, _OPERATORS[word], (tokens.take(),), sign=word)


def _parse_values(tokens: _Tokens) -> tuple[str, ...]:
    opening = tokens.take()
    if opening != "(":
        raise BadRequest(f"found '{opening}' expected: '('")
    if tokens.ahead == ")":
        tokens.take()
        return ("",)
    if not tokens.ahead or (tokens.is_special and tokens.ahead != ","):
        raise BadRequest(f"found '{tokens.ahead}', expected: ',', ')' or identifier")
    values: set[str] = set()
    while tokens.ahead != ")":
        word = tokens.take()
        if word == ",":
            if not values or tokens.ahead in (",", ")"):
                values.add("")
        elif not word or word[0] in _SPECIAL:
            raise BadRequest(f"found '{word}', expected: ',', or identifier")
        else:
            values.add(word)
            if tokens.ahead not in (",", ")"):
                raise BadRequest(f"found '{tokens.ahead}', expected: ',' or ')'")
    tokens.take()
    return tuple(sorted(values))


def _unescape(value: str) -> str:
    def plain(found: re.Match[str]) -> str:
        text = found[0]
        if len(text) == 2 and text[1] in "\\,=":
            return text[1]
        if text[0] == "\\":
            raise BadRequest(f"invalid field selector: invalid escape sequence: {text}")
        raise BadRequest(f"invalid field selector: unescaped character in value: {ord(text)}")

    return re.sub(r"\\.?|[,=]", plain, value, flags=re.DOTALL)
