"""The rows of what nodes, namespaces and pods lean on. Source: pkg/printers/internalversion/printers.go."""

from __future__ import annotations

from typing import Any

from drakit.apiserver.table_part import Time, named, spec_of, status_of
from drakit.apiserver.table_text import age, labels_text
from drakit.transport import Document


def node(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    status, info = status_of(document), status_of(document).get("nodeInfo") or {}
    ready = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    states = ["Unknown"] if ready is None else ["Ready" if ready.get("status") == "True" else "NotReady"]
    if spec_of(document).get("unschedulable"):
        states.append("SchedulingDisabled")
    labels = (document.get("metadata") or {}).get("labels") or {}
    prefix = "node-role.kubernetes.io/"
    roles = {key.removeprefix(prefix) for key in labels if key.startswith(prefix)} - {""}
    if labels.get("kubernetes.io/role"):
        roles.add(labels["kubernetes.io/role"])
    kernel = info.get("kernelVersion") or "<unknown>"
    if info.get("architecture"):
        kernel = f"{kernel} ({info['architecture']})"
    return [
        name,
        ",".join(states),
        ",".join(sorted(roles)) or "<none>",
        since,
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or "<unknown>",
        kernel,
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _address(status: Document, kind: str) -> str:
    found = (a.get("address") for a in status.get("addresses") or () if a.get("type") == kind)
    return str(next(found, None) or "<none>")


def namespace(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    return [name, status_of(document).get("phase", ""), since]


def event(document: Document, now: Time) -> list[Any]:
    """A core or an events.k8s.io Event."""
    first = document.get("firstTimestamp") or document.get("deprecatedFirstTimestamp")
    last = document.get("lastTimestamp") or document.get("deprecatedLastTimestamp")
    series, count = (
        document.get("series") or {},
        document.get("count") or document.get("deprecatedCount") or 0,
    )
    moment = document.get("eventTime")
    first_seen = age(first or moment, now) if first or moment else "<unknown>"
    last_seen = age(last, now) if last else first_seen
    if series:
        last_seen, count = age(series.get("lastObservedTime"), now), series.get("count") or 0
    target = document.get("involvedObject") or document.get("regarding") or {}
    source = document.get("source") or document.get("deprecatedSource") or {}
    component = source.get("component") or document.get("reportingComponent")
    parts = [
        str(part) for part in (component or document.get("reportingController"), source.get("host")) if part
    ]
    kind, target_name = str(target.get("kind") or "").lower(), target.get("name") or ""
    return [
        last_seen,
        document.get("type", ""),
        document.get("reason", ""),
        f"{kind}/{target_name}" if target_name else kind,
        target.get("fieldPath", ""),
        ", ".join(parts),
        str(document.get("message") or document.get("note") or "").strip(),
        first_seen,
        str(count or 1),
        (document.get("metadata") or {}).get("name", ""),
    ]


def config_map(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    return [name, str(len(document.get("data") or {}) + len(document.get("binaryData") or {})), since]


def secret(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    return [name, document.get("type", ""), str(len(document.get("data") or {})), since]


def service(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec = spec_of(document)
    ports = []
    for port in spec.get("ports") or ():
        number = f"{port.get('port')}:{port['nodePort']}" if port.get("nodePort") else str(port.get("port"))
        ports.append(f"{number}/{port.get('protocol', 'TCP')}")
    external = ",".join(spec.get("externalIPs") or ()) or "<none>"
    if spec.get("type") == "ExternalName":
        external = spec.get("externalName") or ""
    elif spec.get("type") == "LoadBalancer":
        points = (status_of(document).get("loadBalancer") or {}).get("ingress") or ()
        addresses = [str(point.get("ip") or point.get("hostname")) for point in points]
        external = ",".join(addresses + list(spec.get("externalIPs") or ())) or "<pending>"
    cluster = spec.get("clusterIP") or "<none>"
    text = ",".join(ports) or "<none>"
    return [name, spec.get("type", ""), cluster, external, text, since, labels_text(spec.get("selector"))]


def endpoints(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    found: list[str] = []
    for subset in document.get("subsets") or ():
        for address in subset.get("addresses") or ():
            ports = subset.get("ports") or ()
            found += [f"{address.get('ip')}:{port.get('port')}" for port in ports] or [str(address.get("ip"))]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return [name, (",".join(found[:3]) or "<none>") + more, since]


_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def _modes(modes: Any) -> str:
    return ",".join(_MODES.get(mode, str(mode)) for mode in dict.fromkeys(modes or ()))


def volume_claim(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec, status = spec_of(document), status_of(document)
    phase = (
        "Terminating"
        if (document.get("metadata") or {}).get("deletionTimestamp")
        else status.get("phase", "")
    )
    is_bound = bool(spec.get("volumeName"))
    return [
        name,
        phase,
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "") if is_bound else "",
        _modes(status.get("accessModes")) if is_bound else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or "<unset>",
        since,
        spec.get("volumeMode") or "<unset>",
    ]


def volume(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec, status = spec_of(document), status_of(document)
    phase = (
        "Terminating"
        if (document.get("metadata") or {}).get("deletionTimestamp")
        else status.get("phase", "")
    )
    claim = spec.get("claimRef") or {}
    return [
        name,
        (spec.get("capacity") or {}).get("storage", ""),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        phase,
        f"{claim.get('namespace')}/{claim.get('name')}" if claim else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or "<unset>",
        status.get("reason", ""),
        since,
        spec.get("volumeMode") or "<unset>",
    ]


def resource_quota(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    hard, used = status_of(document).get("hard") or {}, status_of(document).get("used") or {}
    texts = {key: f"{key}: {used.get(key, '0')}/{hard[key]}" for key in sorted(hard)}
    requests = ", ".join(text for key, text in texts.items() if not key.startswith("limits"))
    limits = ", ".join(text for key, text in texts.items() if key.startswith("limits"))
    return [name, requests, limits, since]


def lease(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    return [name, spec_of(document).get("holderIdentity") or "", since]
