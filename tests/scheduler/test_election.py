"""Of several schedulers one works."""

from __future__ import annotations

import asyncio

import pytest

from drakit.client.api import LEASES, Client
from drakit.client.dialect import Dialect
from drakit.errors import ServiceUnavailable
from drakit.scheduler.election import LEASE_SECONDS, Election
from drakit.transport import Request
from tests.scheduler.cluster import ADMIN, Cluster, Wire, cluster

pytestmark = pytest.mark.anyio


class Candidate:
    def __init__(self, it: Cluster, name: str) -> None:
        self.wire = Wire(Dialect(it.api.transport(ADMIN)))
        client = Client(self.wire, field_manager=name)
        self.is_working = False
        self.election = Election(client, "default", "sched", name, clock=it.clock)
        self.task = asyncio.create_task(self.election.lead(self.work))

    async def work(self) -> None:
        self.is_working = True
        try:
            await asyncio.Event().wait()
        finally:
            self.is_working = False

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_one_works_until_it_stops(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "drakit.scheduler.election")
    async with cluster(start=False) as it:
        a = Candidate(it, "a")
        await it.settle(1)
        b = Candidate(it, "b")
        await it.settle(60)
        assert (a.is_working, b.is_working) == (True, False)
        assert caplog.messages.count("waiting for lease default/sched, which a holds") == 1
        await a.stop()
        await it.settle(5)
        assert (a.is_working, b.is_working) == (False, True)
        lease = await it.client.get(LEASES, "sched", "default")
        assert lease["spec"]["holderIdentity"] == "b"
        assert lease["spec"]["leaseTransitions"] == 1
        await b.stop()


async def test_one_that_cannot_renew_stops_before_another_starts() -> None:
    async with cluster(start=False) as it:
        a = Candidate(it, "a")
        await it.settle(1)
        b = Candidate(it, "b")
        await it.settle(4)

        def fail(request: Request) -> None:
            raise ServiceUnavailable("cut off")

        a.wire.before = fail
        for _ in range(LEASE_SECONDS + 8):
            await it.settle(1)
            assert not (a.is_working and b.is_working)
        assert b.is_working
        await asyncio.gather(a.stop(), b.stop())


async def test_a_scheduler_that_fails_says_so() -> None:
    async def work() -> None:
        raise ServiceUnavailable("no cluster")

    async with cluster(start=False) as it:
        election = Election(it.client, "default", "sched", "a", clock=it.clock)
        with pytest.raises(ServiceUnavailable):
            await election.lead(work)
        assert "holderIdentity" not in (await it.client.get(LEASES, "sched", "default"))["spec"]
