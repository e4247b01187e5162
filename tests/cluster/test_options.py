"""Options of `dra up` as a person writes them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from drakit.cluster.embedded import Embedded
from drakit.cluster.options import DriverOption, Options, parse_drivers, parse_gates
from drakit.errors import UsageError
from drakit.profile import DEFAULT_VERSION


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


@pytest.mark.parametrize("kept", [True, False])
def test_options_of_drivers_are_checked_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    wrong = DriverOption("gpu", {"cuont": "3"})
    options = Options(data_dir=tmp_path / "data" if kept else None, version=DEFAULT_VERSION, drivers=[wrong])
    with pytest.raises(UsageError, match="driver gpu has no option 'cuont'"):
        Embedded(options, print)
    assert not list(tmp_path.iterdir())
