from __future__ import annotations

import pytest

from drakit.client.api import (
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    RESOURCE_SLICES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from drakit.controllers.garbage import CUSTOM_RESOURCES
from drakit.controllers.namespace import ROOT_CA
from drakit.transport import Document
from tests.controllers.cluster import NS, Cluster, cluster, pod

pytestmark = pytest.mark.anyio


async def make(c: Cluster, name: str, *owners: Document, block: bool = True) -> Document:
    """A config map that `owners` own."""
    references = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": block,
        }
        for owner in owners
    ]
    meta = {"name": name, "namespace": NS, "ownerReferences": references}
    return await c.client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})


async def names(c: Cluster) -> set[str]:
    return {d["metadata"]["name"] for d in await c.list(CONFIG_MAPS)} - {ROOT_CA}


async def test_background() -> None:
    async with cluster() as c:
        owner = await make(c, "owner")
        child = await make(c, "child", owner)
        await make(c, "grandchild", child)
        await make(c, "other")
        await c.settle()
        await c.client.delete(CONFIG_MAPS, "owner", NS, propagation="Background")
        await c.settle()
        assert await names(c) == {"other"}


async def test_one_of_two_owners_is_enough_to_live() -> None:
    async with cluster() as c:
        one, two = await make(c, "one"), await make(c, "two")
        await make(c, "child", one, two)
        await c.settle()
        await c.client.delete(CONFIG_MAPS, "one", NS)
        await c.settle()
        child = await c.get(CONFIG_MAPS, "child") or {}
        assert [row["name"] for row in child["metadata"]["ownerReferences"]] == ["two"]
        await c.client.delete(CONFIG_MAPS, "two", NS)
        await c.settle()
        assert await names(c) == set()


async def test_foreground_waits_for_the_dependents() -> None:
    async with cluster() as c:
        owner = await make(c, "owner")
        await make(c, "child", owner)
        await c.client.patch(CONFIG_MAPS, "child", {"metadata": {"finalizers": ["example.com/wait"]}}, NS)
        await c.settle()
        await c.client.delete(CONFIG_MAPS, "owner", NS, propagation="Foreground")
        await c.settle()
        assert await names(c) == {"owner", "child"}
        child = await c.get(CONFIG_MAPS, "child") or {}
        assert child["metadata"]["deletionTimestamp"]
        await c.client.patch(CONFIG_MAPS, "child", {"metadata": {"finalizers": None}}, NS)
        await c.settle()
        assert await names(c) == set()


async def test_foreground_does_not_wait_for_those_that_do_not_block() -> None:
    async with cluster() as c:
        owner = await make(c, "owner")
        await make(c, "child", owner, block=False)
        await c.client.patch(CONFIG_MAPS, "child", {"metadata": {"finalizers": ["example.com/wait"]}}, NS)
        await c.settle()
        await c.client.delete(CONFIG_MAPS, "owner", NS, propagation="Foreground")
        await c.settle()
        assert await names(c) == {"child"}


async def test_orphans_live_on() -> None:
    async with cluster() as c:
        owner = await make(c, "owner")
        await make(c, "child", owner)
        await c.settle()
        await c.client.delete(CONFIG_MAPS, "owner", NS, propagation="Orphan")
        await c.settle()
        child = await c.get(CONFIG_MAPS, "child") or {}
        assert await names(c) == {"child"}
        assert not child["metadata"].get("ownerReferences")


async def test_an_owner_with_another_uid_is_no_owner() -> None:
    async with cluster() as c:
        owner = await make(c, "owner")
        await c.client.delete(CONFIG_MAPS, "owner", NS)
        await make(c, "owner")
        await make(c, "child", owner)
        await c.settle()
        assert await names(c) == {"owner"}


