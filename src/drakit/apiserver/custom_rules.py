"""What makes the rules in CEL of a schema valid: they compile, and cannot cost too much.

What a rule may cost is its own estimate times how often the schema lets its place occur. `oldSelf` needs
places that can be found again in another revision: not inside lists of type set or atomic, nor below atomic
maps.
Source: apiextensions-apiserver/pkg/apis/apiextensions/validation/{validation,cel_validation}.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from drakit.apiserver.custom_cel import Rule, compile_rule, known_field, max_cardinality
from drakit.apiserver.custom_declare import Declared, Schema, declare
from drakit.apiserver.custom_path import find_field
from drakit.model.validation.field import (
    Errors,
    forbidden,
    invalid,
    listed,
    mapped,
    not_supported,
    required,
)
from drakit.profile import Profile

_LIMIT, _TOTAL_LIMIT = 10_000_000, 100_000_000
_MOST = (1 << 64) - 1
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")


class _Place(Struct, frozen=True):
    """A node of the schema: its path, what CEL knows of it, how often it may occur (None: no limit), and the
    path of what around it cannot be found again ("" if all can)."""

    path: str
    schema: Schema
    known: Declared
    count: int | None
    lost: str = ""

    def inside(self, step: str, schema: Schema, known: Declared, most: Any, *, is_lost: bool) -> _Place:
        """The place of the elements of a list or map that has at most `most`."""
        count = None if self.count is None or most is None else min(_MOST, self.count * max(0, most))
        lost = self.lost or (self.path if is_lost else "")
        return _Place(f"{self.path}.{step}", schema, known, count, lost)


def rule_errors(schema: Schema, path: str, profile: Profile, before: frozenset[str]) -> Errors:
    """What is wrong with the rules of an openAPIV3Schema at `path`. Rules and messages in `before` may use
    what stored expressions may."""
    known = declare(schema, "selfType", is_root=True)
    if known is None:
        return []
    check = _Check(profile, before)
    for rules, place in _places(schema, _Place(path, schema, known, 1)):
        check.rules(rules, place)
    return check.errors + check.total(path)


def rule_texts(schema: Schema) -> Iterator[str]:
    """Every rule and messageExpression of a schema."""
    stack: list[Any] = [schema]
    while stack:
        part = stack.pop()
        for rule in listed(part.get("x-kubernetes-validations")):
            yield from (str(mapped(rule).get(name) or "") for name in ("rule", "messageExpression"))
        inner = [part.get("items"), part.get("additionalProperties"), *listed(part.get("allOf"))]
        inner += mapped(part.get("properties")).values()
        stack += [below for below in inner if isinstance(below, dict)]


def _places(rules: Schema, place: _Place) -> Iterator[tuple[Schema, _Place]]:
    """The nodes that may have rules: where the rules are written, and what they are about."""
    yield rules, place
    schema, known = place.schema, place.known
    for index, part in enumerate(listed(rules.get("allOf"))):
        if isinstance(part, dict):
            within = msgspec.structs.replace(place, path=f"{place.path}.allOf[{index}]")
            yield from _places(part, within)
    is_atomic = schema.get("x-kubernetes-map-type") == "atomic"
    for key, below in mapped(rules.get("properties")).items():
        own = mapped(schema.get("properties")).get(key)
        if isinstance(own, dict) and isinstance(below, dict) and known.fields is not None:
            field = known_field(known, key, own)
            if field is not None:
                yield from _places(
                    below, place.inside(f"properties[{key}]", own, field, 1, is_lost=is_atomic)
                )
    for name, limit in (("items", "maxItems"), ("additionalProperties", "maxProperties")):
        below, own = rules.get(name), schema.get(name)
        if isinstance(below, dict) and isinstance(own, dict) and known.item is not None:
            is_lost = is_atomic if name != "items" else schema.get("x-kubernetes-list-type") != "map"
            inner = place.inside(name, own, known.item, schema.get(limit), is_lost=is_lost)
            yield from _places(below, inner)


class _Check:
    """Gathers errors, and what the rules may cost together."""

    def __init__(self, profile: Profile, before: frozenset[str]) -> None:
        self._profile = profile
        self._before = before
        self._costs: list[tuple[int, str]] = []
        self.errors: Errors = []

    def rules(self, rules: Schema, place: _Place) -> None:
        """Check the rules of one node."""
        for index, rule in enumerate(listed(rules.get("x-kubernetes-validations"))):
            path = f"{place.path}.x-kubernetes-validations[{index}]"
            if not isinstance(rule, dict):
                self.errors.append(invalid(path, rule, "must be a rule"))
                continue
            wrong = list(_words(rule, place.schema, path))
            self.errors += wrong
            if not wrong:
                texts = {str(rule.get("rule")), str(rule.get("messageExpression") or "")}
                is_new = not texts <= self._before
                made = compile_rule(rule, place.known, place.schema, self._profile, is_new=is_new)
                self._compiled(made, place, path)

    def _compiled(self, made: Rule, place: _Place, path: str) -> None:
        shown = _shown(made.source)
        if made.expression is not None:
            count = max_cardinality(place.known) if place.count is None else place.count
            self._cost("rule", min(_MOST, made.expression.max_cost * count), path)
        if made.error:
            self.errors.append(invalid(f"{path}.rule", shown, made.error))
        if made.message_error:
            self.errors.append(invalid(f"{path}.messageExpression", shown, made.message_error))
        elif made.message is not None:
            self._cost("messageExpression", made.message.max_cost, path)
        if made.has_old and place.lost:
            text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.lost}"
            self.errors.append(invalid(f"{path}.rule", made.source.get("rule"), text))
        elif (
            made.expression is not None
            and not made.has_old
            and made.source.get("optionalOldSelf") is not None
        ):
            value = made.source["optionalOldSelf"]
            text = "may not be set if oldSelf is not used in rule"
            self.errors.append(invalid(f"{path}.optionalOldSelf", value, text))

    def _cost(self, what: str, cost: int, path: str) -> None:
        if cost > _LIMIT:
            text = _too_expensive(f"estimated {what} cost", cost, _LIMIT)
            self.errors.append(forbidden(f"{path}.{what}", text))
        self._costs.append((cost, f"{path}.{what}"))

    def total(self, path: str) -> Errors:
        """What is wrong with the rules taken together."""
        total = min(_MOST, sum(cost for cost, _ in self._costs))
        if total <= _TOTAL_LIMIT:
            return []
        text = (
            "contributed to estimated rule & messageExpression cost total exceeding cost limit for entire "
            "OpenAPIv3 schema"
        )
        worst = sorted(self._costs, key=lambda row: -row[0])[:4]
        errors = [forbidden(place, text) for cost, place in worst if cost >= _TOTAL_LIMIT // 100]
        what = "x-kubernetes-validations estimated rule & messageExpression cost total for entire "
        what += "OpenAPIv3 schema"
        return [*errors, forbidden(path, _too_expensive(what, total, _TOTAL_LIMIT))]


def _too_expensive(what: str, cost: int, limit: int) -> str:
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:.6f}x" if factor < 1.5 else f"{factor:.1f}x"
    return (
        f"{what} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, "
        "maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )


def _shown(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as error texts show it."""
    return {
        "Rule": rule.get("rule") or "",
        "Message": rule.get("message") or "",
        "MessageExpression": rule.get("messageExpression") or "",
        "Reason": rule.get("reason"),
        "FieldPath": rule.get("fieldPath") or "",
        "OptionalOldSelf": rule.get("optionalOldSelf"),
    }


