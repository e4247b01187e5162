"""Defaults of apps and batch. Source: pkg/apis/{apps,batch}/v1/defaults.go."""

from __future__ import annotations

from collections.abc import Callable

from drakit.apiserver.defaults_pod import fill, objects, template_defaults
from drakit.transport import Document

_MAX_INT32 = 2**31 - 1


def _template(spec: Document) -> None:
    template_defaults(spec.setdefault("template", {}))


def _deployment(deployment: Document) -> None:
    spec = deployment.setdefault("spec", {})
    _template(spec)
    fill(spec, replicas=1, strategy={}, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec["strategy"]
    fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(strategy, rollingUpdate={})
        fill(strategy["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")
    deployment.setdefault("status", {})


def _daemon_set(daemon_set: Document) -> None:
    spec = daemon_set.setdefault("spec", {})
    _template(spec)
    fill(spec, updateStrategy={}, revisionHistoryLimit=10)
    strategy = spec["updateStrategy"]
    fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(strategy, rollingUpdate={})
        fill(strategy["rollingUpdate"], maxUnavailable=1, maxSurge=0)
    fill(
        daemon_set.setdefault("status", {}),
        currentNumberScheduled=0,
        numberMisscheduled=0,
        desiredNumberScheduled=0,
        numberReady=0,
    )


def _replica_set(replica_set: Document) -> None:
    spec = replica_set.setdefault("spec", {})
    _template(spec)
    fill(spec, replicas=1)
    fill(replica_set.setdefault("status", {}), replicas=0)


def _replication_controller(controller: Document) -> None:
    spec = controller.setdefault("spec", {})
    _template(spec)
    labels = spec["template"]["metadata"].get("labels")
    if labels:
        fill(spec, selector=dict(labels))
        fill(controller.setdefault("metadata", {}), labels=dict(labels))
    fill(spec, replicas=1)
    fill(controller.setdefault("status", {}), replicas=0)


def _stateful_set(stateful_set: Document) -> None:
    spec = stateful_set.setdefault("spec", {})
    _template(spec)
    fill(
        spec,
        replicas=1,
        podManagementPolicy="OrderedReady",
        updateStrategy={},
        revisionHistoryLimit=10,
        serviceName="",
        persistentVolumeClaimRetentionPolicy={},
    )
    fill(spec["persistentVolumeClaimRetentionPolicy"], whenDeleted="Retain", whenScaled="Retain")
    strategy = spec["updateStrategy"]
    fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(strategy, rollingUpdate={})
        fill(strategy["rollingUpdate"], partition=0)
    for claim in objects(spec.get("volumeClaimTemplates")):
        fill(claim, apiVersion="v1", kind="PersistentVolumeClaim", status={})
        fill(claim.setdefault("spec", {}), volumeMode="Filesystem")
        fill(claim["status"], phase="Pending")
    fill(stateful_set.setdefault("status", {}), replicas=0, availableReplicas=0)


def job_spec_defaults(spec: Document) -> None:
    _template(spec)
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    fill(spec, parallelism=1, completionMode="NonIndexed", suspend=False)
    fill(spec, backoffLimit=_MAX_INT32 if "backoffLimitPerIndex" in spec else 6)
    policy = "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed"
    fill(spec, podReplacementPolicy=policy)


def _job(job: Document) -> None:
    spec = job.setdefault("spec", {})
    job_spec_defaults(spec)
    labels = spec["template"]["metadata"].get("labels")
    metadata = job.setdefault("metadata", {})
    if labels and not metadata.get("labels"):
        metadata["labels"] = dict(labels)
    job.setdefault("status", {})


def _cron_job(cron_job: Document) -> None:
    spec = cron_job.setdefault("spec", {})
    fill(
        spec,
        concurrencyPolicy="Allow",
        suspend=False,
        successfulJobsHistoryLimit=3,
        failedJobsHistoryLimit=1,
        jobTemplate={},
    )
    fill(spec["jobTemplate"], metadata={}, spec={})
    job_spec_defaults(spec["jobTemplate"]["spec"])
    cron_job.setdefault("status", {})


WORKLOAD_DEFAULTS: dict[tuple[str, str], Callable[[Document], None]] = {
    ("", "ReplicationController"): _replication_controller,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("batch", "CronJob"): _cron_job,
    ("batch", "Job"): _job,
}