async def test_owners_of_unknown_kinds_are_respected() -> None:
    async with cluster() as c:
        reference = {"apiVersion": "example.com/v1", "kind": "Thing", "name": "x", "uid": "1"}
        meta = {"name": "child", "namespace": NS, "ownerReferences": [reference]}
        await c.client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        await c.settle()
        assert await names(c) == {"child"}


async def test_garbage_from_before_a_restart() -> None:
    async with cluster(start=False) as c:
        owner = await make(c, "owner")
        await make(c, "child", owner)
        await c.client.delete(CONFIG_MAPS, "owner", NS)
        c.start()
        await c.settle()
        assert await names(c) == set()


async def test_cluster_scoped_dependents_of_pods_are_left_alone() -> None:
    async with cluster() as c:
        reference = {"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "1"}
        document = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": "s", "ownerReferences": [reference]},
            "spec": {
                "driver": "d.example.com",
                "nodeName": "n0",
                "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": "x"}],
            },
        }
        await c.client.create(RESOURCE_SLICES, document)
        await c.settle()
        assert await c.get(RESOURCE_SLICES, "s") is not None


async def test_every_namespace_is_furnished() -> None:
    async with cluster(start=False) as c:
        c.start(root_ca="PEM")
        await c.settle()
        assert await c.get(SERVICE_ACCOUNTS, "default") is not None
        root = await c.get(CONFIG_MAPS, ROOT_CA) or {}
        assert root["data"] == {"ca.crt": "PEM"}
        await c.client.delete(SERVICE_ACCOUNTS, "default", NS)
        await c.client.patch(CONFIG_MAPS, ROOT_CA, {"data": {"ca.crt": "other"}}, NS)
        await c.settle()
        assert await c.get(SERVICE_ACCOUNTS, "default") is not None
        assert (await c.get(CONFIG_MAPS, ROOT_CA) or {})["data"] == {"ca.crt": "PEM"}


async def test_a_namespace_goes_with_everything_in_it() -> None:
    async with cluster() as c:
        await c.client.create(PODS, pod("p"))
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": NS}}
        await c.client.create(SECRETS, secret)
        await c.settle()
        await c.client.delete(NAMESPACES, NS)
        await c.settle()
        assert await c.get(NAMESPACES, NS) is None
        assert await c.list(PODS, None) == []
        assert await c.list(SECRETS, None) == []


async def test_a_namespace_that_cannot_be_emptied_says_why() -> None:
    async with cluster() as c:
        held = {"name": "held", "namespace": NS, "finalizers": ["example.com/wait"]}
        await c.client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": held})
        await c.client.delete(NAMESPACES, NS)
        await c.settle()
        namespace = await c.get(NAMESPACES, NS) or {}
        (row,) = namespace["status"]["conditions"]
        assert row["type"] == "NamespaceContentRemaining"
        assert "configmaps has 1 resource instances" in row["message"]
        await c.client.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, NS)
        await c.settle()
        assert await c.get(NAMESPACES, NS) is None


def _definition(plural: str, kind: str) -> Document:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object"}},
    }
    names = {"plural": plural, "kind": kind}
    spec = {"group": "x.example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.x.example.com"},
        "spec": spec,
    }


async def test_custom_resources_own_like_any_other() -> None:
    things = Resource("x.example.com", "v1", "things", "Thing", True)
    async with cluster() as c:
        await c.client.create(CUSTOM_RESOURCES, _definition("passings", "Passing"))
        await c.client.delete(CUSTOM_RESOURCES, "passings.x.example.com")
        await c.client.create(CUSTOM_RESOURCES, _definition("things", "Thing"))
        await c.settle()
        metadata = {"name": "owner", "namespace": NS}
        owner = await c.client.create(
            things, {"apiVersion": "x.example.com/v1", "kind": "Thing", "metadata": metadata}
        )
        await make(c, "child", owner)
        await c.settle()
        await c.client.delete(CUSTOM_RESOURCES, "things.x.example.com")
        await c.settle()
        assert await names(c) == set()
