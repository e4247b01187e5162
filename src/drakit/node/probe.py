"""When the startup, readiness and liveness probes of one container are made, and what their answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from drakit.client.clock import Clock
from drakit.errors import DRAError
from drakit.node.action import Actions
from drakit.transport import Document

Kind = Literal["startup", "readiness", "liveness"]


class Prober:
    """Probes the container with the `spec`, by its `actions`, from when `run` is called until it is
    cancelled.

    `on_result(kind, is_well, message)` is called when a probe has changed its mind: after its threshold of
    successes or failures in a row.
    """

    def __init__(
        self,
        actions: Actions,
        spec: Document,
        clock: Clock,
        on_result: Callable[[Kind, bool, str], None],
        on_failure: Callable[[Kind, str], None],
    ) -> None:
        self._actions = actions
        self._spec = spec
        self._clock = clock
        self._on_result = on_result
        self._on_failure = on_failure

    async def run(self) -> None:
        """The startup probe first and alone, then the other two side by side."""
        if startup := self._spec.get("startupProbe"):
            if not await self._follow("startup", startup, ends_at_success=True):
                return
            self._on_result("startup", True, "")
        async with asyncio.TaskGroup() as group:
            for kind in ("readiness", "liveness"):
                if probe := self._spec.get(f"{kind}Probe"):
                    group.create_task(self._follow(kind, probe))

    async def _follow(self, kind: Kind, probe: Document, *, ends_at_success: bool = False) -> bool:
        needed = int(probe.get("successThreshold") or 1)
        allowed = int(probe.get("failureThreshold") or 3)
        period = float(probe.get("periodSeconds") or 10)
        await self._clock.sleep(float(probe.get("initialDelaySeconds") or 0))
        successes = failures = 0
        while True:
            try:
                async with asyncio.timeout(float(probe.get("timeoutSeconds") or 1)):
                    await self._actions.perform(probe)
                successes, failures, message = successes + 1, 0, ""
            except TimeoutError:
                successes, failures, message = 0, failures + 1, "timed out"
            except (DRAError, OSError) as error:
                successes, failures, message = 0, failures + 1, str(error)
            if message:
                self._on_failure(kind, message)
            if successes == needed:
                if ends_at_success:
                    return True
                self._on_result(kind, True, "")
            if failures == allowed:
                self._on_result(kind, False, message)
                if kind != "readiness":
                    return False
            await self._clock.sleep(period)
