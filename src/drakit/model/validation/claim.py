"""Rules for ResourceClaim and ResourceClaimTemplate specs, in v1 shape.

Source: pkg/apis/resource/validation/validation.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from drakit.model.validation import device, go
from drakit.model.validation.device import Compile
from drakit.model.validation.field import (
    Errors,
    each,
    immutable,
    invalid,
    listed,
    mapped,
    not_supported,
    required,
)
from drakit.model.validation.meta import template_meta
from drakit.model.validation.names import dns_subdomain
from drakit.profile import Gate, Profile

Document = dict[str, Any]
Requests = Mapping[str, frozenset[str]]
"""The names of a claim's requests, each with those of its subrequests."""

MAX_SUBREQUESTS = 8
MAX_DERIVED = 32
_MODES = ("All", "ExactCount")


class Rules(Struct, frozen=True):
    """What the checks need beside the claim: the compiler of selectors, and the profile."""

    compile: Compile | None
    profile: Profile

    @property
    def forbids_slashes(self) -> bool:
        return self.profile.at_least("1.37")


def claim(document: Document, rules: Rules) -> Errors:
    return claim_spec(mapped(document.get("spec")), "spec", rules)


def claim_update(document: Document, old: Document, profile: Profile) -> Errors:
    """The spec never changes."""
    new, has_derived = document.get("spec"), profile.at_least("1.37")
    return immutable("spec", new, old.get("spec"), lambda: go.claim_spec(new, has_derived=has_derived))


def template(document: Document, rules: Rules) -> Errors:
    spec = mapped(document.get("spec"))
    errors = template_meta(spec.get("metadata"), "spec.metadata")
    return errors + claim_spec(mapped(spec.get("spec")), "spec.spec", rules)


def template_update(document: Document, old: Document, profile: Profile) -> Errors:
    new, has_derived = document.get("spec"), profile.at_least("1.37")
    return immutable("spec", new, old.get("spec"), lambda: go.template_spec(new, has_derived=has_derived))


def request_names(spec: Document) -> Requests:
    devices = mapped(spec.get("devices"))
    return {
        str(request.get("name") or ""): frozenset(
            str(sub.get("name") or "") for sub in listed(request.get("firstAvailable"))
        )
        for request in listed(devices.get("requests"))
    }


def request_reference(name: str, path: str, requests: Requests) -> Errors:
    """The rules for `request` or `request/subrequest` that must exist in the claim."""
    parts = name.split("/")
    if len(parts) > 2:
        return [invalid(path, name, device.REQUEST_REFERENCE)]
    errors = [error for part in parts for error in device.label_name(part, path)]
    subrequests = requests.get(parts[0])
    if subrequests is None or (len(parts) == 2 and parts[1] not in subrequests):
        errors.append(invalid(path, name, device.REQUEST_REFERENCE))
    return errors


def request_references(value: Any, path: str, requests: Requests) -> Errors:
    def check(name: str, place: str) -> Errors:
        return request_reference(name, place, requests)

    return each(value, device.MAX_REQUESTS, check, path, key=lambda name: name)


def claim_spec(spec: Document, path: str, rules: Rules) -> Errors:
    devices, at = mapped(spec.get("devices")), f"{path}.devices"
    requests = request_names(spec)
    constraints = listed(devices.get("constraints"))
    used = _constrained(constraints)

    def check_request(request: Document, place: str) -> Errors:
        return _request(request, place, rules, used)

    def check_constraint(constraint: Document, place: str) -> Errors:
        return _constraint(constraint, place, requests, rules)

    def check_config(config: Document, place: str) -> Errors:
        errors = request_references(config.get("requests"), f"{place}.requests", requests)
        return errors + device.configuration(config, place, is_stored=rules.compile is None)

    errors = each(
        devices.get("requests"),
        device.MAX_REQUESTS,
        check_request,
        f"{at}.requests",
        key=lambda request: request.get("name") or "",
    )
    errors += each(constraints, device.MAX_REQUESTS, check_constraint, f"{at}.constraints")
    return errors + each(devices.get("config"), device.MAX_CONFIGS, check_config, f"{at}.config")


