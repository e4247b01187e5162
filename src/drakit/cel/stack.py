"""Room for deep expressions, and for many nodes.

Parsing, checking and evaluating recurse along the tree, a few Python calls for each level, and 250 levels are
allowed: more than Python's usual 1,000 calls. A call from Python to Python needs no C stack, so raising the
limit for the time is safe.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from drakit.cel.syntax import Node
from drakit.errors import CELError

_CALLS = 20_000
_SHALLOW = 40
_SLOTS = 70_000


@contextmanager
def deep_stack(source: str) -> Iterator[None]:
    """Runs its body with room for any expression that the grammar allows. Raises CELError beyond."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _CALLS))
    try:
        yield
    except RecursionError:
        raise CELError("expression recursion limit exceeded: 250", source=source) from None
    finally:
        sys.setrecursionlimit(before)


@contextmanager
def no_collection() -> Iterator[None]:
    """Runs its body without the cyclic garbage collector. Compiling makes ten thousands of small objects in
    one go, all of them kept, and would have the collector look through the whole heap several times."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _call(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


roomy: Callable[..., Any] = FunctionType(_call.__code__.replace(co_stacksize=_SLOTS), globals(), "roomy")
"""`roomy(function, *args)` calls the function with room for the frames of thousands of calls.

Python keeps frames in chunks of 16 KiB and gives a chunk back when the call that needed it returns. A loop
whose calls happen to begin a chunk pays for one with every call, a hundred times what the call takes. A frame
as big as this one gets a chunk that is bigger still, and the calls below it stay within.
"""


def is_deep(root: Node) -> bool:
    """Whether evaluating the tree may need more than the usual stack."""
    level = [root]
    for _ in range(_SHALLOW):
        level = [child for node in level for child in node.children()]
        if not level:
            return False
    return True
