"""Rules for the kinds that make pods: selectors, templates, counts.

Source: pkg/apis/{apps,batch}/validation/validation.go.
"""

from __future__ import annotations

from typing import Any

from drakit.errors import BadRequest, DRAError
from drakit.model import cron
from drakit.model.selector import read_labels
from drakit.model.validation import names
from drakit.model.validation.field import (
    Errors,
    forbidden,
    immutable,
    invalid,
    listed,
    mapped,
    messages,
    not_supported,
    required,
)
from drakit.model.validation.meta import template_meta
from drakit.model.validation.pod import pod_spec

Document = dict[str, Any]

_NEGATIVE = "must be greater than or equal to 0"
_OPERATORS = ("DoesNotExist", "Exists", "In", "NotIn")


def not_negative(document: Document, fields: tuple[str, ...], path: str) -> Errors:
    return [
        invalid(f"{path}.{field}", document[field], _NEGATIVE)
        for field in fields
        if isinstance(document.get(field), int) and document[field] < 0
    ]


def label_selector(selector: Any, path: str) -> Errors:
    """The rules for a LabelSelector."""
    errors: Errors = []
    for key, value in sorted(mapped(mapped(selector).get("matchLabels")).items()):
        errors += messages(f"{path}.matchLabels", key, names.qualified_name(key))
        errors += messages(f"{path}.matchLabels", value, names.label_value(value))
    for index, term in enumerate(listed(mapped(selector).get("matchExpressions"))):
        place = f"{path}.matchExpressions[{index}]"
        operator, values = term.get("operator"), listed(term.get("values"))
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be specified when `operator` is 'In' or 'NotIn'"
                errors.append(required(f"{place}.values", text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden(f"{place}.values", text))
        else:
            errors.append(invalid(f"{place}.operator", operator or "", "not a valid selector operator"))
        errors += messages(f"{place}.key", term.get("key") or "", names.qualified_name(term.get("key") or ""))
        for at, value in enumerate(values):
            errors += messages(f"{place}.values[{at}]", value, names.label_value(value))
    return errors


def _selected_template(spec: Document, path: str, *, restart: tuple[str, ...] = ("Always",)) -> Errors:
    """A selector, the template it must match, and the restart policies the template may have."""
    selector, template = spec.get("selector"), mapped(spec.get("template"))
    errors: Errors = []
    if selector is None:
        errors.append(required(f"{path}.selector"))
    else:
        errors += label_selector(selector, f"{path}.selector")
        if not mapped(selector).get("matchLabels") and not mapped(selector).get("matchExpressions"):
            errors.append(invalid(f"{path}.selector", selector, "empty selector is invalid for this kind"))
    labels = mapped(mapped(template.get("metadata")).get("labels"))
    if selector and not errors and not _matches(selector, labels):
        text = "`selector` does not match template `labels`"
        errors.append(invalid(f"{path}.template.metadata.labels", labels or None, text))
    errors += template_meta(template.get("metadata"), f"{path}.template.metadata")
    errors += pod_spec(mapped(template.get("spec")), f"{path}.template.spec")
    policy = mapped(template.get("spec")).get("restartPolicy")
    if policy not in restart:
        errors.append(not_supported(f"{path}.template.spec.restartPolicy", policy, restart))
    return errors


def _matches(selector: Document, labels: Document) -> bool:
    try:
        parsed = read_labels(selector)
    except DRAError:
        return False
    return parsed is not None and parsed.matches(labels)


def _fixed_selector(spec: Document, old: Document | None, path: str) -> Errors:
    if old is None:
        return []
    return immutable(f"{path}.selector", spec.get("selector"), mapped(old.get("spec")).get("selector"))


def deployment(document: Document, old: Document | None) -> Errors:
    spec = document["spec"]
    errors = not_negative(spec, ("replicas",), "spec")
    errors += _selected_template(spec, "spec")
    strategy = mapped(spec.get("strategy"))
    kind = strategy.get("type")
    if kind not in ("Recreate", "RollingUpdate"):
        errors.append(not_supported("spec.strategy.type", kind, ("Recreate", "RollingUpdate")))
    elif kind == "Recreate" and strategy.get("rollingUpdate") is not None:
        text = "may not be specified when strategy `type` is 'Recreate'"
        errors.append(forbidden("spec.strategy.rollingUpdate", text))
    elif kind == "RollingUpdate":
        errors += _rolling(mapped(strategy.get("rollingUpdate")), "spec.strategy.rollingUpdate")
    errors += not_negative(
        spec, ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"), "spec"
    )
    return errors + _fixed_selector(spec, old, "spec")


def _rolling(rolling: Document, path: str) -> Errors:
    errors: Errors = []
    for field in ("maxUnavailable", "maxSurge"):
        value = rolling.get(field)
        if isinstance(value, str) and not (value.endswith("%") and value[:-1].isdigit()):
            text = "a valid percent string must be a numeric string followed by an ending '%'"
            shown = "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
            errors.append(invalid(f"{path}.{field}", value, f"{text} {shown}"))
        elif isinstance(value, int) and value < 0:
            errors.append(invalid(f"{path}.{field}", value, _NEGATIVE))
    both = (rolling.get("maxUnavailable"), rolling.get("maxSurge"))
    if all(value in (0, "0%") for value in both):
        text = "may not be 0 when `maxSurge` is 0"
        errors.append(invalid(f"{path}.maxUnavailable", both[0], text))
    return errors


def daemon_set(document: Document, old: Document | None) -> Errors:
    spec = document["spec"]
    errors = _selected_template(spec, "spec")
    errors += not_negative(spec, ("minReadySeconds", "revisionHistoryLimit"), "spec")
    kind = mapped(spec.get("updateStrategy")).get("type")
    if kind not in ("OnDelete", "RollingUpdate"):
        errors.append(not_supported("spec.updateStrategy.type", kind, ("OnDelete", "RollingUpdate")))
    elif kind == "RollingUpdate":
        rolling = mapped(mapped(spec.get("updateStrategy")).get("rollingUpdate"))
        errors += _rolling(rolling, "spec.updateStrategy.rollingUpdate")
    return errors + _fixed_selector(spec, old, "spec")


def replica_set(document: Document, old: Document | None) -> Errors:
    spec = document["spec"]
    errors = not_negative(spec, ("replicas", "minReadySeconds"), "spec")
    return errors + _selected_template(spec, "spec") + _fixed_selector(spec, old, "spec")


_STATEFUL_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
    "revisionHistoryLimit",
)


