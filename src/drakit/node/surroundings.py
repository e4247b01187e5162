"""What everything that works on a node's pods shares."""

from __future__ import annotations

from msgspec import Struct

from drakit.client.api import Client
from drakit.client.clock import Clock
from drakit.client.record import EventRecorder
from drakit.node.api_door import APIDoors
from drakit.node.claims import Claims
from drakit.node.env import Facts
from drakit.node.paths import NodePaths
from drakit.node.runtime import Runtime


class Surroundings(Struct, frozen=True, kw_only=True):
    client: Client
    runtime: Runtime
    claims: Claims
    recorder: EventRecorder
    paths: NodePaths
    clock: Clock
    facts: Facts
    doors: APIDoors
