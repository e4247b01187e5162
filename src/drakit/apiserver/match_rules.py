"""What policies, bindings and webhook configurations have in common: the requests they name, conditions.

Source: kubernetes pkg/apis/admissionregistration/validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from drakit.apiserver.policy import compiled
from drakit.cel import types
from drakit.cel.declare import Environment
from drakit.model.validation import names
from drakit.model.validation.field import (
    Errors,
    duplicate,
    invalid,
    listed,
    mapped,
    messages,
    not_supported,
    required,
    too_many,
)
from drakit.model.validation.workload import label_selector
from drakit.transport import Document

FAILURES = ("Fail", "Ignore")
MATCHES = ("Equivalent", "Exact")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_MAX_CONDITIONS = 64


def choice(document: Mapping[str, Any], field: str, path: str, choices: tuple[str, ...]) -> Errors:
    """A field that must have one of the values."""
    value, place = document.get(field), f"{path}.{field}"
    if value in (None, ""):
        return [required(place)]
    return [] if value in choices else [not_supported(place, value, choices)]


def condition_rules(rows: list[Any], path: str, scope_of: Callable[[str], Environment]) -> Errors:
    """The rules for matchConditions; `scope_of` gives the environment of an expression."""
    errors: Errors = [too_many(path, len(rows), _MAX_CONDITIONS)] if len(rows) > _MAX_CONDITIONS else []
    seen = set()
    for index, row in enumerate(rows[:_MAX_CONDITIONS]):
        place, name = f"{path}[{index}]", row.get("name") or ""
        text = (row.get("expression") or "").strip()
        if not text:
            errors.append(required(f"{place}.expression"))
        elif error := compiled(text, scope_of(text), (types.BOOL,)).error:
            errors.append(invalid(f"{place}.expression", text, error))
        errors += messages(f"{place}.name", name, names.qualified_name(name)) if name else []
        if not name:
            errors.append(required(f"{place}.name"))
        elif name in seen:
            errors.append(duplicate(f"{place}.name", name))
        seen.add(name)
    return errors


def match_rules(match: Document, path: str) -> Errors:
    """The rules for matchConstraints and matchResources."""
    errors = choice(match, "matchPolicy", path, MATCHES)
    for field in ("namespaceSelector", "objectSelector"):
        if match.get(field) is None:
            errors.append(required(f"{path}.{field}"))
        else:
            errors += label_selector(match[field], f"{path}.{field}")
    for field in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(listed(match.get(field))):
            place, taken = f"{path}.{field}[{index}]", listed(mapped(rule).get("resourceNames"))
            for at, name in enumerate(taken):
                errors += messages(f"{place}.resourceNames[{at}]", name, names.path_segment(name))
                if name in taken[:at]:
                    errors.append(duplicate(f"{place}.resourceNames[{at}]", name))
            errors += request_rule(mapped(rule), place)
    return errors


def request_rule(rule: Document, path: str) -> Errors:
    """The rules for operations, groups, versions and resources."""
    operations = listed(rule.get("operations"))
    errors = _wildcards(operations, f"{path}.operations", "operations")
    for index, operation in enumerate(operations):
        if operation not in _OPERATIONS:
            errors.append(not_supported(f"{path}.operations[{index}]", operation, _OPERATIONS))
    errors += _wildcards(listed(rule.get("apiGroups")), f"{path}.apiGroups", "API groups")
    versions = listed(rule.get("apiVersions"))
    errors += _wildcards(versions, f"{path}.apiVersions", "API versions")
    errors += [required(f"{path}.apiVersions[{at}]") for at, version in enumerate(versions) if not version]
    errors += _resources(listed(rule.get("resources")), f"{path}.resources")
    scope_ = rule.get("scope")
    if scope_ is not None and scope_ not in _SCOPES:
        errors.append(not_supported(f"{path}.scope", scope_, _SCOPES))
    return errors


def _wildcards(values: list[Any], path: str, what: str) -> Errors:
    if not values:
        return [required(path)]
    if len(values) > 1 and "*" in values:
        return [invalid(path, values, f"if '*' is present, must not specify other {what}")]
    return []


def _resources(resources: list[Any], path: str) -> Errors:
    if not resources:
        return [required(path)]
    errors: Errors = []
    whole: set[str] = set()
    every: set[str] = set()
    for index, text in enumerate(resources):
        name, slash, below = text.partition("/")
        if not text:
            errors.append(required(f"{path}[{index}]"))
        if not slash:
            continue
        if name in whole:
            problem = f"if '{name}/*' is present, must not specify {text}"
            errors.append(invalid(f"{path}[{index}]", text, problem))
        if below in every:
            problem = f"if '*/{below}' is present, must not specify {text}"
            errors.append(invalid(f"{path}[{index}]", text, problem))
        whole |= {name} if below == "*" else set()
        every |= {below} if name == "*" else set()
    if len(resources) > 1 and "*/*" in resources:
        errors.append(invalid(path, resources, "if '*/*' is present, must not specify other resources"))
    if "*" in resources and any("/" not in text and text != "*" for text in resources):
        text = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid(path, resources, text))
    return errors


def expressions_of(spec: Document) -> Iterable[str]:
    """Every expression of a policy's spec, or of a webhook."""
    for field, names_ in (
        ("matchConditions", ("expression",)),
        ("validations", ("expression", "messageExpression")),
        ("variables", ("expression",)),
        ("auditAnnotations", ("valueExpression",)),
    ):
        for row in listed(spec.get(field)):
            yield from (str(row.get(name) or "") for name in names_)
    for row in listed(spec.get("mutations")):
        for field in ("applyConfiguration", "jsonPatch"):
            yield str(mapped(row.get(field)).get("expression") or "")
