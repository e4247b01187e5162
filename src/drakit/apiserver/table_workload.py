"""The rows of what makes pods, and of what keeps them. Source: pkg/printers/internalversion/printers.go."""

from __future__ import annotations

from typing import Any

from drakit.apiserver.table_part import Time, named, spec_of, status_of, template_cells
from drakit.apiserver.table_text import age, human, labels_text, parse_time, selector_text
from drakit.transport import Document


def daemon_set(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    status, spec = status_of(document), spec_of(document)
    counts = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    node_selector = spec_of(spec.get("template") or {}).get("nodeSelector")
    numbers = [status.get(field) or 0 for field in counts]
    selector = selector_text(spec.get("selector"))
    return [name, *numbers, labels_text(node_selector), since, *template_cells(document), selector]


def deployment(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec, status = spec_of(document), status_of(document)
    ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
    updated, available = status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0
    selector = selector_text(spec.get("selector"))
    return [name, ready, str(updated), str(available), since, *template_cells(document), selector]


def replica_set(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec, status = spec_of(document), status_of(document)
    counts = [spec.get("replicas") or 0, status.get("replicas") or 0, status.get("readyReplicas") or 0]
    selector = spec.get("selector")
    if document.get("kind") == "ReplicationController":
        return [name, *counts, since, *template_cells(document), labels_text(selector)]
    return [name, *counts, since, *template_cells(document), selector_text(selector)]


def stateful_set(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    ready = status_of(document).get("readyReplicas") or 0
    return [name, f"{ready}/{spec_of(document).get('replicas') or 0}", since, *template_cells(document)]


def controller_revision(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    owners = (document.get("metadata") or {}).get("ownerReferences") or ()
    owner = next((owner for owner in owners if owner.get("controller")), None)
    text = "<none>"
    if owner is not None:
        group = str(owner.get("apiVersion", "")).rpartition("/")[0]
        kind = str(owner.get("kind", "")).lower()
        text = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [name, text, str(document.get("revision") or 0), since]


def job(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec, status = spec_of(document), status_of(document)
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
    return [name, _job_status(document), completions, duration, since, *template_cells(document), selector]


def _job_status(document: Document) -> str:
    conditions = status_of(document).get("conditions") or ()
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
    name, since = named(document, now)
    spec, status = spec_of(document), status_of(document)
    last = age(status["lastScheduleTime"], now) if status.get("lastScheduleTime") else "<none>"
    job_spec = spec_of(spec.get("jobTemplate") or {})
    return [
        name,
        spec.get("schedule", ""),
        spec.get("timeZone") or "<none>",
        "True" if spec.get("suspend") else "False",
        len(status.get("active") or ()),
        last,
        since,
        *template_cells({"spec": job_spec}),
        selector_text(job_spec.get("selector")),
    ]


def disruption_budget(document: Document, now: Time) -> list[Any]:
    name, since = named(document, now)
    spec = spec_of(document)
    shown = [str(spec.get(field, "N/A")) for field in ("minAvailable", "maxUnavailable")]
    return [name, *shown, status_of(document).get("disruptionsAllowed") or 0, since]
