"""What makes configurations of webhooks valid.

Source: kubernetes pkg/apis/admissionregistration/validation, apiserver/pkg/util/webhook/validation.go.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from drakit.apiserver.match_rules import (
    FAILURES,
    MATCHES,
    choice,
    condition_rules,
    expressions_of,
    request_rule,
)
from drakit.apiserver.policy_scope import scope
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
)
from drakit.model.validation.workload import label_selector
from drakit.profile import Profile
from drakit.transport import Document

_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_REVIEWS = ("v1", "v1beta1")


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
        errors += request_rule(mapped(rule), f"{path}.rules[{index}]")
    for field, choices in (("failurePolicy", FAILURES), ("matchPolicy", MATCHES)):
        errors += choice(webhook, field, path, choices)
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
        errors += choice(webhook, "reinvocationPolicy", path, ("IfNeeded", "Never"))
    errors += client_rules(mapped(webhook.get("clientConfig")), f"{path}.clientConfig")
    rows, known = listed(webhook.get("matchConditions")), frozenset(expressions_of(old))
    errors += condition_rules(
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
