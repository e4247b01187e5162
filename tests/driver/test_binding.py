"""Binding conditions: a driver makes devices ready before their pod is bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from drakit.client.api import RESOURCE_CLAIMS
from drakit.driver import Claim, PreparedClaim, RecoverableError
from drakit.errors import DRAError
from tests.driver.make import Cluster, Kubelet, LampDriver, cluster, until

pytestmark = pytest.mark.anyio

CONDITIONS = {"bindingConditions": ["Attached"], "bindingFailureConditions": ["AttachFailed"]}


class Fabric(LampDriver):
    """Lamps that must be attached first."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[DRAError] = []

    async def bind(self, claim: Claim) -> None:
        self.calls.append(f"bind {claim.name} {[lamp.name for lamp in claim.devices]}")
        if self.errors:
            raise self.errors.pop(0)

    async def unbind(self, claim: PreparedClaim) -> None:
        self.calls.append(f"unbind {claim.name} {[lamp.name for lamp in claim.devices]}")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


async def conditions(lab: Cluster, name: str) -> dict[str, str]:
    claim = await lab.client.get(RESOURCE_CLAIMS, name, "default")
    return {
        condition["type"]: condition["status"]
        for entry in (claim.get("status") or {}).get("devices") or ()
        for condition in entry["conditions"]
    }


async def settled(lab: Cluster, name: str) -> dict[str, str]:
    """The conditions, once there are any."""
    async with asyncio.timeout(20):
        while not (found := await conditions(lab, name)):
            await asyncio.sleep(0.01)
    return found


async def test_a_claim_is_bound_prepared_and_unbound(lab: Cluster) -> None:
    driver = Fabric()
    async with lab.running(driver):
        claim = await lab.claim("c", "lamp-0", **CONDITIONS)
        assert await settled(lab, "c") == {"Attached": "True"}
        async with Kubelet.meet(lab, driver.name) as kubelet:
            assert (await kubelet.prepare(claim))["c"].error == ""
            assert await kubelet.unprepare(claim) == {"c": ""}
        assert await conditions(lab, "c") == {"Attached": "True"}
        await lab.client.delete(RESOURCE_CLAIMS, "c", "default")
        await until(lambda: len(driver.calls) == 4)
    assert driver.calls == ["bind c ['lamp-0']", "prepare c", "unprepare c", "unbind c ['lamp-0']"]


@pytest.mark.parametrize(
    ("errors", "found", "calls"),
    [
        ([RecoverableError("busy")], {"Attached": "True"}, 2),
        ([DRAError("no such cable")], {"Attached": "False", "AttachFailed": "True"}, 1),
    ],
    ids=["later", "never"],
)
async def test_a_device_that_is_not_ready(
    lab: Cluster, errors: list[DRAError], found: dict[str, str], calls: int
) -> None:
    driver = Fabric()
    driver.errors = errors
    async with lab.running(driver):
        await lab.claim("c", "lamp-0", **CONDITIONS)
        assert await settled(lab, "c") == found
    assert driver.calls == ["bind c ['lamp-0']"] * calls


async def test_what_went_while_the_driver_was_away_is_unbound(lab: Cluster) -> None:
    driver = Fabric()
    async with lab.running(driver):
        await lab.claim("gone", "lamp-0", **CONDITIONS)
        await lab.claim("stays", "lamp-1", **CONDITIONS)
        await settled(lab, "gone")
        await settled(lab, "stays")
    await lab.client.delete(RESOURCE_CLAIMS, "gone", "default")
    again = Fabric()
    async with lab.running(again):
        await until(lambda: bool(again.calls))
    assert again.calls == ["unbind gone ['lamp-0']"]


NOT_OURS: dict[str, dict[str, Any]] = {
    "no conditions": {},
    "another pool": {"pool": "elsewhere", **CONDITIONS},
    "another driver": {"driver": "other.example.com", **CONDITIONS},
}


async def test_claims_that_are_not_to_be_bound_here(lab: Cluster) -> None:
    driver = Fabric()
    async with lab.running(driver):
        for number, more in enumerate(NOT_OURS.values()):
            await lab.claim(f"c{number}", "lamp-0", **more)
        await lab.claim("ours", "lamp-1", **CONDITIONS)
        await settled(lab, "ours")
    assert driver.calls == ["bind ours ['lamp-1']"]


async def test_an_instance_unbinds_what_the_one_before_it_bound(lab: Cluster) -> None:
    old, new = Fabric(), Fabric()
    async with lab.running(old):
        await lab.claim("c", "lamp-0", **CONDITIONS)
        await settled(lab, "c")
        async with lab.running(new, pod_uid="new"):
            await lab.claim("d", "lamp-1", **CONDITIONS)
            await settled(lab, "d")
            await until(lambda: len(old.calls) + len(new.calls) >= 2)
            await lab.client.delete(RESOURCE_CLAIMS, "c", "default")
            await until(lambda: "unbind c ['lamp-0']" in new.calls + old.calls)
    assert "bind c ['lamp-0']" not in new.calls
