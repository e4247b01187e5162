"""ClusterRoles made of others, and pods that nobody collects."""

from __future__ import annotations

import asyncio

import pytest

from drakit.client.api import PODS
from drakit.client.informer import Informers
from drakit.controllers.aggregation import CLUSTER_ROLES
from drakit.controllers.context import Context
from drakit.controllers.podgc import PodGarbage
from drakit.transport import Document
from tests.controllers.cluster import Cluster, cluster, pod

pytestmark = pytest.mark.anyio


def role(name: str, *resources: str, **labels: str) -> Document:
    rules = [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]} for resource in resources]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels},
        "rules": rules,
    }


async def resources_of(c: Cluster, name: str) -> list[str]:
    rules = (await c.client.get(CLUSTER_ROLES, name)).get("rules") or []
    return [rule["resources"][0] for rule in rules]


async def test_a_role_has_the_rules_of_those_it_picks() -> None:
    async with cluster() as c:
        whole = role("whole", "nodes")
        whole["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]}
        for document in (role("b", "pods", part="yes"), role("a", "secrets", part="yes"), whole):
            await c.client.create(CLUSTER_ROLES, document)
        await c.client.create(CLUSTER_ROLES, role("c", "leases"))
        await c.settle()
        assert await resources_of(c, "whole") == ["secrets", "pods"]
        await c.client.patch(CLUSTER_ROLES, "c", {"metadata": {"labels": {"part": "yes"}}})
        await c.client.delete(CLUSTER_ROLES, "a")
        await c.settle()
        assert await resources_of(c, "whole") == ["pods", "leases"]


async def test_vendors_rights_reach_view() -> None:
    async with cluster() as c:
        label = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
        vendor = role("vendor", "gpus")
        vendor["metadata"]["labels"] = label
        before = await resources_of(c, "view")
        await c.client.create(CLUSTER_ROLES, vendor)
        await c.settle()
        after = await resources_of(c, "view")
        assert "gpus" in after
        assert set(before) <= set(after)


async def test_of_many_ended_pods_the_oldest_go() -> None:
    async with cluster(start=False) as c:
        for number in range(4):
            await c.client.create(PODS, pod(f"p{number}"))
            await c.set_pod(f"p{number}", phase="Succeeded" if number else "Pending")
            await c.clock.advance(1)
        informers = Informers(c.client, clock=c.clock)
        collector = PodGarbage(
            Context(client=c.client, informers=informers, profile=c.profile, clock=c.clock), kept=1
        )
        tasks = [asyncio.create_task(informers.run()), asyncio.create_task(collector.run())]
        await c.settle(25)
        assert sorted(p["metadata"]["name"] for p in await c.list(PODS)) == ["p0", "p3"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
