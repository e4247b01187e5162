"""Devices that are not one node's: pools for many nodes, devices that say where they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from drakit.client.api import RESOURCE_SLICES
from drakit.driver import Device, Pool, device, nodes
from drakit.driver.slices import is_same, slice_specs
from drakit.errors import DRAError
from drakit.model.meta import NodeSelector
from drakit.profile import DEFAULT_VERSION
from tests.driver.make import NODE, Cluster, LampDriver, cluster, until

pytestmark = pytest.mark.anyio

NAME = LampDriver.name


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path, DEFAULT_VERSION) as made:
        yield made


class StreetDriver(LampDriver):
    """Lamps that several nodes can reach."""

    is_node_local = False

    def __init__(self, *pools: Pool) -> None:
        super().__init__()
        self.streets: Sequence[Pool] = pools

    def pools(self) -> Sequence[Pool]:
        return self.streets


def near(zone: str) -> NodeSelector:
    return nodes({"zone": zone, "light": ["yes", "maybe"]})


async def test_pools_for_many_nodes(lab: Cluster) -> None:
    driver = StreetDriver(
        Pool("everywhere", [device("a")], all_nodes=True),
        Pool("zone-1", [device("b")], node_selector=near("1")),
        Pool(
            "each",
            [device("c", node_name="n7"), device("d", all_nodes=True), device("e", node_selector=near("2"))],
        ),
        Pool(NODE, [device("f")]),
    )
    async with lab.running(driver) as plugin:
        found = {item["spec"]["pool"]["name"]: item for item in await lab.slices(NAME)}
        assert found["everywhere"]["spec"]["allNodes"] is True
        (term,) = found["zone-1"]["spec"]["nodeSelector"]["nodeSelectorTerms"]
        assert term["matchExpressions"] == [
            {"key": "zone", "operator": "In", "values": ["1"]},
            {"key": "light", "operator": "In", "values": ["yes", "maybe"]},
        ]
        assert found["each"]["spec"]["perDeviceNodeSelection"] is True
        assert found["each"]["spec"]["devices"][0]["nodeName"] == "n7"
        assert found[NODE]["spec"]["nodeName"] == NODE
        assert "ownerReferences" not in found["everywhere"]["metadata"]
        assert found[NODE]["metadata"]["ownerReferences"]

        await lab.client.delete(RESOURCE_SLICES, found["zone-1"]["metadata"]["name"])
        await until(lambda: plugin.metrics.value("dra_driver_slice_writes_total", "create") == 5)
        driver.streets = driver.streets[:1]
        driver.changed()
        await until(lambda: plugin.metrics.value("dra_driver_slice_writes_total", "delete") == 3)
        assert [item["spec"]["pool"]["name"] for item in await lab.slices(NAME)] == ["everywhere"]


async def test_slices_of_other_nodes_are_left_alone(lab: Cluster) -> None:
    spec = {"driver": NAME, "nodeName": "n2", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}
    other = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "o"}}
    await lab.client.create(RESOURCE_SLICES, {**other, "spec": {**spec, "devices": [{"name": "x"}]}})
    async with lab.running(StreetDriver(Pool("all", [device("a")], all_nodes=True))):
        assert {item["spec"]["pool"]["name"] for item in await lab.slices(NAME)} == {"p", "all"}


async def test_a_node_local_driver_publishes_for_its_node_alone(lab: Cluster) -> None:
    class Local(StreetDriver):
        is_node_local = True

    with pytest.raises(DRAError, match="pool all is for more than this node"):
        await lab.plugin(Local(Pool("all", [], all_nodes=True))).run()


WRONG: list[tuple[list[Device], dict[str, Any], str]] = [
    ([device("a", all_nodes=True), device("b")], {}, "device b does not say where it is, others do"),
    ([device("a", all_nodes=True)], {"all_nodes": True}, "all_nodes and per_device_node_selection exclude"),
    ([], {"all_nodes": True, "node_selector": near("1")}, "all_nodes and node_selector exclude"),
]


@pytest.mark.parametrize(("devices", "more", "text"), WRONG)
def test_wrong_places(devices: list[Device], more: dict[str, Any], text: str) -> None:
    with pytest.raises(DRAError, match=text):
        slice_specs(NAME, NODE, Pool("p", devices, **more))


async def test_binding_conditions_and_node_resources(lab: Cluster) -> None:
    driver = LampDriver()
    driver.lamps = [
        device(
            "far",
            capacity={"watt": 60},
            binds_to_node=True,
            binding_conditions=["lamp.example.com/plugged"],
            binding_failure_conditions=["lamp.example.com/burnt"],
        )
    ]
    async with lab.running(driver) as plugin:
        (item,) = await lab.slices(NAME)
        (found,) = item["spec"]["devices"]
        assert found["bindsToNode"] is True
        assert found["bindingConditions"] == ["lamp.example.com/plugged"]
        assert found["bindingFailureConditions"] == ["lamp.example.com/burnt"]
        assert plugin.metrics.value("dra_driver_slice_writes_total", "create") == 1


def test_node_resources_are_compared_as_quantities() -> None:
    def specs(amount: str) -> Any:
        resources = {"cpu": {"mapping": {"deviceMultiplier": amount}, "overhead": {"perPod": amount}}}
        return slice_specs(NAME, NODE, Pool("p", [device("a", node_allocatable_resources=resources)]))[0]

    assert is_same(specs("1000m"), specs("1"))
    assert not is_same(specs("1"), specs("2"))
