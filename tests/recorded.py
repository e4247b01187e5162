"""Recorded cases as data: rows of JSON lines made by running the reference implementation."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

CASES = Path(__file__).parent / "conformance" / "cases"


def cases(name: str) -> list[dict[str, Any]]:
    """The rows of a case file such as "cel/upstream"."""
    with gzip.open(CASES / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