def stateful_set(document: Document, old: Document | None) -> Errors:
    spec = document["spec"]
    errors = not_negative(spec, ("replicas", "minReadySeconds", "revisionHistoryLimit"), "spec")
    errors += _selected_template(spec, "spec")
    if old is not None:
        fixed = {key: value for key, value in spec.items() if key not in _STATEFUL_MUTABLE}
        before = {k: v for k, v in mapped(old.get("spec")).items() if k not in _STATEFUL_MUTABLE}
        if immutable("spec", fixed, before):
            text = (
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
                "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
                "'minReadySeconds' are forbidden"
            )
            errors.append(forbidden("spec", text))
    return errors


_JOB_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
)


def job_spec(spec: Document, path: str = "spec") -> Errors:
    """The rules for a Job's spec, or the one in a CronJob's template (which has no selector)."""
    errors = not_negative(spec, _JOB_COUNTS, path)
    template = mapped(spec.get("template"))
    if spec.get("completionMode") not in ("Indexed", "NonIndexed"):
        choices = ("Indexed", "NonIndexed")
        errors.append(not_supported(f"{path}.completionMode", spec.get("completionMode"), choices))
    elif spec["completionMode"] == "Indexed" and spec.get("completions") is None:
        errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
    errors += template_meta(template.get("metadata"), f"{path}.template.metadata")
    errors += pod_spec(mapped(template.get("spec")), f"{path}.template.spec")
    policy = mapped(template.get("spec")).get("restartPolicy")
    if policy not in ("OnFailure", "Never"):
        place = f"{path}.template.spec.restartPolicy"
        errors.append(
            required(place, 'valid values: "OnFailure", "Never"')
            if not policy
            else not_supported(place, policy, ("Never", "OnFailure"))
        )
    return errors


def job(document: Document, old: Document | None) -> Errors:
    spec = document["spec"]
    errors = job_spec(spec)
    if spec.get("selector") is None:
        errors.append(required("spec.selector"))
    else:
        errors += label_selector(spec["selector"], "spec.selector")
        labels = mapped(mapped(mapped(spec.get("template")).get("metadata")).get("labels"))
        if not _matches(spec["selector"], labels):
            text = "`selector` does not match template `labels`"
            errors.append(invalid("spec.template.metadata.labels", labels or None, text))
    if old is not None:
        before = mapped(old.get("spec"))
        for field in ("selector", "template", "completionMode", "podFailurePolicy", "backoffLimitPerIndex"):
            if (
                field == "template"
                and before.get("suspend")
                and not mapped(old.get("status")).get("startTime")
            ):
                continue
            errors += immutable(f"spec.{field}", spec.get(field), before.get(field))
        if spec.get("completionMode") != "Indexed":
            errors += immutable("spec.completions", spec.get("completions"), before.get("completions"))
    return errors


def _schedule_problem(schedule: str) -> str:
    """What keeps a schedule from being read; "" if nothing does."""
    try:
        cron.parse(schedule)
    except BadRequest as error:
        return str(error)
    return ""


def cron_job(document: Document, old: Document | None) -> Errors:
    spec = document["spec"]
    errors: Errors = []
    schedule = spec.get("schedule") or ""
    if not schedule:
        errors.append(required("spec.schedule"))
    elif problem := _schedule_problem(schedule):
        errors.append(invalid("spec.schedule", schedule, problem))
    if spec.get("concurrencyPolicy") not in ("Allow", "Forbid", "Replace"):
        choices = ("Allow", "Forbid", "Replace")
        errors.append(not_supported("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), choices))
    template = mapped(mapped(spec.get("jobTemplate")).get("spec"))
    errors += job_spec(template, "spec.jobTemplate.spec")
    limits = ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    errors += not_negative(spec, limits, "spec")
    if len(document["metadata"].get("name") or "") > 52:
        text = "must be no more than 52 characters"
        errors.append(invalid("metadata.name", document["metadata"]["name"], text))
    return errors
