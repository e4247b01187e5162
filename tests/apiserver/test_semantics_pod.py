"""Pods and the kinds that make them: defaults, admission, rules, what may change."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from drakit.errors import Forbidden
from tests.apiserver.semantics import Doc, Semantics, pod

LABEL = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"


def test_pod_defaults() -> None:
    made, errors = Semantics().created("", "pods", pod())
    assert errors == []
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert made["metadata"]["generation"] == 1
    spec = made["spec"]
    assert spec["containers"] == [
        {
            "name": "c",
            "image": "busybox:1",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        }
    ]
    del spec["containers"], spec["tolerations"]
    assert spec == {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
    }


def test_defaults_are_stable() -> None:
    semantics = Semantics()
    made, _ = semantics.created("", "pods", pod())
    assert semantics.decoded("", "pods", made) == made


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1", "IfNotPresent"),
        ("host:5000/busybox", "Always"),
        ("host:5000/busybox:1", "IfNotPresent"),
        ("busybox@sha256:00", "IfNotPresent"),
    ],
)
def test_pull_policy(image: str, policy: str) -> None:
    made, _ = Semantics().created("", "pods", pod("p", {"name": "c", "image": image}))
    assert made["spec"]["containers"][0]["imagePullPolicy"] == policy


def _with(**resources: Any) -> Doc:
    return pod("p", {"name": "c", "image": "x", "resources": resources})


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}, "Guaranteed"),
    ],
)
def test_quality_of_service(resources: Doc, qos: str) -> None:
    made, errors = Semantics().created("", "pods", _with(**resources))
    assert (made["status"]["qosClass"], errors) == (qos, [])


INVALID: list[tuple[str, Doc, list[str]]] = [
    ("no containers", {**pod(), "spec": {}}, ["spec.containers: Required value"]),
    (
        "a container without a name and an image",
        pod("p", {}),
        ["spec.containers[0].name: Required value", "spec.containers[0].image: Required value"],
    ),
    (
        "two of one name",
        pod("p", {"name": "c", "image": "x"}, {"name": "c", "image": "x"}),
        ['spec.containers[1].name: Duplicate value: "c"'],
    ),
    (
        "a claim nobody declared",
        _with(claims=[{"name": "g"}]),
        [
            'spec.containers[0].resources.claims[0]: Not found: "g": must be one of the names in '
            "pod.spec.resourceClaims which is empty"
        ],
    ),
    (
        "another claim than the declared",
        pod(
            "p",
            {"name": "c", "image": "x", "resources": {"claims": [{"name": "g"}]}},
            resourceClaims=[{"name": "h", "resourceClaimName": "x"}],
        ),
        [
            'spec.containers[0].resources.claims[0]: Not found: "g": must be one of the names in '
            "pod.spec.resourceClaims: h"
        ],
    ),
    (
        "a claim of no kind",
        pod(resourceClaims=[{"name": "g"}]),
        [
            'spec.resourceClaims[0]: Invalid value: {"Name":"g","ResourceClaimName":null,'
            '"ResourceClaimTemplateName":null}: must specify one of: `resourceClaimName`, '
            "`resourceClaimTemplateName`"
        ],
    ),
    (
        "a mount of no volume",
        pod("p", {"name": "c", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}),
        ['spec.containers[0].volumeMounts[0].name: Not found: "v"'],
    ),
    (
        "requests above limits",
        _with(requests={"cpu": "2"}, limits={"cpu": "1"}),
        [
            'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu '
            "limit of 1"
        ],
    ),
    (
        "a device without a limit",
        _with(requests={"example.com/gpu": "1"}),
        [
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable "
            "resources"
        ],
    ),
    (
        "an unknown restart policy",
        pod(restartPolicy="Sometimes"),
        [
            'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", '
            '"OnFailure"'
        ],
    ),
]


@pytest.mark.parametrize(
    ("document", "expected"), [row[1:] for row in INVALID], ids=[row[0] for row in INVALID]
)
def test_invalid_pods(document: Doc, expected: list[str]) -> None:
    assert Semantics().created("", "pods", document)[1] == expected


def test_every_error_at_once() -> None:
    document = pod("Bad_", {"name": "C", "image": ""}, restartPolicy="x", dnsPolicy="y")
    errors = Semantics().created("", "pods", document)[1]
    assert [error.partition(":")[0] for error in errors] == [
        "metadata.name",
        "spec.containers[0].name",
        "spec.containers[0].image",
        "spec.restartPolicy",
        "spec.dnsPolicy",
    ]


def test_priority_comes_from_its_class() -> None:
    semantics = Semantics()
    semantics.objects["PriorityClass", "", "high"] = {"value": 7, "preemptionPolicy": "Never"}
    made, _ = semantics.created("", "pods", pod(priorityClassName="high"))
    assert (made["spec"]["priority"], made["spec"]["preemptionPolicy"]) == (7, "Never")
    with pytest.raises(Forbidden, match="no PriorityClass with name low was found"):
        semantics.created("", "pods", pod(priorityClassName="low"))


def test_what_may_change_of_a_pod() -> None:
    semantics = Semantics()
    old, _ = semantics.created("", "pods", pod())
    new = copy.deepcopy(old)
    new["spec"]["containers"][0]["image"] = "other:1"
    new["spec"]["tolerations"].append({"key": "x", "operator": "Exists"})
    changed, errors = semantics.updated("", "pods", old, new)
    assert errors == []
    assert changed["metadata"]["generation"] == 2
    new["spec"]["nodeName"] = "n"
    (error,) = semantics.updated("", "pods", old, new)[1]
    assert error.startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    )
    assert error.endswith("changed here: spec.nodeName")


def test_status_and_spec_are_written_apart() -> None:
    semantics = Semantics()
    old, _ = semantics.created("", "pods", pod())
    new = copy.deepcopy(old)
    new["spec"]["nodeName"], new["status"]["phase"] = "n", "Running"
    changed, errors = semantics.updated("", "pods", old, new, "status")
    assert errors == []
    assert (changed["status"]["phase"], "nodeName" in changed["spec"]) == ("Running", False)
    assert changed["metadata"]["generation"] == 1


def test_resizing_changes_resources_alone() -> None:
    semantics = Semantics()
    old, _ = semantics.created("", "pods", pod())
    new = copy.deepcopy(old)
    new["spec"]["containers"][0] |= {"image": "other", "resources": {"requests": {"cpu": "2"}}}
    changed, errors = semantics.updated("", "pods", old, new, "resize")
    assert errors == []
    container = changed["spec"]["containers"][0]
    assert (container["image"], container["resources"]) == ("busybox:1", {"requests": {"cpu": "2"}})


def workload(**spec: Any) -> Doc:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    return {
        "metadata": {"name": "w"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec},
    }


def test_deployment_defaults() -> None:
    made, errors = Semantics().created("apps", "deployments", workload())
    assert errors == []
    spec = {key: value for key, value in made["spec"].items() if key not in ("template", "selector")}
    rolling = {"maxUnavailable": "25%", "maxSurge": "25%"}
    assert spec == {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }
    assert made["status"] == {}


def test_daemon_set_status_counts_from_zero() -> None:
    made, errors = Semantics().created("apps", "daemonsets", workload())
    assert (errors, made["status"]["desiredNumberScheduled"]) == ([], 0)
    assert made["spec"]["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
    }


@pytest.mark.parametrize("plural", ["deployments", "daemonsets", "replicasets", "statefulsets"])
def test_selectors_must_match_their_template(plural: str) -> None:
    semantics = Semantics()
    wrong = semantics.created("apps", plural, workload(selector={"matchLabels": {"a": "c"}}))[1]
    assert wrong == [
        'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`'
    ]
    missing = workload()
    del missing["spec"]["selector"]
    assert semantics.created("apps", plural, missing)[1] == ["spec.selector: Required value"]


def test_selectors_never_change() -> None:
    semantics = Semantics()
    old, _ = semantics.created("apps", "deployments", workload())
    new = copy.deepcopy(old)
    new["spec"]["selector"]["matchLabels"] = {"c": "d"}
    new["spec"]["template"]["metadata"]["labels"] = {"c": "d"}
    errors = semantics.updated("apps", "deployments", old, new)[1]
    assert errors == ['spec.selector: Invalid value: {"matchLabels":{"c":"d"}}: field is immutable']


def test_jobs_get_a_selector_of_their_own() -> None:
    document = workload(
        template={"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}
    )
    del document["spec"]["selector"]
    semantics = Semantics()
    made, errors = semantics.created("batch", "jobs", document)
    assert errors == []
    uid = made["metadata"]["uid"]
    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert made["spec"]["template"]["metadata"]["labels"]["job-name"] == "w"
    sent_again = {**copy.deepcopy(document), "metadata": {**made["metadata"], "labels": {"x": "y"}}}
    assert semantics.updated("batch", "jobs", made, sent_again)[1] == []


def test_job_template_must_not_always_restart() -> None:
    document = workload()
    del document["spec"]["selector"]
    errors = Semantics().created("batch", "jobs", document)[1]
    assert errors == [
        'spec.template.spec.restartPolicy: Unsupported value: "Always": supported values: "Never", '
        '"OnFailure"'
    ]


def test_services_keep_their_address() -> None:
    semantics = Semantics()
    document = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    old, errors = semantics.created("", "services", document)
    assert errors == []
    assert old["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    new = copy.deepcopy(document) | {"metadata": old["metadata"]}
    changed, errors = semantics.updated("", "services", old, new)
    assert (errors, changed["spec"]["clusterIP"]) == ([], old["spec"]["clusterIP"])
    assert Semantics().created("", "services", document)[0]["spec"] == old["spec"]


def test_node_ports_are_given_once() -> None:
    semantics = Semantics()
    document = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    old, errors = semantics.created("", "services", document)
    given = old["spec"]["ports"][0]["nodePort"]
    assert (errors, 30000 <= given < 32768) == ([], True)
    new = copy.deepcopy(document) | {"metadata": old["metadata"]}
    assert semantics.updated("", "services", old, new)[0]["spec"]["ports"][0]["nodePort"] == given


def test_secrets_take_plain_text() -> None:
    made, errors = Semantics().created("", "secrets", {"metadata": {"name": "s"}, "stringData": {"k": "v"}})
    assert (errors, made["data"], made["type"]) == ([], {"k": "dg=="}, "Opaque")
    assert "stringData" not in made


def test_namespaces_know_their_name() -> None:
    made, errors = Semantics().created("", "namespaces", {"metadata": {"name": "n"}})
    assert errors == []
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    assert (made["spec"], made["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})


def test_nodes_register_with_their_status() -> None:
    semantics = Semantics()
    document = {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "4"}}}
    old, errors = semantics.created("", "nodes", document)
    assert (errors, old["status"]["allocatable"]) == ([], {"cpu": "4"})
    new = copy.deepcopy(old) | {"status": {}}
    assert semantics.updated("", "nodes", old, new)[0]["status"]["capacity"] == {"cpu": "4"}
