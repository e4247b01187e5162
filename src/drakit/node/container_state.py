"""What is remembered of one container beside the runtime's records: what a new agent may forget."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from drakit.client.clock import parse_timestamp
from drakit.node.backoff import Backoff
from drakit.node.runtime import Container, container_id
from drakit.transport import Document

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


def ended_before(pod: Document, found: Sequence[Container]) -> Iterator[Container]:
    """The containers whose end the API was told of and whose records are gone: an agent was killed between
    removing them and saying that the pod is done. They have run, and must not run once more."""
    known = {container.name for container in found}
    status = pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for entry in status.get(kind) or []:
            if (entry.get("state") or {}).get("terminated") and entry["name"] not in known:
                yield _remembered(pod["metadata"], entry)


def _remembered(meta: Document, entry: Document) -> Container:
    end, attempt = entry["state"]["terminated"], int(entry.get("restartCount") or 0)
    has_run = end.get("reason") != "StartError"
    return Container(
        id=(end.get("containerID") or "").partition("://")[2]
        or container_id(meta["uid"], entry["name"], attempt),
        pod_uid=meta["uid"],
        pod_namespace=meta["namespace"],
        pod_name=meta["name"],
        name=entry["name"],
        attempt=attempt,
        image=entry.get("image") or "",
        image_id=entry.get("imageID") or "",
        log_path="",
        state="exited",
        pid=1 if has_run else 0,
        exit_code=int(end.get("exitCode") or 0),
        is_oom_killed=end.get("reason") == "OOMKilled",
        created_at=_seconds(end.get("startedAt")),
        started_at=_seconds(end.get("startedAt")) if has_run else 0.0,
        finished_at=_seconds(end.get("finishedAt")),
        error=end.get("message") or "",
    )


def _seconds(text: str | None) -> float:
    return parse_timestamp(text) if text else 0.0
