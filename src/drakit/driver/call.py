"""Calling what a driver's author wrote, be it plain or async."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def call(function: Callable[..., Any], *arguments: object) -> Any:
    """What `function` returns. A plain one runs in a thread; it cannot be cancelled, so it is waited for."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    thread = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        answer = await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait([thread])
        raise
    return await answer if inspect.isawaitable(answer) else answer
