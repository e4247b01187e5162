"""What makes admission policies and their bindings valid.

Expressions are compiled in the environment for new ones; what the object said before stays good.
Source: kubernetes pkg/apis/admissionregistration/validation.
"""

from __future__ import annotations

import re
from typing import Any

from drakit.apiserver.match_rules import (
    FAILURES,
    choice,
    condition_rules,
    expressions_of,
    match_rules,
)
from drakit.apiserver.mutating import RESULTS
from drakit.apiserver.policy import Compiled, compiled, variable_types
from drakit.apiserver.policy_scope import scope
from drakit.cel import types
from drakit.cel.declare import Environment
from drakit.cel.types import Type
from drakit.model.validation import names
from drakit.model.validation.field import (
    Errors,
    duplicate,
    forbidden,
    invalid,
    listed,
    mapped,
    messages,
    not_supported,
    required,
)
from drakit.model.validation.workload import label_selector
from drakit.profile import Profile
from drakit.transport import Document

_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")
_MUTATED = ("*", "CONNECT", "CREATE", "UPDATE")
_MAX_ANNOTATIONS, _MAX_ANNOTATION = 20, 5 * 1024
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = frozenset((
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if",
    "import", "let", "loop", "package", "namespace", "return", "var", "void", "while",
))  # fmt: skip


# --- policies -------------------------------------------------------------------------------------


def policy_rules(policy: Document, old: Document | None, profile: Profile) -> Errors:
    """Every rule that a ValidatingAdmissionPolicy breaks."""
    return _scope_rules(mapped(policy.get("spec"))) + _PolicyExpressions(policy, old, profile).errors()


def mutating_policy_rules(policy: Document, old: Document | None, profile: Profile) -> Errors:
    """Every rule that a MutatingAdmissionPolicy breaks."""
    spec = mapped(policy.get("spec"))
    errors = _scope_rules(spec)
    for index, row in enumerate(listed(mapped(spec.get("matchConstraints")).get("resourceRules"))):
        place = f"spec.matchConstraints.resourceRules[{index}].operations"
        for at, operation in enumerate(listed(mapped(row).get("operations"))):
            if operation == "DELETE":
                errors.append(not_supported(f"{place}[{at}]", operation, _MUTATED))
    errors += choice(spec, "reinvocationPolicy", "spec", ("IfNeeded", "Never"))
    return errors + _PolicyExpressions(policy, old, profile, has_patches=True).mutating_errors()


def _scope_rules(spec: Document) -> Errors:
    errors = choice(spec, "failurePolicy", "spec", FAILURES)
    if (kind := spec.get("paramKind")) is not None:
        errors += _param_kind(mapped(kind), "spec.paramKind")
    match = spec.get("matchConstraints")
    if match is None:
        errors.append(required("spec.matchConstraints"))
    else:
        errors += match_rules(mapped(match), "spec.matchConstraints")
        if not listed(mapped(match).get("resourceRules")):
            errors.append(required("spec.matchConstraints.resourceRules"))
    return errors


