"""Rules for the containers of a pod. Source: pkg/apis/core/validation/validation.go."""

from __future__ import annotations

from typing import Any

from drakit.model.quantity import Quantity
from drakit.model.validation import names
from drakit.model.validation.field import (
    Errors,
    duplicate,
    forbidden,
    invalid,
    listed,
    mapped,
    messages,
    not_found,
    not_supported,
    required,
)

Document = dict[str, Any]

_PULL = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MESSAGES = ("File", "FallbackToLogsOnError")
_PROBE_NUMBERS = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def containers_of(spec: Document, path: str, volumes: set[str], claims: set[str]) -> Errors:
    """The rules for all containers of a pod's spec; `volumes` and `claims` are the names it declares."""
    errors: Errors = []
    containers = listed(spec.get("containers"))
    taken: set[str] = set()
    if not containers:
        errors.append(required(f"{path}.containers"))
    for index, container in enumerate(containers):
        place = f"{path}.containers[{index}]"
        errors += _container(container, place, volumes, claims)
        errors += _unique_name(container, place, taken)
    for index, container in enumerate(listed(spec.get("initContainers"))):
        place = f"{path}.initContainers[{index}]"
        errors += _container(container, place, volumes, claims)
        errors += _unique_name(container, place, taken)
        policy = container.get("restartPolicy")
        if policy not in (None, "Always"):
            errors.append(not_supported(f"{place}.restartPolicy", policy, ("Always",)))
        if policy is None:
            for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if container.get(field) is not None:
                    text = "may not be set for init containers without restartPolicy=Always"
                    errors.append(forbidden(f"{place}.{field}", text))
    return errors


def _unique_name(container: Document, place: str, taken: set[str]) -> Errors:
    name = container.get("name") or ""
    errors = [duplicate(f"{place}.name", name)] if name and name in taken else []
    taken.add(name)
    return errors


def _container(container: Document, path: str, volumes: set[str], claims: set[str]) -> Errors:
    errors: Errors = []
    name, image = container.get("name") or "", container.get("image") or ""
    errors += messages(f"{path}.name", name, names.dns_label(name)) if name else [required(f"{path}.name")]
    if not image:
        errors.append(required(f"{path}.image"))
    elif image != image.strip():
        errors.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        errors += _probe(container.get(field), f"{path}.{field}", field)
    errors += _ports(listed(container.get("ports")), f"{path}.ports")
    for index, variable in enumerate(listed(container.get("env"))):
        errors += _variable(variable, f"{path}.env[{index}]")
    errors += _mounts(listed(container.get("volumeMounts")), volumes, f"{path}.volumeMounts")
    policy = container.get("imagePullPolicy")
    if policy not in _PULL:
        at = f"{path}.imagePullPolicy"
        errors.append(not_supported(at, policy, _PULL) if policy else required(at))
    errors += _resources(mapped(container.get("resources")), claims, f"{path}.resources")
    message = container.get("terminationMessagePolicy")
    if message not in _MESSAGES:
        at = f"{path}.terminationMessagePolicy"
        errors.append(not_supported(at, message, _MESSAGES) if message else required(at))
    return errors


