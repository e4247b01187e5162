"""Options of `dra up` as a person writes them."""

from __future__ import annotations

import pytest

from drakit.cluster.options import DriverOption, parse_drivers, parse_gates
from drakit.errors import UsageError


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("gpu", "gpu", {}),
        ("gpu:count=8,model=H100", "gpu", {"count": "8", "model": "H100"}),
        ("cpu:cpus=0,2-3,group-by=numa", "cpu", {"cpus": "0,2-3", "group-by": "numa"}),
    ],
)
def test_driver(text: str, name: str, options: dict[str, str]) -> None:
    assert DriverOption.parse(text) == DriverOption(name, options)


@pytest.mark.parametrize("text", [":count=1", "gpu:count"])
def test_a_broken_driver_option_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--driver"):
        DriverOption.parse(text)


def test_a_driver_runs_once_on_a_node() -> None:
    assert [driver.name for driver in parse_drivers(["gpu:count=2", "cpu"])] == ["gpu", "cpu"]
    with pytest.raises(UsageError, match="--driver gpu is there twice"):
        parse_drivers(["gpu:count=2", "cpu", "gpu:count=4"])


def test_gates() -> None:
    assert parse_gates(["A=true,B=false", "C=True"]) == {"A": True, "B": False, "C": True}
    with pytest.raises(UsageError, match="write NAME=true or NAME=false"):
        parse_gates(["A"])
