"""The kinds that make pods. Source: pkg/registry/{apps,batch}/*/strategy.go."""

from __future__ import annotations

from collections.abc import Callable

from drakit.apiserver.strategy_rules import Context, Rules
from drakit.model.validation import workload
from drakit.model.validation.field import Errors, mapped
from drakit.transport import Document

_UID = "batch.kubernetes.io/controller-uid"
_NAME = "batch.kubernetes.io/job-name"


def _prepare_job(job: Document, context: Context) -> None:
    """Give the job a selector of its own, unless `manualSelector` says the client brings one."""
    spec, metadata = job["spec"], job["metadata"]
    job["status"] = {}
    if spec.get("manualSelector"):
        return
    uid, name = metadata.get("uid", ""), metadata.get("name", "")
    own = {_UID: uid, _NAME: name, "controller-uid": uid, "job-name": name}
    template = spec.setdefault("template", {})
    meta = template["metadata"] = {**mapped(template.get("metadata"))}
    meta["labels"] = {**mapped(meta.get("labels")), **own}
    if not spec.get("selector"):
        spec["selector"] = {"matchLabels": {_UID: uid}}
    if not metadata.get("labels"):
        metadata["labels"] = dict(meta["labels"])


def _change_job(new: Document, old: Document, subresource: str, context: Context) -> None:
    """A client that sends the job back as it wrote it leaves the generated parts out."""
    if subresource:
        return
    spec, before = new["spec"], old["spec"]
    if not spec.get("selector"):
        spec["selector"] = before.get("selector")
    template, kept = mapped(spec.get("template")), mapped(before.get("template"))
    labels = mapped(mapped(kept.get("metadata")).get("labels"))
    own = {k: v for k, v in labels.items() if k in (_UID, _NAME, "controller-uid", "job-name")}
    if own and not before.get("manualSelector"):
        meta = mapped(template.get("metadata"))
        merged = {**meta, "labels": {**own, **mapped(meta.get("labels"))}}
        spec["template"] = {**template, "metadata": merged}


def _checked(
    check: Callable[[Document, Document | None], Errors],
) -> Callable[[Document, Document | None, Context], Errors]:
    return lambda document, old, context: check(document, old)


_DAEMON_STATUS = {
    "currentNumberScheduled": 0,
    "numberMisscheduled": 0,
    "desiredNumberScheduled": 0,
    "numberReady": 0,
}

WORKLOAD_RULES: dict[tuple[str, str], Rules] = {
    ("apps", "DaemonSet"): Rules(
        has_status=True,
        kept_metadata=(),
        status=_DAEMON_STATUS,
        counts_generation=True,
        check=_checked(workload.daemon_set),
    ),
    ("apps", "Deployment"): Rules(
        has_status=True,
        status={},
        counts_generation=True,
        kept_metadata=("labels",),
        check=_checked(workload.deployment),
    ),
    ("apps", "ReplicaSet"): Rules(
        has_status=True,
        kept_metadata=(),
        status={"replicas": 0},
        counts_generation=True,
        check=_checked(workload.replica_set),
    ),
    ("apps", "StatefulSet"): Rules(
        has_status=True,
        kept_metadata=(),
        status={"replicas": 0, "availableReplicas": 0},
        counts_generation=True,
        check=_checked(workload.stateful_set),
    ),
    ("", "ReplicationController"): Rules(
        has_status=True, kept_metadata=(), status={"replicas": 0}, counts_generation=True
    ),
    ("batch", "CronJob"): Rules(
        has_status=True,
        kept_metadata=(),
        status={},
        counts_generation=True,
        check=_checked(workload.cron_job),
    ),
    ("batch", "Job"): Rules(
        has_status=True,
        kept_metadata=(),
        status={},
        counts_generation=True,
        prepare=_prepare_job,
        change=_change_job,
        check=_checked(workload.job),
    ),
}