def _probe(probe: Any, path: str, kind: str) -> Errors:
    if not isinstance(probe, dict):
        return []
    errors: Errors = []
    handlers = [field for field in _HANDLERS if field in probe]
    if not handlers:
        errors.append(required(path, "must specify a handler type"))
    for extra in handlers[1:]:
        errors.append(forbidden(f"{path}.{extra}", "may not specify more than 1 handler type"))
    for field in _PROBE_NUMBERS:
        value = probe.get(field)
        if value is not None and value < 0:
            errors.append(invalid(f"{path}.{field}", value, "must be greater than or equal to 0"))
    if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        errors.append(invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    return errors


def _ports(ports: list[Document], path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        place, name = f"{path}[{index}]", port.get("name") or ""
        if name:
            if wrong := names.port_name(name):
                errors += messages(f"{place}.name", name, wrong)
            elif name in seen:
                errors.append(duplicate(f"{place}.name", name))
            seen.add(name)
        number = port.get("containerPort") or 0
        if not number:
            errors.append(required(f"{place}.containerPort"))
        elif not 0 < number < 65536:
            errors.append(invalid(f"{place}.containerPort", number, "must be between 1 and 65535, inclusive"))
        host = port.get("hostPort") or 0
        if not 0 <= host < 65536:
            errors.append(invalid(f"{place}.hostPort", host, "must be between 1 and 65535, inclusive"))
        protocol = port.get("protocol")
        if protocol not in _PROTOCOLS:
            at = f"{place}.protocol"
            errors.append(not_supported(at, protocol, _PROTOCOLS) if protocol else required(at))
    return errors


def _variable(variable: Document, path: str) -> Errors:
    name = variable.get("name") or ""
    if not name:
        return [required(f"{path}.name")]
    errors = messages(f"{path}.name", name, names.env_name(name))
    source = variable.get("valueFrom")
    if isinstance(source, dict):
        if not source:
            text = (
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` "
                "or `fileKeyRef`"
            )
            errors.append(invalid(f"{path}.valueFrom", "", text))
        elif len(source) > 1:
            errors.append(
                invalid(f"{path}.valueFrom", "", "may not have more than one field specified at a time")
            )
        if variable.get("value"):
            errors.append(invalid(f"{path}.valueFrom", "", "may not be specified when `value` is not empty"))
    return errors


def _mounts(mounts: list[Document], volumes: set[str], path: str) -> Errors:
    errors: Errors = []
    paths: set[str] = set()
    for index, mount in enumerate(mounts):
        place, name = f"{path}[{index}]", mount.get("name") or ""
        if not name:
            errors.append(required(f"{place}.name"))
        elif name not in volumes:
            errors.append(not_found(f"{place}.name", name))
        where = mount.get("mountPath") or ""
        if not where:
            errors.append(required(f"{place}.mountPath"))
        elif where in paths:
            errors.append(invalid(f"{place}.mountPath", where, "must be unique"))
        paths.add(where)
    return errors


def _resources(resources: Document, claims: set[str], path: str) -> Errors:
    errors: Errors = []
    limits, requests = mapped(resources.get("limits")), mapped(resources.get("requests"))
    for field, values in (("limits", limits), ("requests", requests)):
        for name, amount in sorted(values.items()):
            place = f"{path}.{field}[{name}]"
            errors += _resource_name(name, place)
            if Quantity.of(amount).sign < 0:
                errors.append(invalid(place, amount, "must be greater than or equal to 0"))
    for name, amount in sorted(requests.items()):
        limit = limits.get(name)
        if limit is None:
            if _is_whole(name):
                errors.append(
                    required(f"{path}.limits", "Limit must be set for non overcommitable resources")
                )
            continue
        if Quantity.of(amount) != Quantity.of(limit) and _is_whole(name):
            text = f"must be equal to {name} limit of {limit}"
            errors.append(invalid(f"{path}.requests", amount, text))
        elif Quantity.of(amount) > Quantity.of(limit):
            text = f"must be less than or equal to {name} limit of {limit}"
            errors.append(invalid(f"{path}.requests", amount, text))
    return errors + _container_claims(listed(resources.get("claims")), claims, f"{path}.claims")


def _is_whole(name: str) -> bool:
    """Whether requests of this resource must equal limits: extended resources and huge pages."""
    return names.extended_resource_name(name) or name.startswith("hugepages-")


def _resource_name(name: str, path: str) -> Errors:
    errors = messages(path, name, names.qualified_name(name))
    standard = ("cpu", "memory", "ephemeral-storage", "storage")
    if not errors and "/" not in name and name not in standard and not name.startswith("hugepages-"):
        errors.append(invalid(path, name, "must be a standard resource type or fully qualified"))
        errors.append(invalid(path, name, "must be a standard resource for containers"))
    return errors


def _container_claims(references: list[Document], claims: set[str], path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, reference in enumerate(references):
        place = f"{path}[{index}]"
        name, request = reference.get("name") or "", reference.get("request") or ""
        if not name:
            errors.append(required(place))
            continue
        if name in seen:
            errors.append(duplicate(place, name))
        else:
            full = f"{name}/{request}" if request else name
            if request:
                errors += messages(f"{place}.request", request, names.dns_label(request))
            if full in seen:
                errors.append(duplicate(place, full))
            elif not request and any(known.startswith(f"{name}/") for known in seen):
                errors.append(duplicate(place, name))
            seen.add(full)
        if name not in claims:
            known = f": {', '.join(sorted(claims))}" if claims else " which is empty"
            missing = not_found(place, name)
            missing.message += f": must be one of the names in pod.spec.resourceClaims{known}"
            errors.append(missing)
    return errors
