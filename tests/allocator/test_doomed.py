"""Requests for all devices that fail whatever is picked before them: soon, and with the right outcome."""

from __future__ import annotations

from typing import Any

import pytest

from tests.allocator import make
from tests.allocator.solve import solve

DEVICES = [make.device(f"dev-{i:02}", attributes={"n": i, "half": i // 8}) for i in range(16)]


def all_of(half: int, *constraints: dict[str, Any]) -> dict[str, Any]:
    """A claim for all devices of one half, under `constraints`."""
    text = f'device.attributes["{make.DRIVER}"].half == {half}'
    return make.claim(
        "last", make.request("all", "any", 1, text, allocationMode="All"), constraints=list(constraints)
    )


def different(count: int) -> dict[str, Any]:
    """A claim whose requests each want another choice of the first half's devices."""
    texts = [f'device.attributes["{make.DRIVER}"].n < {8 - i}' for i in range(count)]
    return make.claim("first", *[make.request(f"r{i}", "any", 1, text) for i, text in enumerate(texts)])


def outcome(*claims: dict[str, Any], **fields: Any) -> dict[str, Any]:
    scenario = make.scenario([make.resource_slice("slice", DEVICES)], list(claims), **fields)
    return solve(scenario)


def match(attribute: str) -> dict[str, Any]:
    return {"matchAttribute": f"{make.DRIVER}/{attribute}"}


def distinct(attribute: str) -> dict[str, Any]:
    return {"distinctAttribute": f"{make.DRIVER}/{attribute}"}


def test_device_in_use() -> None:
    """No constraint is asked about the devices behind the one in use: no error, and no search."""
    row = outcome(different(7), all_of(1, match("half")), allocatedDevices=make.held("dev-08"))
    assert row["outcome"] == "none"
    assert row["steps"] <= 60


@pytest.mark.parametrize("constraint", [match("n"), distinct("half")])
def test_constraint_no_pick_can_meet(constraint: dict[str, Any]) -> None:
    row = outcome(different(7), all_of(1, constraint))
    assert row["outcome"] == "error"
    assert "dev-09 because a claim constraint would not be satisfied" in row["error"]
    assert row["steps"] <= 60


@pytest.mark.parametrize(("picks", "expected"), [((0, 1), "none"), ((2, 3), "error"), ((0, 3), "error")])
def test_picks_decide(picks: tuple[int, int], expected: str) -> None:
    """Only where another claim leaves it the first two devices does the request come as far as the error."""
    text = " || ".join([f'device.attributes["{make.DRIVER}"].n == {n}' for n in picks])
    assert (
        outcome(make.claim("first", make.request("r", "any", 1, text)), all_of(0, match("n")))["outcome"]
        == expected
    )


def test_constraint_shared_with_an_earlier_request() -> None:
    """The earlier pick settles the value, so the first device is refused before the one in use is reached."""
    text = f'device.attributes["{make.DRIVER}"].half == '
    claim = make.claim(
        "c",
        make.request("one", "any", 1, text + "0"),
        make.request("all", "any", 1, text + "1", allocationMode="All"),
        constraints=[match("half")],
    )
    assert outcome(claim, allocatedDevices=make.held("dev-09"))["outcome"] == "error"
    assert outcome(claim, allocatedDevices=make.held("dev-08"))["outcome"] == "none"
