"""What is remembered of one container beside the runtime's records: what a new agent may forget."""

from __future__ import annotations

import asyncio

from drakit.node.backoff import Backoff
from drakit.node.runtime import Container

FIRST_RESTART, LAST_RESTART = 10.0, 300.0
_FIRST_PULL, _LAST_PULL = 10.0, 300.0
_FIRST_CREATE, _LAST_CREATE = 1.0, 60.0


class State:
    """Its attempts, the oldest first, back-offs, and the tasks that look after it."""

    def __init__(self) -> None:
        self.attempts: list[Container] = []
        self.waiting: tuple[str, str] | None = None
        self.restart = Backoff(FIRST_RESTART, LAST_RESTART)
        self.pull = Backoff(_FIRST_PULL, _LAST_PULL)
        self.create = Backoff(_FIRST_CREATE, _LAST_CREATE)
        self.is_ready = False
        self.is_started = False
        self.image_id = ""
        self.noted_end = ""
        self.exit_watch: asyncio.Task[None] | None = None
        self.hook: asyncio.Task[None] | None = None
        self.prober: asyncio.Task[None] | None = None

    @property
    def current(self) -> Container | None:
        return self.attempts[-1] if self.attempts else None

    def put(self, container: Container) -> None:
        """Take in the newest knowledge of one attempt."""
        others = [known for known in self.attempts if known.attempt != container.attempt]
        self.attempts = sorted([*others, container], key=lambda known: known.attempt)

    def stop_tasks(self) -> None:
        for task in (self.exit_watch, self.prober, self.hook):
            if task is not None:
                task.cancel()
        self.exit_watch = self.prober = self.hook = None
