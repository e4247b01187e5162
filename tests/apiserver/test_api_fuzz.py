"""Garbage of every kind through the HTTP edge: always a Status below 500, and the server goes on.

DRAKIT_FUZZ=100000 sends that many requests instead of a few.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import msgspec
import pytest

from tests.apiserver.asgi import request
from tests.apiserver.served import ADMIN, Served

pytestmark = pytest.mark.anyio

COUNT = int(os.environ.get("DRAKIT_FUZZ", "2500"))
SEED = os.environ.get("DRAKIT_FUZZ_SEED", "1")

NS = "/api/v1/namespaces/default"
DRA = "/apis/resource.k8s.io/{version}"
POD_SPEC: dict[str, Any] = {
    "containers": [
        {
            "name": "c",
            "image": "x",
            "ports": [{"containerPort": 80}],
            "env": [{"name": "A", "value": "b"}],
            "resources": {"requests": {"cpu": "1"}, "claims": [{"name": "r"}]},
            "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
        }
    ],
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "volumes": [{"name": "v", "emptyDir": {}}],
    "resourceClaims": [{"name": "r", "resourceClaimName": "r"}],
}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": POD_SPEC}
DEVICE = {
    "name": "d",
    "attributes": {"a": {"string": "x"}, "v": {"version": "1.0.0"}},
    "capacity": {"m": {"value": "1Gi"}},
    "taints": [{"key": "k", "effect": "NoSchedule"}],
}
CLAIM_SPEC = {
    "devices": {
        "requests": [
            {
                "name": "r",
                "exactly": {
                    "deviceClassName": "c",
                    "count": 1,
                    "selectors": [{"cel": {"expression": "device.driver == 'x'"}}],
                },
            }
        ],
        "constraints": [{"requests": ["r"], "matchAttribute": "a/b"}],
        "config": [{"opaque": {"driver": "d.example.com", "parameters": {"a": 1}}}],
    }
}
SLICE_SPEC = {
    "driver": "d.example.com",
    "nodeName": "n",
    "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
    "devices": [DEVICE],
}
RULE_SPEC = {"deviceSelector": {"driver": "d.example.com"}, "taint": {"key": "k", "effect": "NoExecute"}}
KINDS: list[tuple[str, dict[str, Any]]] = [
    (f"{NS}/pods", {"spec": POD_SPEC}),
    (f"{NS}/configmaps", {"data": {"a": "b"}, "binaryData": {"c": "AA=="}}),
    (f"{NS}/secrets", {"data": {"a": "Yg=="}, "stringData": {"c": "d"}, "type": "Opaque"}),
    (f"{NS}/events", {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "x"}),
    (f"{NS}/serviceaccounts", {"secrets": [{"name": "x"}]}),
    (f"{NS}/services", {"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}),
    (
        "/api/v1/nodes",
        {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}, "status": {"capacity": {"cpu": "1"}}},
    ),
    ("/api/v1/namespaces", {"spec": {"finalizers": ["kubernetes"]}}),
    (
        "/apis/apps/v1/namespaces/default/deployments",
        {"spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}},
    ),
    (
        "/apis/apps/v1/namespaces/default/daemonsets",
        {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}},
    ),
    ("/apis/batch/v1/namespaces/default/jobs", {"spec": {"template": TEMPLATE, "backoffLimit": 1}}),
    ("/apis/coordination.k8s.io/v1/namespaces/default/leases", {"spec": {"holderIdentity": "me"}}),
    (
        "/apis/events.k8s.io/v1/namespaces/default/events",
        {"regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "x", "reason": "y"},
    ),
    (
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    ),
    (
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}},
    ),
    ("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "x"}}),
    (DRA + "/deviceclasses", {"spec": {"selectors": [{"cel": {"expression": "true"}}]}}),
    (DRA + "/namespaces/default/resourceclaims", {"spec": CLAIM_SPEC}),
    (DRA + "/namespaces/default/resourceclaimtemplates", {"spec": {"metadata": {}, "spec": CLAIM_SPEC}}),
    (DRA + "/resourceslices", {"spec": SLICE_SPEC}),
    (DRA + "/devicetaintrules", {"spec": RULE_SPEC}),
]
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1 << 31,
    1 << 63,
    1 << 70,
    1.5,
    1e300,
    "",
    "a",
    "-",
    "A_b",
    "x" * 300,
    "\u0000",
    "é",
    "../x",
    "a/b",
    "a/b/c",
    "1Gi",
    "1e400",
    "NaN",
    "$(x)",
    "true",
    "2026-11-22T12:00:00Z",
    "0000-00-00T00:00:00Z",
    [],
    [None],
    [[]],
    ["a"],
    [1],
    [{}],
    {},
    {"": ""},
    {"a": None},
    {"a": {"b": []}},
    {"$patch": "delete"},
    {"$patch": "x"},
    [{"$patch": "replace"}],
    {"$retainKeys": 3},
    {"$setElementOrder/containers": 1},
]
QUERIES = [
    b"",
    b"watch=true&timeoutSeconds=1&resourceVersion=99999999",
    b"limit=1",
    b"limit=x",
    b"limit=-9",
    b"continue=eyJydiI6MX0",
    b"continue=%ff",
    b"resourceVersion=x",
    b"resourceVersion=-1",
    b"resourceVersion=1",
    b"labelSelector=a%20in",
    b"labelSelector=a=b,!c",
    b"labelSelector=%00",
    b"fieldSelector=a",
    b"fieldSelector=metadata.name=x",
    b"fieldSelector=spec.nodeName=n",
    b"fieldSelector=%ff=%fe",
    b"dryRun=All",
    b"dryRun=x",
    b"fieldValidation=Strict",
    b"fieldValidation=x",
    b"fieldManager=" + b"x" * 300,
    b"fieldManager=m&force=true",
    b"force=x&fieldManager=m",
    b"includeObject=x",
    b"pretty=true",
    b"&&==&",
    b"%",
    b"gracePeriodSeconds=x",
    b"propagationPolicy=x",
    b"resourceVersionMatch=Exact&resourceVersion=3",
    b"sendInitialEvents=true",
    b"tailLines=x&container=c",
]
ACCEPTS = [
    "application/json",
    "*/*",
    "",
    "application/yaml",
    "text/plain",
    ";;;",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    "application/json;q=x",
    "a/b;q=0.1,*/*;q=0",
    "application/json;as=Nonsense",
]
TYPES = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
    "x",
    "",
]
SUBRESOURCES = ["/status", "/binding", "/eviction", "/scale", "/finalize", "/token", "/log", "/exec", "/x"]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
NAMES = ["p", "q", "%00", "a" * 260, "..", "Ä", "default"]


class Garbage:
    """A source of requests that are nearly right."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)

    def _mutate(self, value: Any, rate: float) -> Any:
        if self.chance.random() < rate:
            return self.chance.choice(ODD)
        if isinstance(value, dict):
            found = {key: self._mutate(item, rate) for key, item in value.items()}
            if self.chance.random() < rate:
                found[self.chance.choice(["x", "", "name", "spec", "metadata", "$patch", "kind"])] = (
                    self.chance.choice(ODD)
                )
            return found
        if isinstance(value, list):
            return [self._mutate(item, rate) for item in value] * self.chance.choice([1, 1, 1, 0, 2])
        return value

    def document(self, body: dict[str, Any], name: str) -> Any:
        metadata = {"name": name, "labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["a.b/c"]}
        whole = {"metadata": {key: metadata[key] for key in self.chance.sample(list(metadata), 2)}, **body}
        whole["metadata"]["name"] = name
        return self._mutate(whole, self.chance.choice([0, 0.01, 0.05, 0.2]))

    def patch(self) -> Any:
        operations = ["add", "remove", "replace", "move", "copy", "test", "x", None]
        paths = [
            "/spec",
            "/metadata/labels/a",
            "/spec/containers/0",
            "/a/b/c",
            "",
            "/",
            "x",
            "/spec/-",
            None,
            3,
        ]
        return [
            self._mutate(
                {
                    "op": self.chance.choice(operations),
                    "path": self.chance.choice(paths),
                    "value": 1,
                    "from": "/spec",
                },
                0.1,
            )
            for _ in range(self.chance.randrange(4))
        ]

    def body(self, document: Any, content_type: str) -> bytes:
        if content_type == "application/json-patch+json" and self.chance.random() < 0.7:
            document = self.patch()
        data = json.dumps(document).encode()
        if content_type.endswith("protobuf"):
            data = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12" + self.chance.randbytes(
                self.chance.randrange(40)
            )
        if self.chance.random() < 0.1:
            at = self.chance.randrange(len(data) + 1)
            data = (
                data[:at]
                + self.chance.randbytes(self.chance.randrange(4))
                + data[at + self.chance.randrange(3) :]
            )
        return data if self.chance.random() < 0.97 else b""

    def next(self) -> dict[str, Any]:
        path, body = self.chance.choice(KINDS)
        path = path.format(version=self.chance.choice(["v1", "v1beta1", "v1beta2", "v1alpha3"]))
        name = self.chance.choice(NAMES) if self.chance.random() < 0.3 else self.chance.choice("pqr")
        method = self.chance.choice(METHODS) if self.chance.random() < 0.99 else "X"
        content_type = self.chance.choice(TYPES) if self.chance.random() < 0.2 else "application/json"
        if method == "PATCH" and self.chance.random() < 0.8:
            content_type = self.chance.choice(TYPES[3:7])
        if self.chance.random() < (0.05 if method == "POST" else 0.9):
            path = f"{path}/{name}"
            if self.chance.random() < 0.2:
                path += self.chance.choice(SUBRESOURCES)
        return {
            "method": method,
            "path": path,
            "query": self.chance.choice(QUERIES) if self.chance.random() < 0.4 else b"",
            "headers": {
                "content-type": content_type,
                "accept": self.chance.choice(ACCEPTS[:3] * 9 + ACCEPTS),
            },
            "body": self.body(self.document(body, name), content_type),
        }


