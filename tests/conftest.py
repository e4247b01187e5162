"""Shared by all tests: asyncio is the one event loop, and temporary folders have short paths."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those with real programs come first.

    Processes that share the work begin with half of this order each, and who is done takes from the end of
    what the other has left: a cluster that a module shares is started once, and one process at a time has
    tests with real programs.
    """
    items.sort(key=lambda item: "e2e" not in item.keywords)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if os.geteuid() != 0 and item.get_closest_marker("needs_root"):
        pytest.skip("needs root")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """CI skips nothing but for what a machine lacks, and the reason then names "this machine"."""
    report = yield
    if report.skipped and os.environ.get("DRAKIT_CI"):
        assert isinstance(report.longrepr, tuple)
        if "this machine" not in (reason := report.longrepr[2]):
            report.outcome, report.longrepr = "failed", f"{reason} (CI skips no test)"
    return report


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In place of pytest's own, whose paths leave no room for a unix socket's (107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="dk-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
