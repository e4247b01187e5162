"""Rules that several kinds of resource.k8s.io share: names, selectors, config, taints, conditions.

Source: pkg/apis/resource/validation/validation.go, pkg/apis/core/validation/validation.go,
apimachinery/pkg/apis/meta/v1/validation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from drakit.model.validation import names
from drakit.model.validation.field import (
    Errors,
    duplicate,
    each,
    forbidden,
    invalid,
    listed,
    mapped,
    messages,
    not_supported,
    quoted,
    required,
    too_long,
)

Document = dict[str, Any]

MAX_SELECTORS = MAX_REQUESTS = MAX_CONFIGS = 32
MAX_EXPRESSION = 10 * 1024
MAX_COST = 1_000_000
MAX_PARAMETERS = 10 * 1024
MAX_BINDING_CONDITIONS = 4
MAX_DOMAIN, MAX_ID = 63, 32
KEY_LENGTH = MAX_DOMAIN + 1 + MAX_ID

_EFFECTS = ("NoExecute", "NoSchedule", "None")
_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", re.ASCII)
_BARE_UUID = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
REQUEST_REFERENCE = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)


class Compiled(Struct, frozen=True):
    """What compiling an expression came to: the text of what is wrong, or its highest cost."""

    problem: str = ""
    cost: int = 0


Compile = Callable[[str], Compiled]


def driver_name(value: str, path: str) -> Errors:
    if not value:
        return [required(path)]
    errors: Errors = [too_long(path, MAX_DOMAIN)] if len(value.encode()) > MAX_DOMAIN else []
    return errors + messages(path, value, names.dns_subdomain(value.lower()))


def pool_name(value: str, path: str) -> Errors:
    if not value:
        return [required(path)]
    errors: Errors = [too_long(path, 253)] if len(value.encode()) > 253 else []
    for part in value.split("/"):
        errors += messages(path, part, names.dns_subdomain(part))
    return errors


def label_name(value: str, path: str) -> Errors:
    """A DNS label: devices, requests, counters."""
    return messages(path, value, names.dns_label(value))


def share_id(value: str, path: str) -> Errors:
    if problem := _uuid_problem(value):
        return [invalid(path, value, f"error validating uid: {problem}")]
    if len(value) != 36 or value != value.lower():
        text = (
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase "
            "hexadecimal characters"
        )
        return [invalid(path, value, text)]
    return []


def _uuid_problem(value: str) -> str:
    """What is wrong with a UUID in any of its four spellings; "" if nothing is."""
    size = len(value.encode())
    if size == 36 + 9:
        if value[:9].lower() != "urn:uuid:":
            return f"invalid urn prefix: {quoted(value[:9])}"
        value = value[9:]
    elif size == 36 + 2:
        if value[0] != "{" or value[-1] != "}":
            return "invalid bracketed UUID format"
        value = value[1:-1]
    elif size not in (32, 36):
        return f"invalid UUID length: {size}"
    is_well_formed = (_UUID if size != 32 else _BARE_UUID).fullmatch(value)
    return "" if is_well_formed else "invalid UUID format"


def identifier(value: str, path: str) -> Errors:
    errors: Errors = [too_long(path, MAX_ID)] if len(value.encode()) > MAX_ID else []
    return errors + messages(path, value, names.c_identifier(value))


def qualified_name(value: str, path: str, *, forbids_slashes: bool = True) -> Errors:
    """`id` or `domain/id`. Before 1.37 more than one slash went unnoticed (`forbids_slashes` false)."""
    parts = value.split("/")
    if len(parts) == 1:
        return identifier(value, path)
    if len(parts) > 2:
        return [invalid(path, value, "must not contain more than one slash")] if forbids_slashes else []
    domain, name = parts
    errors = driver_name(domain, path) if domain else [invalid(path, "", "the domain must not be empty")]
    return errors + (identifier(name, path) if name else [invalid(path, "", "the name must not be empty")])


def fully_qualified_name(value: str, path: str, *, forbids_slashes: bool = True) -> Errors:
    errors = qualified_name(value, path, forbids_slashes=forbids_slashes)
    if "/" not in value:
        text = "a fully qualified name must be a domain and a name separated by a slash"
        errors.append(invalid(path, value, text))
    return errors


def selectors(value: Any, path: str, compile: Compile | None) -> Errors:
    """The rules for CEL selectors; None for `compile` means that they were checked when stored."""

    def check(selector: Document, place: str) -> Errors:
        cel = selector.get("cel")
        if not isinstance(cel, dict):
            return [required(f"{place}.cel")]
        return expression(cel.get("expression") or "", f"{place}.cel.expression", compile)

    return each(value, MAX_SELECTORS, check, path)


def expression(text: str, path: str, compile: Compile | None) -> Errors:
    if compile is None:
        return []
    if len(text.encode()) > MAX_EXPRESSION:
        return [too_long(path, MAX_EXPRESSION)]
    compiled = compile(text)
    if compiled.problem:
        return [invalid(path, text, compiled.problem)]
    if compiled.cost > MAX_COST:
        return [forbidden(path, "too complex, exceeds cost limit")]
    return []


def configuration(config: Document, path: str, *, is_stored: bool = False) -> Errors:
    opaque = config.get("opaque")
    if not isinstance(opaque, dict):
        return [required(f"{path}.opaque")]
    errors = driver_name(opaque.get("driver") or "", f"{path}.opaque.driver")
    return errors + raw(opaque.get("parameters"), f"{path}.opaque.parameters", MAX_PARAMETERS, is_stored)


def raw(value: Any, path: str, limit: int, is_stored: bool) -> Errors:
    """What must be a JSON object of bounded size."""
    if value is None:
        return [required(path)]
    if not is_stored and len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > limit:
        return [too_long(path, limit)]
    return (
        [] if isinstance(value, dict) else [invalid(path, "<value omitted>", "must be a valid JSON object")]
    )


def toleration(value: Document, path: str) -> Errors:
    errors: Errors = []
    if value.get("key"):
        errors += messages(f"{path}.key", value["key"], names.qualified_name(value["key"]))
    operator, text = value.get("operator") or "", value.get("value") or ""
    if operator == "Exists":
        if text:
            errors.append(invalid(f"{path}.value", text, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        errors += messages(f"{path}.value", text, names.label_value(text))
    elif not operator:
        errors.append(required(f"{path}.operator"))
    else:
        errors.append(not_supported(f"{path}.operator", operator, ("Equal", "Exists")))
    effect = value.get("effect") or ""
    if effect and effect not in _EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, _EFFECTS))
    return errors


def tolerations(value: Any, path: str) -> Errors:
    return each(value, None, toleration, path)


def taint(value: Document, path: str, old: Document | None = None) -> Errors:
    key, text, effect = (value.get(field) or "" for field in ("key", "value", "effect"))
    errors = messages(f"{path}.key", key, names.qualified_name(key))
    if text:
        errors += messages(f"{path}.value", text, names.label_value(text))
    if old is not None and (old.get("effect") or "") == effect:
        return errors
    if not effect:
        errors.append(required(f"{path}.effect"))
    elif effect not in _EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, _EFFECTS))
    return errors


def binding_conditions(holder: Document, path: str) -> Errors:
    """Names of the conditions that bind a device, and of those that fail it."""
    wanted, failing = listed(holder.get("bindingConditions")), listed(holder.get("bindingFailureConditions"))
    wanted_path, failing_path = f"{path}.bindingConditions", f"{path}.bindingFailureConditions"

    def check(name: str, place: str) -> Errors:
        return messages(place, name, names.qualified_name(name))

    errors = each(wanted, MAX_BINDING_CONDITIONS, check, wanted_path)
    errors += each(failing, MAX_BINDING_CONDITIONS, check, failing_path)
    for index, name in enumerate(wanted):
        if name in wanted[:index]:
            errors.append(duplicate(f"{wanted_path}[{index}]", name))
    for index, name in enumerate(failing):
        if name in failing[:index]:
            errors.append(duplicate(f"{failing_path}[{index}]", name))
        if name in wanted:
            text = "bindingFailureConditions must not overlap with bindingConditions"
            errors.append(invalid(f"{failing_path}[{index}]", name, text))
    if failing and not wanted:
        text = "bindingConditions are required to use bindingFailureConditions"
        errors.append(invalid(wanted_path, None, text))
    if wanted and not failing:
        text = "bindingFailureConditions are required to use bindingConditions"
        errors.append(invalid(failing_path, None, text))
    return errors


_SKIPPABLE = ("*", "NodePrepareResources", "NodeUnprepareResources")


def skip_node_operations(value: Any, path: str) -> Errors:
    operations = listed(value)
    errors: Errors = []
    if (
        "NodePrepareResources" in operations
        and "NodeUnprepareResources" not in operations
        and "*" not in operations
    ):
        text = "NodePrepareResources cannot be skipped unless NodeUnprepareResources is also skipped"
        errors.append(invalid(path, operations, text))
    for index, operation in enumerate(operations):
        if operation in operations[:index]:
            errors.append(duplicate(f"{path}[{index}]", operation))
        elif operation not in _SKIPPABLE:
            errors.append(not_supported(f"{path}[{index}]", operation, _SKIPPABLE))
    return errors


def conditions(value: Any, path: str) -> Errors:
    """The rules for a list of metav1 Conditions."""
    errors: Errors = []
    seen: set[str] = set()
    for index, condition in enumerate(listed(value)):
        place, kind = f"{path}[{index}]", condition.get("type") or ""
        if kind in seen:
            errors.append(duplicate(f"{place}.type", kind))
        seen.add(kind)
        errors += messages(f"{place}.type", kind, names.qualified_name(kind))
        if condition.get("status") not in ("True", "False", "Unknown"):
            choices = ("False", "True", "Unknown")
            errors.append(not_supported(f"{place}.status", condition.get("status") or "", choices))
        if (condition.get("observedGeneration") or 0) < 0:
            generation, text = condition["observedGeneration"], "must be greater than or equal to zero"
            errors.append(invalid(f"{place}.observedGeneration", generation, text))
        if not condition.get("lastTransitionTime"):
            errors.append(required(f"{place}.lastTransitionTime", "must be set"))
        reason = condition.get("reason") or ""
        if not reason:
            errors.append(required(f"{place}.reason", "must be set"))
        elif not _REASON.fullmatch(reason):
            text = (
                "a condition reason must start with alphabetic character, optionally followed by a string of "
                "alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. "
                "'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex "
                f"used for validation is '{_REASON.pattern}')"
            )
            errors.append(invalid(f"{place}.reason", reason, text))
        if len(reason) > 1024:
            errors.append(too_long(f"{place}.reason", 1024))
        if len(condition.get("message") or "") > 32 * 1024:
            errors.append(too_long(f"{place}.message", 32 * 1024))
    return errors


def node_selector(value: Any, path: str) -> Errors:
    """The rules for a core NodeSelector."""
    terms = listed(mapped(value).get("nodeSelectorTerms"))
    at = f"{path}.nodeSelectorTerms"
    if not terms:
        return [required(at, "must have at least one node selector term")]
    errors: Errors = []
    for index, term in enumerate(terms):
        errors += each(
            term.get("matchExpressions"), None, _node_requirement, f"{at}[{index}].matchExpressions"
        )
        errors += each(term.get("matchFields"), None, _node_field, f"{at}[{index}].matchFields")
    return errors


def _node_requirement(requirement: Document, path: str) -> Errors:
    operator, values = requirement.get("operator") or "", listed(requirement.get("values"))
    key, errors = requirement.get("key") or "", []
    if operator in ("In", "NotIn"):
        if not values:
            text = "must be specified when `operator` is 'In' or 'NotIn'"
            errors.append(required(f"{path}.values", text))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden(f"{path}.values", text))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{path}.values", text))
    else:
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    errors += messages(f"{path}.key", key, names.qualified_name(key))
    for index, text in enumerate(values):
        errors += messages(f"{path}.values[{index}]", text, names.label_value(text))
    return errors


def _node_field(requirement: Document, path: str) -> Errors:
    operator, values = requirement.get("operator") or "", listed(requirement.get("values"))
    key, errors = requirement.get("key") or "", []
    if operator not in ("In", "NotIn"):
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    elif len(values) != 1:
        text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(required(f"{path}.values", text))
    if key != "metadata.name":
        errors.append(invalid(f"{path}.key", key, "not a valid field selector key"))
    else:
        for index, name in enumerate(values):
            errors += messages(f"{path}.values[{index}]", name, names.dns_subdomain(name))
    return errors