def _constrained(constraints: list[Document]) -> dict[str, set[str]]:
    """The attributes that constraints name, by the request they apply to ("" for all)."""
    used: dict[str, set[str]] = {}
    for constraint in constraints:
        name = constraint.get("matchAttribute") or constraint.get("distinctAttribute")
        if name:
            for request in listed(constraint.get("requests")) or [""]:
                used.setdefault(request, set()).add(name)
    return used


def _request(request: Document, path: str, rules: Rules, used: dict[str, set[str]]) -> Errors:
    name = request.get("name") or ""
    errors = device.label_name(name, f"{path}.name")
    exactly, alternatives = request.get("exactly"), listed(request.get("firstAvailable"))
    text = "exactly one of `exactly` or `firstAvailable` is required"
    if exactly is None and not alternatives:
        errors.append(required(path, text))
    elif exactly is not None and alternatives:
        errors.append(invalid(path, None, f"{text}, but multiple fields are set"))
    elif alternatives:

        def check(subrequest: Document, place: str) -> Errors:
            sub_name = subrequest.get("name") or ""
            found = device.label_name(sub_name, f"{place}.name")
            return found + _exact(subrequest, place, rules, used, f"{name}/{sub_name}")

        errors += each(
            alternatives,
            MAX_SUBREQUESTS,
            check,
            f"{path}.firstAvailable",
            key=lambda subrequest: subrequest.get("name") or "",
        )
    else:
        errors += _exact(mapped(exactly), f"{path}.exactly", rules, used, name)
    return errors


def _exact(request: Document, path: str, rules: Rules, used: dict[str, set[str]], name: str) -> Errors:
    device_class = request.get("deviceClassName") or ""
    at = f"{path}.deviceClassName"
    if device_class:
        errors = [invalid(at, device_class, text) for text in dns_subdomain(device_class)]
    else:
        errors = [required(at)]
    errors += device.selectors(request.get("selectors"), f"{path}.selectors", rules.compile)
    errors += _derived(request.get("derivedAttributes"), f"{path}.derivedAttributes", used, name)
    mode, count = request.get("allocationMode") or "", request.get("count") or 0
    if mode == "All":
        if count:
            text = "must not be specified when allocationMode is 'All'"
            errors.append(invalid(f"{path}.count", count, text))
    elif mode == "ExactCount":
        if count <= 0:
            errors.append(invalid(f"{path}.count", count, "must be greater than zero"))
    else:
        errors.append(not_supported(f"{path}.allocationMode", mode, _MODES))
    return errors + device.tolerations(request.get("tolerations"), f"{path}.tolerations")


def _derived(value: Any, path: str, used: dict[str, set[str]], request: str) -> Errors:
    """Derived attributes: each has a name that a constraint uses, and an expression."""

    def check(attribute: Document, place: str) -> Errors:
        name, text = attribute.get("name") or "", attribute.get("expression") or ""
        errors: Errors = []
        if not name:
            errors.append(required(f"{place}.name"))
        else:
            errors += device.fully_qualified_name(name, f"{place}.name")
            targets = ("", request, request.partition("/")[0])
            if not any(name in used.get(target, ()) for target in targets):
                why = (
                    "must be referenced by at least one matchAttribute or distinctAttribute constraint "
                    "targeting this request"
                )
                errors.append(invalid(f"{place}.name", name, why))
        return errors if text else [*errors, required(f"{place}.expression")]

    return each(value, MAX_DERIVED, check, path, key=lambda attribute: attribute.get("name") or "")


def _constraint(constraint: Document, path: str, requests: Requests, rules: Rules) -> Errors:
    errors = request_references(constraint.get("requests"), f"{path}.requests", requests)
    for field in ("matchAttribute", "distinctAttribute"):
        name = constraint.get(field)
        if name is not None:
            slashes = rules.forbids_slashes
            return errors + device.fully_qualified_name(name, f"{path}.{field}", forbids_slashes=slashes)
    if rules.profile.is_on(Gate.CONSUMABLE_CAPACITY):
        text = (
            'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
        )
        return [*errors, required(path, text)]
    return [*errors, required(f"{path}.matchAttribute")]
