"""Every driver that comes with drakit passes the suite, as a program of its own."""

from __future__ import annotations

import sys

import pytest

from tests.conformance_suite.make import broken, failed, options, run_all

pytestmark = pytest.mark.anyio

DRIVERS = ("cpu", "gpu", "pizza")
FOLDERS = ("--plugins-dir", "{plugins_dir}", "--registry-dir", "{registry_dir}", "--cdi-dir", "{cdi_dir}")
NOT_OFFERED = {
    "cpu": {"metadata", "health"},
    "gpu": {"metadata"},
    "pizza": {"metadata", "health"},
    "small": set(),
}


def ours(name: str) -> tuple[str, ...]:
    program = (sys.executable, "-m", "drakit", "driver", "run", name, "--node-name", "{node_name}")
    return (*program, *FOLDERS, "--pod-uid", "{pod_uid}")


async def test_our_drivers_and_the_small_one_pass() -> None:
    commands = {name: ours(name) for name in DRIVERS} | {"small": broken()}
    todo = {name: options(command, timeout=20, is_rolling=True) for name, command in commands.items()}
    results = await run_all(todo)
    assert {name: failed(found) for name, found in results.items()} == {name: {} for name in commands}
    for name, found in results.items():
        assert {result.id for result in found if result.status == "skip"} <= NOT_OFFERED[name]
