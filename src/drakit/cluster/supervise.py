"""Keeping a room running: a bug in one is logged with its traceback, and the room starts again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0


async def supervise(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Await `run()` for ever; after an exception or an early end, again, with growing delays (seconds)."""
    delay = _FIRST_DELAY
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await run()
            _log.error("%s ended by itself; starting it again", name)
        except Exception:
            _log.exception("%s failed; starting it again in %.1f s", name, delay)
        if loop.time() - began > _LONGEST_DELAY:
            delay = _FIRST_DELAY
        await asyncio.sleep(delay)
        delay = min(delay * 2, _LONGEST_DELAY)
