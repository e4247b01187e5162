"""Shared by all tests: asyncio is the one event loop, and temporary folders have short paths."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those with real programs come first.

    Processes that share the work begin with half of this order each, and who is done takes from the end of
    what the other has left: a cluster that a module shares is started once, and one process at a time has
    tests with real programs.
    """
    items.sort(key=lambda item: "e2e" not in item.keywords)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In place of pytest's own, whose paths leave no room for a unix socket's (107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="dk-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
