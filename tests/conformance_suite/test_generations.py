"""What the generations of a pool may do, change by change."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.conformance.check import Failed
from drakit.conformance.checks.slices import STRAY, newest_generations
from drakit.conformance.lab import Change

DRIVER = "lamp.example.com"


def history(text: str) -> list[Change]:
    """`NAME:GENERATION/COUNT` is written, `-NAME` deleted; `other.` before a name is another driver's."""
    found: dict[str, dict[str, Any]] = {}
    changes = []
    for word in text.split():
        name, _, numbers = word.removeprefix("-").partition(":")
        old, new = found.pop(name, None), None
        if numbers:
            generation, _, count = numbers.partition("/")
            pool = {"name": STRAY if name == STRAY else "p", "generation": int(generation)}
            pool["resourceSliceCount"] = int(count)
            driver = "other.example.com" if name.startswith("other.") else DRIVER
            new = found[name] = {"metadata": {"name": name}, "spec": {"driver": driver, "pool": pool}}
        changes.append(Change(old, new))
    return changes


FINE = {
    "": {},
    "a:1/1 a:1/1": {"p": 1},
    "a:1/2 b:1/2 a:2/2 b:2/2": {"p": 2},
    "a:1/2 b:1/2 a:2/1 -b": {"p": 2},
    "a:5/2 b:5/2 -a -b a:1/2 b:1/2": {"p": 1},
    "a:5/1 -a": {},
    f"a:1/1 {STRAY}:9/1 -{STRAY} other.a:7/1": {"p": 1},
}
WRONG = {
    "a:2/1 a:1/1": "pool p went from generation 2 back to 1",
    "a:5/2 b:5/2 -a a:1/2": "pool p went from generation 5 back to 1",
    "a:1/2 b:1/3": "pool p, generation 1: its slices say that they are 2, 3",
}


@pytest.mark.parametrize("text", FINE)
def test_fine(text: str) -> None:
    assert newest_generations(history(text), DRIVER) == FINE[text]


@pytest.mark.parametrize("text", WRONG)
def test_wrong(text: str) -> None:
    with pytest.raises(Failed, match=WRONG[text]):
        newest_generations(history(text), DRIVER)
