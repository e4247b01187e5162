"""Every driver that comes with drakit passes the suite, as a program of its own."""

from __future__ import annotations

import sys

import pytest

from drakit.conformance.lab import Options
from drakit.conformance.report import summary
from drakit.conformance.suite import Suite, select

pytestmark = pytest.mark.anyio

DRIVERS = ["cpu", "gpu", "pizza"]
FOLDERS = ("--plugins-dir", "{plugins_dir}", "--registry-dir", "{registry_dir}", "--cdi-dir", "{cdi_dir}")


@pytest.mark.parametrize("name", DRIVERS)
async def test_passes(name: str) -> None:
    driver = (sys.executable, "-m", "drakit", "driver", "run", name, "--node-name", "{node_name}", *FOLDERS)
    options = Options(
        command=(*driver, "--pod-uid", "{pod_uid}"),
        cycles=10,
        timeout=20,
        rest=0.2,
        fault=0.3,
        delay=0.1,
        is_rolling=True,
    )
    results = await Suite(options, select(), lambda result: None).run()
    assert [r for r in results if r.status == "fail"] == [], summary(results)
    assert {r.id for r in results if r.status == "skip"} <= {"metadata", "health"}
