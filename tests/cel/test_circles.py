"""What is compiled goes when nobody needs it: no circle of references is left to the garbage collector."""

from __future__ import annotations

import gc
from contextlib import suppress

import pytest

from bench.cel_worst import DEVICE
from drakit import cel
from drakit.cel.compile import _compile
from drakit.errors import CELError

TEXTS = {
    "a comparison": "device.driver == 'x'",
    "a loop that gets warm": "lists.range(5000).all(x, [x, 1] != [1, x] || true)",
    "loops in a loop": "[1, 2].map(x, [3].filter(y, y > x).size()).exists(s, s == 1)",
    "too costly": "lists.range(400000).all(x, true)",
    "an error": "device.attributes['x'].l[9] == 1",
    "no syntax": "1 +",
    "no types": "1 + 'a'",
}


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_is_left_to_the_garbage_collector(name: str) -> None:
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        with suppress(CELError):
            selector = cel.compile(TEXTS[name])
            selector.explain(DEVICE, "x")
            selector.matches(DEVICE, "x")
        selector = None
        _compile.cache_clear()
        gc.collect()
        left = [item for item in gc.garbage if item.__class__.__module__.startswith("drakit")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert left == []
