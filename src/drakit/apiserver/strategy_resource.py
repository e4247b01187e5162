"""resource.k8s.io: what upstream's strategies do.

Who may change what of a claim's status is asked of the authorizer on two synthetic subresources, as since
1.36: `resourceclaims/binding` for the allocation and the reservations, `resourceclaims/driver` with the
driver's name for the status of its devices.
Source: pkg/registry/resource/*/strategy.go, pkg/registry/resource/utils.go.
"""

from __future__ import annotations

import re
from typing import Any

from drakit import cel
from drakit.apiserver.gated import drop_disabled
from drakit.apiserver.strategy_rules import Context, Rules
from drakit.errors import CELError
from drakit.model.resource import ADMIN_NAMESPACE_LABEL
from drakit.model.validation import claim, claim_status, resource, slice
from drakit.model.validation.device import Compile, Compiled
from drakit.model.validation.field import Errors, forbidden, listed, mapped, quoted, same
from drakit.model.validation.names import long_name
from drakit.profile import Gate, Profile
from drakit.transport import Document

_ADMIN = (
    f"admin access to devices requires the `{ADMIN_NAMESPACE_LABEL}: true` label on the containing namespace"
)
_TAUGHT = re.compile(
    r"""(?P<root>(?:device\.)?(?:attributes|capacity))\[\s*["'](?P<domain>[^"'/]+)/(?P<id>[^"'/]+)["']\s*\]"""
    r"""(?:\.(?:string|int|bool|version|value))?"""
)


def _compiler(profile: Profile) -> Compile:
    def compile(text: str) -> Compiled:
        try:
            return Compiled(cost=cel.compile(text, profile=profile, is_new=True).max_cost)
        except CELError as error:
            return Compiled(problem=error.message)

    return compile


def _hint(document: Any, context: Context) -> None:
    """Tell how to write what teaching material gets wrong: `attributes["domain/id"].string`."""
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(value)
        elif isinstance(value, dict):
            text = value.get("expression")
            stack.extend(value.values())
            if not isinstance(text, str):
                continue
            for found in _TAUGHT.finditer(text[:10240]):
                root = found["root"] if found["root"].startswith("device.") else f"device.{found['root']}"
                better = f'{root}["{found["domain"]}"].{found["id"]}'
                context.hints.append(f"CEL expression: write {better} instead of {found[0]}")


# --- claims and templates -------------------------------------------------------------------------


def _admin(requests: list[Document], namespace: str, context: Context) -> Errors:
    for index, request in enumerate(requests):
        if mapped(request.get("exactly")).get("adminAccess") is True:
            if context.namespace_labels(namespace).get(ADMIN_NAMESPACE_LABEL) == "true":
                return []
            return [forbidden(f"spec.devices.requests[{index}].adminAccess", _ADMIN)]
    return []


def _results(document: Document | None) -> list[Document]:
    allocation = mapped(mapped(mapped(document).get("status")).get("allocation"))
    return listed(mapped(allocation.get("devices")).get("results"))


def _before_claim(new: Document, old: Document | None, subresource: str, context: Context) -> Errors:
    namespace = new["metadata"].get("namespace") or ""
    if old is None:
        return _admin(
            listed(mapped(mapped(new.get("spec")).get("devices")).get("requests")), namespace, context
        )
    if subresource != "status":
        return []
    return _admin_status(new, old, context) + _authorize_status(new, old, context)


def _admin_status(new: Document, old: Document, context: Context) -> Errors:
    if any(result.get("adminAccess") for result in _results(old)):
        return []
    for index, result in enumerate(_results(new)):
        if result.get("adminAccess"):
            namespace = new["metadata"].get("namespace") or ""
            if context.namespace_labels(namespace).get(ADMIN_NAMESPACE_LABEL) == "true":
                return []
            return [forbidden(f"status.allocation.devices.results[{index}].adminAccess", _ADMIN)]
    return []


