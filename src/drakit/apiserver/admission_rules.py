"""What makes policies, bindings and webhook configurations valid.

Expressions are compiled in the environment for new ones; what the object said before stays good.
Source: kubernetes pkg/apis/admissionregistration/validation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

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
    too_many,
)
from drakit.model.validation.workload import label_selector
from drakit.profile import Profile
from drakit.transport import Document

_FAILURES = ("Fail", "Ignore")
_MATCHES = ("Equivalent", "Exact")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")
_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_REVIEWS = ("v1", "v1beta1")
_MAX_CONDITIONS, _MAX_ANNOTATIONS, _MAX_ANNOTATION = 64, 20, 5 * 1024
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = frozenset((
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if",
    "import", "let", "loop", "package", "namespace", "return", "var", "void", "while",
))  # fmt: skip


# --- policies -------------------------------------------------------------------------------------


def policy_rules(policy: Document, old: Document | None, profile: Profile) -> Errors:
    """Every rule that a ValidatingAdmissionPolicy breaks."""
    spec = mapped(policy.get("spec"))
    errors = _choice(spec, "failurePolicy", "spec", _FAILURES)
    if (kind := spec.get("paramKind")) is not None:
        errors += _param_kind(mapped(kind), "spec.paramKind")
    match = spec.get("matchConstraints")
    if match is None:
        errors.append(required("spec.matchConstraints"))
    else:
        errors += _match(mapped(match), "spec.matchConstraints")
        if not listed(mapped(match).get("resourceRules")):
            errors.append(required("spec.matchConstraints.resourceRules"))
    return errors + _PolicyExpressions(policy, old, profile).errors()


class _PolicyExpressions:
    """The rules of a policy's expressions."""

    def __init__(self, policy: Document, old: Document | None, profile: Profile) -> None:
        self._name = mapped(policy.get("metadata")).get("name") or ""
        self._spec = mapped(policy.get("spec"))
        self._old = mapped(mapped(old).get("spec"))
        self._has_params = self._spec.get("paramKind") is not None
        self._profile = profile
        self._variables: dict[str, Compiled] = {}
        self._known = frozenset(_texts(self._old))

    def _scope(self, text: str, *, has_authorizer: bool = True) -> Environment:
        return scope(
            self._profile,
            has_params=self._has_params,
            has_authorizer=has_authorizer,
            variables=variable_types(self._variables),
            is_new=text not in self._known,
        )

    def _check(
        self, text: str, path: str, wanted: tuple[Type, ...], *, has_authorizer: bool = True
    ) -> Errors:
        error = compiled(text, self._scope(text, has_authorizer=has_authorizer), wanted).error
        return [invalid(path, text, error)] if error else []

    def errors(self) -> Errors:
        spec = self._spec
        errors: Errors = []
        for index, row in enumerate(listed(spec.get("variables"))):
            errors += self._variable(mapped(row), f"spec.variables[{index}]")
        if spec.get("matchConditions") != self._old.get("matchConditions") or not self._old:
            rows = listed(spec.get("matchConditions"))
            errors = _conditions(rows, "spec.matchConditions", self._scope) + errors
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


def _texts(spec: Document) -> Iterable[str]:
    """The expressions that were there before."""
    for field, names_ in (
        ("matchConditions", ("expression",)),
        ("validations", ("expression", "messageExpression")),
        ("variables", ("expression",)),
        ("auditAnnotations", ("valueExpression",)),
    ):
        for row in listed(spec.get(field)):
            yield from (str(row.get(name) or "") for name in names_)


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
    name = spec.get("policyName") or ""
    errors = messages("spec.policyName", name, names.dns_subdomain(name))
    if not name:
        errors = [required("spec.policyName")]
    if spec.get("paramRef") is not None:
        errors += _param_ref(mapped(spec["paramRef"]), "spec.paramRef")
    if spec.get("matchResources") is not None:
        # Upstream's own spelling of the path.
        errors += _match(mapped(spec["matchResources"]), "spec.matchResouces")
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
    return errors + _choice(reference, "parameterNotFoundAction", path, ("Allow", "Deny"))


# --- webhooks -------------------------------------------------------------------------------------


def webhook_rules(configuration: Document, old: Document | None, profile: Profile) -> Errors:
    """Every rule that a configuration of webhooks breaks."""
    before = {row.get("name"): mapped(row) for row in listed(mapped(old).get("webhooks"))}
    errors: Errors = []
    seen = set()
    for index, webhook in enumerate(listed(configuration.get("webhooks"))):
        path, name = f"webhooks[{index}]", webhook.get("name") or ""
        errors += _webhook(mapped(webhook), before.get(name, {}), path, profile)
        if name and name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
    return errors


