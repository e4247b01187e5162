"""Expressions made to take long stay within a number of calls, which no other load of the machine changes.

A million units of cost are some ten thousands of calls where loops are statements, and the meter stops what
makes more. A call takes about a tenth of a microsecond. Counting takes long, so a part of them is counted
here; `bench/cel_worst.py` times them all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from bench.cel_worst import DEVICE, SHAPES, WORST
from drakit import cel
from drakit.cel.compile import _compile
from drakit.errors import CELError

MOST_CALLS = 1_000_000


class Calls:
    """Counts the calls made while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Calls:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        self.count += event in ("call", "c_call")


def outcome(function: Callable[[], Any]) -> Any:
    """The value, or the text of the error."""
    try:
        return function()
    except CELError as error:
        return error.message


@pytest.mark.parametrize("name", list(WORST)[::5])
def test_evaluation_is_bounded(name: str) -> None:
    selector = cel.compile(WORST[name])
    with Calls() as calls:
        answer = outcome(lambda: selector.matches(DEVICE, "x"))
    assert answer in (True, False) or "operation cancelled" in answer
    assert calls.count < MOST_CALLS


@pytest.mark.parametrize("name", list(SHAPES)[::5])
def test_compilation_is_bounded(name: str) -> None:
    _compile.cache_clear()
    with Calls() as calls:
        outcome(lambda: cel.compile(SHAPES[name]))
    assert calls.count < 1.2 * MOST_CALLS
