"""How the parts that look after a pod say something about it."""

from __future__ import annotations

from typing import Protocol

from drakit.client.record import EventType


class Tell(Protocol):
    """Records an event about the pod."""

    def __call__(self, type: EventType, reason: str, message: str) -> None: ...
