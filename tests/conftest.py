"""Shared by all tests: asyncio is the one event loop, and temporary folders have short paths."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In place of pytest's own, whose paths leave no room for a unix socket's (107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="dk-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
