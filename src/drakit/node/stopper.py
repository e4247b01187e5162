"""Ending containers: the preStop hook, then the signal, and the kill when the grace is over.

Sidecars are there for the containers proper: they are ended after these, the last one first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from drakit.client.clock import Clock
from drakit.errors import DRAError
from drakit.node.action import Actions
from drakit.node.pod_spec import all_containers
from drakit.node.runtime import Container, Runtime, RuntimeFailed, Sandbox
from drakit.node.tell import Tell
from drakit.transport import Document

_LEAST_GRACE = 1.0
"""Seconds for the signal, at most those of the grace, when the hook has used up all of it."""

_log = logging.getLogger(__name__)


class Stopper:
    """Ends the containers of one pod."""

    def __init__(self, runtime: Runtime, clock: Clock, tell: Tell) -> None:
        self._runtime = runtime
        self._clock = clock
        self._tell = tell

    async def stop_all(
        self, pod: Document, sandbox: Sandbox | None, live: Sequence[Container], grace: float
    ) -> None:
        """Stop every container of `live`, with all hooks in the order above."""
        for container in live:
            self._tell("Normal", "Killing", f"Stopping container {container.name}")
        order = [entry["name"] for entry in (pod.get("spec") or {}).get("initContainers") or []]
        sidecars = [container for name in reversed(order) for container in live if container.name == name]
        proper = [container for container in live if container.name not in order]
        ends = self._clock.now() + grace
        for group in (proper, *([sidecar] for sidecar in sidecars)):
            left = max(ends - self._clock.now(), min(grace, _LEAST_GRACE))
            await asyncio.gather(*(self.stop(pod, sandbox, container, left) for container in group))

    async def kill_all(self, live: Sequence[Container], grace: float) -> None:
        """Stop every container of `live` at once, without hooks."""
        await asyncio.gather(*(self.kill(container, grace) for container in live))

    async def stop(self, pod: Document, sandbox: Sandbox | None, container: Container, grace: float) -> None:
        """The hook and then the signal, both within `grace`. A failure is told or logged: the next look will
        find the container still running."""
        specs = all_containers(pod.get("spec") or {})
        spec: Document = next((entry for entry in specs if entry["name"] == container.name), {})
        hook = (spec.get("lifecycle") or {}).get("preStop")
        began = self._clock.now()
        if hook and grace > 0 and container.state == "running":
            there = sandbox or Sandbox(
                uid=container.pod_uid, namespace=container.pod_namespace, name=container.pod_name
            )
            actions = Actions(self._runtime, container.id, spec, there, self._clock)
            try:
                async with asyncio.timeout(grace):
                    await actions.perform(hook)
            except (DRAError, OSError) as error:
                self._tell("Warning", "FailedPreStopHook", f"PreStopHook failed: {str(error) or 'timed out'}")
        left = grace - (self._clock.now() - began)
        await self.kill(container, max(left, min(grace, _LEAST_GRACE)))

    async def kill(self, container: Container, grace: float) -> None:
        """The signal, without a hook."""
        try:
            await self._runtime.stop(container.id, grace)
        except RuntimeFailed as error:
            _log.info("container %s: %s", container.id, error)
