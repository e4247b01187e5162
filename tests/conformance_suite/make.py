"""Running the suite in tests: quickly, and on several drivers at a time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from drakit.conformance.check import Result
from drakit.conformance.lab import Options
from drakit.conformance.suite import Suite, select

BROKEN = str(Path(__file__).with_name("broken.py"))
AT_A_TIME = 4
CYCLES = 8
"""A leak of a file each time shows after that many."""


def broken(what: str = "") -> tuple[str, ...]:
    """The command of the driver with the fault `what`."""
    folders = ("--plugins-dir", "{plugins_dir}", "--registry-dir", "{registry_dir}")
    return (sys.executable, BROKEN, *folders, "--break", what)


def options(command: Sequence[str], **more: Any) -> Options:
    quick: dict[str, Any] = {"timeout": 10.0, "rest": 0.2, "fault": 0.3, "delay": 0.1, "cycles": CYCLES}
    quick |= {"repair": 10.0, "absence": 0.1}
    return Options(command=tuple(command), **(quick | more))


async def run(options: Options, skip: Sequence[str] = (), only: Sequence[str] = ()) -> list[Result]:
    return await Suite(options, select(only, skip), lambda result: None).run()


async def run_all(
    todo: Mapping[str, Options], skip: Callable[[str], Sequence[str]] = lambda name: ()
) -> dict[str, list[Result]]:
    """The results for each of `todo`, without the checks `skip` names for it; they run a few at a time."""
    turns = asyncio.Semaphore(AT_A_TIME)

    async def one(name: str) -> list[Result]:
        async with turns:
            return await run(todo[name], skip(name))

    results = await asyncio.gather(*map(one, todo))
    return dict(zip(todo, results, strict=True))


def failed(results: Sequence[Result]) -> dict[str, str]:
    """The evidence of each check that failed."""
    return {result.id: result.evidence for result in results if result.status == "fail"}
