"""Recorded scenarios of a real control plane, played again: the same objects and reasons in the end.

One difference is wanted: a pod whose claims are not there is told so here, where the reference keeps it
waiting in silence. And whether a claim is just being allocated for another pod when a pod asks for it is a
matter of moments in both.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from drakit.client.api import (
    DEVICE_CLASSES,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Client,
    Resource,
)
from drakit.controllers.poolstatus import POOL_STATUS_REQUESTS
from drakit.controllers.quota import RESOURCE_QUOTAS
from drakit.model.quota import DEVICES_SUFFIX
from drakit.scheduler import Scheduler
from tests.conformance.scenario import Document, Scenario, Step
from tests.controllers.cluster import Cluster, cluster
from tests.recorded import cases
from tests.scheduler.cluster import SCHEDULER

pytestmark = pytest.mark.anyio

RESOURCES: dict[str, Resource] = {
    "pod": PODS,
    "claim": RESOURCE_CLAIMS,
    "template": RESOURCE_CLAIM_TEMPLATES,
    "DeviceClass": DEVICE_CLASSES,
    "ResourceSlice": RESOURCE_SLICES,
    "ResourcePoolStatusRequest": POOL_STATUS_REQUESTS,
}
ZONES = {"n0": "a", "n1": "a", "n2": "b"}
GATES = {"DRAResourcePoolStatus": True}


async def prepare(c: Cluster, scenario: Scenario) -> None:
    """Three nodes, the scenario's namespace, its first objects and its quota."""
    for name, zone in ZONES.items():
        labels = {"kubernetes.io/hostname": name, "zone": zone}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
        made = await c.client.create(NODES, node)
        amounts = {"cpu": "8", "memory": "32Gi", "pods": "110"}
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-22T01:00:00Z"}
        status = {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
        await c.client.patch(NODES, made["metadata"]["name"], {"status": status}, subresource="status")
    label = {"resource.kubernetes.io/admin-access": "true"}
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": scenario.namespace, "labels": label},
    }
    await c.client.create(NAMESPACES, namespace)
    for document in scenario.first_objects:
        await c.client.create(RESOURCES[document["kind"]], document)
    limits = re.findall(r"limited: (\S+?)=(\d+)", scenario.row["timeline"])
    if limits:
        hard = {name: value for name, value in limits if name.endswith(DEVICES_SUFFIX)}
        meta = {"name": "q", "namespace": scenario.namespace}
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}}
        await c.client.create(RESOURCE_QUOTAS, quota)
    await c.settle()


async def take(c: Cluster, step: Step, namespace: str) -> None:
    resource = RESOURCES[step.kind]
    if step.verb == "apply":
        await c.client.create(resource, step.document)
    elif step.verb == "delete":
        grace = 0 if step.kind == "pod" else None
        await c.client.delete(resource, step.name, namespace, grace_period_seconds=grace)
    else:
        status = {"phase": step.phase} if step.verb == "finish" else step.document
        await c.client.patch(resource, step.name, {"status": status}, namespace, subresource="status")


async def play(c: Cluster, scenario: Scenario) -> dict[str, Any]:
    await prepare(c, scenario)
    for step in scenario.steps():
        if step.is_later:
            await c.settle(3)
        await take(c, step, scenario.namespace)
    if not scenario.ends_with_a_report:
        await c.settle(15)
    return {
        "pods": (await c.client.list(PODS, scenario.namespace)).items,
        "resourceclaims": (await c.client.list(RESOURCE_CLAIMS, scenario.namespace)).items,
        "events": (await c.client.list(EVENTS, scenario.namespace)).items,
    }


# --- what is compared -------------------------------------------------------------------------------


def outcome(state: dict[str, Any]) -> dict[str, Any]:
    """Pods and claims without names that are random, times, uids, and which of equal nodes was taken."""
    pods = sorted(state["pods"], key=lambda pod: pod["metadata"]["name"])
    claims = sorted(state["resourceclaims"], key=lambda claim: claim["metadata"]["name"])
    text = json.dumps(
        {"pods": [_pod(p) for p in pods], "claims": [_claim(c) for c in claims]}, sort_keys=True
    )
    for number, node in enumerate(dict.fromkeys(re.findall(r'"(n[0-2])"', text))):
        text = text.replace(f'"{node}"', f'"node {number}"')
    found: dict[str, Any] = json.loads(text)
    return found


def _pod(pod: Document) -> Document:
    status = pod.get("status") or {}
    scheduled = [
        {field: row.get(field) for field in ("status", "reason")}
        for row in status.get("conditions") or ()
        if row["type"] == "PodScheduled"
    ]
    statuses = [
        row | {"resourceClaimName": row["resourceClaimName"][:-5]}
        for row in status.get("resourceClaimStatuses") or ()
    ]
    extended = dict(status.get("extendedResourceClaimStatus") or {})
    if extended:
        extended["resourceClaimName"] = extended["resourceClaimName"][:-5]
    return {
        "name": pod["metadata"]["name"],
        "node": pod["spec"].get("nodeName"),
        "phase": status.get("phase"),
        "scheduled": scheduled,
        "claims": statuses,
        "extended": extended,
    }


def _claim(claim: Document) -> Document:
    meta, status = claim["metadata"], json.loads(json.dumps(claim.get("status") or {}))
    (status.get("allocation") or {}).pop("allocationTimestamp", None)
    for result in ((status.get("allocation") or {}).get("devices") or {}).get("results") or ():
        if "shareID" in result:
            result["shareID"] = "random"
    for row in status.get("reservedFor") or ():
        row.pop("uid")
    owners = [
        {k: o.get(k) for k in ("kind", "name", "controller")} for o in meta.get("ownerReferences") or ()
    ]
    return {
        "name": meta.get("generateName") or meta["name"],
        "annotations": meta.get("annotations"),
        "finalizers": meta.get("finalizers"),
        "owners": owners,
        "spec": claim["spec"],
        "status": status,
    }


def reasons(state: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(e["involvedObject"]["name"], e["type"], e["reason"]) for e in state["events"]}


@pytest.mark.parametrize("row", cases("cluster/scenarios"), ids=lambda row: row["name"])
async def test_scenario(row: Document) -> None:
    scenario = Scenario(row)
    async with cluster("1.36", **GATES) as c:
        client = Client(c.api.transport(SCHEDULER), field_manager="kube-scheduler")
        scheduler = Scheduler(client, c.profile, clock=c.clock)
        task = asyncio.create_task(scheduler.run())
        await c.settle()
        try:
            state = await play(c, scenario)
        finally:
            task.cancel()
            await asyncio.wait([task])
    ours, theirs = outcome(state), outcome(row["final"])
    for pod, reference in zip(ours["pods"], theirs["pods"], strict=True):
        if pod["name"] in scenario.without_claim and not reference["scheduled"]:
            pod["scheduled"] = []
    assert ours == theirs
    told = {(name, "Warning", "FailedScheduling") for name in scenario.without_claim}
    overlapped = {(name, "Warning", "FailedScheduling") for name in scenario.overlapped}
    assert reasons(state) - told - overlapped == reasons(row["final"]) - told - overlapped
