"""Drivers that come with drakit, and that of `dra driver new`, pass the suite, as programs of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from drakit.cli.driver import command
from tests.conformance_suite.make import broken, failed, options, run_all

pytestmark = pytest.mark.anyio

DRIVERS = ("cpu", "gpu", "net")
FOLDERS = ("--plugins-dir", "{plugins_dir}", "--registry-dir", "{registry_dir}", "--cdi-dir", "{cdi_dir}")
METADATA, HEALTH = {"metadata", "metadata-generation"}, {"health", "health-repeated"}
CHANGED = {"slices-changed"}
NOT_OFFERED = {
    "cpu": METADATA | HEALTH,
    "gpu": set(),
    "net": set(),
    "new": set(),
    "small": set(),
}


IDENTITY = ("--node-name", "{node_name}", "--pod-uid", "{pod_uid}")
OPTIONS = {"gpu": ("--option", "metadata=yes")}


def ours(name: str) -> tuple[str, ...]:
    program = (sys.executable, "-m", "drakit", "driver", "run", name)
    return (*program, *FOLDERS, *IDENTITY, *OPTIONS.get(name, ()))


def new(folder: Path) -> tuple[str, ...]:
    """The driver that `dra driver new` writes."""
    done = CliRunner().invoke(command, ["new", "desk-lamp.example.com", f"--folder={folder}"])
    assert done.exit_code == 0, done.output
    return (sys.executable, str(folder / "driver.py"), *FOLDERS, *IDENTITY)


async def test_our_drivers_and_others_pass(tmp_path: Path) -> None:
    commands = {name: ours(name) for name in DRIVERS}
    commands |= {"small": broken(), "new": new(tmp_path / "new")}
    todo = {name: options(command, timeout=20, is_rolling=True) for name, command in commands.items()}
    # Our own repeat themselves every ten seconds, which a test has not.
    results = await run_all(todo, lambda name: () if name == "small" else ("health-repeated",))
    assert {name: failed(found) for name, found in results.items()} == {name: {} for name in commands}
    for name, found in results.items():
        assert {result.id for result in found if result.status == "skip"} <= NOT_OFFERED[name] | CHANGED
