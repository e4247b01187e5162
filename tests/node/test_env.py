"""The environment of a container, as the kubelet makes it."""

from __future__ import annotations

import base64

import pytest
from msgspec import structs

from drakit.apiserver.app import API
from drakit.client.api import CONFIG_MAPS, SECRETS, Client
from drakit.node.env import ConfigFailed, Facts, build_env, expand, pod_field, resource_field
from drakit.profile import profile_for
from drakit.store import Store
from drakit.transport import Document
from tests.node.make import ADMIN, NS

FACTS = Facts(
    node_name="node-1",
    host_ip="192.0.2.1",
    pod_ip="192.0.2.7",
    allocatable={"cpu": "4", "memory": "1Gi"},
)
POD: Document = {
    "metadata": {
        "name": "p",
        "namespace": NS,
        "uid": "u-1",
        "labels": {"app": 'a"b', "tier": "x"},
        "annotations": {"note": "two\nlines"},
    },
    "spec": {
        "serviceAccountName": "robot",
        "containers": [
            {
                "name": "c",
                "resources": {
                    "limits": {"cpu": "1500m", "memory": "64Mi"},
                    "requests": {"cpu": "250m"},
                },
            },
            {"name": "free"},
        ],
    },
}

EXPANSIONS = [
    ("$(A)", "1"),
    ("$(A)$(B)", "1two"),
    ("$$(A)", "$(A)"),
    ("$(NONE)", "$(NONE)"),
    ("$A", "$A"),
    ("cost: 5$", "cost: 5$"),
    ("$(A", "$(A"),
    ("$$$(A)", "$1"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "expected"), EXPANSIONS)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "two"}) == expected


FIELDS = [
    ("metadata.name", "p"),
    ("metadata.namespace", NS),
    ("metadata.uid", "u-1"),
    ("metadata.labels['tier']", "x"),
    ("metadata.labels['none']", ""),
    ("metadata.labels", 'app="a\\"b"\ntier="x"'),
    ("metadata.annotations", 'note="two\\nlines"'),
    ("spec.nodeName", "node-1"),
    ("spec.serviceAccountName", "robot"),
    ("status.hostIP", "192.0.2.1"),
    ("status.podIP", "192.0.2.7"),
]


@pytest.mark.parametrize(("path", "expected"), FIELDS)
def test_fields(path: str, expected: str) -> None:
    assert pod_field(POD, path, FACTS) == expected


def test_a_field_nobody_knows() -> None:
    with pytest.raises(ConfigFailed, match=r"unsupported fieldPath: spec\.secret"):
        pod_field(POD, "spec.secret", FACTS)


RESOURCES = [
    ({"resource": "limits.cpu"}, "2"),
    ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
    ({"resource": "requests.cpu", "divisor": "1m"}, "250"),
    ({"resource": "limits.memory"}, str(64 << 20)),
    ({"resource": "limits.memory", "divisor": "1Mi"}, "64"),
    ({"resource": "limits.cpu", "containerName": "free"}, "4"),
    ({"resource": "requests.memory"}, "0"),
]


@pytest.mark.parametrize(("ref", "expected"), RESOURCES)
def test_resources(ref: Document, expected: str) -> None:
    assert resource_field(POD, POD["spec"]["containers"][0], ref, FACTS) == expected


@pytest.mark.anyio
async def test_the_whole_environment() -> None:
    api = API.open(Store(), profile_for())
    await api.start()
    client = Client(api.transport(ADMIN), field_manager="test")
    meta = {"name": "s", "namespace": NS}
    await client.create(
        CONFIG_MAPS,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"K": "v", "L": "w"}},
    )
    secret = {"P": base64.b64encode(b"hidden").decode()}
    await client.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": secret})
    container: Document = {
        "name": "c",
        "envFrom": [
            {"configMapRef": {"name": "s"}, "prefix": "X_"},
            {"secretRef": {"name": "none", "optional": True}},
        ],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(X_K)-$(LATER)"},
            {"name": "LATER", "value": "3"},
            {"name": "X_L", "value": "over"},
            {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "P"}}},
            {"name": "Q", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no", "optional": True}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
    }
    env = await build_env(client, POD, container, FACTS)
    assert env == {
        "X_K": "v",
        "X_L": "over",
        "A": "1",
        "B": "1-v-$(LATER)",
        "LATER": "3",
        "P": "hidden",
        "NODE": "node-1",
    }
    for reference, words in (
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found'),
        ({"configMapKeyRef": {"name": "s", "key": "k"}}, "couldn't find key k in configMap s"),
        ({"fileKeyRef": {}}, "fileKeyRef is not supported"),
    ):
        with pytest.raises(ConfigFailed, match=words):
            await build_env(client, POD, {"name": "c", "env": [{"name": "E", "valueFrom": reference}]}, FACTS)
    await api.close()


@pytest.mark.anyio
async def test_where_the_api_server_is() -> None:
    client = Client(API.open(Store(), profile_for()).transport(ADMIN))
    shares = structs.replace(FACTS, api_address="127.0.0.1:6443")
    assert (await build_env(client, POD, {"name": "c"}, shares))["KUBERNETES_SERVICE_PORT"] == "6443"
    alone = structs.replace(shares, api_address="")
    assert await build_env(client, POD, {"name": "c"}, alone) == {}
