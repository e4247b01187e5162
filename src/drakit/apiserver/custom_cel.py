"""`x-kubernetes-validations`: the rules in CEL that a custom resource brings in its schema.

`compile_rules` turns a schema into a tree of the nodes that have rules, or have some below them. A rule sees
`self`, the value at its node, and `oldSelf`, what was there before; a rule that reads `oldSelf` is left out
where there is nothing to compare with. What an update leaves as it is only gets a warning.
Source: apiextensions-apiserver/pkg/apiserver/schema/cel/{compilation,validation}.go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from drakit.apiserver.custom_declare import MAX_REQUEST, Declared, Schema, declare, escaped, mark, value_of
from drakit.apiserver.custom_path import find_field
from drakit.cel import types
from drakit.cel.declare import declared
from drakit.cel.expression import Expression
from drakit.cel.value import NONE, Fault, Lazy, Optional
from drakit.errors import CELError, FieldError
from drakit.model.validation.field import Errors, duplicate, forbidden, invalid, listed, mapped, required
from drakit.profile import Profile

_BUDGET = 10_000_000
_MAX_EVALUATIONS = 50_000
"""Rules looked at for one object, which takes a second; Kubernetes bounds their cost alone."""
_MAX_MESSAGE = 5 * 1024


class Rule(Struct):
    """One compiled rule. `field` is the path, below the node, that its errors point at."""

    source: Mapping[str, Any]
    expression: Expression | None = None
    error: str = ""
    message: Expression | None = None
    message_error: str = ""
    field: str = ""

    @property
    def has_old(self) -> bool:
        """Whether it is about a change."""
        return self.expression is not None and "oldSelf" in self.expression.names

    @property
    def shown(self) -> str:
        """What error texts call it."""
        return str(self.source.get("message") or self.source.get("rule") or "").strip()


class Node(Struct):
    """A place in a schema with its rules, and what is below it."""

    schema: Schema
    declared: Declared
    is_root: bool
    rules: list[Rule] = field(default_factory=list)
    items: Node | None = None
    rest: Node | None = None
    properties: dict[str, Node] = field(default_factory=dict)
    all_of: list[Node] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.rules or self.items or self.rest or self.properties or self.all_of)


# --- compilation ----------------------------------------------------------------------------------


def compile_rules(schema: Schema, profile: Profile) -> Node | None:
    """The rules of an openAPIV3Schema; None if there are none."""
    if not _has_rules(schema):
        return None
    root = declare(schema, "selfType", is_root=True)
    found = _node(schema, schema, root, profile, is_root=True) if root else None
    return found or None


def _has_rules(schema: Schema) -> bool:
    stack: list[Any] = [schema]
    while stack:
        part = stack.pop()
        if not isinstance(part, dict):
            continue
        if part.get("x-kubernetes-validations"):
            return True
        stack += mapped(part.get("properties")).values()
        stack += [part.get("items"), part.get("additionalProperties"), *listed(part.get("allOf"))]
    return False


def _node(rules: Schema, schema: Schema, known: Declared, profile: Profile, *, is_root: bool) -> Node:
    """The node of `schema`, of which CEL knows `known`. Its rules are in `rules`: the schema itself, or a
    part of its allOf."""
    made = Node(schema, known, is_root)
    made.rules = [
        compile_rule(rule, known, schema, profile) for rule in listed(rules.get("x-kubernetes-validations"))
    ]
    for name in ("items", "additionalProperties"):
        below, own = rules.get(name), schema.get(name)
        if isinstance(below, dict) and isinstance(own, dict) and known.item is not None:
            child = _node(below, own, known.item, profile, is_root=_is_embedded(own)) or None
            if name == "items":
                made.items = child
            else:
                made.rest = child
    for key, below in mapped(rules.get("properties")).items():
        own = mapped(schema.get("properties")).get(key)
        if not isinstance(own, dict) or not isinstance(below, dict) or known.fields is None:
            continue
        field_ = known_field(known, key, own)
        if field_ is not None and (child := _node(below, own, field_, profile, is_root=_is_embedded(own))):
            made.properties[key] = child
    for part in listed(rules.get("allOf")):
        if isinstance(part, dict) and (child := _node(part, schema, known, profile, is_root=is_root)):
            made.all_of.append(child)
    return made


def known_field(known: Declared, key: str, schema: Schema) -> Declared | None:
    """What CEL knows of the field `key`, which it may not be able to name."""
    from_name = (known.fields or {}).get(escaped(key) or "")
    return from_name or declare(schema, f"{known.type.name}.field", is_root=_is_embedded(schema))


def _is_embedded(schema: Schema) -> bool:
    return schema.get("x-kubernetes-embedded-resource") is True


def compile_rule(
    rule: Mapping[str, Any], known: Declared, schema: Schema, profile: Profile, *, is_new: bool = False
) -> Rule:
    """`rule` of the node `schema`, of which CEL knows `known`; is_new: as the API server lets it in."""
    made = Rule(rule)
    if path := rule.get("fieldPath"):
        with contextlib.suppress(ValueError):
            made.field = find_field(str(path), schema)[0]
    if not str(rule.get("rule") or "").strip():
        return made
    old = types.optional_of(known.type) if rule.get("optionalOldSelf") else known.type
    variables = {"self": known.type, "oldSelf": old}
    environment = declared(profile, variables, dict(known.objects()), is_new=is_new)
    shapes = dict.fromkeys(("self", "oldSelf"), known.shape)
    try:
        made.expression = Expression(str(rule["rule"]), environment, shapes)
        if made.expression.type != types.BOOL:
            made.expression, made.error = None, "cel expression must evaluate to a bool"
    except CELError as error:
        made.error = error.message
    if text := rule.get("messageExpression"):
        try:
            made.message = Expression(str(text), environment, shapes)
            if made.message.type != types.STRING:
                made.message, made.message_error = None, "messageExpression must evaluate to a string"
        except CELError as error:
            made.message_error = f"messageExpression {error.message}"
    return made


def max_cardinality(known: Declared) -> int:
    """How many such values there can be in one request."""
    return MAX_REQUEST // (known.least + 1)


# --- evaluation -----------------------------------------------------------------------------------


class _Stopped(Exception):
    """The budget is spent: no rule is looked at any more."""


def check_rules(node: Node, value: Any, old: Any, warnings: list[str]) -> Errors:
    """Every rule that `value` breaks, or that the change from `old` does. An object as a whole is never as it
    was: upstream compares what the schema describes, and that is not all of it."""
    run = _Run(warnings)
    with contextlib.suppress(_Stopped):
        run.visit(node, value, old, "", is_same=False)
    return run.errors


class _Run:
    """One validation of one object."""

    def __init__(self, warnings: list[str]) -> None:
        self.errors: Errors = []
        self._warnings = warnings
        self._left = _BUDGET
        self._evaluations = _MAX_EVALUATIONS

    def visit(self, node: Node, value: Any, old: Any, path: str, is_same: bool) -> None:
        """Check `value` at `path`; `is_same` if it, or something around it, is as it was."""
        if value is None:
            return
        if node.rules:
            self._check(node, value, old, path, is_same)
        for part in node.all_of:
            self.visit(part, value, old, path, is_same)
        if isinstance(value, list) and node.items is not None:
            self._visit_list(node, node.items, value, listed(old), path, is_same)
        elif isinstance(value, dict):
            before = mapped(old)
            for key, item in value.items():
                same = is_same or (key in before and before[key] == item)
                if node.rest is not None:
                    self.visit(node.rest, item, before.get(key), f"{path}[{key}]", same)
                if (below := node.properties.get(key)) is not None:
                    self.visit(below, item, before.get(key), f"{path}.{key}" if path else key, same)

    def _visit_list(
        self, node: Node, items: Node, value: list[Any], old: list[Any], path: str, is_same: bool
    ) -> None:
        keys = listed(node.schema.get("x-kubernetes-list-map-keys"))
        is_map = node.schema.get("x-kubernetes-list-type") == "map"
        before = {mark(item, keys): item for item in old} if is_map else {}
        for index, item in enumerate(value):
            earlier = before.get(mark(item, keys)) if is_map else None
            same = is_same or (earlier is not None and earlier == item)
            self.visit(items, item, earlier, f"{path}[{index}]", same)

    def _check(self, node: Node, value: Any, old: Any, path: str, is_same: bool) -> None:
        own = value_of(value, node.schema, is_root=node.is_root)
        before = None
        if old is not None and any(rule.has_old for rule in node.rules):
            before = value_of(old, node.schema, is_root=node.is_root, beside=value)
        kind = node.schema.get("type") or ""
        for rule in node.rules:
            is_optional = bool(rule.source.get("optionalOldSelf"))
            if rule.error:
                self._add(invalid(path or "<nil>", kind, f"rule compile error: {rule.error}"))
            if rule.expression is None or (rule.has_old and old is None and not is_optional):
                continue
            earlier: Any = before if before is not None else Lazy(_nothing)
            if is_optional:
                earlier = NONE if before is None else Optional(before)
            error = self._evaluate(rule, {"self": own, "oldSelf": earlier}, path, kind, value)
            if error is not None and is_same and not rule.has_old:
                self._warnings.append(str(error))
            elif error is not None:
                self._add(error)

    def _add(self, error: FieldError) -> None:
        self.errors.append(error)

    def _stop(self, path: str, kind: str, text: str) -> _Stopped:
        self._add(invalid(path or "<nil>", kind, text))
        return _Stopped()

    def _evaluate(
        self, rule: Rule, values: Mapping[str, Any], path: str, kind: str, value: Any
    ) -> FieldError | None:
        assert rule.expression is not None
        outcome = rule.expression.evaluate(values)
        self._left -= outcome.cost
        self._evaluations -= 1
        if self._left < 0 or self._evaluations < 0:
            text = (
                "validation failed due to running out of cost budget, no further validation rules will be run"
            )
            raise self._stop(path, kind, text)
        shown = path or "<nil>"
        if outcome.error.startswith("operation cancelled"):
            text = (
                f"'{outcome.error}': no further validation rules will be run due to call cost exceeds limit "
                f"for rule: {rule.shown}"
            )
            raise self._stop(path, kind, text)
        if outcome.error.startswith("no such overload"):
            text = (
                f"'{outcome.error}': call arguments did not match a supported operator, function or macro "
                f"signature for rule: {rule.shown}"
            )
            return invalid(shown, kind, text)
        if outcome.error:
            return invalid(shown, kind, f"{outcome.error} evaluating rule: {rule.shown}")
        if outcome.value is True:
            return None
        if rule.field:
            shown = f"{path}{'' if not path or rule.field.startswith('[') else '.'}{rule.field}"
        return _refusal(rule.source.get("reason"), shown, value, self._message(rule, values, path, kind))

    def _message(self, rule: Rule, values: Mapping[str, Any], path: str, kind: str) -> str:
        if rule.message is not None:
            outcome = rule.message.evaluate(values)
            self._left -= outcome.cost
            if self._left < 0:
                text = (
                    "messageExpression evaluation failed due to running out of cost budget, no further "
                    "validation rules will be run"
                )
                raise self._stop(path, kind, text)
            text = outcome.value.strip() if isinstance(outcome.value, str) else ""
            if text and "\n" not in text and len(text.encode()) <= _MAX_MESSAGE:
                return text
        message = str(rule.source.get("message") or "").strip()
        return message or f"failed rule: {rule.shown}"


def _nothing() -> Any:
    raise Fault("no such attribute(s): oldSelf")


def _refusal(reason: Any, path: str, value: Any, text: str) -> FieldError:
    """Objects and lists are not shown."""
    if reason == "FieldValueForbidden":
        return forbidden(path, text)
    if reason == "FieldValueRequired":
        return required(path, text)
    is_shown = not isinstance(value, dict | list)
    if reason == "FieldValueDuplicate":
        return duplicate(path, value) if is_shown else FieldError(reason, path, "Duplicate value")
    if is_shown:
        return invalid(path, value, text)
    return FieldError("FieldValueInvalid", path, f"Invalid value: {text}")