class _PolicyExpressions:
    """The rules of a policy's expressions."""

    def __init__(
        self, policy: Document, old: Document | None, profile: Profile, *, has_patches: bool = False
    ) -> None:
        self._has_patches = has_patches
        self._name = mapped(policy.get("metadata")).get("name") or ""
        self._spec = mapped(policy.get("spec"))
        self._old = mapped(mapped(old).get("spec"))
        self._has_params = self._spec.get("paramKind") is not None
        self._profile = profile
        self._variables: dict[str, Compiled] = {}
        self._known = frozenset(expressions_of(self._old))

    def _scope(self, text: str, *, has_authorizer: bool = True) -> Environment:
        return scope(
            self._profile,
            has_params=self._has_params,
            has_authorizer=has_authorizer,
            variables=variable_types(self._variables) if self._variables else None,
            is_new=text not in self._known,
            has_patches=self._has_patches,
        )

    def _check(
        self, text: str, path: str, wanted: tuple[Type, ...], *, has_authorizer: bool = True
    ) -> Errors:
        error = compiled(text, self._scope(text, has_authorizer=has_authorizer), wanted).error
        return [invalid(path, text, error)] if error else []

    def _common(self) -> Errors:
        """What is wrong with conditions and variables. Conditions may not use the variables."""
        spec = self._spec
        errors: Errors = []
        if spec.get("matchConditions") != self._old.get("matchConditions") or not self._old:
            rows = listed(spec.get("matchConditions"))
            errors += condition_rules(rows, "spec.matchConditions", self._scope)
        for index, row in enumerate(listed(spec.get("variables"))):
            errors += self._variable(mapped(row), f"spec.variables[{index}]")
        return errors

    def mutating_errors(self) -> Errors:
        """All that is wrong with the expressions of a mutating policy."""
        errors = self._common()
        rows = listed(self._spec.get("mutations"))
        if not rows:
            errors.append(required("spec.mutations", "mutations must contain at least one item"))
        for index, row in enumerate(rows):
            path, kind = f"spec.mutations[{index}]", mapped(row).get("patchType")
            errors += choice(mapped(row), "patchType", path, tuple(RESULTS))
            for other, (field, wanted) in RESULTS.items():
                text = mapped(mapped(row).get(field)).get("expression") or ""
                if kind != other:
                    if kind in RESULTS and mapped(row).get(field) is not None:
                        problem = f"must not be specified when patchType is {kind}"
                        errors.append(forbidden(f"{path}.{field}", problem))
                elif mapped(row).get(field) is None:
                    problem = f"must be specified when patchType is {kind}"
                    errors.append(required(f"{path}.{field}", problem))
                elif not text.strip():
                    errors.append(required(f"{path}.{field}.expression", "expression is not specified"))
                else:
                    errors += self._check(text, f"{path}.{field}.expression", (wanted,))
        return errors

    def errors(self) -> Errors:
        """All that is wrong with the expressions of a validating policy."""
        spec, errors = self._spec, self._common()
        validations, annotations = listed(spec.get("validations")), listed(spec.get("auditAnnotations"))
        if not validations and not annotations:
            text = "validations or auditAnnotations must contain at least one item"
            return [*errors, required("spec.validations", text), required("spec.auditAnnotations", text)]
        for index, row in enumerate(validations):
            errors += self._validation(mapped(row), f"spec.validations[{index}]")
        return errors + self._annotations(annotations)

    def _variable(self, row: Document, path: str) -> Errors:
        name, text = row.get("name") or "", row.get("expression") or ""
        errors: Errors = []
        if not name.strip():
            errors.append(required(f"{path}.name", "name is not specified"))
        elif not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
            errors.append(invalid(f"{path}.name", name, "name is not a valid CEL identifier"))
        if not text.strip():
            return [*errors, required(f"{path}.expression", "expression is not specified")]
        made = self._variables[name] = compiled(text, self._scope(text))
        return errors + ([invalid(f"{path}.expression", text, made.error)] if made.error else [])

    def _validation(self, row: Document, path: str) -> Errors:
        text, message = row.get("expression") or "", row.get("message") or ""
        words = row.get("messageExpression") or ""
        if text.strip():
            errors = self._check(text, f"{path}.expression", (types.BOOL,))
        else:
            errors = [required(f"{path}.expression", "expression is not specified")]
        if words and not words.strip():
            errors.append(invalid(f"{path}.messageExpression", words, "must be non-empty if specified"))
        elif words:
            errors += self._check(words, f"{path}.messageExpression", (types.STRING,), has_authorizer=False)
        if message and not message.strip():
            errors.append(invalid(f"{path}.message", message, "message must be non-empty if specified"))
        elif "\n" in message.strip() or "\r" in message.strip():
            errors.append(invalid(f"{path}.message", message, "message must not contain line breaks"))
        if row.get("reason") is not None and row["reason"] not in _REASONS:
            errors.append(not_supported(f"{path}.reason", row["reason"], _REASONS))
        return errors

    def _annotations(self, rows: list[Any]) -> Errors:
        errors: Errors = []
        if len(rows) > _MAX_ANNOTATIONS:
            text = f"must not have more than {_MAX_ANNOTATIONS} auditAnnotations"
            errors.append(invalid("spec.auditAnnotations", rows, text))
        seen = set()
        for index, row in enumerate(rows):
            path, key = f"spec.auditAnnotations[{index}]", row.get("key") or ""
            text = row.get("valueExpression") or ""
            full = f"{self._name}/{key}"
            errors += messages(f"{path}.key", full, names.qualified_name(full))
            if not text.strip():
                errors.append(required(f"{path}.valueExpression", "valueExpression is not specified"))
            elif len(text.strip()) > _MAX_ANNOTATION:
                problem = f"must not exceed {_MAX_ANNOTATION} bytes in length"
                errors.append(required(f"{path}.valueExpression", problem))
            else:
                errors += self._check(text, f"{path}.valueExpression", (types.STRING, types.NULL))
            if key in seen:
                errors.append(duplicate(f"{path}.key", key))
            seen.add(key)
        return errors


