"""Runs the checks one after another on one driver.

A check is not tried when something it builds on has failed. After a failure the driver is started again, and
where it did not unprepare what a check had prepared, on a node where it has never been: so one broken thing
does not show up as several.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from drakit.conformance.check import Check, Evidence, Failed, Result, Skipped
from drakit.conformance.checks import CHECKS
from drakit.conformance.front import Use
from drakit.conformance.lab import Lab, Options
from drakit.errors import UsageError

_BY_ID = {check.id: check for check in CHECKS}
Report = Callable[[Result], None]


def select(only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[Check]:
    """The checks `only` (all if empty) with those they need, without `skip`. Raises UsageError."""
    for id in (*only, *skip):
        if id not in _BY_ID:
            raise UsageError(f"there is no check {id!r}: `dra driver test --list` names them")
    wanted: set[str] = set()
    todo = list(only or _BY_ID)
    while todo:
        id = todo.pop()
        if id not in wanted and id not in skip:
            wanted.add(id)
            todo += _BY_ID[id].needs
    return [check for check in CHECKS if check.id in wanted]


class Suite:
    """`run` checks the driver of `options`; `report` is told of each result at once."""

    def __init__(self, options: Options, checks: Sequence[Check], report: Report) -> None:
        self._options = options
        self._checks = checks
        self._report = report
        self._blocked: dict[str, str] = {}
        self._is_broken = False
        self.results: list[Result] = []
        self.uses: list[Use] = []
        """The permissions that the driver used, known in the end."""
        self.driver = ""
        """Its name, if it registered."""

    async def run(self) -> list[Result]:
        """The results, in order. Whatever happens, the driver does not run any more afterwards."""
        lab = Lab(self._options)
        try:
            await lab.start()
            for check in self._checks:
                result = await self._one(lab, check)
                if result.status == "fail":
                    self._blocked[check.id] = "failed"
                self.results.append(result)
                self._report(result)
        finally:
            self.uses, self.driver = sorted(lab.control.front.uses), lab.driver
            await lab.stop()
        return self.results

    async def _one(self, lab: Lab, check: Check) -> Result:
        for need in _all_needs(check):
            if need in self._blocked:
                self._blocked[check.id] = "was not tried"
                return _result(check, "skip", f"needs {need}, which {self._blocked[need]}")
        began = time.monotonic()
        log: list[str] = []
        warnings: tuple[str, ...] = ()
        try:
            if self._is_broken or lab.is_stained:
                self._is_broken = False
                await (lab.start_afresh() if lab.is_stained else lab.restart_driver())
                await asyncio.sleep(self._options.rest)
            found = await check.run(lab)
            await lab.settle()
            if lab.process is not None:
                lab.check_running()
            status, text = "pass", found if isinstance(found, str) else found.text
            warnings = found.warnings if isinstance(found, Evidence) else ()
        except Skipped as reason:
            status, text = "skip", str(reason)
            await lab.settle()
        except Failed as problem:
            status, text = "fail", str(problem)
            self._is_broken = True
            log = lab.process.tail() if lab.process else []
            await lab.settle()
        return _result(check, status, text, warnings, time.monotonic() - began, log)


def _all_needs(check: Check) -> Iterator[str]:
    """What `check` builds on, the nearest first: it does so also through checks that are left out."""
    for need in check.needs:
        yield need
    for need in check.needs:
        yield from _all_needs(_BY_ID[need])


def _result(
    check: Check,
    status: str,
    text: str,
    warnings: tuple[str, ...] = (),
    seconds: float = 0.0,
    log: Sequence[str] = (),
) -> Result:
    return Result(
        id=check.id,
        meaning=check.meaning,
        source=check.source,
        status=status,  # type: ignore[arg-type]
        evidence=text,
        warnings=warnings,
        seconds=round(seconds, 3),
        log=list(log),
    )