def _authorize_status(new: Document, old: Document, context: Context) -> Errors:
    refusal = context.refusal
    if refusal is None or not context.profile.is_on(Gate.GRANULAR_STATUS_AUTHORIZATION):
        return []
    status, before = mapped(new.get("status")), mapped(old.get("status"))
    errors: Errors = []
    verb = context.verb or "update"
    bound = ("allocation", "reservedFor")
    if not all(same(status.get(field), before.get(field)) for field in bound) and (
        why := refusal(verb, "resourceclaims/binding", "", "")
    ):
        text = "changing status.allocation or status.reservedFor requires"
        need = f'resource="resourceclaims/binding", verb="{verb}" permission'
        errors.append(forbidden("status", f"{text} {need}: {why}"))
    namespace = new["metadata"].get("namespace") or ""
    verbs = [f"arbitrary-node:{verb}"]
    if context.user_node and context.user_node == _node_of(status.get("allocation")):
        verbs.insert(0, f"associated-node:{verb}")
    gone = _deallocated(new, old)
    kept = [entry for entry in listed(before.get("devices")) if _device_key(entry) not in gone]
    for driver in sorted(_changed_drivers(listed(status.get("devices")), kept)):
        reasons = [refusal(one, "resourceclaims/driver", namespace, driver) for one in verbs]
        if all(reasons):
            need = f'resource="resourceclaims/driver", verb="[{" ".join(verbs)}]" permission'
            errors.append(
                forbidden("status.devices", f"changing status.devices requires {need}: {reasons[0]}")
            )
    return errors


def _changed_drivers(new: list[Document], old: list[Document]) -> set[str]:
    return {str(entry.get("driver")) for entry in [*new, *old] if entry not in new or entry not in old}


def _node_of(allocation: Any) -> str:
    """The one node an allocation is for, or "" if it is not for one."""
    terms = listed(mapped(mapped(allocation).get("nodeSelector")).get("nodeSelectorTerms"))
    if len(terms) != 1 or listed(terms[0].get("matchExpressions")):
        return ""
    fields = listed(terms[0].get("matchFields"))
    if len(fields) != 1 or (fields[0].get("key"), fields[0].get("operator")) != ("metadata.name", "In"):
        return ""
    values = listed(fields[0].get("values"))
    return str(values[0]) if len(values) == 1 else ""


def _prepare_claim(document: Document, context: Context) -> None:
    drop_disabled("ResourceClaim", document, None, context.profile)


def _change_claim(new: Document, old: Document, subresource: str, context: Context) -> None:
    if subresource == "status":
        _drop_deallocated(new, old)
        new["status"] = {**mapped(new.get("status"))}
        drop_disabled("ResourceClaim", {"status": new["status"]}, old, context.profile)
    else:
        drop_disabled("ResourceClaim", {"spec": new.get("spec")}, old, context.profile)


def _device_key(entry: Document) -> tuple[str, ...]:
    return tuple(str(entry.get(field) or "") for field in ("driver", "pool", "device", "shareID"))


def _deallocated(new: Document, old: Document) -> set[tuple[str, ...]]:
    return {_device_key(row) for row in _results(old)} - {_device_key(row) for row in _results(new)}


def _drop_deallocated(new: Document, old: Document) -> None:
    """The status of a device goes with its allocation: who may end that needs no driver's permission."""
    gone = _deallocated(new, old)
    status = mapped(new.get("status"))
    devices = listed(status.get("devices"))
    kept = [entry for entry in devices if _device_key(entry) not in gone]
    if len(kept) != len(devices):
        new["status"] = {name: value for name, value in status.items() if name != "devices"}
        if kept:
            new["status"]["devices"] = kept


def _check_claim(document: Document, old: Document | None, context: Context) -> Errors:
    _hint(document.get("spec"), context)
    rules = claim.Rules(_compiler(context.profile), context.profile)
    return claim.claim(document, rules)


def _before_template(new: Document, old: Document | None, subresource: str, context: Context) -> Errors:
    if old is not None:
        return []
    spec = mapped(mapped(new.get("spec")).get("spec"))
    requests = listed(mapped(spec.get("devices")).get("requests"))
    return _admin(requests, new["metadata"].get("namespace") or "", context)


def _check_template(document: Document, old: Document | None, context: Context) -> Errors:
    _hint(document.get("spec"), context)
    return claim.template(document, claim.Rules(_compiler(context.profile), context.profile))


# --- slices, classes, taint rules, pool status requests -------------------------------------------