def _webhook(webhook: Document, old: Document, path: str, profile: Profile) -> Errors:
    errors = _qualified(webhook.get("name") or "", f"{path}.name")
    for index, rule in enumerate(listed(webhook.get("rules"))):
        errors += _rule(mapped(rule), f"{path}.rules[{index}]")
    for field, choices in (("failurePolicy", _FAILURES), ("matchPolicy", _MATCHES)):
        errors += _choice(webhook, field, path, choices)
    effects = webhook.get("sideEffects")
    if effects is None:
        errors.append(required(f"{path}.sideEffects", f"must specify one of {', '.join(_SIDE_EFFECTS)}"))
    elif effects not in _SIDE_EFFECTS:
        errors.append(not_supported(f"{path}.sideEffects", effects, _SIDE_EFFECTS))
    seconds = webhook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        errors.append(invalid(f"{path}.timeoutSeconds", seconds, text))
    for field in ("namespaceSelector", "objectSelector"):
        errors += label_selector(webhook.get(field), f"{path}.{field}")
    if webhook.get("reinvocationPolicy") is not None:
        errors += _choice(webhook, "reinvocationPolicy", path, ("IfNeeded", "Never"))
    errors += client_rules(mapped(webhook.get("clientConfig")), f"{path}.clientConfig")
    rows, known = listed(webhook.get("matchConditions")), frozenset(_texts(old))
    errors += _conditions(
        rows, f"{path}.matchConditions", lambda text: scope(profile, is_new=text not in known)
    )
    return errors + _review_versions(listed(webhook.get("admissionReviewVersions")), path)


def _qualified(name: str, path: str) -> Errors:
    if not name:
        return [required(path)]
    errors = messages(path, name, names.dns_subdomain(name))
    if not errors and name.count(".") < 2:
        errors.append(
            invalid(path, name, "should be a domain with at least three segments separated by dots")
        )
    return errors


def client_rules(config: Document, path: str) -> Errors:
    """The rules for where a webhook is."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [required(path, "exactly one of url or service is required")]
    if url is not None:
        return _url(str(url), f"{path}.url")
    service, place = mapped(service), f"{path}.service"
    errors = [required(f"{place}.{field}") for field in ("name", "namespace") if not service.get(field)]
    port = service.get("port", 443)
    if not 0 < port < 65536:
        errors.append(
            invalid(f"{place}.port", port, "port is not valid: must be between 1 and 65535, inclusive")
        )
    where = service.get("path")
    if where and not where.startswith("/"):
        errors.append(invalid(f"{place}.path", where, "must start with a '/'"))
    return errors


def _url(text: str, path: str) -> Errors:
    form = "; desired format: https://host[/path]"
    try:
        parts = urlsplit(text)
    except ValueError as error:
        return [required(path, f"url must be a valid URL: {error}{form}")]
    errors: Errors = []
    if parts.scheme != "https":
        errors.append(invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{form}"))
    if not parts.netloc:
        errors.append(invalid(path, parts.netloc, f"host must be specified{form}"))
    if parts.username is not None:
        errors.append(invalid(path, parts.username, "user information is not permitted in the URL"))
    if parts.fragment:
        errors.append(invalid(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(invalid(path, parts.query, "query parameters are not permitted in the URL"))
    return errors


def _review_versions(versions: list[Any], path: str) -> Errors:
    place, choices = f"{path}.admissionReviewVersions", ", ".join(_REVIEWS)
    if not versions:
        return [required(place, f"must specify one of {choices}")]
    errors: Errors = []
    for index, version in enumerate(versions):
        if version in versions[:index]:
            errors.append(invalid(f"{place}[{index}]", version, "duplicate version"))
        else:
            errors += messages(f"{place}[{index}]", version, names.dns_1035_label(version))
    if not set(versions) & set(_REVIEWS):
        errors.append(invalid(place, versions, f"must include at least one of {choices}"))
    return errors


# --- what they have in common ---------------------------------------------------------------------


def _choice(document: Mapping[str, Any], field: str, path: str, choices: tuple[str, ...]) -> Errors:
    value, place = document.get(field), f"{path}.{field}"
    if value in (None, ""):
        return [required(place)]
    return [] if value in choices else [not_supported(place, value, choices)]


def _conditions(rows: list[Any], path: str, scope_of: Callable[[str], Environment]) -> Errors:
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


def _match(match: Document, path: str) -> Errors:
    errors = _choice(match, "matchPolicy", path, _MATCHES)
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
            errors += _rule(mapped(rule), place)
    return errors


def _rule(rule: Document, path: str) -> Errors:
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