def is_allowed(status: int, body: bytes) -> bool:
    if status < 500:
        return True
    message = msgspec.json.decode(body)["message"]
    return (status == 504 and "Too large resource version" in message) or (
        status == 500 and message == "resourceVersion should not be set on objects to be created"
    )


async def test_garbage_is_refused_and_the_server_goes_on() -> None:
    garbage = Garbage(SEED)
    accepted = 0
    async with Served(tokens={"secret": ADMIN}) as served:
        for number in range(COUNT):
            made = garbage.next()
            reply = await request(served.api, **made)
            assert is_allowed(reply.status, reply.body), f"request {number}: {made} -> {reply.body[:500]!r}"
            if reply.status >= 400 and made["method"] != "HEAD" and reply.body:
                assert msgspec.json.decode(reply.body)["kind"] == "Status"
            accepted += reply.status < 300
        listed = await request(served.api, "GET", f"{NS}/configmaps")
        assert listed.status == 200
    assert accepted > COUNT // 20


async def test_what_was_accepted_can_be_read_listed_and_shown_as_a_table() -> None:
    garbage = Garbage(f"{SEED} again")
    table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    async with Served(tokens={"secret": ADMIN}) as served:
        for _ in range(COUNT // 5):
            await request(served.api, **garbage.next())
        for kind in served.api.registry.kinds.rows:
            if not kind.is_stored:
                continue
            for version in kind.versions:
                base = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
                for headers in ({}, table):
                    reply = await request(served.api, "GET", f"{base}/{kind.plural}", headers=headers)
                    assert reply.status == 200, reply.body
                    msgspec.json.decode(reply.body)
