"""Device metadata and the statuses of devices in claims."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from drakit.client.api import RESOURCE_CLAIMS
from drakit.driver import Claim, DeviceCondition, NetworkDeviceData, PreparedClaim, PreparedDevice, device
from drakit.errors import DRAError
from tests.driver.make import NODE, Cluster, Kubelet, LampDriver, cluster, until

pytestmark = pytest.mark.anyio

NAME = LampDriver.name


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


class TellingDriver(LampDriver):
    """Says something of every lamp."""

    has_metadata = True

    def __init__(self) -> None:
        super().__init__(3)
        self.lamps = [device(f"lamp-{index}", {"color": "red", "index": index}) for index in range(3)]

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        return [
            lamp.prepared(
                conditions=[DeviceCondition("Lit", "False", message="not yet")],
                data={"lumen": 800},
                network_data=NetworkDeviceData(interface_name="net1", ips=["10.0.0.5/24"]),
            )
            for lamp in claim.devices
        ]


async def devices(
    lab: Cluster, name: str, condition: Callable[[list[Any]], bool] = bool
) -> list[dict[str, Any]]:
    """The statuses of the claim's devices, when `condition` holds for them."""
    for _ in range(500):
        claim = await lab.client.get(RESOURCE_CLAIMS, name, "default")
        found: list[dict[str, Any]] = claim.get("status", {}).get("devices", [])
        if condition(found):
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(found)


def documents(path: Path) -> list[dict[str, Any]]:
    text, found = path.read_text(), []
    while text.strip():
        document, end = json.JSONDecoder().raw_decode(text.lstrip())
        found.append(document)
        text = text.lstrip()[end:]
    return found


def metadata_mounts(lab: Cluster) -> dict[str, Path]:
    """Where the metadata files are, by their path in the container."""
    return {
        mount["containerPath"]: Path(mount["hostPath"])
        for path in lab.cdi.iterdir()
        for item in json.loads(path.read_text())["devices"]
        for mount in item["containerEdits"].get("mounts", [])
    }


async def test_status(lab: Cluster) -> None:
    async with lab.running(TellingDriver()), Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("c", "lamp-0", "lamp-1")
        assert (await kubelet.prepare(claim))["c"].error == ""
        first, second = await devices(lab, "c")
        assert (first["driver"], first["pool"], first["device"]) == (NAME, NODE, "lamp-0")
        assert first["data"] == {"lumen": 800}
        assert first["networkData"] == {"interfaceName": "net1", "ips": ["10.0.0.5/24"]}
        (condition,) = first["conditions"]
        assert (condition["type"], condition["status"], condition["reason"]) == ("Lit", "False", "Lit")
        assert second["device"] == "lamp-1"


async def test_news_of_a_prepared_device(lab: Cluster) -> None:
    driver = TellingDriver()
    async with lab.running(driver), Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("c", "lamp-0", "lamp-1")
        await kubelet.prepare(claim)
        before = await devices(lab, "c")
        lamp, _ = driver.prepared[claim.uid].devices
        await driver.report(claim.uid, structs.replace(lamp, conditions=[DeviceCondition("Lit")], data=None))
        first, second = await devices(lab, "c", lambda found: "data" not in found[0])
        assert first["conditions"][0]["status"] == "True"
        assert second == before[1]
        (path,) = metadata_mounts(lab).values()
        assert [document["metadata"]["generation"] for document in documents(path)] == [2, 2]
        with pytest.raises(DRAError, match="has no device"):
            await driver.report(claim.uid, structs.replace(lamp, name="lamp-9"))
        with pytest.raises(DRAError, match="is not prepared"):
            await driver.report("u-9", lamp)
    async with lab.running(TellingDriver()):  # what was said last is remembered
        await devices(lab, "c", lambda found: found == [first, second])


async def test_a_status_that_cannot_be_written_fails_nothing(
    lab: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    class Loud(LampDriver):
        async def prepare(self, claim: Claim) -> list[PreparedDevice]:
            return [lamp.prepared(data={"x": "y" * 20_000}) for lamp in claim.devices]

    async with lab.running(Loud()) as plugin, Kubelet.meet(lab, NAME) as kubelet:
        assert (await kubelet.prepare(await lab.claim("c", "lamp-0")))["c"].error == ""
        await until(lambda: plugin.metrics.value("dra_driver_errors_total", "status") == 1)
        assert "the status of claim default/c cannot be written" in caplog.text
        assert await devices(lab, "c", lambda found: True) == []


# --- metadata -------------------------------------------------------------------------------------


async def test_metadata(lab: Cluster) -> None:
    async with lab.running(TellingDriver()), Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("c", "big:lamp-0", "big:lamp-2", "small:lamp-1")
        assert (await kubelet.prepare(claim))["c"].error == ""
        folder = "/var/run/kubernetes.io/dra-device-attributes/resourceclaims/c"
        mounts = metadata_mounts(lab)
        assert set(mounts) == {f"{folder}/{request}/{NAME}-metadata.json" for request in ("big", "small")}
        newest, oldest = documents(mounts[f"{folder}/big/{NAME}-metadata.json"])
        assert newest["apiVersion"] == "metadata.resource.k8s.io/v1beta1"
        assert oldest == {**newest, "apiVersion": "metadata.resource.k8s.io/v1alpha1"}
        assert newest["kind"] == "DeviceMetadata"
        assert newest["metadata"] == {
            "name": "c",
            "namespace": "default",
            "uid": claim.uid,
            "generation": 1,
        }
        (request,) = newest["requests"]
        assert request["name"] == "big"
        assert [lamp["name"] for lamp in request["devices"]] == ["lamp-0", "lamp-2"]
        assert request["devices"][1] == {
            "driver": NAME,
            "pool": NODE,
            "name": "lamp-2",
            "attributes": {"color": {"string": "red"}, "index": {"int": 2}},
            "networkData": {"interfaceName": "net1", "ips": ["10.0.0.5/24"]},
        }
        path = mounts[f"{folder}/big/{NAME}-metadata.json"]
        path.unlink()
        await kubelet.prepare(claim)  # again: what was lost is there again
        assert documents(path)
        await kubelet.unprepare(claim)
        assert not path.parent.parent.exists()


async def test_metadata_of_a_claim_from_a_template(lab: Cluster) -> None:
    async with lab.running(TellingDriver()), Kubelet.meet(lab, NAME) as kubelet:
        claim = await lab.claim("pod-light-x7", "lamp-0")
        annotation = {"resource.kubernetes.io/pod-claim-name": "light"}
        await lab.client.patch(
            RESOURCE_CLAIMS, claim.name, {"metadata": {"annotations": annotation}}, "default"
        )
        await kubelet.prepare(claim)
        ((inside, path),) = metadata_mounts(lab).items()
        assert inside.endswith(f"/dra-device-attributes/resourceclaimtemplates/light/r/{NAME}-metadata.json")
        assert documents(path)[0]["podClaimName"] == "light"


async def test_metadata_nobody_needs_any_more_goes(lab: Cluster) -> None:
    left = lab.plugins / NAME / "metadata" / "u-gone" / "r"
    left.mkdir(parents=True)
    async with lab.running(TellingDriver()):
        assert not left.parent.exists()


async def test_without_metadata_there_is_none(lab: Cluster) -> None:
    async with lab.running(LampDriver()), Kubelet.meet(lab, NAME) as kubelet:
        await kubelet.prepare(await lab.claim("c", "lamp-0"))
        assert metadata_mounts(lab) == {}
        assert PreparedClaim(namespace="a", name="b", uid="c").pod_claim_name is None
