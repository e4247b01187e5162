"""The cells of one object in a Table, kind by kind. Source: pkg/printers/internalversion/printers.go."""

from __future__ import annotations

import datetime
from typing import Any

from drakit.apiserver.table_pod import pod
from drakit.apiserver.table_text import age, human, labels_text, parse_time, selector_text
from drakit.transport import Document

__all__ = ["pod"]
Time = datetime.datetime


def _meta(document: Document, now: Time) -> tuple[str, str]:
    metadata = document.get("metadata") or {}
    return str(metadata.get("name", "")), age(metadata.get("creationTimestamp"), now)


def _spec(document: Document) -> Document:
    return document.get("spec") or {}


def _status(document: Document) -> Document:
    return document.get("status") or {}


def _template(document: Document) -> list[Any]:
    """Names and images of a template's containers."""
    spec = _spec(_spec(document).get("template") or {})
    containers = spec.get("containers") or []
    names = ",".join(str(container.get("name", "")) for container in containers)
    return [names, ",".join(str(container.get("image", "")) for container in containers)]


def node(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    status, info = _status(document), _status(document).get("nodeInfo") or {}
    ready = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    states = ["Unknown"] if ready is None else ["Ready" if ready.get("status") == "True" else "NotReady"]
    if _spec(document).get("unschedulable"):
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
    name, since = _meta(document, now)
    return [name, _status(document).get("phase", ""), since]


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
    name, since = _meta(document, now)
    return [name, str(len(document.get("data") or {}) + len(document.get("binaryData") or {})), since]


def secret(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    return [name, document.get("type", ""), str(len(document.get("data") or {})), since]


def service(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    spec = _spec(document)
    ports = []
    for port in spec.get("ports") or ():
        number = f"{port.get('port')}:{port['nodePort']}" if port.get("nodePort") else str(port.get("port"))
        ports.append(f"{number}/{port.get('protocol', 'TCP')}")
    external = ",".join(spec.get("externalIPs") or ()) or "<none>"
    if spec.get("type") == "ExternalName":
        external = spec.get("externalName") or ""
    elif spec.get("type") == "LoadBalancer":
        points = (_status(document).get("loadBalancer") or {}).get("ingress") or ()
        addresses = [str(point.get("ip") or point.get("hostname")) for point in points]
        external = ",".join(addresses + list(spec.get("externalIPs") or ())) or "<pending>"
    cluster = spec.get("clusterIP") or "<none>"
    text = ",".join(ports) or "<none>"
    return [name, spec.get("type", ""), cluster, external, text, since, labels_text(spec.get("selector"))]


def endpoints(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
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
    name, since = _meta(document, now)
    spec, status = _spec(document), _status(document)
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
    name, since = _meta(document, now)
    spec, status = _spec(document), _status(document)
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
    name, since = _meta(document, now)
    hard, used = _status(document).get("hard") or {}, _status(document).get("used") or {}
    texts = {key: f"{key}: {used.get(key, '0')}/{hard[key]}" for key in sorted(hard)}
    requests = ", ".join(text for key, text in texts.items() if not key.startswith("limits"))
    limits = ", ".join(text for key, text in texts.items() if key.startswith("limits"))
    return [name, requests, limits, since]


def daemon_set(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    status, spec = _status(document), _spec(document)
    counts = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    node_selector = _spec(spec.get("template") or {}).get("nodeSelector")
    numbers = [status.get(field) or 0 for field in counts]
    selector = selector_text(spec.get("selector"))
    return [name, *numbers, labels_text(node_selector), since, *_template(document), selector]


def deployment(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    spec, status = _spec(document), _status(document)
    ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
    updated, available = status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0
    selector = selector_text(spec.get("selector"))
    return [name, ready, str(updated), str(available), since, *_template(document), selector]


def replica_set(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    spec, status = _spec(document), _status(document)
    counts = [spec.get("replicas") or 0, status.get("replicas") or 0, status.get("readyReplicas") or 0]
    selector = spec.get("selector")
    if document.get("kind") == "ReplicationController":
        return [name, *counts, since, *_template(document), labels_text(selector)]
    return [name, *counts, since, *_template(document), selector_text(selector)]


def stateful_set(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    ready = _status(document).get("readyReplicas") or 0
    return [name, f"{ready}/{_spec(document).get('replicas') or 0}", since, *_template(document)]


def controller_revision(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    owners = (document.get("metadata") or {}).get("ownerReferences") or ()
    owner = next((owner for owner in owners if owner.get("controller")), None)
    text = "<none>"
    if owner is not None:
        group = str(owner.get("apiVersion", "")).rpartition("/")[0]
        kind = str(owner.get("kind", "")).lower()
        text = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [name, text, str(document.get("revision") or 0), since]


def job(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    spec, status = _spec(document), _status(document)
    succeeded = status.get("succeeded") or 0
    if spec.get("completions") is not None:
        completions = f"{succeeded}/{spec['completions']}"
    elif (spec.get("parallelism") or 0) > 1:
        completions = f"{succeeded}/1 of {spec['parallelism']}"
    else:
        completions = f"{succeeded}/1"
    start, end = parse_time(status.get("startTime")), parse_time(status.get("completionTime"))
    duration = human(((end or now) - start).total_seconds()) if start else ""
    selector = selector_text(spec.get("selector"))
    return [name, _job_status(document), completions, duration, since, *_template(document), selector]


def _job_status(document: Document) -> str:
    conditions = _status(document).get("conditions") or ()
    true = {condition.get("type") for condition in conditions if condition.get("status") == "True"}
    if "Complete" in true:
        return "Complete"
    if "Failed" in true:
        return "Failed"
    if (document.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    for condition, text in (
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):
        if condition in true:
            return text
    return "Running"


def cron_job(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    spec, status = _spec(document), _status(document)
    last = age(status["lastScheduleTime"], now) if status.get("lastScheduleTime") else "<none>"
    job_spec = _spec(spec.get("jobTemplate") or {})
    return [
        name,
        spec.get("schedule", ""),
        spec.get("timeZone") or "<none>",
        "True" if spec.get("suspend") else "False",
        len(status.get("active") or ()),
        last,
        since,
        *_template({"spec": job_spec}),
        selector_text(job_spec.get("selector")),
    ]


def lease(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    return [name, _spec(document).get("holderIdentity") or "", since]


def ingress(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    spec = _spec(document)
    hosts = [str(rule["host"]) for rule in spec.get("rules") or () if rule.get("host")]
    points = (_status(document).get("loadBalancer") or {}).get("ingress") or ()
    addresses = ",".join(str(point.get("ip") or point.get("hostname")) for point in points)
    ports = "80, 443" if spec.get("tls") else "80"
    return [name, spec.get("ingressClassName") or "<none>", ",".join(hosts) or "*", addresses, ports, since]


def network_policy(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    return [name, selector_text(_spec(document).get("podSelector")), since]


def runtime_class(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    return [name, document.get("handler", ""), since]


def disruption_budget(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    spec = _spec(document)
    shown = [str(spec.get(field, "N/A")) for field in ("minAvailable", "maxUnavailable")]
    return [name, *shown, _status(document).get("disruptionsAllowed") or 0, since]


def created_at(document: Document, now: Time) -> list[Any]:
    metadata = document.get("metadata") or {}
    return [metadata.get("name", ""), metadata.get("creationTimestamp", "")]


def role_binding(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
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
    name, since = _meta(document, now)
    policy = document.get("preemptionPolicy", "")
    return [name, document.get("value") or 0, bool(document.get("globalDefault")), since, policy]


def csi_node(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    return [name, len(_spec(document).get("drivers") or ()), since]


def storage_class(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
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
    name, since = _meta(document, now)
    return [name, len(document.get("webhooks") or ()), since]


def admission_policy(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    kind = _spec(document).get("paramKind") or {}
    text = f"{kind.get('apiVersion')}/{kind.get('kind')}" if kind else "<unset>"
    return [name, len(_spec(document).get("validations") or ()), text, since]


def admission_binding(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    reference = _spec(document).get("paramRef") or {}
    text = "<unset>"
    if reference:
        namespace_text = reference.get("namespace") or "*"
        text = f"{namespace_text}/{reference.get('name') or '*'}"
    return [name, _spec(document).get("policyName", ""), text, since]


def taint_rule(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    taint = _spec(document).get("taint") or {}
    added = age(taint.get("timeAdded"), now)
    return [name, taint.get("key", ""), taint.get("value", ""), taint.get("effect", ""), added, since]


def resource_claim(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    states: list[str] = []
    if (document.get("metadata") or {}).get("deletionTimestamp"):
        states.append("deleted")
    status = _status(document)
    if status.get("allocation") is not None:
        states.append("allocated")
        if status.get("reservedFor"):
            states.append("reserved")
    elif not states:
        states.append("pending")
    return [name, ",".join(states), since]


def pool_status_request(document: Document, now: Time) -> list[Any]:
    name, _ = _meta(document, now)
    spec, status = _spec(document), _status(document)
    pools = status.get("pools")
    fields = ("totalDevices", "availableDevices", "allocatedDevices", "unavailableDevices")
    counts: list[str] = ["-"] * 5
    if pools is not None:
        counts = [str(sum(pool.get(field) or 0 for pool in pools)) for field in fields]
        counts.append(str(sum(1 for pool in pools if pool.get("validationError"))))
    state, completed = "Pending", "<none>"
    for condition in status.get("conditions") or ():
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
            state = str(condition["type"])
            completed = age(condition.get("lastTransitionTime"), now)
    return [name, spec.get("driver", ""), *counts, status.get("poolCount") or 0, state, completed]


def resource_slice(document: Document, now: Time) -> list[Any]:
    name, since = _meta(document, now)
    spec = _spec(document)
    pool = (spec.get("pool") or {}).get("name", "")
    return [name, spec.get("nodeName") or "", spec.get("driver", ""), pool, since]
