"""The columns of every kind that prints more than its name and age."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from drakit.apiserver import table_core as core
from drakit.apiserver import table_policy as policy
from drakit.apiserver import table_resource as resource
from drakit.apiserver import table_workload as workload
from drakit.apiserver.table_pod import pod
from drakit.transport import Document

Rows = Callable[[Document, datetime.datetime], list[Any]]


class Column(Struct, frozen=True):
    """`description` is a text or `@path` of a field; priority 1 columns show with `-o wide` only."""

    name: str
    description: str = ""
    type: str = "string"
    priority: int = 0
    format: str = ""


class Printer(Struct, frozen=True):
    columns: tuple[Column, ...]
    rows: Rows


_NAME = Column("Name", "@metadata.name", format="name")
_AGE = Column("Age", "@metadata.creationTimestamp")
_TEMPLATE = (
    Column("Containers", "Names of each container in the template.", priority=1),
    Column("Images", "Images referenced by each container in the template.", priority=1),
)
_SELECTOR = Column("Selector", "@spec.selector", priority=1)


def _named(make: Rows, *columns: Column) -> Printer:
    return Printer((_NAME, *columns), make)


_EVENT = Printer(
    (
        Column("Last Seen", "The time at which the most recent occurrence of this event was recorded."),
        Column("Type", "Type of this event (Normal, Warning), new types could be added in the future"),
        Column(
            "Reason",
            "This should be a short, machine understandable string that gives the reason for the transition "
            "into the object's current status.",
        ),
        Column("Object", "The object that this event is about."),
        Column(
            "Subobject",
            "If referring to a piece of an object instead of an entire object, this string should contain a "
            "valid JSON/Go field access statement, such as desiredState.manifest.containers[2]. For example, "
            "if the object reference is to a container within a pod, this would take on a value like: "
            '"spec.containers{name}" (where "name" refers to the name of the container that triggered the '
            'event) or if no container name is specified "spec.containers[2]" (container with index 2 in '
            "this pod). This syntax is chosen only to have some well-defined way of referencing a part of an "
            "object.",
            priority=1,
        ),
        Column(
            "Source",
            "The component reporting this event. Should be a short machine understandable string.",
            priority=1,
        ),
        Column("Message", "A human-readable description of the status of this operation."),
        Column(
            "First Seen",
            "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)",
            priority=1,
        ),
        Column("Count", "The number of times this event has occurred.", priority=1),
        Column("Name", "@metadata.name", priority=1, format="name"),
    ),
    core.event,
)

_CLAIM_STATE = Column("State", "A summary of the current state (allocated, pending, reserved, etc.).")

COLUMNS: dict[tuple[str, str], Printer] = {
    ("", "Pod"): _named(
        pod,
        Column("Ready", "The aggregate readiness state of this pod for accepting traffic."),
        Column("Status", "The aggregate status of the containers in this pod."),
        Column(
            "Restarts",
            "The number of times the containers in this pod have been restarted and when the last container "
            "in this pod has restarted.",
        ),
        _AGE,
        Column("IP", "@status.podIP", priority=1),
        Column("Node", "@spec.nodeName", priority=1),
        Column("Nominated Node", "@status.nominatedNodeName", priority=1),
        Column("Readiness Gates", "@spec.readinessGates", priority=1),
    ),
    ("", "Node"): _named(
        core.node,
        Column("Status", "The status of the node"),
        Column("Roles", "The roles of the node"),
        _AGE,
        Column("Version", "@status.nodeInfo.kubeletVersion"),
        Column("Internal-IP", "@status.addresses", priority=1),
        Column("External-IP", "@status.addresses", priority=1),
        Column("OS-Image", "@status.nodeInfo.osImage", priority=1),
        Column("Kernel-Version", "@status.nodeInfo.kernelVersion", priority=1),
        Column("Container-Runtime", "@status.nodeInfo.containerRuntimeVersion", priority=1),
    ),
    ("", "Namespace"): _named(core.namespace, Column("Status", "The status of the namespace"), _AGE),
    ("", "Event"): _EVENT,
    ("events.k8s.io", "Event"): _EVENT,
    ("", "ConfigMap"): _named(core.config_map, Column("Data", "@data"), _AGE),
    ("", "Secret"): _named(core.secret, Column("Type", "@type"), Column("Data", "@data"), _AGE),
    ("", "Service"): _named(
        core.service,
        Column("Type", "@spec.type"),
        Column("Cluster-IP", "@spec.clusterIP"),
        Column("External-IP", "@spec.externalIPs"),
        Column("Port(s)", "@spec.ports"),
        _AGE,
        Column("Selector", "@spec.selector", priority=1),
    ),
    ("", "Endpoints"): _named(core.endpoints, Column("Endpoints", "@subsets"), _AGE),
    ("", "PersistentVolumeClaim"): _named(
        core.volume_claim,
        Column("Status", "@status.phase"),
        Column("Volume", "@spec.volumeName"),
        Column("Capacity", "@status.capacity"),
        Column("Access Modes", "@status.accessModes"),
        Column("StorageClass", "StorageClass of the pvc"),
        Column("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
        _AGE,
        Column("VolumeMode", "@spec.volumeMode", priority=1),
    ),
    ("", "PersistentVolume"): _named(
        core.volume,
        Column("Capacity", "@spec.capacity"),
        Column("Access Modes", "@spec.accessModes"),
        Column("Reclaim Policy", "@spec.persistentVolumeReclaimPolicy"),
        Column("Status", "@status.phase"),
        Column("Claim", "@spec.claimRef"),
        Column("StorageClass", "StorageClass of the pv"),
        Column("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
        Column("Reason", "@status.reason"),
        _AGE,
        Column("VolumeMode", "@spec.volumeMode", priority=1),
    ),
    ("", "ReplicationController"): _named(
        workload.replica_set,
        Column("Desired", "@spec.replicas", "integer"),
        Column("Current", "@status.replicas", "integer"),
        Column("Ready", "@status.readyReplicas", "integer"),
        _AGE,
        *_TEMPLATE,
        _SELECTOR,
    ),
    ("", "ResourceQuota"): _named(
        core.resource_quota,
        Column("Request", "Request represents a minimum amount of cpu/memory that a container may consume."),
        Column("Limit", "Limits control the maximum amount of cpu/memory that a container may use."),
        _AGE,
    ),
    ("apps", "DaemonSet"): _named(
        workload.daemon_set,
        Column("Desired", "@status.desiredNumberScheduled", "integer"),
        Column("Current", "@status.currentNumberScheduled", "integer"),
        Column("Ready", "@status.numberReady", "integer"),
        Column("Up-to-date", "@status.updatedNumberScheduled", "integer"),
        Column("Available", "@status.numberAvailable", "integer"),
        Column("Node Selector", "@spec.template.spec.nodeSelector"),
        _AGE,
        *_TEMPLATE,
        _SELECTOR,
    ),
    ("apps", "Deployment"): _named(
        workload.deployment,
        Column("Ready", "Number of the pod with ready state"),
        Column("Up-to-date", "@status.updatedReplicas"),
        Column("Available", "@status.availableReplicas"),
        _AGE,
        *_TEMPLATE,
        _SELECTOR,
    ),
    ("apps", "ReplicaSet"): _named(
        workload.replica_set,
        Column("Desired", "@spec.replicas", "integer"),
        Column("Current", "@status.replicas", "integer"),
        Column("Ready", "@status.readyReplicas", "integer"),
        _AGE,
        *_TEMPLATE,
        _SELECTOR,
    ),
    ("apps", "StatefulSet"): _named(
        workload.stateful_set, Column("Ready", "Number of the pod with ready state"), _AGE, *_TEMPLATE
    ),
    ("apps", "ControllerRevision"): _named(
        workload.controller_revision,
        Column("Controller", "Controller of the object"),
        Column("Revision", "@revision"),
        _AGE,
    ),
    ("apiregistration.k8s.io", "APIService"): _named(
        policy.api_service,
        Column("Service", "The reference to the service that hosts this API endpoint."),
        Column("Available", "Whether this service is available."),
        _AGE,
    ),
    ("autoscaling", "HorizontalPodAutoscaler"): _named(
        policy.autoscaler,
        Column("Reference", "@spec.scaleTargetRef"),
        Column("Targets", "What is measured, and what it should be."),
        Column("MinPods", "@spec.minReplicas"),
        Column("MaxPods", "@spec.maxReplicas", "integer"),
        Column("Replicas", "@status.currentReplicas", "integer"),
        _AGE,
    ),
    ("certificates.k8s.io", "CertificateSigningRequest"): _named(
        policy.signing_request,
        _AGE,
        Column("SignerName", "@spec.signerName"),
        Column("Requestor", "@spec.request"),
        Column("RequestedDuration", "@spec.expirationSeconds"),
        Column("Condition", "@status.conditions"),
    ),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): _named(
        policy.flow_schema,
        Column("PriorityLevel", "@spec.priorityLevelConfiguration"),
        Column("MatchingPrecedence", "@spec.matchingPrecedence", "integer"),
        Column("DistinguisherMethod", "@spec.distinguisherMethod"),
        _AGE,
        Column("MissingPL", "Whether the priority level is missing."),
    ),
    ("batch", "Job"): _named(
        workload.job,
        Column("Status", "Status of the job."),
        Column("Completions", "@status.succeeded"),
        Column("Duration", "Time required to complete the job."),
        _AGE,
        *_TEMPLATE,
        _SELECTOR,
    ),
    ("batch", "CronJob"): _named(
        workload.cron_job,
        Column("Schedule", "@spec.schedule"),
        Column("Timezone", "@spec.timeZone"),
        Column("Suspend", "@spec.suspend", "boolean"),
        Column("Active", "@status.active", "integer"),
        Column("Last Schedule", "@status.lastScheduleTime"),
        _AGE,
        *_TEMPLATE,
        Column("Selector", "@spec.jobTemplate.spec.selector", priority=1),
    ),
    ("coordination.k8s.io", "Lease"): _named(core.lease, Column("Holder", "@spec.holderIdentity"), _AGE),
    ("networking.k8s.io", "Ingress"): _named(
        policy.ingress,
        Column(
            "Class", "The name of the IngressClass resource that should be used for additional configuration"
        ),
        Column("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
        Column("Address", "Address is a list containing ingress points for the load-balancer"),
        Column("Ports", "Ports of TLS configurations that open"),
        _AGE,
    ),
    ("networking.k8s.io", "NetworkPolicy"): _named(
        policy.network_policy, Column("Pod-Selector", "@spec.podSelector"), _AGE
    ),
    ("node.k8s.io", "RuntimeClass"): _named(policy.runtime_class, Column("Handler", "@handler"), _AGE),
    ("policy", "PodDisruptionBudget"): _named(
        workload.disruption_budget,
        Column("Min Available", "The minimum number of pods that must be available."),
        Column("Max Unavailable", "The maximum number of pods that may be unavailable."),
        Column(
            "Allowed Disruptions", "Calculated number of pods that may be disrupted at this time.", "integer"
        ),
        _AGE,
    ),
    ("rbac.authorization.k8s.io", "ClusterRole"): _named(
        policy.created_at, Column("Created At", "@metadata.creationTimestamp")
    ),
    ("rbac.authorization.k8s.io", "Role"): _named(
        policy.created_at, Column("Created At", "@metadata.creationTimestamp")
    ),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _named(
        policy.role_binding,
        Column("Role", "@roleRef"),
        _AGE,
        Column("Users", "Users in the clusterRoleBinding", priority=1),
        Column("Groups", "Groups in the clusterRoleBinding", priority=1),
        Column("ServiceAccounts", "ServiceAccounts in the clusterRoleBinding", priority=1),
    ),
    ("rbac.authorization.k8s.io", "RoleBinding"): _named(
        policy.role_binding,
        Column("Role", "@roleRef"),
        _AGE,
        Column("Users", "Users in the roleBinding", priority=1),
        Column("Groups", "Groups in the roleBinding", priority=1),
        Column("ServiceAccounts", "ServiceAccounts in the roleBinding", priority=1),
    ),
    ("scheduling.k8s.io", "PriorityClass"): _named(
        policy.priority_class,
        Column("Value", "@value", "integer"),
        Column("Global-Default", "@globalDefault", "boolean"),
        _AGE,
        Column("PreemptionPolicy", "@preemptionPolicy", priority=1),
    ),
    ("storage.k8s.io", "CSINode"): _named(
        policy.csi_node,
        Column("Drivers", "Drivers indicates the number of CSI drivers registered on the node", "integer"),
        _AGE,
    ),
    ("storage.k8s.io", "StorageClass"): _named(
        policy.storage_class,
        Column("Provisioner", "@provisioner"),
        Column("ReclaimPolicy", "@reclaimPolicy"),
        Column("VolumeBindingMode", "@volumeBindingMode"),
        Column("AllowVolumeExpansion", "@allowVolumeExpansion"),
        _AGE,
    ),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _named(
        policy.webhooks,
        Column("Webhooks", "Webhooks indicates the number of webhooks registered", "integer"),
        _AGE,
    ),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _named(
        policy.webhooks,
        Column("Webhooks", "Webhooks indicates the number of webhooks registered", "integer"),
        _AGE,
    ),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): _named(
        policy.admission_policy,
        Column("Mutations", "Number of mutations", "integer"),
        Column("ParamKind", "@spec.paramKind"),
        _AGE,
    ),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): _named(
        policy.admission_binding,
        Column("PolicyName", "@spec.policyName"),
        Column("ParamRef", "@spec.paramRef"),
        _AGE,
    ),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): _named(
        policy.admission_policy,
        Column("Validations", "Number of validations", "integer"),
        Column("ParamKind", "@spec.paramKind"),
        _AGE,
    ),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): _named(
        policy.admission_binding,
        Column("PolicyName", "@spec.policyName"),
        Column("ParamRef", "@spec.paramRef"),
        _AGE,
    ),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _named(
        policy.created_at, Column("Created At", "@metadata.creationTimestamp", "date")
    ),
    ("resource.k8s.io", "DeviceTaintRule"): _named(
        resource.taint_rule,
        Column("Key", "@spec.taint.key"),
        Column("Value", "@spec.taint.value"),
        Column("Effect", "@spec.taint.effect"),
        Column("TimeAdded", "@spec.taint.timeAdded"),
        _AGE,
    ),
    ("resource.k8s.io", "ResourceClaim"): _named(resource.resource_claim, _CLAIM_STATE, _AGE),
    ("resource.k8s.io", "ResourcePoolStatusRequest"): _named(
        resource.pool_status_request,
        Column("Driver", "The driver to query pools for."),
        Column("Total", "Total number of devices across all pools."),
        Column("Available", "Number of available devices across all pools."),
        Column("Allocated", "Number of allocated devices across all pools."),
        Column("Unavailable", "Number of unavailable devices across all pools."),
        Column("Errors", "Number of pools with validation errors."),
        Column("Pools", "Total number of matching pools.", "integer"),
        Column("Status", "Processing status."),
        Column("Completed", "Time since the observation completed."),
    ),
    ("resource.k8s.io", "ResourceSlice"): _named(
        resource.resource_slice,
        Column("Node", "@spec.nodeName"),
        Column("Driver", "@spec.driver"),
        Column("Pool", "@spec.pool.name"),
        _AGE,
    ),
}
