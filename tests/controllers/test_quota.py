"""Quotas on what pods ask for, on some pods only, on extended resources and on any kind of object."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.client.api import DEVICE_CLASSES, PODS, RESOURCE_CLAIMS, Resource
from drakit.controllers.quota import RESOURCE_QUOTAS
from drakit.errors import APIError, Forbidden
from drakit.model.quantity import Quantity
from drakit.model.quota_pod import in_scope, pod_usage, unset
from drakit.model.quota_tally import Tally
from drakit.transport import Document
from tests.controllers.cluster import NS, Cluster, claim, cluster, pod

pytestmark = pytest.mark.anyio

GPU = "example.com/gpu"
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")


def asking(name: str, requests: Document, limits: Document | None = None, **spec: Any) -> Document:
    made = pod(name, **spec)
    made["spec"]["containers"][0]["resources"] = {"requests": requests, "limits": limits or {}}
    return made


async def limit(c: Cluster, hard: dict[str, str], **spec: Any) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q", "namespace": NS},
        "spec": {"hard": hard, **spec},
    }
    await c.client.create(RESOURCE_QUOTAS, quota)
    await c.settle()


async def used(c: Cluster) -> Document:
    return ((await c.get(RESOURCE_QUOTAS, "q") or {}).get("status") or {}).get("used") or {}


async def refusal(c: Cluster, resource: Resource, document: Document) -> str:
    with pytest.raises(Forbidden) as caught:
        await c.client.create(resource, document)
    return str(caught.value).partition("forbidden: ")[2]


async def test_requests_and_limits_are_counted_and_refused() -> None:
    async with cluster() as c:
        hard = {"pods": "5", "requests.cpu": "1", "limits.memory": "2Gi", "cpu": "1"}
        await limit(c, hard)
        small = {"cpu": "600m"}, {"memory": "1Gi"}
        await c.client.create(PODS, asking("a", *small))
        await c.settle()
        assert await used(c) == {"pods": "1", "requests.cpu": "600m", "limits.memory": "1Gi", "cpu": "600m"}
        assert await refusal(c, PODS, asking("b", *small)) == (
            "exceeded quota: q, requested: cpu=600m,requests.cpu=600m, "
            "used: cpu=600m,requests.cpu=600m, limited: cpu=1,requests.cpu=1"
        )
        assert await refusal(c, PODS, asking("c", {"cpu": "1m"})) == (
            "failed quota: q: must specify limits.memory for: c"
        )
        await c.set_pod("a", phase="Succeeded")
        await c.settle()
        assert (await used(c))["requests.cpu"] == "0"
        await c.client.create(PODS, asking("b", *small))


async def test_a_quota_with_a_scope_looks_at_some_pods_only() -> None:
    async with cluster() as c:
        await limit(c, {"pods": "1"}, scopes=["BestEffort"])
        await c.client.create(PODS, asking("busy", {"cpu": "1"}))
        await c.client.create(PODS, pod("a"))
        await c.settle()
        assert await used(c) == {"pods": "1"}
        assert "exceeded quota" in await refusal(c, PODS, pod("b"))
        await c.client.create(PODS, asking("busy2", {"cpu": "1"}))
        await c.client.create(RESOURCE_CLAIMS, claim("c"))


async def test_extended_resources_count_for_pods_and_for_claims_once() -> None:
    async with cluster() as c:
        device_class = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {"name": "c"},
            "spec": {"extendedResourceName": GPU},
        }
        await c.client.create(DEVICE_CLASSES, device_class)
        implicit = "requests.deviceclass.resource.kubernetes.io/c"
        await limit(c, {f"requests.{GPU}": "3", implicit: "9"})
        made = await c.client.create(PODS, asking("p", {GPU: "2"}, {GPU: "2"}))
        special = claim("special")
        special["metadata"] |= {
            "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": "p",
                    "uid": made["metadata"]["uid"],
                    "controller": True,
                }
            ],
        }
        special["spec"] = {
            "devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", "count": 2}}]}
        }
        await c.client.create(RESOURCE_CLAIMS, special)
        await c.settle()
        assert await used(c) == {f"requests.{GPU}": "2", implicit: "2"}
        await c.client.create(RESOURCE_CLAIMS, claim("own"))
        await c.settle()
        assert await used(c) == {f"requests.{GPU}": "3", implicit: "3"}
        text = await refusal(c, RESOURCE_CLAIMS, claim("more"))
        assert text == (
            f"exceeded quota: q, requested: requests.{GPU}=1, used: requests.{GPU}=3, "
            f"limited: requests.{GPU}=3"
        )
        assert "exceeded quota" in await refusal(c, PODS, asking("p2", {GPU: "1"}, {GPU: "1"}))


async def test_objects_of_any_kind_are_counted() -> None:
    async with cluster() as c:
        await limit(c, {"count/leases.coordination.k8s.io": "1", "count/nothing.example.com": "1"})
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"namespace": NS}}
        await c.client.create(LEASES, {**lease, "metadata": {"name": "a", "namespace": NS}})
        await c.settle()
        assert await used(c) == {"count/leases.coordination.k8s.io": "1"}
        with pytest.raises(APIError, match="exceeded quota"):
            await c.client.create(LEASES, {**lease, "metadata": {"name": "b", "namespace": NS}})


USAGE: dict[str, tuple[Document, dict[str, str]]] = {
    "init containers and sidecars": (
        {
            "containers": [{"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}],
            "initContainers": [
                {"resources": {"requests": {"cpu": "500m"}}, "restartPolicy": "Always"},
                {"resources": {"requests": {"cpu": "2"}}},
            ],
            "overhead": {"cpu": "100m", "memory": "1Mi"},
        },
        {
            "cpu": "2600m",
            "requests.cpu": "2600m",
            "limits.cpu": "2100m",
            "memory": "1Mi",
            "requests.memory": "1Mi",
        },
    ),
    "huge pages and extended resources": (
        {
            "containers": [
                {"resources": {"requests": {"hugepages-2Mi": "4Mi", GPU: "1", "x.kubernetes.io/y": "1"}}}
            ]
        },
        {"hugepages-2Mi": "4Mi", "requests.hugepages-2Mi": "4Mi", f"requests.{GPU}": "1"},
    ),
}


@pytest.mark.parametrize("name", USAGE)
def test_what_a_pod_counts_for(name: str) -> None:
    spec, expected = USAGE[name]
    found = {resource: str(quantity) for resource, quantity in pod_usage({"spec": spec}).items()}
    assert found == {"pods": "1", **expected}


def _expression(scope: str, operator: str, *values: str) -> Document:
    return {
        "scopeSelector": {"matchExpressions": [{"scopeName": scope, "operator": operator, "values": values}]}
    }


SCOPES: list[tuple[Document, Document, bool]] = [
    ({"scopes": ["Terminating"]}, {"activeDeadlineSeconds": 0}, True),
    ({"scopes": ["NotTerminating"]}, {"activeDeadlineSeconds": 5}, False),
    ({"scopes": ["NotBestEffort"]}, {}, True),
    ({"scopes": ["PriorityClass"]}, {}, False),
    (_expression("PriorityClass", "In", "high"), {"priorityClassName": "high"}, True),
    (_expression("PriorityClass", "NotIn", "high"), {"priorityClassName": "high"}, False),
    (_expression("PriorityClass", "DoesNotExist"), {}, True),
    ({"scopes": ["CrossNamespacePodAffinity"]}, {}, False),
    (
        {"scopes": ["CrossNamespacePodAffinity"]},
        {
            "affinity": {
                "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}
            }
        },
        True,
    ),
    ({"scopes": ["Unheard"]}, {}, False),
]


@pytest.mark.parametrize(("quota", "spec", "expected"), SCOPES)
def test_scopes(quota: Document, spec: Document, expected: bool) -> None:
    assert in_scope(quota, {"spec": spec, "status": {"qosClass": "Burstable"}}) is expected


def test_pods_with_resources_as_a_whole_need_no_others() -> None:
    spec = {"containers": [{"name": "c"}], "resources": {"requests": {"cpu": "1"}}}
    assert unset({"spec": spec}, {"requests.cpu"}) == ""


def test_a_tally_follows_each_object() -> None:
    tally = Tally({"scopes": ["Terminating"]})
    document: Document = {"spec": {"activeDeadlineSeconds": 5}}
    two, one = {"cpu": Quantity.of("1500m")}, {"cpu": Quantity.of("500m"), "pods": Quantity.of(1)}
    tally.put("a", document, two)
    tally.put("b", document, one)
    tally.put("c", {"spec": {}}, one)
    assert (str(tally.used("cpu")), str(tally.used("pods")), "c" in tally) == ("2", "1", False)
    tally.put("a", document, one)
    assert (str(tally.used("cpu")), str(tally.used("pods"))) == ("1", "2")
    tally.put("a", None, {})
    tally.put("b", {"spec": {}}, one)
    assert (tally.used("cpu").is_zero, tally.used("pods").is_zero, tally.used("x").is_zero) == (
        True,
        True,
        True,
    )


async def test_a_pod_that_should_be_gone_is_not_counted_for_long() -> None:
    async with cluster() as c:
        await limit(c, {"pods": "1"})
        await c.client.create(PODS, pod("a", terminationGracePeriodSeconds=30))
        await c.bind("a", "n0")
        await c.settle()
        await c.client.delete(PODS, "a", NS)
        await c.settle()
        assert await used(c) == {"pods": "1"}
        await c.settle(400)
        assert await used(c) == {"pods": "0"}
        await c.client.create(PODS, pod("b"))
