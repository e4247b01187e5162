"""The environment of a container: values, references and `$(NAME)` expansion, as the kubelet makes it.

Order: envFrom, then env; of the same name the last one stays. `$(NAME)` in a value is replaced by a variable
defined before it, `$$(NAME)` stands for the text `$(NAME)`, and an unknown name is left as it is.
Source: pkg/kubelet/kubelet_pods.go, third_party/forked/golang/expansion.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from drakit.client.api import CONFIG_MAPS, SECRETS, Client
from drakit.errors import APIError, DRAError, NotFound
from drakit.model.quantity import Quantity
from drakit.transport import Document

_REFERENCE = re.compile(r"\$(\$|\([^()]*\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")


class ConfigFailed(DRAError):
    """Something a container's configuration refers to is not there (yet)."""


class Facts(Struct, frozen=True, kw_only=True):
    """What the node adds to a pod's own fields. `pod_ip` is "" for a pod whose network leads nowhere, and
    `api_address` (HOST:PORT) is where it finds the API server, "" if it cannot. `has_account` says that pods
    find their service account there even if they do not ask for the host's network."""

    node_name: str
    host_ip: str
    pod_ip: str
    allocatable: Mapping[str, str]
    api_address: str = ""
    has_account: bool = False


def expand(text: str, known: Mapping[str, str]) -> str:
    """`text` with every `$(NAME)` of `known` replaced."""

    def replace(match: re.Match[str]) -> str:
        inner = match.group(1)
        if inner == "$":
            return "$"
        name = inner[1:-1]
        return known.get(name, f"$({name})")

    return _REFERENCE.sub(replace, text)


async def build_env(client: Client, pod: Document, container: Document, facts: Facts) -> dict[str, str]:
    """The variables of `container`. Raises ConfigFailed for a reference that leads nowhere."""
    namespace = pod["metadata"]["namespace"]
    env = _service_env(facts)
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix", "")
        for kind in ("configMapRef", "secretRef"):
            if ref := source.get(kind):
                data = await fetch_data(client, kind.removesuffix("Ref"), namespace, ref)
                env |= {prefix + key: value.decode(errors="replace") for key, value in data.items()}
    for entry in container.get("env") or []:
        value = await _value(client, pod, container, entry, env, facts)
        if value is not None:
            env[entry["name"]] = value
    return env


def _service_env(facts: Facts) -> dict[str, str]:
    """Where client libraries look for the API server, for a pod that can reach it."""
    host, _, port = facts.api_address.rpartition(":")
    if not host:
        return {}
    return {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
    }


async def _value(
    client: Client, pod: Document, container: Document, entry: Document, known: dict[str, str], facts: Facts
) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expand(entry.get("value", ""), known)
    if ref := source.get("fieldRef"):
        return pod_field(pod, ref["fieldPath"], facts)
    if ref := source.get("resourceFieldRef"):
        return resource_field(pod, container, ref, facts)
    for kind in ("configMap", "secret"):
        if ref := source.get(f"{kind}KeyRef"):
            data = await fetch_data(client, kind, pod["metadata"]["namespace"], ref)
            if ref["key"] in data:
                return data[ref["key"]].decode(errors="replace")
            if ref.get("optional"):
                return None
            raise ConfigFailed(f"couldn't find key {ref['key']} in {kind} {ref['name']}")
    raise ConfigFailed(f"env {entry['name']}: valueFrom {', '.join(source)} is not supported")


async def fetch_data(client: Client, kind: str, namespace: str, ref: Document) -> dict[str, bytes]:
    """The data of the `configMap` or `secret` that `ref` names, nothing of an optional one that is not
    there. Raises ConfigFailed."""
    name = ref.get("name") or ref.get("secretName") or ""
    resource = CONFIG_MAPS if kind == "configMap" else SECRETS
    try:
        document = await client.get(resource, name, namespace)
    except NotFound:
        if ref.get("optional"):
            return {}
        raise ConfigFailed(f'{resource.kind.lower()} "{name}" not found') from None
    except APIError as error:
        raise ConfigFailed(f'{resource.kind.lower()} "{name}": {error}') from None
    encoded = document.get("binaryData") if kind == "configMap" else document.get("data")
    plain = document.get("data") if kind == "configMap" else {}
    try:
        data = {key: base64.b64decode(value) for key, value in (encoded or {}).items()}
    except (binascii.Error, ValueError):
        raise ConfigFailed(f'{resource.kind.lower()} "{name}": a value is not base64') from None
    return data | {key: value.encode() for key, value in (plain or {}).items()}


def pod_field(pod: Document, path: str, facts: Facts) -> str:
    """The text of a field of `pod` that the downward API knows. Raises ConfigFailed for another."""
    meta, spec = pod["metadata"], pod.get("spec") or {}
    if match := _SUBSCRIPT.fullmatch(path):
        return str((meta.get(match.group(1)) or {}).get(match.group(2), ""))
    if path in ("metadata.labels", "metadata.annotations"):
        values: dict[str, str] = meta.get(path.partition(".")[2]) or {}
        return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(values.items()))
    fields = {
        "metadata.name": meta.get("name", ""),
        "metadata.namespace": meta.get("namespace", ""),
        "metadata.uid": meta.get("uid", ""),
        "spec.nodeName": facts.node_name,
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
    }
    if path not in fields:
        raise ConfigFailed(f"unsupported fieldPath: {path}")
    return str(fields[path])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def resource_field(pod: Document, container: Document, ref: Document, facts: Facts) -> str:
    """A container's request or limit in units of the divisor, rounded up; without a limit, what the node
    has. Raises ConfigFailed."""
    wanted = ref.get("containerName") or container["name"]
    spec = pod.get("spec") or {}
    everyone = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    owner = next((entry for entry in everyone if entry["name"] == wanted), None)
    kind, _, name = ref["resource"].partition(".")
    if owner is None or kind not in ("limits", "requests"):
        raise ConfigFailed(f"unsupported resourceFieldRef {ref['resource']} of container {wanted}")
    resources: dict[str, Any] = owner.get("resources") or {}
    value = (resources.get(kind) or {}).get(name)
    if value is None and kind == "limits":
        value = facts.allocatable.get(name)
    try:
        amount = Quantity.of(value if value is not None else "0")
        divisor = Quantity.of(ref.get("divisor") or "1")
        unit = divisor.milli_value() or 1000
        return str(-(-amount.milli_value() // unit))
    except (ValueError, DRAError) as error:
        raise ConfigFailed(f"resourceFieldRef {ref['resource']}: {error}") from None
