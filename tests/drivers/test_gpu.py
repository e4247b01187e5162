"""The simulated GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.driver import Claim
from drakit.drivers import NAMES, build
from drakit.errors import DRAError, UsageError

pytestmark = pytest.mark.anyio


def config(source: str, sharing: Any = None, **more: Any) -> dict[str, Any]:
    parameters = {"apiVersion": "gpu.resource.example.com/v1alpha1", "kind": "GpuConfig", **more}
    if sharing is not None:
        parameters["sharing"] = sharing
    return {"source": source, "opaque": {"driver": "gpu.example.com", "parameters": parameters}}


def claim(*configs: dict[str, Any], **more: Any) -> Claim:
    result = {"request": "gpu", "driver": "gpu.example.com", "pool": "n1", "device": "gpu-1", **more}
    document = {
        "metadata": {"namespace": "default", "name": "c", "uid": "u1"},
        "status": {"allocation": {"devices": {"results": [result], "config": list(configs)}}},
    }
    return Claim.of(document, "gpu.example.com")


async def environment(*configs: dict[str, Any], **more: Any) -> dict[str, str]:
    prepared = await build("gpu", {}, "n1").prepare(claim(*configs, **more))  # type: ignore[misc]
    (device,) = prepared
    return dict(entry.split("=", 1) for entry in device.edits.env)


def test_devices() -> None:
    devices = build("gpu", {"count": "2", "model": "H100", "memory": "96Gi"}, "n1").devices()
    assert [device.name for device in devices] == ["gpu-0", "gpu-1"]
    (attributes, capacity) = (devices[1].attributes, devices[1].capacity)
    assert (attributes["index"].int_, attributes["model"].string) == (1, "H100")
    assert (attributes["driverVersion"].version, capacity["memory"].value) == ("1.0.0", "96Gi")
    others = [*build("gpu", {}, "n1").devices(), *build("gpu", {}, "n2").devices()]
    assert len({device.attributes["uuid"].string for device in others}) == 8
    assert devices[1].attributes["uuid"] == others[1].attributes["uuid"]


async def test_environment() -> None:
    assert await environment() == {
        "GPU_NODE_NAME": "n1",
        "DRA_RESOURCE_DRIVER_NAME": "gpu.example.com",
        "GPU_DEVICE_1": "gpu-1",
        "GPU_DEVICE_1_RESOURCE_CLAIM": "u1",
        "GPU_DEVICE_1_SHARING_STRATEGY": "TimeSlicing",
        "GPU_DEVICE_1_TIMESLICE_INTERVAL": "Default",
    }
    assert (await environment(adminAccess=True))["DRA_ADMIN_ACCESS"] == "true"


async def test_config_of_class_and_claim() -> None:
    long = config("FromClass", {"strategy": "TimeSlicing", "timeSlicingConfig": {"interval": "Long"}})
    three = config(
        "FromClaim", {"strategy": "SpacePartitioning", "spacePartitioningConfig": {"partitionCount": 3}}
    )
    assert (await environment(long))["GPU_DEVICE_1_TIMESLICE_INTERVAL"] == "Long"
    found = await environment(long, three)
    assert found["GPU_DEVICE_1_SHARING_STRATEGY"] == "SpacePartitioning"
    assert found["GPU_DEVICE_1_PARTITION_COUNT"] == "3"
    assert "GPU_DEVICE_1_TIMESLICE_INTERVAL" not in found


BAD = {
    "strategy": ({"strategy": "Luck"}, "Invalid enum value 'Luck' - at `\\$.sharing.strategy`"),
    "interval": ({"timeSlicingConfig": {"interval": "Never"}}, "'Never'"),
    "count": (
        {"strategy": "SpacePartitioning", "spacePartitioningConfig": {"partitionCount": -1}},
        "`int` >= 0",
    ),
    "wrong pair": ({"strategy": "TimeSlicing", "spacePartitioningConfig": {}}, "does not go with"),
    "unknown": ({"colour": "red"}, "unknown field `colour`"),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_config(case: str) -> None:
    sharing, text = BAD[case]
    with pytest.raises(DRAError, match=text) as caught:
        await environment(config("FromClaim", sharing))
    assert str(caught.value).startswith("config 0 (FromClaim): ")


OPTIONS = [
    ({"count": "-1"}, "option count: '-1' is not a whole number from 0 to 1000"),
    ({"count": "1001"}, "option count"),
    ({"memory": "much"}, "option memory: 'much'"),
    ({"model": ""}, "option model"),
    ({"profile": "half"}, "option profile: 'half' is not one of whole, mig, shared"),
    ({"profile": "mig", "memory": "1Mi"}, "too little to be divided"),
    ({"shares": "0"}, "option shares"),
    ({"models": "x"}, "has no option 'models': it has profile, count, model, memory, shares, metadata"),
]


@pytest.mark.parametrize(("options", "text"), OPTIONS)
def test_bad_options(options: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        build("gpu", options, "n1")


FROM_ELSEWHERE = {"blockdev", "device-plugin"}
"""Drivers of what need not be on this machine."""


def test_every_driver_builds() -> None:
    for name in set(NAMES) - {"nvidia"}:  # which needs a module that is not here
        driver = build(name, {}, "n1")
        assert driver.node_name == "n1"
        assert driver.devices() or name in FROM_ELSEWHERE
    with pytest.raises(
        UsageError,
        match="no driver 'fpga': choose one of blockdev, cpu, device-plugin, gpu, memory, net, nvidia, pizza",
    ):
        build("fpga", {}, "n1")
