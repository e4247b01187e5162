"""The options of a write, checked before anything else. Source: apimachinery meta/v1/validation."""

from __future__ import annotations

from collections.abc import Mapping

from drakit.apiserver.registry import Call
from drakit.errors import FieldError, Invalid
from drakit.model.validation.field import forbidden, not_supported, required
from drakit.model.validation.meta import field_manager
from drakit.transport import APPLY_PATCH


def check_dry_run(query: Mapping[str, str], options: str = "CreateOptions") -> None:
    """Raises Invalid (of the given kind of options) for a dryRun that is not All."""
    if errors := _dry_run(query):
        raise Invalid.of("meta.k8s.io", options, "", errors)


def _dry_run(query: Mapping[str, str]) -> list[FieldError]:
    value = query.get("dryRun", "")
    if value in ("", "All"):
        return []
    text = f'Unsupported value: ["{value}"]: supported values: "All"'
    return [FieldError("FieldValueNotSupported", "dryRun", text)]


def check_options(call: Call) -> None:
    """Raises Invalid for options of a create, update or patch that are none."""
    query, errors = call.query, []
    manager = query.get("fieldManager", "")
    if call.verb == "patch":
        if call.content_type != APPLY_PATCH and "force" in query:
            errors.append(forbidden("force", "may not be specified for non-apply patch"))
        elif call.content_type == APPLY_PATCH and not manager:
            errors.append(required("fieldManager", "is required for apply patch"))
    errors += field_manager(manager, "fieldManager")
    errors += _dry_run(query)
    if call.field_validation not in ("Strict", "Warn", "Ignore"):
        choices = ("", "Ignore", "Strict", "Warn")
        errors.append(not_supported("fieldValidation", call.field_validation, choices))
    if errors:
        kind = {"update": "UpdateOptions", "patch": "PatchOptions"}.get(call.verb, "CreateOptions")
        raise Invalid.of("meta.k8s.io", kind, "", errors)
