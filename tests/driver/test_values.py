"""Devices from Python values, claims from documents, opaque configuration."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from drakit.driver import Claim, Config, ContainerEdits, Mount, capacity, device, version
from drakit.driver.claim import ConfigPart
from drakit.errors import DRAError
from drakit.model.resource import DeviceAttribute

VALUES: dict[str, tuple[Any, DeviceAttribute]] = {
    "bool": (True, DeviceAttribute(bool_=True)),
    "int": (7, DeviceAttribute(int_=7)),
    "str": ("x", DeviceAttribute(string="x")),
    "version": (version("1.2.3-a"), DeviceAttribute(version="1.2.3-a")),
    "bools": ([True, False], DeviceAttribute(bools=[True, False])),
    "ints": ((1, 2), DeviceAttribute(ints=[1, 2])),
    "strs": (["a"], DeviceAttribute(strings=["a"])),
    "versions": ([version("1.0.0")], DeviceAttribute(versions=["1.0.0"])),
}


@pytest.mark.parametrize("case", VALUES)
def test_attributes(case: str) -> None:
    value, expected = VALUES[case]
    assert device("d", {"a": value}).attributes == {"a": expected}


@pytest.mark.parametrize("value", [None, 1.5, [], [1, "a"], [True, 1], {"a": 1}])
def test_no_attribute(value: Any) -> None:
    with pytest.raises(TypeError):
        device("d", {"a": value})


def test_capacity() -> None:
    made = device("d", capacity={"a": "80Gi", "b": 4, "c": capacity("8", default="1", min="1", step="1")})
    assert (made.capacity["a"].value, made.capacity["b"].value) == ("80Gi", "4")
    policy = made.capacity["c"].request_policy
    assert policy is not None
    assert policy.valid_range is not None
    assert (policy.default, policy.valid_range.min, policy.valid_range.max) == ("1", "1", None)


# --- claims ---------------------------------------------------------------------------------------

DRIVER = "lamp.example.com"


class Shade(ConfigPart, frozen=True):
    color: Literal["red", "blue"] = "red"


class LampConfig(Config, frozen=True, tag="LampConfig"):
    api_version: Literal["lamp.example.com/v1"] = "lamp.example.com/v1"
    shade: Shade = Shade()


def parameters(**more: Any) -> dict[str, Any]:
    return {"apiVersion": "lamp.example.com/v1", "kind": "LampConfig", **more}


def entry(source: str, *requests: str, driver: str = DRIVER, **more: Any) -> dict[str, Any]:
    opaque = {"driver": driver, "parameters": parameters(**more)}
    return {"source": source, "requests": list(requests), "opaque": opaque}


def document(*config: dict[str, Any], results: Any = None) -> dict[str, Any]:
    results = results or [{"request": "lamp", "driver": DRIVER, "pool": "n", "device": "lamp-0"}]
    return {
        "metadata": {"namespace": "default", "name": "light", "uid": "u-1"},
        "status": {"allocation": {"devices": {"results": results, "config": list(config)}}},
    }


def color(*config: dict[str, Any], request: str = "lamp") -> str | None:
    results = [{"request": request, "driver": DRIVER, "pool": "n", "device": "lamp-0"}]
    found = Claim.of(document(*config, results=results), DRIVER).devices[0].config(LampConfig)
    return found.shade.color if found else None


def test_claim() -> None:
    other = {"request": "x", "driver": "other.example.com", "pool": "n", "device": "x"}
    result = {
        "request": "main/sub",
        "driver": DRIVER,
        "pool": "n",
        "device": "lamp-0",
        "adminAccess": True,
        "shareID": "s",
        "consumedCapacity": {"light": "2"},
    }
    claim = Claim.of(document(results=[other, result]), DRIVER)
    (lamp,) = claim.devices
    assert claim.key == "default/light"
    assert (lamp.request, lamp.name, lamp.admin_access, lamp.share_id) == ("main/sub", "lamp-0", True, "s")
    assert lamp.consumed_capacity == {"light": "2"}
    ready = lamp.prepared(env={"LAMP": "0"}, mounts=[Mount(host_path="/a", container_path="/b")])
    assert ready.edits.env == ["LAMP=0"]
    assert lamp.prepared(edits=ready.edits, env={"B": "1"}).edits.env == ["LAMP=0", "B=1"]
    assert lamp.prepared().edits == ContainerEdits()


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"metadata": {"uid": "u"}}, "not allocated"),
        (document(results=[{"request": "r", "driver": "other", "pool": "n", "device": "d"}]), "no device of"),
        ({"metadata": {"uid": 7}}, "cannot be read"),
    ],
)
def test_claims_that_are_not_for_us(bad: dict[str, Any], text: str) -> None:
    with pytest.raises(DRAError, match=text):
        Claim.of(bad, DRIVER)


def test_config_of_the_claim_wins_over_the_class() -> None:
    red, blue = {"shade": {"color": "red"}}, {"shade": {"color": "blue"}}
    assert color() is None
    assert color(entry("FromClass", **blue)) == "blue"
    assert color(entry("FromClaim", **red), entry("FromClass", **blue)) == "red"
    assert color(entry("FromClaim", **red), entry("FromClaim", **blue)) == "blue"
    assert color(entry("FromClaim", "other", **blue)) is None
    assert color(entry("FromClaim", driver="other.example.com", **blue)) is None
    assert color(entry("FromClaim", "lamp", **blue), request="lamp/big") == "blue"
    assert color(entry("FromClaim", "lamp/big", **blue), request="lamp/big") == "blue"
    assert color(entry("FromClaim", "lamp/small", **blue), request="lamp/big") is None


BAD = {
    "unknown field": (parameters(shape="x"), r"config 0 \(FromClaim\): .*unknown field `shape`"),
    "value": (parameters(shade={"color": "green"}), r"'green' - at `\$\.shade\.color`"),
    "kind": (parameters(kind="GpuConfig"), r"'GpuConfig' - at `\$\.kind`"),
    "version": (parameters(apiVersion="lamp.example.com/v9"), r"at `\$\.apiVersion`"),
    "no object": ("text", "Expected `object`"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_config(case: str) -> None:
    value, text = BAD[case]
    config = entry("FromClaim")
    config["opaque"]["parameters"] = value
    with pytest.raises(DRAError, match=text):
        color(config)
