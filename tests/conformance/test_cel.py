"""Expressions as the reference compiled, evaluated and costed them.

Two things differ on purpose. Where a recorded expression goes over the attributes of a device with `exists`,
its cost depends on the random order of a Go map; then only the bounds of the cost are checked. And a
recording without a greatest cost means 2^64 - 1.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from drakit import cel
from drakit.errors import CELError
from drakit.model.resource import Device
from drakit.profile import profile_for
from tests.recorded import cases

UNORDERED = re.compile(r'device\.attributes\["d\.x"\]\.(exists|all)\(')


def device_of(row: dict[str, Any]) -> Device:
    fields = {key: row.get(key) for key in ("attributes", "capacity", "allowMultipleAllocations")}
    return msgspec.convert({"name": "d", **{k: v for k, v in fields.items() if v is not None}}, Device)


def test_random_expressions() -> None:
    wrong = []
    for row in cases("cel/random"):
        expression, expected = row["expression"], row["expect"]
        got: dict[str, Any] = {}
        try:
            selector = cel.compile(expression)
        except CELError as error:
            got["compileError"] = str(error)
        else:
            got["maxCost"] = selector.max_cost if selector.max_cost < (1 << 64) - 1 else None
            verdict = selector.explain(device_of(row["device"]), row["device"]["driver"])
            got["actualCost"] = verdict.cost
            if verdict.error is None:
                got["match"] = verdict.value
            else:
                got["matchError"] = verdict.error.message
            check_fast_path(selector, row, expected)
        if UNORDERED.search(expression) and "actualCost" in expected:
            assert 0 <= got["actualCost"] <= got["maxCost"]
            got["actualCost"] = expected["actualCost"]
        if got != expected:
            wrong.append((expression, expected, got))
    assert not wrong, wrong[:5]


def check_fast_path(selector: cel.Selector, row: dict[str, Any], expected: dict[str, Any]) -> None:
    """What the allocator calls says the same as the exact path."""
    device = device_of(row["device"])
    if "match" in expected:
        assert selector.matches(device, row["device"]["driver"]) is expected["match"], row["expression"]
    else:
        with pytest.raises(CELError) as caught:
            selector.matches(device, row["device"]["driver"])
        assert caught.value.message == expected["matchError"]


@pytest.mark.parametrize("row", cases("cel/upstream"), ids=lambda row: f"{row['name']}-{row['envType']}")
def test_upstream_cases(row: dict[str, Any]) -> None:
    gates = {
        "DRAConsumableCapacity": row["features"]["consumableCapacity"],
        "DRAListTypeAttributes": row["features"]["listTypeAttributes"],
    }
    profile = profile_for("1.37", gates)
    expected = row["expect"]
    is_new = row["envType"] == "new"
    if "compileErrorContains" in expected:
        with pytest.raises(CELError, match=re.escape(expected["compileErrorContains"])):
            cel.compile(row["expression"], profile=profile, is_new=is_new)
        return
    selector = cel.compile(row["expression"], profile=profile, is_new=is_new)
    assert selector.max_cost == expected["cost"]
    verdict = selector.explain(device_of(row), row["driver"])
    if "matchErrorContains" in expected:
        assert verdict.error is not None
        assert expected["matchErrorContains"] in str(verdict.error)
    else:
        assert verdict.value is expected["match"]
        assert selector.matches(device_of(row), row["driver"]) is expected["match"]
    if "actualCost" in row["upstream"]:
        assert verdict.cost == row["upstream"]["actualCost"]
