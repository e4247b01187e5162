"""Shared by all tests: asyncio is the one event loop, and recorded cases are read as data."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

CASES = Path(__file__).parent / "conformance" / "cases"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def cases(name: str) -> list[dict[str, Any]]:
    """The rows of a recorded case file such as "cel/upstream"."""
    with gzip.open(CASES / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