def _param_kind(kind: Document, path: str) -> Errors:
    errors: Errors = []
    text, name = kind.get("apiVersion") or "", kind.get("kind") or ""
    group, _, version = text.rpartition("/")
    if not text:
        errors.append(required(f"{path}.apiVersion"))
    elif text.count("/") > 1:
        errors.append(invalid(f"{path}.apiVersion", text, f"unexpected GroupVersion string: {text}"))
    else:
        if group and (wrong := names.dns_subdomain(group)):
            errors.append(invalid(f"{path}.apiVersion", group, ",".join(wrong)))
        if not version:
            errors.append(invalid(f"{path}.apiVersion", text, "version must be specified"))
        elif wrong := names.dns_1035_label(version):
            errors.append(invalid(f"{path}.apiVersion", version, ",".join(wrong)))
    if not name:
        errors.append(required(f"{path}.kind"))
    elif wrong := names.dns_1035_label(name.lower()):
        text = "may have mixed case, but should otherwise match: " + ",".join(wrong)
        errors.append(invalid(f"{path}.kind", name, text))
    return errors


# --- bindings -------------------------------------------------------------------------------------


def binding_rules(binding: Document) -> Errors:
    """Every rule that a ValidatingAdmissionPolicyBinding breaks."""
    spec = mapped(binding.get("spec"))
    errors = mutating_binding_rules(binding)
    actions, path = listed(spec.get("validationActions")), "spec.validationActions"
    for index, action in enumerate(actions):
        if action not in _ACTIONS:
            errors.append(not_supported(f"{path}[{index}]", action, _ACTIONS))
        if action in actions[:index]:
            errors.append(duplicate(f"{path}[{index}]", action))
    if {"Deny", "Warn"} <= set(actions):
        text = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the "
            "API response and headers serves no purpose)"
        )
        errors.append(invalid(path, actions, text))
    if not actions:
        errors.append(required(path, "at least one validation action is required"))
    return errors


def mutating_binding_rules(binding: Document) -> Errors:
    """Every rule that a MutatingAdmissionPolicyBinding breaks: those without actions."""
    spec = mapped(binding.get("spec"))
    name = spec.get("policyName") or ""
    errors = messages("spec.policyName", name, names.dns_subdomain(name))
    if not name:
        errors = [required("spec.policyName")]
    if spec.get("paramRef") is not None:
        errors += _param_ref(mapped(spec["paramRef"]), "spec.paramRef")
    if spec.get("matchResources") is not None:
        # Upstream's own spelling of the path.
        errors += match_rules(mapped(spec["matchResources"]), "spec.matchResouces")
    return errors


def _param_ref(reference: Document, path: str) -> Errors:
    errors: Errors = []
    name, selector = reference.get("name") or "", reference.get("selector")
    exclusive = "name and selector are mutually exclusive"
    if name:
        errors += messages(f"{path}.name", name, names.path_segment(name))
        errors += [forbidden(f"{path}.name", exclusive)] if selector is not None else []
    if selector is not None:
        errors += label_selector(selector, f"{path}.selector")
        errors += [forbidden(f"{path}.selector", exclusive)] if name else []
    if not name and selector is None:
        errors.append(required(path, "one of name or selector must be specified"))
    return errors + choice(reference, "parameterNotFoundAction", path, ("Allow", "Deny"))
