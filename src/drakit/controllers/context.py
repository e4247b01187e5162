"""What every controller is given, and what a controller is.

A controller adds handlers and indexes to shared informers when it is made, and works on a queue of keys
in `run`. The handlers only add keys; the work reads the present state and moves it towards what is
wanted, so it may be repeated, may start anywhere after a restart, and leaves conflicts to the next try.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct, field

from drakit.client.api import Client, Resource
from drakit.client.clock import Clock
from drakit.client.informer import Informer, Informers
from drakit.client.queue import WorkQueue
from drakit.client.record import EventRecorder
from drakit.profile import Profile


class Controller(Protocol):
    """Made with a `Context`; started once its informers have synced."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...


class Context(Struct, frozen=True, kw_only=True):
    """`root_ca` is the PEM that pods need to trust the API server, "" where nobody knows it. `recorders` are
    those given out, to be closed in the end."""

    client: Client
    informers: Informers
    profile: Profile
    clock: Clock
    root_ca: str = ""
    recorders: list[EventRecorder] = field(default_factory=list)

    def informer(self, resource: Resource) -> Informer:
        """The shared informer of `resource` in all namespaces."""
        return self.informers.informer(resource)

    def recorder(self, component: str) -> EventRecorder:
        made = EventRecorder(self.client, component, clock=self.clock)
        self.recorders.append(made)
        return made

    def queue(self) -> WorkQueue[str]:
        return WorkQueue(clock=self.clock)
