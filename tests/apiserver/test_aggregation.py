"""APIServices: one for every group and version served, and what becomes of others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.served import Served
from tests.apiserver.test_custom_resources import definition

pytestmark = pytest.mark.anyio

SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def names(served: Served) -> set[str]:
    found = await served.ok("GET", SERVICES)
    return {row["metadata"]["name"] for row in found["items"]}


async def test_what_is_served_is_listed() -> None:
    async with Served() as served:
        before = await names(served)
        assert {"v1.", "v1.apps", "v1.resource.k8s.io", "v1beta1.resource.k8s.io"} <= before
        row = (await served.ok("GET", f"{SERVICES}/v1.apps"))["status"]["conditions"][0]
        assert (row["type"], row["status"], row["reason"]) == ("Available", "True", "Local")
        made: dict[str, Any] = await served.ok("POST", DEFINITIONS, definition())
        group = made["spec"]["group"]
        added = await names(served) - before
        assert {name.partition(".")[2] for name in added} == {group}
        await served.ok("DELETE", f"{DEFINITIONS}/{made['metadata']['name']}")
        await served.api.custom_resources.settle()
        assert await names(served) == before


async def test_another_server_is_noted_and_not_asked() -> None:
    async with Served() as served:
        spec = {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": "kube-system", "name": "metrics"},
        }
        document = {"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": spec}
        made = await served.ok("POST", SERVICES, document)
        assert made["status"]["conditions"][0]["reason"] == "NotAggregated"
        code, _, text = await served.refused("POST", SERVICES, {"metadata": {"name": "x"}, "spec": spec})
        assert (code, "metadata.name: Invalid value" in text) == (422, True)