def _words(rule: Mapping[str, Any], schema: Schema, path: str) -> Iterator[Any]:
    """What is wrong with a rule before it is compiled."""
    text, message = str(rule.get("rule") or ""), str(rule.get("message") or "")
    expression, where = str(rule.get("messageExpression") or ""), str(rule.get("fieldPath") or "")
    if not text.strip():
        yield required(f"{path}.rule", "rule is not specified")
    elif message and not message.strip():
        yield invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif _has_lines(message):
        yield invalid(f"{path}.message", message, "message must not contain line breaks")
    elif _has_lines(text) and not message.strip() and not expression.strip():
        problem = "message or messageExpression must be specified if rule contains line breaks"
        yield required(f"{path}.message", problem)
    if expression and not expression.strip():
        problem = "messageExpression must be non-empty if specified"
        yield required(f"{path}.messageExpression", problem)
    if rule.get("reason") is not None and rule["reason"] not in _REASONS:
        yield not_supported(f"{path}.reason", rule["reason"], _REASONS)
    if where and not where.strip():
        yield invalid(f"{path}.fieldPath", where, "fieldPath must be non-empty if specified")
    elif _has_lines(where):
        yield invalid(f"{path}.fieldPath", where, "fieldPath must not contain line breaks")
    elif where:
        try:
            find_field(where, schema)
        except ValueError:
            yield invalid(f"{path}.fieldPath", where, "fieldPath must be a valid path")


def _has_lines(text: str) -> bool:
    return "\n" in text.strip() or "\r" in text.strip()