def _stamp(taints: Any, now: str) -> None:
    for taint in listed(taints):
        if not taint.get("timeAdded"):
            taint["timeAdded"] = now


def _prepare_slice(document: Document, context: Context) -> None:
    for device in listed(mapped(document.get("spec")).get("devices")):
        _stamp(device.get("taints"), context.now)
    drop_disabled("ResourceSlice", document, None, context.profile)


def _change_slice(new: Document, old: Document, subresource: str, context: Context) -> None:
    for device in listed(mapped(new.get("spec")).get("devices")):
        _stamp(device.get("taints"), context.now)
    drop_disabled("ResourceSlice", new, old, context.profile)


def _warn_slice(document: Document, old: Document | None, context: Context) -> list[str]:
    driver = str(mapped(document.get("spec")).get("driver") or "")
    if driver == driver.lower() or not context.profile.at_least("1.35"):
        return []
    return [f"spec.driver: driver names should be lowercase; {quoted(driver)} contains uppercase characters"]


def _check_class(document: Document, old: Document | None, context: Context) -> Errors:
    _hint(document.get("spec"), context)
    return resource.device_class(document, old, _compiler(context.profile))


def _prepare_rule(document: Document, context: Context) -> None:
    _stamp([mapped(mapped(document.get("spec")).get("taint"))], context.now)


def _change_rule(new: Document, old: Document, subresource: str, context: Context) -> None:
    """A changed effect starts the taint anew: its time is now."""
    if subresource == "status":
        return
    taint, before = mapped(mapped(new.get("spec")).get("taint")), mapped(mapped(old.get("spec")).get("taint"))
    if taint.get("effect") != before.get("effect") and taint.get("timeAdded") == before.get("timeAdded"):
        taint["timeAdded"] = context.now
    _stamp([taint], context.now)


_GROUP = "resource.k8s.io"

RESOURCE_RULES: dict[tuple[str, str], Rules] = {
    (_GROUP, "DeviceClass"): Rules(
        name=long_name,
        revalidates_name=True,
        is_namespaced=False,
        counts_generation=True,
        prepare=lambda document, context: drop_disabled("DeviceClass", document, None, context.profile),
        change=lambda new, old, subresource, context: drop_disabled("DeviceClass", new, old, context.profile),
        check=_check_class,
    ),
    (_GROUP, "DeviceTaintRule"): Rules(
        is_namespaced=False,
        has_status=True,
        status={},
        counts_generation=True,
        prepare=_prepare_rule,
        change=_change_rule,
        check=lambda document, old, context: resource.taint_rule(document, old),
        check_status=lambda document, old, context: resource.taint_rule_status(document),
    ),
    (_GROUP, "ResourceClaim"): Rules(
        revalidates_name=True,
        has_status=True,
        status={},
        prepare=_prepare_claim,
        change=_change_claim,
        before=_before_claim,
        check=_check_claim,
        check_update=lambda new, old, context: claim.claim_update(new, old, context.profile),
        check_status=lambda new, old, context: claim_status.claim_status(new, old, context.profile),
    ),
    (_GROUP, "ResourceClaimTemplate"): Rules(
        prepare=lambda document, context: drop_disabled(
            "ResourceClaimTemplate", document, None, context.profile
        ),
        change=lambda new, old, subresource, context: drop_disabled(
            "ResourceClaimTemplate", new, old, context.profile
        ),
        before=_before_template,
        check=_check_template,
        check_update=lambda new, old, context: claim.template_update(new, old, context.profile),
    ),
    (_GROUP, "ResourcePoolStatusRequest"): Rules(
        is_namespaced=False,
        has_status=True,
        check=lambda document, old, context: resource.pool_status_request(document),
        check_update=lambda new, old, context: resource.pool_status_request_update(new, old),
        check_status=lambda new, old, context: resource.pool_status_request_status(new, old),
    ),
    (_GROUP, "ResourceSlice"): Rules(
        is_namespaced=False,
        counts_generation=True,
        prepare=_prepare_slice,
        change=_change_slice,
        check=lambda document, old, context: slice.resource_slice(document, old, context.profile),
        warn=_warn_slice,
    ),
}
