"""How much of a capacity a request takes, policy by policy."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from drakit.allocator.capacity import NotEligible, consumption
from drakit.errors import AllocationError
from drakit.model.resource import DeviceCapacity

RANGE = {"default": "1Gi", "validRange": {"min": "1Gi", "max": "8Gi", "step": "1Gi"}}
FRACTION = {"default": "500m", "validRange": {"min": "250m", "max": "2", "step": "250m"}}
VALUES = {"default": "2", "validValues": ["1", "2", "4"]}


def taken(
    asked: str | int | None, value: str, policy: dict[str, Any] | None, is_fractional: bool = True
) -> str:
    document: dict[str, Any] = {"value": value}
    if policy is not None:
        document["requestPolicy"] = policy
    offered = {"memory": msgspec.convert(document, DeviceCapacity)}
    requests = {} if asked is None else {"memory": asked}
    return str(consumption("d", requests, offered, is_fractional)["memory"])


@pytest.mark.parametrize(
    ("asked", "value", "policy", "expected"),
    [
        (None, "80Gi", None, "80Gi"),
        ("3Gi", "80Gi", None, "3Gi"),
        ("0.5", "1", None, "500m"),
        ("1e3", "1Ki", None, "1e3"),
        (7, "10", None, "7"),
        (None, "80Gi", RANGE, "1Gi"),
        ("1", "80Gi", RANGE, "1Gi"),
        ("1500Mi", "80Gi", RANGE, "2Gi"),
        ("8Gi", "80Gi", RANGE, "8Gi"),
        ("0.3", "4", FRACTION, "500m"),
        ("0.9", "4", FRACTION, "1"),
        ("0", "4", VALUES, "1"),
        ("3", "4", VALUES, "4"),
        (None, "4", VALUES, "2"),
        ("5", "10", {"validRange": {"min": "2"}}, "5"),
        ("1", "10", {"validRange": {"min": "2"}}, "2"),
        (None, "10", {"validRange": {"min": "2", "max": "10"}}, "10"),
    ],
)
def test_rounding(asked: str | int | None, value: str, policy: dict[str, Any] | None, expected: str) -> None:
    assert taken(asked, value, policy) == expected


@pytest.mark.parametrize(
    ("asked", "value", "policy"),
    [
        ("81Gi", "80Gi", None),
        (str(10**30), "80Gi", None),
        ("9Gi", "80Gi", RANGE),
        ("8Gi", "7Gi", RANGE),
        ("5", "8", VALUES),
        (None, "8", {"validRange": {"min": "1", "max": "4"}}),
        ("3", "8", {"validRange": {"min": "1", "step": "0"}}),
        ("3", "8", {"validRange": {"min": "1", "step": "-1"}}),
    ],
)
def test_not_eligible(asked: str | None, value: str, policy: dict[str, Any] | None) -> None:
    with pytest.raises(NotEligible) as caught:
        taken(asked, value, policy)
    assert caught.value.name == "memory"


def test_unknown_capacity() -> None:
    with pytest.raises(NotEligible, match="speed: the device has no such capacity"):
        consumption("d", {"speed": "1"}, {}, True)


@pytest.mark.parametrize("asked", [str(10**30), "9223372036854775807", "1n"])
def test_cannot_be_represented(asked: str) -> None:
    policy = {"validRange": {"min": "0", "step": "0.5"}}
    with pytest.raises(AllocationError, match='capacity "memory": capacity request cannot be represented'):
        taken(asked, "1", policy)


def test_negative() -> None:
    with pytest.raises(AllocationError, match='capacity "memory": capacity value is negative'):
        taken("-1", "4", None)


def test_fractions_need_their_gate() -> None:
    policy = {"validRange": {"min": "1", "step": "1"}}
    assert taken("1.2", "4", policy, is_fractional=False) == "2"
    assert taken("1.2", "4", policy) == "2"
