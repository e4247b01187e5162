"""The rows of the kinds that say how a cluster works: access, admission, classes, networks.

Source: pkg/printers/internalversion/printers.go.
"""

from __future__ import annotations

from typing import Any

from drakit.apiserver.table_part import Time, named, spec_of, status_of
from drakit.apiserver.table_text import selector_text
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
    return [name, len(spec_of(document).get("validations") or ()), text, since]


def admission_binding(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    reference = spec_of(document).get("paramRef") or {}
    text = "<unset>"
    if reference:
        namespace_text = reference.get("namespace") or "*"
        text = f"{namespace_text}/{reference.get('name') or '*'}"
    return [name, spec_of(document).get("policyName", ""), text, since]
