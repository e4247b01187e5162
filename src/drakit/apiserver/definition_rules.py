"""What makes a CustomResourceDefinition valid: its names, its versions, columns and subresources.

Where all versions have the same schema, columns or subresources, errors name them as upstream does, at the
top of the spec. Schemas have their rules in `structural`.
Source: apiextensions-apiserver/pkg/apis/apiextensions/validation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drakit.apiserver.custom_path import find_field
from drakit.apiserver.custom_rules import rule_errors, rule_texts
from drakit.apiserver.structural import schema_rules
from drakit.apiserver.webhook_rules import client_rules
from drakit.model.validation import names
from drakit.model.validation.field import (
    Errors,
    duplicate,
    forbidden,
    immutable,
    invalid,
    listed,
    mapped,
    not_supported,
    required,
    too_many,
)
from drakit.profile import Profile
from drakit.transport import Document

_APPROVED = "api-approved.kubernetes.io"
_MAX_SELECTABLE = 8
_NOT_SELECTABLE = (
    "must point to a field of type string, boolean or integer. Enum string fields and strings with formats "
    "are allowed."
)
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")


def definition_rules(definition: Document, old: Document | None, profile: Profile) -> Errors:
    """Every rule that `definition` breaks, or that the change from `old` does."""
    spec = mapped(definition.get("spec"))
    errors = _identity(definition, spec) + _names(mapped(spec.get("names")), "spec.names")
    errors += _versions(listed(spec.get("versions")))
    for schema, path in _hoisted(spec, "schema", "spec.validation"):
        own, place = mapped(schema).get("openAPIV3Schema"), f"{path}.openAPIV3Schema"
        wrong = schema_rules(own, place)
        if not wrong and isinstance(own, dict):
            wrong = rule_errors(own, place, profile, _rules_before(old))
        errors += wrong
    for columns, path in _hoisted(spec, "additionalPrinterColumns", "spec.additionalPrinterColumns"):
        for index, column in enumerate(listed(columns)):
            errors += _column(mapped(column), f"{path}[{index}]")
    for subresources, path in _hoisted(spec, "subresources", "spec.subresources"):
        if (scale := mapped(subresources).get("scale")) is not None:
            errors += _scale(mapped(scale), f"{path}.scale")
    errors += _selectable(spec) + _conversion(mapped(spec.get("conversion")), "spec.conversion")
    return errors if old is None else errors + _changes(definition, spec, mapped(old.get("spec")), old)


def not_done(definition: Document) -> list[str]:
    """Warnings about what a valid definition says and this server does not do."""
    spec = mapped(definition.get("spec"))
    stored = [version.get("name") for version in listed(spec.get("versions")) if version.get("storage")]
    if mapped(spec.get("conversion")).get("strategy") == "Webhook" and len(listed(spec.get("versions"))) > 1:
        return [
            "spec.conversion.strategy: this server calls no conversion webhook: it serves only the version "
            f"that is stored, {', '.join(map(str, stored))}"
        ]
    return []


def _rules_before(old: Document | None) -> frozenset[str]:
    """The rules in CEL that were there already."""
    versions = [mapped(version) for version in listed(mapped(mapped(old).get("spec")).get("versions"))]
    schemas = [mapped(mapped(version.get("schema")).get("openAPIV3Schema")) for version in versions]
    return frozenset(text for schema in schemas for text in rule_texts(schema))


def _hoisted(spec: Document, field: str, top: str) -> Iterator[tuple[Any, str]]:
    """The values of `field` with their paths: one at `top` if all versions have the same."""
    versions = [mapped(version) for version in listed(spec.get("versions"))]
    values = [version.get(field) for version in versions]
    if values and values[0] is not None and all(value == values[0] for value in values):
        yield values[0], top
        return
    for index, value in enumerate(values):
        if value is not None:
            yield value, f"spec.versions[{index}].{field}"


# --- names and versions ---------------------------------------------------------------------------


def _identity(definition: Document, spec: Document) -> Errors:
    group, plural = spec.get("group") or "", mapped(spec.get("names")).get("plural") or ""
    metadata = definition["metadata"]
    name = metadata.get("name") or ""
    errors: Errors = []
    if name != f"{plural}.{group}":
        errors.append(invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    is_protected = group.endswith((".k8s.io", ".kubernetes.io")) or group in ("k8s.io", "kubernetes.io")
    if is_protected and not mapped(metadata.get("annotations")).get(_APPROVED):
        text = (
            f'protected groups must have approval annotation "{_APPROVED}", '
            "see https://github.com/kubernetes/enhancements/pull/1111"
        )
        errors.append(required(f"metadata.annotations[{_APPROVED}]", text))
    if not group:
        errors.append(required("spec.group"))
    elif wrong := names.dns_subdomain(group):
        errors.append(invalid("spec.group", group, ",".join(wrong)))
    elif "." not in group:
        errors.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    scope = spec.get("scope") or ""
    if not scope:
        errors.append(required("spec.scope"))
    elif scope not in ("Cluster", "Namespaced"):
        errors.append(not_supported("spec.scope", scope, ("Cluster", "Namespaced")))
    if spec.get("preserveUnknownFields"):
        errors.append(invalid("spec.preserveUnknownFields", True, "must be false"))
    return errors


def _names(given: Document, path: str) -> Errors:
    errors: Errors = [
        required(f"{path}.{field}")
        for field in ("plural", "singular", "kind", "listKind")
        if not given.get(field)
    ]
    for field in ("plural", "singular"):
        value = given.get(field) or ""
        if value and (wrong := names.dns_1035_label(value)):
            errors.append(invalid(f"{path}.{field}", value, ",".join(wrong)))
    for field in ("kind", "listKind"):
        value = given.get(field) or ""
        if value and (wrong := names.dns_1035_label(value.lower())):
            text = "may have mixed case, but should otherwise match: " + ",".join(wrong)
            errors.append(invalid(f"{path}.{field}", value, text))
    for field in ("shortNames", "categories"):
        for index, value in enumerate(listed(given.get(field))):
            if wrong := names.dns_1035_label(value):
                errors.append(invalid(f"{path}.{field}[{index}]", value, ",".join(wrong)))
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        text = "kind and listKind may not be the same"
        errors.append(invalid(f"{path}.listKind", given["listKind"], text))
    return errors


def _versions(versions: list[Any]) -> Errors:
    path = "spec.versions"
    shown = [mapped(version).get("name") for version in versions]
    errors: Errors = []
    for index, version in enumerate(versions):
        name = mapped(version).get("name") or ""
        if wrong := names.dns_1035_label(name):
            errors.append(invalid(f"{path}[{index}].name", name, ",".join(wrong)))
        if version.get("deprecationWarning") and not version.get("deprecated"):
            text = "can only be set for deprecated versions"
            errors.append(invalid(f"{path}[{index}].deprecationWarning", version["deprecationWarning"], text))
    if len(set(shown)) != len(shown):
        errors.append(invalid(path, shown, "must contain unique version names"))
    if sum(1 for version in versions if version.get("storage")) != 1:
        errors.append(invalid(path, shown, "must have exactly one version marked as storage version"))
    for index, version in enumerate(versions):
        if not isinstance(mapped(version.get("schema")).get("openAPIV3Schema"), dict):
            errors.append(required(f"{path}[{index}].schema.openAPIV3Schema", "schemas are required"))
    return errors


def _changes(definition: Document, spec: Document, before: Document, old: Document) -> Errors:
    errors: Errors = []
    status = mapped(old.get("status"))
    is_established = any(
        row.get("type") == "Established" and row.get("status") == "True"
        for row in listed(status.get("conditions"))
    )
    own, previous = mapped(spec.get("names")), mapped(before.get("names"))
    if is_established:
        errors += immutable("spec.scope", spec.get("scope"), before.get("scope"))
        errors += immutable("spec.names.kind", own.get("kind"), previous.get("kind"))
    errors += immutable("spec.group", spec.get("group"), before.get("group"))
    errors += immutable("spec.names.plural", own.get("plural"), previous.get("plural"))
    present = {version.get("name") for version in listed(spec.get("versions"))}
    for index, name in enumerate(listed(mapped(definition.get("status")).get("storedVersions"))):
        if name not in present:
            text = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and "
                f"removes {name} from status.storedVersions"
            )
            errors.append(invalid(f"status.storedVersions[{index}]", name, text))
    return errors


def _column(column: Document, path: str) -> Errors:
    errors: Errors = []
    kind, form, where = column.get("type") or "", column.get("format") or "", column.get("jsonPath") or ""
    if not column.get("name"):
        errors.append(required(f"{path}.name"))
    text = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not kind:
        errors.append(required(f"{path}.type", text))
    elif kind not in _COLUMN_TYPES:
        errors.append(invalid(f"{path}.type", kind, text))
    if form and form not in _COLUMN_FORMATS:
        errors.append(invalid(f"{path}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}"))
    return errors + (_json_path(where, f"{path}.jsonPath") if where else [required(f"{path}.jsonPath")])


def _selectable(spec: Document) -> Errors:
    """The fields that selectors may name."""
    errors: Errors = []
    for rows, path in _hoisted(spec, "selectableFields", "spec.selectableFields"):
        version = next(row for row in listed(spec.get("versions")) if row.get("selectableFields") is rows)
        schema = mapped(mapped(version.get("schema")).get("openAPIV3Schema"))
        seen: set[str] = set()
        for index, row in enumerate(listed(rows)):
            place, text = f"{path}[{index}]", mapped(row).get("jsonPath") or ""
            if not text:
                errors.append(required(f"{place}.jsonPath"))
                continue
            try:
                found, below = find_field(text, schema, has_brackets=False)
            except ValueError as error:
                errors.append(invalid(f"{place}.jsonPath", text, f"is an invalid path: {error}"))
                continue
            if found.partition(".")[0] == "metadata":
                errors.append(invalid(place, text, "must not point to fields in metadata"))
            if below.get("type") not in ("string", "boolean", "integer"):
                errors.append(invalid(place, text, _NOT_SELECTABLE))
            errors += [duplicate(place, text)] if found in seen else []
            seen.add(found)
        if len(seen) > _MAX_SELECTABLE:
            errors.append(too_many(path, len(seen), _MAX_SELECTABLE))
    return errors


def _conversion(conversion: Document, path: str) -> Errors:
    strategy, webhook = conversion.get("strategy") or "", mapped(conversion.get("webhook"))
    if strategy and strategy not in ("None", "Webhook"):
        return [not_supported(f"{path}.strategy", strategy, ("None", "Webhook"))]
    client, versions = webhook.get("clientConfig"), listed(webhook.get("conversionReviewVersions"))
    place, reviews = f"{path}.webhookClientConfig", f"{path}.conversionReviewVersions"
    if strategy != "Webhook":
        text = "should not be set when strategy is not set to Webhook"
        errors = [forbidden(place, text)] if client is not None else []
        return errors + ([forbidden(reviews, text)] if versions else [])
    if client is None:
        errors = [required(place, "required when strategy is set to Webhook")]
    else:
        errors = client_rules(mapped(client), place)
    if not versions:
        errors.append(required(reviews))
    elif not {"v1", "v1beta1"} & set(map(str, versions)):
        errors.append(invalid(reviews, versions, "must include at least one of v1, v1beta1"))
    return errors


def _scale(scale: Document, path: str) -> Errors:
    errors: Errors = []
    fields = (
        ("specReplicasPath", ".spec."),
        ("statusReplicasPath", ".status."),
        ("labelSelectorPath", ".status."),
    )
    for field, beginning in fields:
        where, value = f"{path}.{field}", scale.get(field) or ""
        if not value:
            errors += [] if field == "labelSelectorPath" else [required(where)]
        elif wrong := _json_path(value, where):
            errors += wrong
        elif not value.startswith(beginning) and not (field == "labelSelectorPath" and value[:6] == ".spec."):
            among = ".spec or .status" if field == "labelSelectorPath" else beginning[:-1]
            errors.append(invalid(where, value, f"should be a json path under {among}"))
    return errors


def _json_path(text: str, path: str) -> Errors:
    return [] if text.startswith(".") else [invalid(path, text, "must be a simple json path starting with .")]
