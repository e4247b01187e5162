"""The rows of the kinds that say how a cluster works: access, admission, classes, networks.

Source: pkg/printers/internalversion/printers.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drakit.apiserver.table_part import Time, named, spec_of, status_of
from drakit.apiserver.table_text import human, selector_text
from drakit.transport import Document


def ingress(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec = spec_of(document)
    hosts = [str(rule["host"]) for rule in spec.get("rules") or () if rule.get("host")]
    points = (status_of(document).get("loadBalancer") or {}).get("ingress") or ()
    addresses = ",".join(str(point.get("ip") or point.get("hostname")) for point in points)
    ports = "80, 443" if spec.get("tls") else "80"
    return [name, spec.get("ingressClassName") or "<none>", ",".join(hosts) or "*", addresses, ports, since]


def network_policy(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    return [name, selector_text(spec_of(document).get("podSelector")), since]


def runtime_class(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    return [name, document.get("handler", ""), since]


def created_at(document: Document, now: Time) -> list[Any]:
    metadata = document.get("metadata") or {}
    return [metadata.get("name", ""), metadata.get("creationTimestamp", "")]


def role_binding(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    reference, subjects = document.get("roleRef") or {}, document.get("subjects") or ()
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in subjects:
        kind, subject_name = subject.get("kind"), str(subject.get("name"))
        if kind == "ServiceAccount":
            subject_name = f"{subject.get('namespace')}/{subject_name}"
        by_kind.setdefault(str(kind), []).append(subject_name)
    joined = [", ".join(by_kind[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [name, f"{reference.get('kind')}/{reference.get('name')}", since, *joined]


def priority_class(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    policy = document.get("preemptionPolicy", "")
    return [name, document.get("value") or 0, bool(document.get("globalDefault")), since, policy]


def csi_node(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    return [name, len(spec_of(document).get("drivers") or ()), since]


def storage_class(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    if annotations.get("storageclass.kubernetes.io/is-default-class") == "true":
        name = f"{name} (default)"
    return [
        name,
        document.get("provisioner", ""),
        document.get("reclaimPolicy", "Delete"),
        document.get("volumeBindingMode", "Immediate"),
        bool(document.get("allowVolumeExpansion")),
        since,
    ]


def webhooks(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    return [name, len(document.get("webhooks") or ()), since]


def admission_policy(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    kind = spec_of(document).get("paramKind") or {}
    text = f"{kind.get('apiVersion')}/{kind.get('kind')}" if kind else "<unset>"
    parts = spec_of(document).get("validations") or spec_of(document).get("mutations") or ()
    return [name, len(parts), text, since]


def admission_binding(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    reference = spec_of(document).get("paramRef") or {}
    text = "<unset>"
    if reference:
        namespace_text = reference.get("namespace") or "*"
        text = f"{namespace_text}/{reference.get('name') or '*'}"
    return [name, spec_of(document).get("policyName", ""), text, since]


def api_service(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    found = spec_of(document).get("service") or {}
    where = f"{found.get('namespace')}/{found.get('name')}" if found else "Local"
    rows = status_of(document).get("conditions") or ()
    row = next((row for row in rows if row.get("type") == "Available"), {"status": "Unknown"})
    state = str(row["status"])
    if state != "True" and row.get("reason"):
        state = f"{state} ({row['reason']})"
    return [name, where, state, since]


def flow_schema(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec = spec_of(document)
    level = (spec.get("priorityLevelConfiguration") or {}).get("name", "")
    method = (spec.get("distinguisherMethod") or {}).get("type") or "<none>"
    rows = status_of(document).get("conditions") or ()
    dangling = next((row.get("status") for row in rows if row.get("type") == "Dangling"), "?")
    return [name, level, spec.get("matchingPrecedence") or 0, method, since, dangling]


def autoscaler(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec, status = spec_of(document), status_of(document)
    target = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name,
        f"{target.get('kind')}/{target.get('name')}",
        _targets(spec.get("metrics") or (), status.get("currentMetrics") or ()),
        "<unset>" if least is None else str(least),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        since,
    ]


def _targets(wanted: Sequence[Document], current: Sequence[Document]) -> str:
    """What a HorizontalPodAutoscaler measures, as far as it measures resources: now and as wished."""
    shown: list[str] = []
    for index, metric in enumerate(wanted):
        part = metric.get("resource") or {}
        goal = part.get("target") or {}
        found = current[index] if index < len(current) else {}
        now = (found.get("resource") or {}).get("current") or {}
        fields = ("averageUtilization", "averageValue", "value")
        ends = {field: "%" if field == "averageUtilization" else "" for field in fields}
        field = next((field for field in fields if goal.get(field) is not None), "")
        have = f"{now[field]}{ends[field]}" if field and now.get(field) is not None else "<unknown>"
        shown.append(f"{part.get('name')}: {have}/{goal[field]}{ends[field]}" if field else "<unknown>")
    more = f" + {len(shown) - 2} more..." if len(shown) > 2 else ""
    return (", ".join(shown[:2]) or "<none>") + more


def signing_request(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec, status = spec_of(document), status_of(document)
    types = [row.get("type") for row in status.get("conditions") or ()]
    state = "Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"
    if "Failed" in types:
        state += ",Failed"
    if status.get("certificate"):
        state += ",Issued"
    seconds = spec.get("expirationSeconds")
    duration = human(seconds) if seconds else "<none>"
    return [name, since, spec.get("signerName", ""), spec.get("username", ""), duration, state]
